"""Catalogue columns of SBI: against independent integration, whatever the batch, and what faulty input gives."""

import numpy as np
import polars as pl
import pytest

from paeplatform.config import SbiConfig
from paeplatform.errors import BandSetError, CheckpointError, ConfigError
from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.sbi.domain import OUTSIDE, SbiFlag
from paeplatform.sbi.inference import at_redshift, density_curves, estimate_sbi
from tests.sbi.small import DEPTH, N_BAND, Z_LIMITS, fresh_model, noisy, random_bank

MODEL = fresh_model()
FLUX, ERROR = noisy(random_bank(120))
OBJECT_ID = np.arange(120) * 7 + 3


def estimate(flux=FLUX, error=ERROR, object_id=OBJECT_ID, **kwargs) -> pl.DataFrame:
    cfg = SbiConfig(device="cpu", **kwargs)
    return estimate_sbi(MODEL, flux, error, object_id, cfg, progress=False)


def test_summaries_agree_with_interpolation_of_the_exact_cdf() -> None:
    table, curves = estimate(), density_curves(MODEL, FLUX, ERROR, device="cpu")
    expected = np.stack([np.interp(QUANTILE_LEVELS, c, z) for c, z in zip(curves.cdf, curves.z, strict=True)])
    np.testing.assert_allclose(table["sbi_z_quantiles"].to_numpy(), expected, rtol=0.01, atol=0.004)
    mass = np.diff(curves.cdf, axis=1)
    middle = 0.5 * (curves.z[:, 1:] + curves.z[:, :-1])
    mean = (mass * middle).sum(1)
    np.testing.assert_allclose(table["sbi_z_mean"].to_numpy(), mean, atol=2e-3)
    std = np.sqrt((mass * (middle - mean[:, None]) ** 2).sum(1))
    np.testing.assert_allclose(table["sbi_z_std"].to_numpy(), std, rtol=0.02, atol=1e-3)


def test_quantiles_and_cdf_are_inverse_to_each_other() -> None:
    quantiles = estimate()["sbi_z_quantiles"].to_numpy().astype(np.float64)
    for column in (0, 10, 25, 40, 50):
        place, _ = at_redshift(MODEL, FLUX, ERROR, quantiles[:, column], device="cpu")
        np.testing.assert_allclose(place, QUANTILE_LEVELS[column], atol=3e-3)


def test_samples_and_grid_give_the_same_summaries() -> None:
    grid, samples = estimate(), estimate(summaries="samples", n_samples=4096)
    width = grid["sbi_z_std"].to_numpy()
    for name in ("sbi_z_mean", "sbi_z_median", "sbi_z_err68_low", "sbi_z_err68_high"):
        shift = np.abs(grid[name].to_numpy() - samples[name].to_numpy()) / width
        assert np.median(shift) < 0.03 and shift.max() < 0.25, name
    assert grid.columns == samples.columns


def test_samples_belong_to_the_source_not_to_its_place() -> None:
    turned = np.arange(len(FLUX))[::-1]
    first = estimate(summaries="samples", n_samples=64, batch_size=120)
    second = estimate(
        FLUX[turned], ERROR[turned], OBJECT_ID[turned], summaries="samples", n_samples=64, batch_size=7
    )
    first, second = first.sort("object_id"), second.sort("object_id")
    np.testing.assert_allclose(first["sbi_z_mean"].to_numpy(), second["sbi_z_mean"].to_numpy(), rtol=1e-4)


def test_values_of_masked_bands_do_not_matter() -> None:
    error = ERROR.copy()
    error[:, ::3] = np.inf
    other = FLUX.copy()
    other[:, ::3] = np.nan
    assert estimate(error=error).equals(estimate(other, error))


def test_a_source_without_data_gets_nulls_and_a_flag_and_spoils_no_other() -> None:
    flux, error = FLUX.copy(), ERROR.copy()
    error[4] = np.inf
    flux[9, 2] = np.nan
    table, clean = estimate(flux, error), estimate()
    bad = table[[4, 9]]
    assert bad["sbi_flags"].to_list() == [SbiFlag.NO_REDSHIFT] * 2
    for name in ("sbi_z_mean", "sbi_z_quantiles", "sbi_distance"):
        assert bad[name].null_count() == 2
    assert bad["sbi_n_bands"].to_list() == [0, N_BAND]
    rest = [i for i in range(120) if i not in (4, 9)]
    np.testing.assert_allclose(
        table["sbi_z_mean"].to_numpy()[rest], clean["sbi_z_mean"].to_numpy()[rest], rtol=1e-5
    )


def test_no_sources_and_no_usable_sources_give_the_same_columns() -> None:
    full = estimate()
    none = estimate(FLUX[:0], ERROR[:0], OBJECT_ID[:0])
    blind = estimate(error=np.full_like(ERROR, np.inf))
    assert none.schema == full.schema == blind.schema
    assert none.height == 0 and blind["sbi_z_mean"].null_count() == 120


def test_redshifts_stay_within_their_range() -> None:
    quantiles = estimate()["sbi_z_quantiles"].to_numpy()
    assert quantiles.min() >= Z_LIMITS[0] - 1e-6 and quantiles.max() <= Z_LIMITS[1] + 1e-6
    _, log_prob = at_redshift(MODEL, FLUX[:2], ERROR[:2], np.array([0.001, 3.5]), device="cpu")
    assert (log_prob == -np.inf).all()


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ("brighter", SbiFlag.SNR_OUTSIDE),
        ("shallower", SbiFlag.DEPTH_OUTSIDE),
        ("few bands", SbiFlag.FEW_BANDS),
        ("another spectrum", SbiFlag.UNLIKE_TRAINING),
    ],
)
def test_inputs_unlike_the_training_set_are_flagged(change: str, flag: SbiFlag) -> None:
    flux, error = FLUX.copy(), ERROR.copy()
    if change == "brighter":
        flux *= 1e4
    elif change == "shallower":
        flux, error = flux * 30.0, error * 30.0
    elif change == "few bands":
        error[:, 1:] = np.inf
    else:
        flux = 40.0 * (-1.0) ** np.arange(N_BAND) * np.ones_like(flux) * DEPTH
    assert (estimate(flux, error)["sbi_flags"].to_numpy() & flag != 0).mean() > 0.9
    assert (estimate()["sbi_flags"].to_numpy() & OUTSIDE != 0).mean() < 0.05


def test_faults_are_named() -> None:
    with pytest.raises(BandSetError, match=r"flux has shape \(120, 5\), expected \(n_source, 17\)"):
        estimate(FLUX[:, :5], ERROR[:, :5])
    with pytest.raises(ConfigError, match="120 integers"):
        estimate(object_id=OBJECT_ID[:4])
    with pytest.raises(BandSetError, match="row 3: no usable band"):
        density_curves(MODEL, FLUX, np.where(np.arange(120)[:, None] == 3, np.inf, ERROR))
    bare = fresh_model()
    bare.trained_range = None
    with pytest.raises(CheckpointError, match="never trained"):
        estimate_sbi(bare, FLUX, ERROR, OBJECT_ID, progress=False)
