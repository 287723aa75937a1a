"""Fresh mock sources, the join with their truth, and a small evaluation from photometry to metrics."""

import jax
import numpy as np
import polars as pl
import pytest

from paeplatform.config import load_preset
from paeplatform.errors import InputError
from paeplatform.inference.estimate import Estimator
from paeplatform.inference.model.priors import UniformPrior
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.filters import gaussian_filters
from paeplatform.pae.autoencoder import build_autoencoder
from paeplatform.pae.bundle import PaeBundle
from paeplatform.pae.flow import build_flow
from paeplatform.scores.evaluate import (
    draw_bright_sources,
    evaluate_high_snr,
    join_truth,
    posterior_metrics,
)
from paeplatform.scores.statistics import metric_table
from paeplatform.sed.grid import rest_grid
from paeplatform.sed.library import load_library


@pytest.fixture(scope="module")
def library():
    return load_library()


@pytest.fixture(scope="module")
def bands():
    return load_bands()


@pytest.fixture(scope="module")
def preset():
    """The demo with a small catalogue and a sampler too short for science."""
    demo = load_preset("demo")
    mclmc = {"n_chains": 2, "n_burnin": 20, "n_tune": 30, "n_steps": 40, "n_discard": 20, "init_draws": 64}
    return demo.model_copy(
        update={
            "catalog": demo.catalog.model_copy(update={"n_sources": 4000}),
            "mclmc": demo.mclmc.model_copy(update=mclmc | {"batch_size": 4, "keep_latent_every": 10}),
            "instrument": demo.instrument.model_copy(update={"n_redshift_nodes": 128}),
        }
    )


@pytest.fixture(scope="module")
def bright(preset, library, bands):
    return draw_bright_sources(preset, library, bands, 12, 40.0, progress=False)


def test_bright_sources_are_bright_and_well_detected(preset, bright):
    assert bright.height == 12
    assert bright["snr"].min() > 40.0
    assert bright["mag_z"].max() < preset.release.mag_z_max
    from_fluxes = np.sqrt(((bright["flux"].to_numpy() / bright["flux_err"].to_numpy()) ** 2).sum(axis=1))
    assert from_fluxes == pytest.approx(bright["snr"].to_numpy(), rel=1e-4)


def test_bright_sources_come_in_catalogue_order_and_depend_on_the_seed(preset, library, bands, bright):
    assert bright["object_id"].is_sorted()  # not the brightest of the catalogue
    fewer = draw_bright_sources(preset, library, bands, 5, 40.0, progress=False)
    assert fewer.equals(bright.head(5))
    other = draw_bright_sources(
        preset.model_copy(update={"seed": 1}), library, bands, 12, 40.0, progress=False
    )
    assert not set(other["z_true"].to_list()) & set(bright["z_true"].to_list())


def test_no_source_bright_enough_is_named_with_the_highest_snr(preset, library, bands):
    with pytest.raises(InputError, match=r"SNR above 1e\+06; the highest is \d+"):
        draw_bright_sources(preset, library, bands, 5, 1e6, progress=False)


def test_truth_joins_by_id_in_the_order_of_the_posteriors(bright):
    posteriors = pl.DataFrame(
        {"object_id": bright["object_id"].reverse(), "pae_z_mean": bright["z_true"].reverse()}
    )
    joined = join_truth(posteriors, bright)
    assert joined["object_id"].equals(posteriors["object_id"])
    assert joined["z_true"].equals(joined["pae_z_mean"].alias("z_true"))
    assert "snr" in joined.columns
    with pytest.raises(InputError, match="11 sources have no truth"):
        join_truth(posteriors, bright.head(1))
    with pytest.raises(InputError, match="more than once"):
        join_truth(posteriors, pl.concat([bright, bright]))
    with pytest.raises(InputError, match="z_true"):
        join_truth(posteriors, bright.drop("z_true"))


def test_posterior_metrics_takes_the_estimator_asked_for(preset, posteriors):
    shifted = posteriors.with_columns(pae_z_median=pl.col("pae_z_mean") + 0.5)
    mean, median = (posterior_metrics(shifted, preset, point_estimate=name) for name in ("mean", "median"))
    columns = (posteriors[name].to_numpy() for name in ("pae_z_mean", "pae_z_std", "z_true"))
    cfg = preset.validation
    assert mean.equals(metric_table(*columns, cfg.sigma_cuts, n_bootstrap=cfg.n_bootstrap, seed=preset.seed))
    assert median["mean_bias"][-1] > mean["mean_bias"][-1] + 0.1
    with pytest.raises(InputError, match="'best'"):
        posterior_metrics(shifted, preset, point_estimate="best")
    with pytest.raises(InputError, match="pae_z_mode"):
        posterior_metrics(shifted, preset, point_estimate="mode")


@pytest.fixture(scope="module")
def untrained(preset, bands):
    """A bundle with random weights: small, real code paths, useless redshifts."""
    key = jax.random.key(0)
    wave = rest_grid(preset.rest_grid)
    autoencoder = build_autoencoder(preset.pae.autoencoder, 2, len(wave), key=key)
    flow_cfg = preset.pae.flow.model_copy(update={"n_layers": 2, "width": 8, "n_knots": 4})
    latents = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    bundle = PaeBundle(
        autoencoder=autoencoder,
        flow=build_flow(flow_cfg, jax.numpy.asarray(latents), key=key),
        pae=preset.pae,
        n_latent=2,
        wave=wave,
        band_hash="",
        library_hash="",
    )
    prior = UniformPrior(preset.prior.z_min, preset.prior.z_max)
    return Estimator(bundle, prior, bands, gaussian_filters(bands), preset)


@pytest.mark.slow  # compiles the sampler: 20-60 s
def test_evaluation_end_to_end(preset, library, bands, untrained):
    arguments = {"n_sources": 4, "min_snr": 40.0, "progress": False}
    table, posteriors = evaluate_high_snr(untrained, library, **arguments)
    assert posteriors.height == 4
    assert posteriors["z_true"].null_count() == 0
    assert posteriors["snr"].min() > 40.0
    assert table["n_total"].to_list() == [4] * (len(preset.validation.sigma_cuts) + 1)
    assert table.equals(posterior_metrics(posteriors, preset, seed=preset.seed + 1_000_000))
    fresh = preset.model_copy(update={"seed": preset.seed + 1_000_000})
    expected = draw_bright_sources(fresh, library, bands, 4, 40.0, progress=False)
    # other galaxies than those of the preset's own seed
    assert posteriors["z_true"].equals(expected["z_true"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_sources": 0}, "n_sources 0"),
        ({"seed": 20260324}, "training catalogue"),
        ({"point_estimate": "peak"}, "'peak'"),
    ],
)
def test_wrong_requests_fail_before_any_work(library, untrained, changes, words):
    with pytest.raises(InputError, match=words):
        evaluate_high_snr(untrained, library, progress=False, **changes)
