"""Zero points fitted to many sources: they come back with their errors, and what cannot be fitted is named."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from paeplatform.errors import InputError
from paeplatform.inference.estimate import Estimator
from paeplatform.inference.model.draws import PosteriorDraws
from paeplatform.inference.model.linear_terms import strengths
from paeplatform.inference.results.zero_points import fitted_zero_points
from paeplatform.inference.sources import ExternalFluxes, Sources
from paeplatform.instrument.external import nominal_bands
from tests.inference.test_estimate import N_LATENT
from tests.inference.test_external import NAMES, model_of, told_with

N = 48
OFF = np.array([0.04, 0.04, 0.04, -0.02, -0.02])  # of grz and of W1, W2


@pytest.fixture(scope="module")
def told() -> Estimator:
    return told_with({"legacy": 0.05, "wise": 0.05})


def observed(told: Estimator, snr: float) -> tuple[Sources, PosteriorDraws]:
    """Galaxies with draws that scatter about the truth a little, as those of a bright source do."""
    rng = np.random.default_rng(3)
    u, z = rng.normal(size=(N, N_LATENT)).astype(np.float32), rng.uniform(0.2, 1.5, N).astype(np.float32)
    own, beside = (
        np.asarray(part, np.float64) for part in jax.vmap(lambda u, z: model_of(told.forward, u, z))(u, z)
    )
    size = own.mean(axis=1, keepdims=True) / snr
    errors, beside_errors = np.broadcast_to(size, own.shape), np.broadcast_to(size, beside.shape)
    flux = own + errors * rng.normal(size=own.shape)
    beside = beside * (1.0 + OFF) + beside_errors * rng.normal(size=beside.shape)
    external = ExternalFluxes.of(told.external, beside, beside_errors)
    draws = PosteriorDraws(
        u[:, None] + 0.002 * rng.normal(size=(N, 16, N_LATENT)).astype(np.float32),
        np.repeat(z[:, None], 16, axis=1),
        np.full((N, 16), 1 / 16, np.float32),
        np.zeros((N, 16), np.float32),
    )
    return Sources(flux, errors.copy(), np.arange(N), 0, None, external), draws


@pytest.mark.parametrize("snr", [10.0, 100.0])
def test_zero_points_come_back_with_their_errors(told: Estimator, snr: float) -> None:
    sources, draws = observed(told, snr)
    table = fitted_zero_points(told.posterior, told.external, draws, sources, np.ones(N, bool))
    assert table["survey"].to_list() == ["legacy", "wise"] and (table["n_sources"] == N).all()
    found, error = table["zero_point"].to_numpy(), table["zero_point_err"].to_numpy()
    # 48 galaxies of two or three bands, and the amplitude from SPHEREx
    assert (error < 0.3 / snr / np.sqrt(N) * 10.0).all() and (error > 0.1 / snr / np.sqrt(N)).all()
    # the column is at the amplitude without the term, whose size is off by a share of the zero point
    assert np.abs((found - OFF[[0, 3]]) / np.hypot(error, 0.03 * np.abs(OFF[[0, 3]]))).max() < 3.5
    np.testing.assert_allclose(table["zero_point_mag"], -2.5 * np.log10(1.0 + found))


def test_strengths_are_those_of_dense_matrices() -> None:
    rng = np.random.default_rng(5)
    for _ in range(5):
        signal, model = rng.normal(size=(2, 30)) + np.array([[20.0], [2.0]])
        terms = rng.normal(size=(3, 30))
        mean, covariance = (np.asarray(part) for part in strengths(*map(jnp.asarray, (signal, model, terms))))
        design = np.vstack([model, terms])
        exact = np.linalg.inv(design @ design.T + np.diag([0.0, 1.0, 1.0, 1.0]))
        np.testing.assert_allclose(covariance, exact[1:, 1:], rtol=2e-3, atol=1e-5)
        np.testing.assert_allclose(mean, (exact @ design @ signal)[1:], rtol=2e-3, atol=2e-3)


def test_what_cannot_be_fitted_is_named(told: Estimator) -> None:
    sources, draws = observed(told, 20.0)
    with pytest.raises(InputError, match=r"none of 48 sources is trusted and has external fluxes"):
        fitted_zero_points(told.posterior, told.external, draws, sources, np.zeros(N, bool))
    alone = replace(sources, external=None)
    with pytest.raises(InputError, match=r"the sources have no external fluxes"):
        fitted_zero_points(told.posterior, told.external, draws, alone, np.ones(N, bool))
    held = nominal_bands(NAMES, {"legacy": 0.05, "wise": 0.0})
    with pytest.raises(InputError, match=r"that of survey wise has an error of 0"):
        fitted_zero_points(replace(told, external=held).posterior, held, draws, sources, np.ones(N, bool))
