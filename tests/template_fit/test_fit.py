"""The table of `fit_templates`: p(z), priors, best models, statuses."""

import numpy as np
import polars as pl
import pytest

from paeplatform.errors import BandSetError, ConfigError
from paeplatform.inference.model.priors import BpzPrior, UniformPrior
from paeplatform.inference.results.pz_summary import summarise_pz_grid
from paeplatform.template_fit.fit import STATUSES, fit_templates
from paeplatform.template_fit.profile import profile_sources
from tests.real_sources import real_photometry


@pytest.fixture(scope="module")
def table(grid, sources):
    return fit_templates(grid, sources[0], sources[1], np.arange(36) + 7, keep_pz=True, progress=False)


def test_pz_is_the_profile_likelihood(grid, sources, table):
    chi2 = profile_sources(grid, sources[0], sources[1], progress=False).chi2
    likelihood = np.exp(-0.5 * (chi2 - chi2.min(axis=1, keepdims=True)))
    likelihood /= np.trapezoid(likelihood, grid.config.z, axis=1)[:, None]
    assert table["tf_pz"].to_numpy() == pytest.approx(likelihood, rel=1e-5, abs=1e-12)
    summary = summarise_pz_grid(grid.config.z, likelihood, prefix="tf")
    for name, values in summary.items():
        name = name if name.startswith("tf_") else f"tf_{name}"
        assert table[name].to_numpy().astype(float) == pytest.approx(values.astype(float), abs=1e-5), name


def test_bright_sources_lie_where_they_are(grid, sources, table):
    where = sources[2]
    z = grid.config.z[where[:, 0]]
    bright = slice(-9, None)  # SNR 200
    assert np.max(np.abs(table["tf_z_best"].to_numpy() - z)[bright]) <= 0.031
    rows = table[bright]
    assert rows["tf_template"].to_list() == [grid.name[i] for i in where[bright, 1]]
    assert set(table["tf_status"]) == {"fitted"} and table["object_id"].to_list() == list(range(7, 43))
    # 102 bands, some four parameters
    assert table["tf_chi2"].min() > 60.0 and table["tf_chi2"].max() < 150.0
    assert np.all(table["tf_chi2"].to_numpy() < table["tf_chi2_null"].to_numpy())
    dustless = rows["tf_ebv"] == 0.0
    assert (rows["tf_dust_law"].is_null() == dustless).all()


def test_the_best_model_fits_as_well_as_the_table_says(grid, sources, table):
    for row in table.with_row_index("at").filter(pl.col("tf_ebv") > 0.0).head(5).iter_rows(named=True):
        z = int(np.argmin(np.abs(grid.config.z - row["tf_z_best"])))
        law = grid.config.dust_laws.index(row["tf_dust_law"])
        ebv = int(np.argmin(np.abs(grid.config.ebv - row["tf_ebv"])))
        model = grid.models(np.array([z]), np.array([grid.name.index(row["tf_template"])]))[0, law, ebv]
        flux, flux_err = sources[0][row["at"]], sources[1][row["at"]]
        chi2 = np.sum(((flux - row["tf_amplitude"] * model) / flux_err) ** 2)
        assert chi2 == pytest.approx(row["tf_chi2"], rel=1e-5)


def test_a_prior_multiplies_the_likelihood(grid, sources, table):
    prior = BpzPrior(1.16795, 0.70144, 1.75255, 0.003, 2.5)
    faint = slice(0, 9)  # SNR 5
    got = fit_templates(
        grid, sources[0][faint], sources[1][faint], np.arange(9), z_prior=prior, keep_pz=True, progress=False
    )
    z = grid.config.z
    density = np.where((z >= 0.003) & (z <= 2.5), z**1.16795 * np.exp(-((z / 0.70144) ** 1.75255)), 0.0)
    expected = table["tf_pz"][faint].to_numpy().astype(float) * density
    expected /= np.trapezoid(expected, z, axis=1)[:, None]
    assert got["tf_pz"].to_numpy() == pytest.approx(expected, rel=2e-3, abs=1e-6)
    assert got["tf_chi2"].to_list() == pytest.approx(table["tf_chi2"][faint].to_list(), rel=1e-6)
    assert got["tf_z_best"].to_list() == table["tf_z_best"][faint].to_list()


def test_every_source_gets_a_status_and_a_row(grid, sources):
    flux, flux_err, _ = (part[:8].copy() for part in sources)
    flux[1] = -np.abs(flux[1])
    flux_err[2], flux_err[3] = np.nan, -1.0
    flux[4, 50] = np.nan
    flux[5, 50], flux_err[5, 50] = np.nan, np.inf  # a masked band may hold anything
    flux[6] = 300.0 * (1.5 + np.sin(np.arange(102.0)))  # nothing that a galaxy is
    rows = fit_templates(grid, flux, flux_err, np.arange(8), keep_pz=True, progress=False)
    status = ["fitted", "no_signal", "no_bands", "no_bands", "bad_flux", "fitted", "misfit", "fitted"]
    assert rows["tf_status"].to_list() == status and set(status) == set(STATUSES)
    assert rows["tf_n_bands"].to_list() == [102, 102, 0, 0, 102, 101, 102, 102]
    for name in ("tf_z_mean", "tf_z_quantiles", "tf_pz", "tf_chi2_null", "tf_chi2"):
        assert rows[name].is_null().to_list() == [False, False, True, True, True, False, False, False], name
    for name in ("tf_template", "tf_z_best", "tf_ebv", "tf_amplitude"):
        assert rows[name].is_null().to_list() == [False, True, True, True, True, False, False, False], name
    # nothing seen: p(z) is flat, the prior's
    assert rows["tf_z_mean"][1] == pytest.approx(1.5, abs=1e-3)
    assert rows["tf_z_std"][1] == pytest.approx(3.0 / np.sqrt(12.0), rel=1e-3)
    assert rows.schema["tf_z_quantiles"] == pl.Array(pl.Float32, 51)
    assert rows.schema["tf_pz"] == pl.Array(pl.Float32, len(grid.config.z))


def test_three_bands_that_are_off_by_chance_are_fitted(grid, sources):
    flux, flux_err = (part[:9].copy() for part in sources[:2])
    flux_err[:, 3:] = np.inf
    rows = fit_templates(grid, flux, flux_err, np.arange(9), progress=False)
    assert set(rows["tf_status"]) <= {"fitted", "no_signal"} and rows["tf_n_bands"].to_list() == [3] * 9


def test_a_real_quasar_and_a_real_brown_dwarf_are_no_galaxies(grid):
    rows = fit_templates(grid, *real_photometry(), np.arange(2), progress=False)
    assert rows["tf_status"].to_list() == ["misfit", "misfit"] and rows["tf_n_bands"].to_list() == [97, 102]
    assert rows["tf_chi2"][1] > 1e5


def test_no_source_is_no_row_of_the_same_columns(grid, table):
    empty = np.empty((0, grid.n_band))
    rows = fit_templates(grid, empty, empty, np.empty(0, np.int64), keep_pz=True, progress=False)
    assert rows.schema == table.schema and rows.height == 0


def test_wrong_input_is_named_before_work_starts(grid, sources):
    flux, flux_err, _ = sources
    with pytest.raises(BandSetError, match=r"flux has shape \(36, 50\), expected \(n_source, 102\)"):
        fit_templates(grid, flux[:, :50], flux_err, np.arange(36))
    with pytest.raises(BandSetError, match=r"flux_err \(35, 102\)"):
        fit_templates(grid, flux, flux_err[1:], np.arange(36))
    with pytest.raises(ConfigError, match=r"object_id \(35,\) int64 must be 36 integers"):
        fit_templates(grid, flux, flux_err, np.arange(35))
    with pytest.raises(ConfigError, match=r"none of the grid's redshifts, 0-3, lies within 3\.5-4"):
        fit_templates(grid, flux, flux_err, np.arange(36), z_prior=UniformPrior(3.5, 4.0))
