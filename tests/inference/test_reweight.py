"""Reweighted draws against posteriors integrated on a grid, and the sources that must not be reweighted."""

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from paeplatform.config import TrustConfig
from paeplatform.errors import ConfigError
from paeplatform.inference.model.priors import BpzPrior, TabulatedPrior, UniformPrior
from paeplatform.inference.results.pz_summary import redshift_columns
from paeplatform.inference.results.reweight import prior_mass, reweight, reweight_table
from paeplatform.inference.results.second_solutions import leading_solutions
from paeplatform.inference.results.summaries import ZFlag

UNIFORM = UniformPrior(0.003, 3.0)
BPZ = BpzPrior(1.17, 0.70, 1.75, 0.003, 3.0)
TABLE = TabulatedPrior(np.array([0.003, 0.5, 1.0, 3.0]), np.array([0.2, 1.0, 3.0, 0.1]))
PRIORS = {"uniform": UNIFORM, "bpz": BPZ, "table": TABLE}
LIKELIHOODS = [(0.4, 0.05), (0.9, 0.2), (1.1, 0.6)]  # measured z and its error
N_DRAW = 4000


def shape(prior, z):
    """p(z) up to a constant, float64, written apart from the classes under test."""
    if isinstance(prior, BpzPrior):
        return z ** float(prior.alpha) * np.exp(-((z / float(prior.beta)) ** float(prior.gamma)))
    return np.interp(z, prior.z, prior.density) if isinstance(prior, TabulatedPrior) else np.ones_like(z)


def integrated(prior, z, error):
    """(grid, posterior density, evidence) of one source."""
    grid = np.linspace(float(prior.z_min), float(prior.z_max), 40001)
    p = shape(prior, grid) / np.trapezoid(shape(prior, grid), grid)
    posterior = p * norm.pdf(z, grid, error)
    evidence = np.trapezoid(posterior, grid)
    return grid, posterior / evidence, evidence


def draws(prior, n_draw=N_DRAW, seed=0, likelihoods=LIKELIHOODS):
    """Of the integrated posteriors, by their inverse CDF; rounded to float32, as stored."""
    rng = np.random.default_rng(seed)
    rows = []
    for z, error in likelihoods:
        grid, posterior, _ = integrated(prior, z, error)
        cdf = np.concatenate([[0.0], np.cumsum(0.5 * np.diff(grid) * (posterior[1:] + posterior[:-1]))])
        rows.append(np.interp(rng.uniform(size=n_draw), cdf / cdf[-1], grid))
    return np.array(rows, dtype=np.float32)


@pytest.mark.parametrize("old", PRIORS)
@pytest.mark.parametrize("new", PRIORS)
def test_moments_and_evidence_are_those_of_the_new_posterior(old, new):
    z = draws(PRIORS[old])
    got = reweight(z, None, PRIORS[old], PRIORS[new])
    assert got.allowed.all()
    assert got.weight.sum(axis=1) == pytest.approx(1.0)
    for i, (measured, error) in enumerate(LIKELIHOODS):
        grid, posterior, evidence = integrated(PRIORS[new], measured, error)
        mean = np.trapezoid(grid * posterior, grid)
        std = np.sqrt(np.trapezoid((grid - mean) ** 2 * posterior, grid))
        scatter = std / np.sqrt(got.ess[i])
        assert np.sum(got.weight[i] * z[i]) == pytest.approx(mean, abs=4.0 * scatter)
        weighted_std = np.sqrt(np.sum(got.weight[i] * (z[i] - np.sum(got.weight[i] * z[i])) ** 2))
        assert weighted_std == pytest.approx(
            std, abs=5.0 * scatter
        )  # kurtosis above normal's: 5, not 4 / sqrt 2
        expected = np.log(evidence / integrated(PRIORS[old], measured, error)[2])
        # the relative scatter of a mean weight: sqrt(1/ess - 1/n)
        spread = np.sqrt(max(1.0 / got.ess[i] - 1.0 / N_DRAW, 0.0))
        assert got.log_evidence_ratio[i] == pytest.approx(expected, abs=4.0 * spread + 1e-5)


def test_the_same_prior_changes_nothing():
    z = draws(BPZ)
    got = reweight(z, None, BPZ, BPZ)
    assert got.weight == pytest.approx(1.0 / N_DRAW, rel=1e-12)
    assert got.ess == pytest.approx(N_DRAW)
    assert got.khat.tolist() == [0.0] * 3 and got.allowed.all()
    assert got.log_evidence_ratio == pytest.approx(0.0, abs=1e-12)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 1000),
    there=st.sampled_from(list(PRIORS)),
    back=st.sampled_from(list(PRIORS)),
    scale=st.floats(1e-6, 1e6),
)
def test_there_and_back_gives_the_weights_again(seed, there, back, scale):
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.003, 3.0, size=(2, 50)).astype(np.float32)
    weight = rng.exponential(size=z.shape)
    away = reweight(z, scale * weight, PRIORS[back], PRIORS[there])
    home = reweight(z, away.weight, PRIORS[there], PRIORS[back])
    # the two log ratios are each rounded at 1e-6 of values below 15
    assert home.weight == pytest.approx(weight / weight.sum(axis=1, keepdims=True), rel=1e-4)
    assert home.log_evidence_ratio == pytest.approx(-away.log_evidence_ratio, abs=1e-4)
    ratio = shape(PRIORS[there], z.astype(float)) / shape(PRIORS[back], z.astype(float))
    expected = weight * ratio / (weight * ratio).sum(axis=1, keepdims=True)
    assert away.weight == pytest.approx(expected, rel=1e-4)
    assert away.ess == pytest.approx(1.0 / (expected**2).sum(axis=1), rel=1e-3)


def test_a_narrower_prior_takes_weight_from_the_draws_it_excludes():
    z = draws(UNIFORM)
    narrow = UniformPrior(0.7, 1.5)
    got = reweight(z, None, UNIFORM, narrow)
    # a draw within rounding of a limit counts as inside
    assert np.all((got.weight > 0.0) == ((z >= 0.7 - 2e-6) & (z <= 1.5 + 2e-6)))
    # a source at 0.4 +- 0.05 has nothing there: 6 sigma away
    assert got.weight[0].sum() == 0.0 and got.log_evidence_ratio[0] == -np.inf
    assert (got.ess[0], got.khat[0]) == (0.0, np.inf)
    assert got.allowed.tolist() == [False, True, True]
    kept = (got.weight > 0.0).sum(axis=1)
    assert got.ess[1:] == pytest.approx(kept[1:], rel=1e-6)
    expected = np.log(2.997 / 0.8 * kept[1:] / N_DRAW)
    assert got.log_evidence_ratio[1:] == pytest.approx(expected, abs=1e-5)


def test_a_prior_beyond_the_old_limits_is_refused_when_it_puts_mass_there():
    z = draws(UniformPrior(0.05, 1.5), likelihoods=[(0.4, 0.05), (1.6, 0.1)])
    old = UniformPrior(0.05, 1.5)
    wide = reweight(z, None, old, UniformPrior(0.05, 3.0))
    assert wide.ess == pytest.approx(N_DRAW) and not wide.allowed.any()
    # p(z) beyond 1.5 within the stated mass: the source inside may go, the one that leans on the old limit may not
    thin = TabulatedPrior(np.array([0.05, 1.4999, 1.5, 1.7]), np.array([1.0, 1.0, 1e-3, 1e-3]))
    assert 0.0 < prior_mass(thin, 1.5, 1.7) < 1e-3
    assert reweight(z, None, old, thin).allowed.tolist() == [True, False]
    assert reweight(z, None, old, UniformPrior(0.05, 1.5)).allowed.tolist() == [True, True]
    assert not reweight(z, None, old, thin, max_mass_outside=1e-9).allowed.any()
    # on the other side of the range nothing leans
    low = TabulatedPrior(np.array([0.04, 0.05, 0.0501, 1.5]), np.array([1e-3, 1e-3, 1.0, 1.0]))
    assert reweight(z, None, old, low).allowed.tolist() == [True, True]


def test_too_few_draws_at_the_wanted_redshifts_are_refused():
    z = draws(UNIFORM, 400)
    far = TabulatedPrior(np.array([0.003, 1.1, 1.3, 3.0]), np.array([1e-6, 1e-6, 1.0, 1.0]))
    got = reweight(z, None, UNIFORM, far)
    # at 0.4 +- 0.05 the new prior is flat, its hill 16 sigma away
    assert got.ess[0] == pytest.approx(400) and got.allowed[0]
    assert got.ess[1] < 100 and not got.allowed[1]
    assert got.allowed[2]
    assert reweight(z, None, UNIFORM, far, trust=TrustConfig(ess_min=399.0)).allowed.tolist() == [
        True,
        False,
        False,
    ]
    # draws of a chain that are worth a tenth
    chained = reweight(z, None, UNIFORM, UNIFORM, ess=np.array([40.0, 4000.0, np.nan]))
    assert chained.ess == pytest.approx([40.0, 400.0, 0.0]) and chained.allowed.tolist() == [
        False,
        True,
        False,
    ]


def test_sources_without_a_posterior_stay_so_and_spoil_nobody():
    z = draws(UNIFORM, 500, likelihoods=LIKELIHOODS * 2)
    weight = np.ones(z.shape)
    alone = reweight(z[5:], weight[5:], UNIFORM, BPZ)
    z[0], z[1, 3], weight[2] = np.nan, np.nan, 0.0
    weight[3, 7] = -1.0
    z[4, 0] = 3.2  # cannot have come from that prior
    got = reweight(z, weight, UNIFORM, BPZ)
    assert got.allowed.tolist() == [False] * 5 + [True]
    assert np.isnan(got.weight[:5]).all() and np.isnan(got.log_evidence_ratio[:5]).all()
    assert got.ess[:5].tolist() == [0.0] * 5 and got.khat[:5].tolist() == [np.inf] * 5
    assert np.array_equal(got.weight[5:], alone.weight)
    with pytest.raises(ConfigError, match="source, draw"):
        reweight(z, weight[:, :4], UNIFORM, BPZ)
    with pytest.raises(ConfigError, match="one a source"):
        reweight(z, None, UNIFORM, BPZ, ess=np.ones(2))


@pytest.mark.parametrize("prior", PRIORS)
def test_prior_mass_is_the_integral(prior):
    grid = np.linspace(0.2, 0.9, 20001)
    whole = np.linspace(0.003, 3.0, 200001)
    expected = np.trapezoid(shape(PRIORS[prior], grid), grid) / np.trapezoid(
        shape(PRIORS[prior], whole), whole
    )
    assert prior_mass(PRIORS[prior], 0.2, 0.9) == pytest.approx(expected, rel=1e-6)
    assert prior_mass(PRIORS[prior], 0.0, 9.0) == 1.0
    assert prior_mass(PRIORS[prior], 3.0, 9.0) == 0.0


def stored(z, prior):
    summary = redshift_columns(z, None, z_min=float(prior.z_min), z_max=float(prior.z_max), prefix="pae")
    summary |= leading_solutions(z).columns()
    numbers = {k: v.astype(np.float32) for k, v in summary.items() if k.startswith("pae_z") and v.ndim == 1}
    return pl.DataFrame(
        {"object_id": np.arange(len(z)), **numbers, "pae_chi2": np.arange(len(z), dtype=np.float32)}
    ).with_columns(
        pl.Series("pae_z_quantiles", summary["pae_z_quantiles"].tolist(), dtype=pl.Array(pl.Float32, 51)),
        pl.Series("pae_z_draws", z.tolist(), dtype=pl.Array(pl.Float32, z.shape[1])),
        pl.Series("z_flags", np.full(len(z), int(ZFlag.BAD_FIT | ZFlag.AT_PRIOR_EDGE), np.int32)),
    )


@pytest.mark.parametrize("form", ["prior", "dict", "json"])
def test_a_table_under_a_new_prior(form):
    z = draws(UNIFORM)
    table = stored(z, UNIFORM)
    old = {"prior": UNIFORM, "dict": UNIFORM.to_dict(), "json": json.dumps(UNIFORM.to_dict())}[form]
    got = reweight_table(table, old, BPZ)
    new_columns = ["pae_reweight_ess", "pae_reweight_allowed", "prior_id"]
    assert got.columns == [*table.columns, *new_columns]
    assert {name: got.schema[name] for name in table.columns} == dict(table.schema)
    assert got["prior_id"].unique().to_list() == [BPZ.prior_id()]
    assert got.select("object_id", "pae_chi2").equals(table.select("object_id", "pae_chi2"))
    assert got["z_flags"].to_list() == [int(ZFlag.BAD_FIT)] * 3
    for i, (measured, error) in enumerate(LIKELIHOODS):
        grid, posterior, _ = integrated(BPZ, measured, error)
        mean = np.trapezoid(grid * posterior, grid)
        std = np.sqrt(np.trapezoid((grid - mean) ** 2 * posterior, grid))
        scatter = std / np.sqrt(got["pae_reweight_ess"][i])
        assert got["pae_z_mean"][i] == pytest.approx(mean, abs=4.0 * scatter)
        assert got["pae_z_std"][i] == pytest.approx(std, abs=5.0 * scatter)
        # the draws stand for the new posterior too: evenly spaced picks shift the mean by less than their scatter
        resampled = got["pae_z_draws"][i].to_numpy()
        assert resampled.mean() == pytest.approx(got["pae_z_mean"][i], abs=0.3 * scatter)
        assert set(resampled) <= set(z[i])


def test_rows_that_may_not_be_reweighted_are_null_and_the_others_untouched_by_them():
    table = stored(draws(UNIFORM), UNIFORM).with_columns(
        pl.when(pl.col("object_id") != 1).then("pae_z_draws").alias("pae_z_draws"), pae_ess=pl.lit(2000.0)
    )
    narrow = UniformPrior(0.7, 1.5)
    got = reweight_table(table, UNIFORM, narrow)
    assert got["pae_reweight_allowed"].to_list() == [False, False, True]
    for name in ("pae_z_mean", "pae_z_quantiles", "pae_z_draws", "pae_z_err95_high", "pae_z_mode"):
        assert got[name].is_null().to_list() == [True, True, False]
    assert got["pae_z_median"][2] == pytest.approx(1.1, abs=0.1)
    assert got[2].equals(reweight_table(table[2], UNIFORM, narrow))
    kept = np.isfinite(draws(UNIFORM)[2]) & (np.abs(draws(UNIFORM)[2] - 1.1) <= 0.4)
    assert got["pae_reweight_ess"][2] == pytest.approx(kept.sum() / 2, rel=1e-3)  # a draw in two counts


def test_lists_of_draws_serve_as_well_and_other_columns_are_refused():
    table = stored(draws(UNIFORM, 300), UNIFORM)
    lists = table.with_columns(pl.col("pae_z_draws").arr.to_list())
    same = [name for name in table.columns if name != "pae_z_draws"]
    assert (
        reweight_table(lists, UNIFORM, BPZ)
        .select(same)
        .equals(reweight_table(table, UNIFORM, BPZ).select(same))
    )
    nobody = table.with_columns(pae_z_draws=pl.lit(None, dtype=pl.List(pl.Float32)))
    assert reweight_table(nobody, UNIFORM, BPZ)["pae_z_mean"].null_count() == 3
    with pytest.raises(ConfigError, match="pae_z_draws is missing"):
        reweight_table(table.drop("pae_z_draws"), UNIFORM, BPZ)
    with pytest.raises(ConfigError, match="pae_z_draws is Float64"):
        reweight_table(table.with_columns(pae_z_draws=pl.lit(1.0)), UNIFORM, BPZ)
    ragged = pl.DataFrame({"pae_z_draws": [[0.1, 0.2], [0.1, 0.2, 0.3]]})
    with pytest.raises(ConfigError, match="2 to 3 draws"):
        reweight_table(ragged, UNIFORM, BPZ)
    with pytest.raises(ConfigError, match="kind"):
        reweight_table(table, {"kind": "none"}, BPZ)
    with pytest.raises(ConfigError, match="not JSON"):
        reweight_table(table, "bpz", BPZ)
