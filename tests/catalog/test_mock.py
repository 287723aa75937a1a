"""The mock catalogue: reproducible, self-consistent, and with every template class served."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats

from paeplatform.catalog.mock import FIELD_SIDE_DEG, classify_templates, draw_mock_catalog, templates_by_type
from paeplatform.catalog.population import TYPE_NAMES, type_fractions
from paeplatform.config import load_preset
from paeplatform.errors import ConfigError, TemplateError
from paeplatform.sed.library import TemplateLibrary

SCHEMA = {
    "object_id": pl.Int64,
    "ra": pl.Float64,
    "dec": pl.Float64,
    "template_index": pl.Int16,
    "template": pl.String,
    "galaxy_type": pl.String,
    "dust_law": pl.Int8,
    "ebv": pl.Float32,
    "z_true": pl.Float32,
    "mag_i": pl.Float32,
    "mag_z": pl.Float32,
    "mag_w1": pl.Float32,
}


def _with(preset, **changes):
    return preset.model_copy(update={"catalog": preset.catalog.model_copy(update=changes)})


FIELDS = ("name", "source", "licence", "wave", "flux")


def _library_of(library, rows):
    return TemplateLibrary(*(tuple(getattr(library, field)[row] for row in rows) for field in FIELDS))


def test_columns_ids_and_ranges(catalog, preset, library):
    cfg = preset.catalog
    assert dict(catalog.schema) == SCHEMA
    assert catalog.null_count().sum_horizontal().item() == 0
    assert catalog["object_id"].to_list() == list(range(1, cfg.n_sources + 1))
    assert catalog["z_true"].is_between(0.0, cfg.z_max, closed="right").all()
    assert catalog["mag_i"].is_between(cfg.mag_i_min, cfg.mag_i_max).all()
    assert catalog["ebv"].is_between(0.0, cfg.ebv_max).all()
    assert catalog.select(pl.selectors.float().is_finite().all()).row(0) == (True,) * 7
    names = np.array(library.name)[catalog["template_index"].to_numpy()]
    assert catalog["template"].to_list() == names.tolist()
    assert set(catalog["dust_law"].unique()) == {0, 1, 2}


def test_same_seed_same_bytes_another_seed_another_sky(catalog, preset, library, tmp_path):
    again = draw_mock_catalog(preset, library)
    assert again.equals(catalog)
    for name, frame in (("a", catalog), ("b", again)):
        frame.write_parquet(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    other = draw_mock_catalog(preset.model_copy(update={"seed": preset.seed + 1}), library)
    assert not other["z_true"].equals(catalog["z_true"])


def test_a_smaller_catalogue_is_the_beginning_of_a_larger_one(catalog, preset, library):
    assert draw_mock_catalog(_with(preset, n_sources=500), library).equals(catalog.head(500))


def test_types_in_the_catalogue_follow_the_prior_in_bins_of_magnitude(catalog):
    for low, high in ((18.0, 23.0), (23.0, 24.0), (24.0, 25.0)):
        rows = catalog.filter(pl.col("mag_i").is_between(low, high, closed="left"))
        expected = type_fractions(rows["mag_i"].to_numpy()).sum(axis=0)
        counts = [rows["galaxy_type"].eq(name).sum() for name in TYPE_NAMES]
        assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_every_type_has_templates_and_sources_use_their_own(catalog, library):
    pools = templates_by_type(library)
    assert len(library) == 160
    assert sorted(np.concatenate(pools).tolist()) == list(range(160))
    assert min(map(len, pools)) >= 20
    kind = np.array(TYPE_NAMES)[classify_templates(library)]
    assert catalog["galaxy_type"].to_list() == kind[catalog["template_index"].to_numpy()].tolist()
    assert catalog.filter(pl.col("galaxy_type") == "E/S0")["ebv"].max() == 0.0


def test_an_empty_type_is_served_by_the_nearest_in_colour_and_said_so(library):
    kind = classify_templates(library)
    without_red = _library_of(library, np.flatnonzero(kind >= 2)[::4])
    with pytest.warns(UserWarning, match="no template of type") as caught:
        pools = templates_by_type(without_red)
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 2
    assert "no template of type E/S0" in messages[0]
    assert all(message.endswith("templates of type Scd") for message in messages)
    np.testing.assert_array_equal(pools[0], pools[2])
    np.testing.assert_array_equal(pools[1], pools[2])
    assert set(classify_templates(without_red)[pools[2]]) == {2}


def test_a_catalogue_of_one_template_can_be_drawn(library, preset):
    with pytest.warns(UserWarning, match="no template of type"):
        catalog = draw_mock_catalog(_with(preset, n_sources=50), _library_of(library, [0]))
    assert set(catalog["template"]) == {library.name[0]}
    assert set(catalog["galaxy_type"]) <= set(TYPE_NAMES)


def test_sources_fill_the_field_evenly(preset, library):
    """On the sky, not in degrees of right ascension: the field is moved to dec 60 to tell the two apart."""
    catalog = draw_mock_catalog(_with(preset, field_dec_deg=60.0, field_ra_deg=0.1), library)
    ra, dec = catalog["ra"].to_numpy(), catalog["dec"].to_numpy()
    assert np.all((ra >= 0.0) & (ra < 360.0))
    east = ((ra - 0.1 + 180.0) % 360.0 - 180.0) * np.cos(np.radians(dec))
    for offset in (east, dec - 60.0):
        assert stats.kstest(offset / FIELD_SIDE_DEG + 0.5, "uniform").pvalue > 1e-3


def test_one_in_five_is_brighter_than_23_in_z_at_the_tuned_slope(preset, library):
    """The paper: 31,492 of 166,014 = 0.190; within four binomial errors of 8,000 draws."""
    tuned = _with(preset, n_sources=8000, counts_slope=0.453)
    fraction = (draw_mock_catalog(tuned, library)["mag_z"] < 23.0).mean()
    assert fraction == pytest.approx(31492 / 166014, abs=4 * np.sqrt(0.19 * 0.81 / 8000))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"mag_i_max": 17.0}, "catalog.mag_i_max 17.0"),
        ({"field_dec_deg": 89.5}, "catalog.field_dec_deg 89.5"),
        ({"z_max": 20.0, "mag_i_max": 40.0}, "catalog.z_max"),
    ],
)
def test_impossible_settings_are_refused(preset, library, changes, named):
    with pytest.raises(ConfigError, match=named):
        draw_mock_catalog(_with(preset, **changes), library)


def test_a_template_dark_in_an_observed_band_is_named(preset):
    wave = np.linspace(0.08, 5.5, 3000)
    dark = TemplateLibrary(("dark",), ("",), ("",), (wave,), (np.where(wave > 2.0, 1.0, 0.0),))
    with (
        pytest.raises(TemplateError, match="template dark has no flux"),
        pytest.warns(UserWarning, match="no template"),
    ):
        draw_mock_catalog(_with(preset, n_sources=20), dark)


def test_presets_name_known_dust_laws(library):
    only = load_preset("demo")
    only = only.model_copy(update={"templates": only.templates.model_copy(update={"dust_laws": ("allen",)})})
    assert set(draw_mock_catalog(_with(only, n_sources=50), library)["dust_law"]) == {2}
