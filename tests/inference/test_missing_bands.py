"""Which bands go missing, and what a real estimator says of the sources without them."""

import itertools

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paeplatform.errors import BandSetError, ConfigError, InputError
from paeplatform.inference.missing_bands import missing_bands, stress_test
from paeplatform.inference.model.posterior import LogPosterior
from paeplatform.inference.model.priors import UniformPrior
from paeplatform.inference.profile_likelihood import profile_likelihood
from paeplatform.inference.results.pz_summary import summarise_pz_grid


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n_band=st.integers(1, 102),
    fractions=st.lists(st.floats(0.0, 0.99), min_size=2),
)
def test_missing_bands_are_nested_counted_and_taken_from_the_usable_ones(seed, n_band, fractions):
    rng = np.random.default_rng(seed)
    flux_err = np.where(rng.uniform(size=(3, n_band)) < 0.2, np.inf, 1.0)
    object_id = np.array([5, -3, 2**62])
    masks = [missing_bands(flux_err, object_id, fraction, seed) for fraction in sorted(fractions)]
    n_usable = np.isfinite(flux_err).sum(axis=1)
    for fraction, mask in zip(sorted(fractions), masks, strict=True):
        assert mask.sum(axis=1).tolist() == [round(fraction * n) for n in n_usable]
        assert not mask[~np.isfinite(flux_err)].any()
    for fewer, more in itertools.pairwise(masks):
        assert (more | ~fewer).all()


def test_a_source_loses_the_same_bands_in_any_company():
    flux_err, ids = np.ones((4, 60)), np.array([11, 12, 13, 14])
    mask = missing_bands(flux_err, ids, 0.5, seed=3)
    order = [2, 0]
    assert np.array_equal(missing_bands(flux_err[order], ids[order], 0.5, seed=3), mask[order])
    assert not np.array_equal(mask[0], mask[1])
    assert not np.array_equal(missing_bands(flux_err, ids, 0.5, seed=4), mask)


def test_redshifts_of_a_real_estimator_get_less_certain_and_stay_right(bump_forward):
    """The profile likelihood's p(z) on a toy: widths grow as bands go, truths stay within three of them."""
    rng = np.random.default_rng(2)
    z_true = rng.uniform(0.4, 1.4, size=6)
    model = eqx.filter_jit(lambda z: bump_forward(jnp.asarray([0.2, 0.6]), z))
    clean = 30.0 * np.stack([np.asarray(model(jnp.asarray(z)), np.float64) for z in z_true])
    flux_err = np.sqrt(np.sum(clean**2, axis=1, keepdims=True)) / 60.0 * np.ones_like(clean)
    flux = clean + flux_err * rng.normal(size=clean.shape)
    ids = np.arange(100, 106)
    posterior = LogPosterior(bump_forward, UniformPrior(0.05, 2.0))
    seen = []

    def estimate(flux, flux_err, object_id):
        seen.append(np.isfinite(flux_err))
        grid = np.linspace(0.05, 2.0, 80)
        profile = profile_likelihood(
            posterior, flux, flux_err, n_latent=2, z_grid=grid, nf_prior=True, progress=False
        )
        columns = summarise_pz_grid(grid, profile.pz(), prefix="pae")
        return pl.DataFrame({"object_id": object_id, "z": columns["pae_z_mean"], "std": columns["pae_z_std"]})

    table = stress_test(estimate, flux, flux_err, ids, fractions=(0.0, 0.25, 0.5, 0.75), progress=False)
    assert table["fraction"].to_list() == [f for f in (0.0, 0.25, 0.5, 0.75) for _ in ids]
    assert table["object_id"].to_list() == 4 * ids.tolist()
    assert [mask.sum() for mask in seen] == [6 * 24, 6 * 18, 6 * 12, 6 * 6]
    assert table["n_missing"].to_list() == [n for n in (0, 6, 12, 18) for _ in ids]
    widths = table.group_by("fraction", maintain_order=True).agg(pl.col("std").median())["std"].to_numpy()
    assert widths[-1] > 1.3 * widths[0]  # a quarter of the bands: sigma grows by 2 where information is even
    first = table.filter(pl.col("fraction") <= 0.5)
    z_score = (first["z"].to_numpy() - np.tile(z_true, 3)) / first["std"].to_numpy()
    assert (np.abs(z_score) < 3.0).mean() > 0.9


def test_bad_requests_are_refused_before_the_estimator_runs():
    flux = flux_err = np.ones((2, 8))
    ids = np.array([1, 2])

    def never(*_):
        raise AssertionError("called")

    with pytest.raises(ConfigError, match="ascending"):
        stress_test(never, flux, flux_err, ids, fractions=(0.5, 0.25), progress=False)
    with pytest.raises(ConfigError, match=r"\[0, 1\)"):
        stress_test(never, flux, flux_err, ids, fractions=(0.5, 1.0), progress=False)
    with pytest.raises(ConfigError, match="distinct"):
        stress_test(never, flux, flux_err, np.array([1, 1]), progress=False)
    with pytest.raises(BandSetError, match="row 0, band 1"):
        stress_test(never, flux * np.nan, flux_err, ids, progress=False)
    with pytest.raises(InputError, match="in their order"):
        stress_test(
            lambda flux, err, ids: pl.DataFrame({"object_id": ids[::-1]}), flux, flux_err, ids, progress=False
        )
