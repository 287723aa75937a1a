"""The classes beside posteriors: the galaxy's evidence corrected for brightness, and the kept classifier."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.special import logsumexp

from paeplatform.classes import kept
from paeplatform.classes.classify import Classifier, classify, load_classifier
from paeplatform.classes.counts import galaxy_redshift_density, reference_magnitude
from paeplatform.classes.kept import kept_classifier
from paeplatform.classes.of_posteriors import N_DRAWS, classified
from paeplatform.config import DEFAULT_TRUST
from paeplatform.inference.estimate import SourceGroup
from paeplatform.inference.model.draws import PosteriorDraws
from paeplatform.inference.model.posterior import LogPosterior
from paeplatform.inference.model.priors import BpzPrior
from paeplatform.inference.sources import Sources
from tests.inference.line_problem import LINES, WIDTH, LinesForward

N_SOURCE = 19  # more than one batch


@pytest.fixture(scope="module")
def posterior(bands):
    return LogPosterior(LinesForward(np.log(bands.wave_um)), BpzPrior(1.4, 0.7, 1.3, 0.02, 2.5))


@pytest.fixture(scope="module")
def without_galaxies(classifier):
    return Classifier(classifier.bands, {k: v for k, v in classifier.grids.items() if k != "galaxy"})


def model(bands, u, z):
    """`LinesForward` in float64."""
    log_wave = np.log(bands.wave_um)
    rest = log_wave - np.log1p(z)[..., None]
    lines = sum(np.exp(-0.5 * ((rest - line) / WIDTH) ** 2) for line in LINES)
    slope = np.exp(0.3 * u[..., 0, None] * (log_wave - 0.8))
    return slope * (1.0 + lines * np.exp(0.4 * u[..., 1, None]))


@pytest.fixture(scope="module")
def given(bands):
    """(sources, draws, table with an evidence), some draws of each source near the truth; the last one has none."""
    rng = np.random.default_rng(5)
    u, z = rng.normal(size=(N_SOURCE, 2)), rng.uniform(0.2, 1.2, N_SOURCE)
    flux = 40.0 * model(bands, u, z)
    flux_err = np.tile(bands.depth("mev"), (N_SOURCE, 1))
    flux = flux + flux_err * rng.normal(size=flux.shape)
    flux_err[3, ::7] = np.inf
    few = u[:, None] + 0.05 * rng.normal(size=(N_SOURCE, N_DRAWS, 2))
    z_few = z[:, None] * np.exp(0.01 * rng.normal(size=(N_SOURCE, N_DRAWS)))
    even = np.full((N_SOURCE, N_DRAWS), 1.0 / N_DRAWS)
    few[-1], z_few[-1] = np.nan, np.nan
    parts = (part.astype(np.float32) for part in (few, z_few, even, even))
    table = pl.DataFrame({"object_id": np.arange(N_SOURCE), "pae_log_evidence": -60.0 - np.arange(N_SOURCE)})
    return Sources(flux, flux_err, np.arange(N_SOURCE), 0), PosteriorDraws(*parts), table


def test_the_evidence_of_channels_is_corrected_for_the_brightness_alone(
    posterior, without_galaxies, given, bands
):
    sources, draws, table = given
    group = SourceGroup(np.arange(N_SOURCE), sources, np.full(N_SOURCE, None))
    got = classified(without_galaxies, posterior, table, draws, [group], trust=DEFAULT_TRUST)
    usable = np.isfinite(sources.flux_err)
    mag = reference_magnitude(sources.flux, sources.flux_err, usable, bands)
    grid = np.linspace(0.02, 2.5, 20_001)
    shape = grid**1.4 * np.exp(-((grid / 0.7) ** 1.3))
    norm = np.trapezoid(shape, grid)
    for row in range(N_SOURCE - 1):
        z = draws.z[row].astype(np.float64)
        prior = z**1.4 * np.exp(-((z / 0.7) ** 1.3)) / norm
        ratio = np.log(galaxy_redshift_density(z, mag[[row]])[0] / prior)
        expected = -60.0 - row + logsumexp(ratio) - np.log(N_DRAWS)
        assert got["class_ln_evidence_galaxy"][row] == pytest.approx(expected, abs=2e-3)
        used = usable[row]
        s = sources.flux[row, used] / sources.flux_err[row, used]
        m = model(bands, draws.u[row].astype(np.float64), z)[:, used] / sources.flux_err[row, used]
        best = m @ s / np.sum(m * m, axis=1)
        chi2 = np.sum((s - best[:, None] * m) ** 2, axis=1).min()
        assert got["class_chi2_galaxy"][row] == pytest.approx(chi2, rel=1e-3)
    assert got["class_best"][-1] is None and got["class_p_galaxy"][-1] is None
    assert got.height == N_SOURCE and "object_id" not in got.columns


def test_groups_and_their_order_change_nothing(posterior, without_galaxies, given):
    sources, draws, table = given
    whole = [SourceGroup(np.arange(N_SOURCE), sources, np.full(N_SOURCE, None))]
    odd = [
        SourceGroup(rows, sources.rows(rows), np.full(len(rows), None))
        for rows in (np.arange(1, N_SOURCE, 2), np.arange(0, N_SOURCE, 2))
    ]
    one, other = (
        classified(without_galaxies, posterior, table, draws, groups, trust=DEFAULT_TRUST)
        for groups in (whole, odd)
    )
    assert one.equals(other)


def test_a_source_without_an_evidence_has_no_class(posterior, without_galaxies, given):
    sources, draws, table = given
    unknown = table.with_columns(
        pl.when(pl.col("object_id") == 2).then(None).otherwise("pae_log_evidence").alias("pae_log_evidence")
    )
    group = SourceGroup(np.arange(N_SOURCE), sources, np.full(N_SOURCE, None))
    got = classified(without_galaxies, posterior, unknown, draws, [group], trust=DEFAULT_TRUST)
    assert got["class_best"].is_null().to_list() == [row in (2, N_SOURCE - 1) for row in range(N_SOURCE)]
    assert got["class_chi2_star"].null_count() == 0


def test_a_classifier_with_galaxies_needs_no_evidence_of_the_posterior(classifier, posterior, given):
    """The PAE can be almost anything: its evidence would make galaxies of quasars."""
    sources, draws, table = given
    group = SourceGroup(np.arange(N_SOURCE), sources, np.full(N_SOURCE, None))
    unknown = table.with_columns(pae_log_evidence=pl.lit(None, pl.Float64))
    got = classified(classifier, posterior, unknown, draws, [group], trust=DEFAULT_TRUST)
    alone = classify(classifier, sources.flux, sources.flux_err, np.arange(N_SOURCE), trust=DEFAULT_TRUST)
    assert got.equals(alone.drop("object_id")) and got["class_best"].null_count() == 0


def test_a_kept_classifier_is_the_one_that_was_made(bands, tmp_path, monkeypatch):
    made = kept_classifier(bands, tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    content = file.read_bytes()
    monkeypatch.setattr(kept, "load_classifier", lambda bands, **more: pytest.fail("it was kept"))
    again = kept_classifier(bands, tmp_path / "cache")
    for name, grid in made.grids.items():
        for part in (*kept.NUMBERS, "labels", "n_parameters"):
            np.testing.assert_array_equal(getattr(again.grids[name], part), getattr(grid, part))
    # a file that is not whole, or a folder that cannot be written, stops nothing
    monkeypatch.setattr(kept, "load_classifier", load_classifier)
    file.write_bytes(content[: len(content) // 2])
    assert set(kept_classifier(bands, tmp_path / "cache").grids) == set(made.grids)
    assert len(file.read_bytes()) == len(content)
    (tmp_path / "file").write_text("no folder")
    assert set(kept_classifier(bands, tmp_path / "file").grids) == set(made.grids)
    other = replace(bands, wave_um=bands.wave_um * 1.001)
    kept_classifier(other, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2
