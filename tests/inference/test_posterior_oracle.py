"""The posterior object against float64 arithmetic of another make, and against numerical integration in z.

Nothing here follows the code under test: the amplitude is found by non-negative least squares or integrated by
quadrature, priors are normalised by quadrature, and p(z) is integrated in z, not in ln z.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad, simpson
from scipy.interpolate import CubicSpline
from scipy.optimize import nnls

from paeplatform.inference.model.posterior import LogPosterior
from paeplatform.inference.model.priors import BpzPrior, TabulatedPrior, UniformPrior
from tests.inference.bump_problem import numpy_model

Z_MIN, Z_MAX = 0.05, 2.5
KNOTS, HEIGHTS = np.array([Z_MIN, 0.4, 0.9, 1.0, Z_MAX]), np.array([0.3, 1.0, 2.0, 0.0, 0.5])
PRIORS = {
    "uniform": UniformPrior(Z_MIN, Z_MAX),
    "bpz": BpzPrior(1.17, 0.7, 1.75, Z_MIN, Z_MAX),
    "table": TabulatedPrior(KNOTS, HEIGHTS),
}
SHAPES = {
    "uniform": lambda z: np.ones_like(z),
    "bpz": lambda z: z**1.17 * np.exp(-((z / 0.7) ** 1.75)),
    "table": lambda z: np.interp(z, KNOTS, np.maximum(HEIGHTS, 2e-6)),  # the floor is 1e-6 of the maximum
}
NORMS = {
    name: quad(shape, Z_MIN, Z_MAX, points=KNOTS[1:-1], epsabs=1e-13, limit=200)[0]
    for name, shape in SHAPES.items()
}
LEGENDRE_X, LEGENDRE_W = np.polynomial.legendre.leggauss(120)


def log_amplitude_integral(s2, sm, mm):
    """ln of the integral over A >= 0 of exp(-(s2 - 2 A sm + A^2 mm) / 2), by quadrature around its maximum."""
    best = np.maximum(sm / mm, 0.0)
    # where the optimum is negative the integrand falls off as exp(sm A) already
    reach = np.minimum(13.0 / np.sqrt(mm), np.where(sm < 0.0, 45.0 / np.maximum(-sm, 1e-300), np.inf))
    low, high = np.maximum(best - reach, 0.0), best + reach
    amplitude = low[..., None] + 0.5 * (high - low)[..., None] * (LEGENDRE_X + 1.0)
    drop = (amplitude - best[..., None]) * (
        2.0 * sm[..., None] - (amplitude + best[..., None]) * mm[..., None]
    )
    integral = (0.5 * (high - low)[..., None] * LEGENDRE_W * np.exp(0.5 * drop)).sum(axis=-1)
    return np.log(integral) - 0.5 * (s2 - 2.0 * best * sm + best**2 * mm)


def oracle(forward, x, flux, flux_err, amplitude, nf_prior, prior):
    """(ln posterior over (u, ln z), error that float32 may make)."""
    u, z = x[:-1], np.exp(x[-1])
    used = np.isfinite(flux_err) & (flux_err > 0.0)
    s = flux[used] / flux_err[used]
    m = numpy_model(forward, u, z)[used] / flux_err[used]
    best, rms = nnls(m[:, None] / np.linalg.norm(m), s)
    fit = m / np.linalg.norm(m) * best[0]
    if amplitude == "profile":
        log_like, slack = -0.5 * rms**2, 0.0
    else:
        # amplitudes in units of the error whose inverse square is the mean one; 1/2 ln 2 pi is left out
        m = m / np.sqrt(np.mean(flux_err[used] ** -2.0))
        sm, mm = np.sum(s * m), np.sum(m * m)
        log_like = float(log_amplitude_integral(np.sum(s * s), sm, mm)) - 0.5 * np.log(2.0 * np.pi)
        # the phi/Phi slope at t = A* sqrt(a), and t's own rounding where s m cancels
        t = sm / np.sqrt(mm)
        slack = (1.0 + max(-t, 0.0)) * (np.sum(np.abs(s * m)) / np.sqrt(mm) + abs(t)) + abs(np.log(mm))
        residual = s - sm / mm * m
        slack += np.sum(np.abs(residual) * (np.abs(s) + np.abs(sm / mm * m)))
    log_p_z = np.log(SHAPES[prior](np.array(z)) / NORMS[prior])
    log_p_u = -0.5 * np.sum(u**2) - 0.5 * len(u) * np.log(2.0 * np.pi) if nf_prior else 0.0
    # Signal and model of each band carry about five roundings of 6e-8, and chi^2 feels them times the residual; sums
    # and the other terms are rounded relative to their size. z = exp(x) is rounded too, and ln p_BPZ falls by up to
    # 16 for each e-fold of z (the table's zero is steeper still: the tests stay clear of it).
    slack += np.sum(np.abs(s - fit) * (np.abs(s) + np.abs(fit))) + rms**2
    slack += abs(log_p_z) + abs(x[-1]) + abs(log_p_u) + 16.0
    return log_like + log_p_z + x[-1] + log_p_u, 3e-7 * slack


@eqx.filter_jit
def log_prob(posterior, x, flux, flux_err):
    return posterior.log_prob(x, flux, flux_err)


@settings(max_examples=150)
@given(
    snr=st.sampled_from([1.0, 8.0, 50.0, 200.0]),
    seed=st.integers(0, 10**6),
    away=st.floats(0.0, 3.0),
    n_masked=st.integers(0, 23),
    sign=st.sampled_from([1.0, 1.0, -1.0]),
    amplitude=st.sampled_from(["profile", "marginal"]),
    nf_prior=st.booleans(),
    prior=st.sampled_from(list(PRIORS)),
)
def test_log_prob_is_the_float64_posterior(
    bump_forward, snr, seed, away, n_masked, sign, amplitude, nf_prior, prior
):
    """At and up to three prior widths away from the truth, with any bands masked, and for negative fluxes."""
    rng = np.random.default_rng(seed)
    u, z = rng.normal(size=2), rng.uniform(0.1, 2.4)
    flux = sign * numpy_model(bump_forward, u, np.array(z)) * rng.uniform(1e-2, 1e3)
    flux_err = rng.uniform(0.3, 3.0, size=24)
    flux_err *= np.sqrt(np.sum((flux / flux_err) ** 2)) / snr
    flux = flux + flux_err * rng.normal(size=24)
    masked = rng.permutation(24)[:n_masked]
    flux_err[masked] = rng.choice([np.inf, np.nan, 0.0, -1.0], size=n_masked)
    flux[masked[::2]] = np.nan
    x = np.append(u + away * rng.normal(size=2), np.log(np.clip(z + 0.3 * away * rng.normal(), 0.06, 2.4)))
    if prior == "table" and abs(np.exp(x[-1]) - 1.0) < 0.02:
        x[-1] = np.log(0.97)
    # both sides are given what float32 holds
    x, flux, flux_err = (a.astype(np.float32) for a in (x, flux, flux_err))
    posterior = LogPosterior(bump_forward, PRIORS[prior], nf_prior=nf_prior, amplitude=amplitude)
    got = float(log_prob(posterior, *map(jnp.asarray, (x, flux, flux_err))))
    wide = [a.astype(np.float64) for a in (x, flux, flux_err)]
    expected, tolerance = oracle(bump_forward, *wide, amplitude, nf_prior, prior)
    assert got == pytest.approx(expected, abs=tolerance, rel=0.0)


def test_the_tolerance_is_tight_where_it_matters(bump_forward):
    """Near the peak at a total SNR of 200 float32 is allowed an error that no sampler feels."""
    rng = np.random.default_rng(0)
    x = np.array([0.3, -0.5, np.log(0.8)])
    flux = numpy_model(bump_forward, x[:2], np.array(0.8)) * 30.0
    flux_err = np.full(24, np.sqrt(np.sum(flux**2)) / 200.0)
    flux = flux + flux_err * rng.normal(size=24)
    for amplitude in ("profile", "marginal"):
        assert oracle(bump_forward, x, flux, flux_err, amplitude, True, "bpz")[1] < 2e-3


def toy_source(forward, seed, snr):
    rng = np.random.default_rng(seed)
    flux = numpy_model(forward, np.array([0.5, -0.7]), np.array(0.7))
    flux_err = np.full(24, np.sqrt(np.sum(flux**2)) / snr)
    flux = flux + flux_err * rng.normal(size=24)
    flux_err[[2, 11]] = np.inf
    return flux.astype(np.float32), flux_err.astype(np.float32)


def by_brute_force(forward, flux, flux_err, amplitude, nf_prior, prior, box, z):
    """p(z) at `z` (normalised by the sum over an even grid) and the mean of u0, u1 and z; float64."""
    nodes, weights = np.polynomial.legendre.leggauss(48)
    nodes, weights = box * nodes, box * weights
    if nf_prior:
        weights = weights * np.exp(-0.5 * nodes**2)
    u = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 2)
    weight_u = np.outer(weights, weights).ravel()
    used = np.isfinite(flux_err)
    s = (flux[used] / flux_err[used]).astype(np.float64)
    log_like = np.empty((len(z), len(u)))
    for i, one_z in enumerate(z):
        m = numpy_model(forward, u, np.full(len(u), one_z))[:, used] / flux_err[used]
        sm, mm = m @ s, np.sum(m * m, axis=1)
        if amplitude == "profile":
            best = np.maximum(sm / mm, 0.0)
            log_like[i] = -0.5 * (s @ s - 2.0 * best * sm + best**2 * mm)
        else:
            # one grid of amplitudes for all models, wide enough for each
            log_like[i] = log_amplitude_integral(np.full(len(u), s @ s), sm, mm)
    density = np.exp(log_like - log_like.max()) * weight_u * SHAPES[prior](z)[:, None]
    p_z = density.sum(axis=1)
    total = simpson(p_z, x=z)
    means = [simpson(density @ u[:, k], x=z) / total for k in (0, 1)]
    return p_z / total, [*means, simpson(z * p_z, x=z) / total, simpson(z**2 * p_z, x=z) / total]


@pytest.mark.parametrize("amplitude", ["profile", "marginal"])
@pytest.mark.parametrize(("nf_prior", "prior"), [(True, "bpz"), (True, "uniform"), (False, "table")])
def test_p_of_z_and_moments_are_those_of_an_integration_in_z(bump_forward, amplitude, nf_prior, prior):
    """exp(log_prob), summed over a grid in (u0, u1, ln z), is the marginal posterior of z in z."""
    flux, flux_err = toy_source(bump_forward, 5, 14.0)
    box = 5.0 if nf_prior else 3.0  # without a prior u is only kept by the box
    posterior = LogPosterior(bump_forward, PRIORS[prior], nf_prior=nf_prior, amplitude=amplitude)
    axis = np.linspace(-box, box, 61).astype(np.float32)
    log_z = np.linspace(np.log(Z_MIN) + 1e-6, np.log(Z_MAX) - 1e-6, 401).astype(np.float32)

    @eqx.filter_jit
    def on_grid(posterior, log_z):
        u = jnp.stack(jnp.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)

        def at(t):
            x = jnp.concatenate([u, jnp.full((len(u), 1), t)], axis=1)
            return jax.vmap(lambda x: posterior.log_prob(x, jnp.asarray(flux), jnp.asarray(flux_err)))(x)

        return jax.lax.map(at, log_z)

    values = np.asarray(on_grid(posterior, jnp.asarray(log_z)), np.float64).reshape(401, 61, 61)
    assert np.isfinite(values).all()
    density = np.exp(values - values.max())
    t, a = log_z.astype(np.float64), axis.astype(np.float64)
    p_t = simpson(simpson(density, x=a), x=a)
    total = simpson(p_t, x=t)
    p_z = p_t / total / np.exp(t)
    mean_u = [
        simpson(simpson(simpson(density * shape, x=a), x=a), x=t) / total
        for shape in (a[None, :, None], a[None, None, :])
    ]
    moments = [*mean_u, *(simpson(np.exp(k * t) * p_t, x=t) / total for k in (1, 2))]

    z = np.linspace(Z_MIN, Z_MAX, 491)  # knots of the table are nodes of this grid
    expected, expected_moments = by_brute_force(
        bump_forward, flux, flux_err, amplitude, nf_prior, prior, box, z
    )
    compared = (np.exp(t) > Z_MIN + 0.01) & (np.exp(t) < Z_MAX - 0.01)
    if prior == "table":  # a spline overshoots beside the table's kinks
        compared &= np.min(np.abs(np.exp(t)[:, None] - KNOTS), axis=1) > 0.03
    at_nodes = CubicSpline(z, expected)(np.exp(t[compared]))
    # rounding of log_prob is 1e-5 here; the rest is the error of the two grids
    assert p_z[compared] == pytest.approx(at_nodes, abs=1e-3 * expected.max())
    assert moments == pytest.approx(expected_moments, abs=3e-4)
    # the posterior is neither a spike between the nodes nor the prior
    std = np.sqrt(moments[3] - moments[2] ** 2)
    prior_std = np.sqrt(
        quad(lambda q: (float(PRIORS[prior].ppf(q)) - float(PRIORS[prior].ppf(0.5))) ** 2, 0, 1)[0]
    )
    assert 3.0 * (z[1] - z[0]) < std < 0.9 * prior_std


@pytest.mark.parametrize("prior", PRIORS)
def test_priors_are_normalised_by_quadrature(prior):
    z = np.linspace(Z_MIN + 1e-4, Z_MAX - 1e-4, 2001)
    got = np.asarray(jax.vmap(PRIORS[prior].log_prob)(jnp.asarray(z)))
    # ln p near the table's zero is as steep as ln z: compare p
    expected = SHAPES[prior](z) / NORMS[prior]
    assert np.exp(got) == pytest.approx(expected, abs=3e-6 * expected.max(), rel=1e-5)
