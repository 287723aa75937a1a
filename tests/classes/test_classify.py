"""What tables of sources come out as: the two real objects, sources outside the grids, and bad input."""

import numpy as np
import polars as pl
import pytest

from benchmarks.class_sources import ClassSources, galaxies, quasars, stars
from paeplatform.classes.classify import GalaxyEvidence, Positions, classify, load_classifier
from paeplatform.classes.library import load_stars
from paeplatform.errors import BandSetError, ConfigError
from tests.real_sources import real_photometry

P = [f"class_p_{name}" for name in ("galaxy", "quasar", "star", "brown_dwarf")]


@pytest.fixture(scope="module")
def mixed(bands) -> ClassSources:
    rng, library = np.random.default_rng(11), load_stars()
    parts = [galaxies(40, bands, 2_000_011), quasars(30, bands, rng)]
    parts += [stars(library, kind, 20, bands, rng) for kind in ("star", "brown_dwarf")]
    return ClassSources.joined(parts)


@pytest.fixture(scope="module")
def table(classifier, mixed) -> pl.DataFrame:
    return classify(classifier, mixed.flux, mixed.flux_err, np.arange(len(mixed.flux)) + 5)


def test_the_real_quasar_and_the_real_dwarf(classifier):
    flux, flux_err = real_photometry()
    quasar, dwarf = classify(classifier, flux, flux_err, np.arange(2)).iter_rows(named=True)
    assert quasar["class_best"] == "quasar" and quasar["class_p_quasar"] > 0.999
    assert abs(quasar["class_z_quasar"] - 2.56) < 0.02
    assert dwarf["class_best"] == "brown_dwarf" and dwarf["class_p_brown_dwarf"] > 0.999
    assert dwarf["class_chi2_galaxy"] > 50.0 * dwarf["class_chi2_brown_dwarf"]


def test_sources_outside_of_the_grids_are_told_apart(mixed, table):
    best = table["class_best"].to_numpy()
    for kind in ("star", "brown_dwarf"):
        assert np.mean(best[mixed.kind == kind] != "galaxy") >= 0.9
    quasar = mixed.kind == "quasar"
    assert np.mean(best[quasar] != "galaxy") >= 0.8
    assert np.mean(best[mixed.kind == "galaxy"] == "galaxy") >= 0.9
    error = np.abs(table["class_z_quasar"].to_numpy() - mixed.z)[quasar] / (1.0 + mixed.z[quasar])
    assert np.mean(error < 0.02) >= 0.6
    low, high = (table[f"class_z_quasar_{side}"].to_numpy()[quasar] for side in ("low", "high"))
    assert (low <= high).all() and np.mean(
        (mixed.z[quasar] > low - 0.05) & (mixed.z[quasar] < high + 0.05)
    ) > 0.5


def test_columns_are_those_promised(table):
    assert table["object_id"].to_list()[:2] == [5, 6]
    total = table.select(pl.sum_horizontal(P)).to_series().to_numpy()
    np.testing.assert_allclose(total, 1.0, atol=1e-5)
    assert table.null_count().sum_horizontal()[0] == 0
    assert table["class_star"].is_in(load_stars().name).all()
    assert table.schema["class_best"] == pl.String and table.schema["class_p_star"] == pl.Float32


def test_order_and_company_change_nothing(classifier, mixed, table):
    rows = np.array([70, 3, 50, 69, 41])
    part = classify(classifier, mixed.flux[rows], mixed.flux_err[rows], rows + 5)
    expected = table[rows]
    assert part["class_best"].to_list() == expected["class_best"].to_list()
    for name in P:
        np.testing.assert_allclose(part[name], expected[name], atol=1e-3)


def test_sources_without_data_are_null_and_leave_the_others(classifier, mixed):
    flux, flux_err = mixed.flux[:3].copy(), mixed.flux_err[:3].copy()
    flux_err[1], flux[2, 4] = np.inf, np.nan
    table = classify(classifier, flux, flux_err, np.arange(3))
    alone = classify(classifier, flux[:1], flux_err[:1], np.arange(1))
    assert table["class_best"].to_list()[1:] == [None, None]
    assert table.drop("object_id")[1:].null_count().sum_horizontal()[0] == 2 * (len(table.columns) - 1)
    assert table["class_best"][0] == alone["class_best"][0]


def test_a_scale_changes_only_the_prior(classifier, mixed):
    rows = slice(38, 44)
    flux, flux_err = mixed.flux[rows], mixed.flux_err[rows]
    one = classify(classifier, flux, flux_err, np.arange(6))
    ten = classify(classifier, 10.0 * flux, 10.0 * flux_err, np.arange(6))
    np.testing.assert_allclose(ten["class_mag"].to_numpy(), one["class_mag"].to_numpy() - 2.5, atol=1e-4)
    for name in ("quasar", "star", "brown_dwarf"):
        name = f"class_ln_evidence_{name}"
        np.testing.assert_allclose(ten[name].to_numpy(), one[name].to_numpy(), atol=5e-3)


def test_stars_are_likelier_near_the_plane(classifier, bands):
    flux_err = bands.depth("mev")[None]
    flux = 2.0 * flux_err + flux_err * np.random.default_rng(0).normal(size=flux_err.shape)
    p = [
        classify(
            classifier, flux, flux_err, np.zeros(1, int), positions=Positions(np.array([ra]), np.array([dec]))
        )["class_p_star"][0]
        for ra, dec in ((192.86, 27.13), (266.4, -28.9))
    ]
    assert p[1] > p[0]


def test_what_fits_no_class_is_none(classifier, bands):
    flux = np.where(np.arange(len(bands)) % 2, 1000.0, 10.0)[None]
    table = classify(classifier, flux, np.ones_like(flux), np.zeros(1, int))
    assert table["class_best"].to_list() == ["none"]


def test_the_evidence_of_the_galaxy_may_come_from_elsewhere(classifier, mixed):
    rows = [0, 40, 70]
    flux, flux_err = mixed.flux[rows], mixed.flux_err[rows]
    own = classify(classifier, flux, flux_err, np.arange(3))
    given = GalaxyEvidence(
        own["class_ln_evidence_galaxy"].to_numpy(), own["class_chi2_galaxy"].to_numpy().astype(float), 4
    )
    bare = type(classifier)(classifier.bands, {k: v for k, v in classifier.grids.items() if k != "galaxy"})
    table = classify(bare, flux, flux_err, np.arange(3), galaxy=given)
    assert table["class_best"].to_list() == own["class_best"].to_list()
    np.testing.assert_allclose(table["class_p_galaxy"], own["class_p_galaxy"], atol=1e-4)
    sure = classify(
        bare, flux, flux_err, np.arange(3), galaxy=GalaxyEvidence(np.full(3, 1e4), np.full(3, 90.0))
    )
    assert sure["class_best"].to_list() == ["galaxy"] * 3
    unknown = GalaxyEvidence(np.array([0.0, np.nan, 0.0]), np.array([90.0, np.nan, 90.0]))
    assert classify(bare, flux, flux_err, np.arange(3), galaxy=unknown)["class_best"][1] is None
    with pytest.raises(ConfigError, match="give the evidence of the galaxy"):
        classify(bare, flux, flux_err, np.arange(3))


def test_bad_input_names_what_is_wrong(classifier, bands):
    flux = np.ones((2, len(bands)))
    with pytest.raises(BandSetError, match="flux has shape"):
        classify(classifier, flux[:, 1:], flux[:, 1:], np.arange(2))
    with pytest.raises(ConfigError, match="object_id"):
        classify(classifier, flux, flux, np.arange(3))
    with pytest.raises(ConfigError, match=r"galaxy: .* must be 2 numbers each"):
        classify(classifier, flux, flux, np.arange(2), galaxy=GalaxyEvidence(np.zeros(3), np.zeros(3)))
    with pytest.raises(ConfigError, match=r"positions: .* must be 2 numbers each"):
        classify(classifier, flux, flux, np.arange(2), positions=Positions(np.zeros(1), np.zeros(1)))


def test_the_packaged_classifier_has_what_it_is_asked_for(bands, classifier):
    plain = load_classifier(
        bands, load_stars().rows(np.arange(0, 205, 20)), galaxies=classifier.grids["galaxy"]
    )
    assert set(plain.grids) == {"galaxy", "quasar", "star", "brown_dwarf"}
