"""Bands of other surveys in the likelihood: fluxes, zero points, and what they change of a posterior."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from paeplatform.errors import BandSetError
from paeplatform.inference.estimate import Estimator
from paeplatform.inference.model.priors import UniformPrior
from paeplatform.inference.sources import ExternalFluxes, Sources
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.exact import exact_photometry
from paeplatform.instrument.external import NOMINAL, ExternalBands, nominal_bands
from paeplatform.instrument.filters import FilterCurves, gaussian_filters
from paeplatform.instrument.measurements import Measurements, padded
from tests.inference.test_estimate import N_LATENT, make_bundle, quick_preset

NAMES = ("legacy/g", "legacy/r", "legacy/z", "wise/W1", "wise/W2")
PRIOR = UniformPrior(0.05, 2.0)


def told_with(zero_point_err: dict[str, float]) -> Estimator:
    """An untrained model that knows grz, W1 and W2."""
    bands = load_bands()
    external = nominal_bands(NAMES, zero_point_err)
    return Estimator(
        make_bundle("compact"), PRIOR, bands, gaussian_filters(bands), quick_preset(), "mclmc", external
    )


@pytest.fixture(scope="module")
def told() -> Estimator:
    return told_with({"legacy": 0.05, "wise": 0.02})


@eqx.filter_jit
def model_of(forward, u, z):
    return forward(u, z), forward.external(u, z)


def given(told: Estimator, u, z, off=(0.0, 0.0), snr=20.0, seed=0):
    """Noisy photometry of one galaxy, zero points of both surveys off by so much."""
    rng = np.random.default_rng(seed)
    own, beside = (np.asarray(part, np.float64) for part in model_of(told.forward, u, jnp.float32(z)))
    beside = beside * (1.0 + np.array([off[0]] * 3 + [off[1]] * 2))
    err, err_beside = np.full_like(own, own.mean() / snr), np.full_like(beside, beside.mean() / (5.0 * snr))
    flux = own + err * rng.normal(size=own.shape)
    return flux[None], err[None], (beside + err_beside * rng.normal(size=5))[None], err_beside[None]


def whitened(told: Estimator, flux, err, beside, beside_err, measured=None):
    external = ExternalFluxes.of(told.external, beside, beside_err)
    sources = Sources(flux, err, np.arange(len(flux)), 0, measured, external)
    return sources, jax.tree.map(lambda part: jnp.asarray(part[0]), sources.whitened(told.posterior))


def test_fluxes_are_the_spectrum_through_the_curves(told: Estimator) -> None:
    bundle, rng = told.bundle, np.random.default_rng(1)
    for z in (0.1, 0.9, 1.8):
        u = jnp.asarray(rng.normal(size=N_LATENT), jnp.float32)
        spectrum = np.asarray(bundle.autoencoder.decode(bundle.flow.to_latent(u)), np.float64)
        expected = exact_photometry(bundle.wave, spectrum, z, told.external.filters)
        got = np.asarray(model_of(told.forward, u, jnp.float32(z))[1])
        np.testing.assert_allclose(got, expected, rtol=2e-3)


@pytest.mark.parametrize("native", [False, True])
def test_the_likelihood_has_both_and_marginalises_the_zero_points(told: Estimator, native: bool) -> None:
    """Against dense float64 matrices."""
    u, z = jnp.asarray([0.3, -0.5, 0.8]), 0.7
    flux, err, beside, beside_err = given(told, u, z, off=(0.1, -0.03))
    beside_err[0, 1] = np.inf
    measured = None
    if native:
        bands = told.bands
        one = Measurements(flux[0], err[0], bands.wave_um, bands.bandwidth_um, np.array([0, len(bands)]))
        measured = padded(one, 112)
    _, photometry = whitened(told, flux, err, beside, beside_err, measured)
    posterior = told.posterior
    assert posterior.linear_terms is not None and posterior.linear_terms.lines is None
    got = float(eqx.filter_jit(posterior.log_likelihood_of)(u, jnp.float32(z), photometry))

    s, m = np.asarray(photometry.signal, np.float64), np.asarray(photometry.weight, np.float64)
    m = m * np.asarray(posterior.model(u, jnp.float32(z), photometry), np.float64)
    assert len(s) == (112 if native else 102) + 5
    plugged = s @ m / (m @ m)
    change = np.zeros((2, len(s)))
    change[0, -5:-2], change[1, -2:] = 0.05, 0.02
    columns = plugged * change * m
    covariance = np.eye(len(s)) + columns.T @ columns
    inverse = np.linalg.inv(covariance)
    best = m @ inverse @ s / (m @ inverse @ m)
    expected = -0.5 * ((s - best * m) @ inverse @ (s - best * m) + np.linalg.slogdet(covariance)[1])
    assert got == pytest.approx(expected, abs=2e-2)
    # the zero points come back, drawn a little to zero by their prior
    found, _ = posterior.with_terms(u, jnp.float32(z), photometry)
    strength = np.asarray(found.strength) * [0.05, 0.02]
    assert strength[0] == pytest.approx(0.1, abs=0.02) and strength[1] == pytest.approx(-0.03, abs=0.015)
    # without any error of a zero point, an offset of ten per cent is held against the model
    certain = replace(told, external=nominal_bands(NAMES, {"legacy": 0.0, "wise": 0.0}))
    worse = float(eqx.filter_jit(certain.posterior.log_likelihood_of)(u, jnp.float32(z), photometry))
    assert worse < got - 50.0


def test_bands_that_are_masked_change_nothing(told: Estimator) -> None:
    u, z = jnp.asarray([0.3, -0.5, 0.8]), jnp.float32(0.7)
    flux, err, beside, _ = given(told, u, 0.7)
    none = np.full_like(beside, np.inf)
    _, photometry = whitened(told, flux, err, beside, none)
    alone = replace(told, external=None)
    channels = jax.tree.map(
        lambda part: jnp.asarray(part[0]), Sources.numbered(flux, err, 0).whitened(alone.posterior)
    )
    for place in (u, u + 0.5):
        with_masked = float(told.posterior.log_likelihood_of(place, z, photometry))
        without = float(alone.posterior.log_likelihood_of(place, z, channels))
        assert with_masked == pytest.approx(without, rel=1e-5)


def test_estimates_use_them_and_chains_see_them(told: Estimator) -> None:
    """A galaxy that SPHEREx hardly sees and the other surveys do: p(z) becomes narrower, and the fit counts them."""
    u, z = jnp.asarray([0.3, -0.5, 0.8]), 0.7
    flux, err, beside, beside_err = given(told, u, z, snr=2.0)
    external = ExternalFluxes.of(told.external, beside, beside_err / 5.0)
    both, draws = told.estimate_with_draws(flux, err, np.array([5]), external=external, progress=False)
    alone = told.estimate(flux, err, np.array([5]), progress=False)
    assert both["pae_n_measurements"][0] == 107 and alone["pae_n_measurements"][0] == 102
    assert both["pae_n_bands"][0] == 102
    assert both["pae_z_std"][0] < alone["pae_z_std"][0]
    assert np.isfinite(draws.z).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ("legacy/g", "legacy/g")}, r"external band 'legacy/g' is there twice"),
        ({"name": ("g", "legacy/r")}, r"external band 'g': a name is survey/band"),
        ({"name": ("legacy/g",)}, r"1 names for 2 curves"),
        ({"zero_point_err": {"sdss": 0.1}}, r"survey 'sdss': none of its bands is there; surveys are legacy"),
        ({"zero_point_err": {"legacy": -0.1}}, r"survey 'legacy': error -0\.1 must be 0 or more"),
    ],
)
def test_bad_bands_are_named(change: dict, message: str) -> None:
    good = nominal_bands(("legacy/g", "legacy/r"))
    with pytest.raises(BandSetError, match=message):
        ExternalBands(**{"name": good.name, "filters": good.filters, "zero_point_err": {}} | change)


def test_a_band_beside_the_model_and_bad_fluxes_are_named(told: Estimator) -> None:
    wave = np.linspace(18.0, 26.0, 11)[None]
    far = ExternalBands(("wise/W4",), FilterCurves(wave, np.ones_like(wave)))
    with pytest.raises(BandSetError, match=r"external band wise/W4: its curve, 18-26 um, does not overlap"):
        replace(told, external=far)
    with pytest.raises(BandSetError, match=r"'legacy/u' is not known; give its curve, or one of legacy/g"):
        nominal_bands(("legacy/u",))
    for error in (0.0, -1.0):
        errors = np.ones((3, 5))
        errors[1, 2] = error
        with pytest.raises(
            BandSetError, match=rf"external band legacy/z, row 2: error {error:g} must be positive"
        ):
            ExternalFluxes.of(told.external, np.ones((3, 5)), errors)
    with pytest.raises(BandSetError, match=r"\(3, 4\) and errors \(3, 4\) must be \(source, 5\)"):
        ExternalFluxes.of(told.external, np.ones((3, 4)), np.ones((3, 4)))


def test_nominal_curves_have_their_edges() -> None:
    bands = nominal_bands(tuple(NOMINAL))
    for row, (name, (blue, top_blue, top_red, red)) in enumerate(NOMINAL.items()):
        wave, transmission = bands.filters.wave[row], bands.filters.transmission[row]
        flat = (wave >= top_blue) & (wave <= top_red)
        assert wave[0] == blue and wave[-1] == pytest.approx(red), name
        assert (transmission[flat] == pytest.approx(1.0)) and transmission[0] == 0.0
        assert top_blue < bands.pivot_um[row] < top_red
