"""The simulation that the proposal learns from, and its training: it learns, and survives an interruption."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from paeplatform.errors import TrainingError
from paeplatform.fit_record import FitOptions
from paeplatform.inference.importance.proposal_training import (
    BRIGHT_SHARE,
    BRIGHT_SNR,
    FULL_SHARE,
    LARGEST_LOSS,
    UNIFORM_SHARE,
    Observing,
    simulation_bank,
    train_proposal,
)
from tests.inference.line_problem import (
    LOG_WAVE,
    N_BAND,
    PROPOSAL,
    Z_MAX,
    Z_MIN,
    LinesForward,
    numpy_model,
    posterior,
    source,
)

FORWARD, PRIOR = LinesForward(LOG_WAVE), posterior().z_prior
DEPTHS = np.stack([np.full(N_BAND, 1.0), np.geomspace(0.5, 3.0, N_BAND)])
EPOCHS = PROPOSAL.fit.epochs


class Stopped(Exception):
    pass


def train(folder=None, on_epoch=None):
    return train_proposal(
        FORWARD,
        PRIOR,
        DEPTHS,
        PROPOSAL,
        n_latent=2,
        seed=3,
        options=FitOptions(folder, progress=False, on_epoch=on_epoch),
    )


def weights(trained):
    leaves = jax.tree.leaves(eqx.filter(trained.proposal, eqx.is_array))
    return [np.asarray(leaf).tobytes() for leaf in leaves]


@pytest.fixture(scope="module", autouse=True)
def _compiled_once(tmp_path_factory):
    """Each training compiles its own steps; with the cache the second and third find them."""
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_compilation_cache_dir", before[0])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", before[1])
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def trained():
    return train()


# ---------------------------------------------------------------- the simulation
@pytest.fixture(scope="module")
def observed():
    """Photometry of 4000 simulated sources, and their noiseless parts: the same keys with the signal's noise known."""
    observing = Observing(jnp.asarray(DEPTHS, jnp.float32), 3.0, 200.0)
    model = jnp.asarray(numpy_model(np.array([0.5, -0.3]), np.array(0.7)), jnp.float32)
    keys = jr.split(jr.key(0), 4000)
    found = jax.jit(jax.vmap(observing, in_axes=(None, 0)))(model, keys)
    return np.asarray(model, np.float64), *(np.asarray(part, np.float64) for part in found[:2])


def test_errors_of_the_model_are_in_the_photometry(observed):
    """The same keys with them: what is added is relative to the noiseless part, independent from band to band."""
    model, signal, weight = observed
    relative = np.linspace(0.0, 0.2, N_BAND)
    observing = Observing(jnp.asarray(DEPTHS, jnp.float32), 3.0, 200.0)
    keys = jr.split(jr.key(0), 4000)
    found = jax.jit(jax.vmap(observing, in_axes=(None, 0, None)))(
        jnp.asarray(model, jnp.float32), keys, jnp.asarray(relative, jnp.float32)
    )
    np.testing.assert_array_equal(found.weight, weight.astype(np.float32))
    # the noiseless part from the whole, bright sources alone: noise is of size 1
    shape = weight * model
    level = np.sum(signal * shape, axis=1) / np.sum(shape**2, axis=1)
    bright = level * np.sqrt(np.sum(shape**2, axis=1)) > 30.0
    noiseless = (level[:, None] * shape)[bright]
    added = (np.asarray(found.signal, np.float64) - signal)[bright]
    used = weight[bright] > 0.0
    assert np.all(added[~used] == 0.0)
    scores = np.where(used, added, np.nan) / np.where(noiseless > 0.0, noiseless, np.nan)
    # the level is known to one in 30 at worst; rms of more than 1,000 numbers
    np.testing.assert_allclose(np.sqrt(np.nanmean(scores**2, axis=0)), relative, rtol=0.08, atol=1e-6)
    pairs = np.ma.corrcoef(np.ma.masked_invalid(scores[:, 5:]), rowvar=False)
    assert np.abs(pairs - np.eye(N_BAND - 5)).max() < 0.15


def test_masked_bands_carry_nothing_and_weights_are_those_of_whiten(observed):
    _, signal, weight = observed
    used = weight > 0.0
    assert np.all(signal[~used] == 0.0) and np.all(weight >= 0.0)
    assert np.isfinite(signal).all() and np.isfinite(weight).all()
    n_used = used.sum(axis=1)
    seen = n_used > 0
    mean_square = np.sum(weight**2, axis=1)[seen] / n_used[seen]
    assert mean_square == pytest.approx(1.0, abs=1e-5)
    # so many sources lose no band, and the others up to so many
    assert np.mean(n_used == N_BAND) == pytest.approx(FULL_SHARE + (1 - FULL_SHARE) * 0.035, abs=0.04)
    assert n_used.min() < (1.0 - LARGEST_LOSS) * N_BAND + 4


def test_signal_to_noise_lies_within_the_limits_and_is_spread_as_asked(observed):
    model, signal, weight = observed
    # the noiseless signal is along weight x model: its length is the least-squares one, known to about 1 sigma
    direction = weight * model
    length = np.linalg.norm(direction, axis=1)
    seen = length > 0.0
    snr = np.sum(signal * direction, axis=1)[seen] / length[seen]
    assert snr.min() > 3.0 - 4.5 and snr.max() < 200.0 + 4.5
    assert np.mean(snr > BRIGHT_SNR) == pytest.approx(BRIGHT_SHARE, abs=4.0 * np.sqrt(0.24 / 4000) + 0.01)
    # log-uniform below and above
    for low, high in ((3.0, BRIGHT_SNR), (BRIGHT_SNR, 200.0)):
        inside = snr[(snr > low) & (snr < high)]
        middle = np.sqrt(low * high)
        assert np.mean(inside < middle) == pytest.approx(0.5, abs=0.06)


def test_noise_is_the_unit_normal_of_each_used_band(observed):
    model, signal, weight = observed
    direction = weight * model
    direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-30)
    residual = signal - np.sum(signal * direction, axis=1, keepdims=True) * direction
    used = weight > 0.0
    full = used.all(axis=1)
    # one degree of freedom is gone with the length
    chi2 = np.sum(residual[full] ** 2, axis=1) / (N_BAND - 1)
    assert chi2.mean() == pytest.approx(1.0, abs=4.0 * np.sqrt(2.0 / (N_BAND - 1) / full.sum()))
    assert np.corrcoef(residual[full][:, :2].T)[0, 1] == pytest.approx(0.0, abs=0.15)


def test_errors_follow_the_depths_of_one_survey_or_scatter_about_them(observed):
    _, _, weight = observed
    full = (weight > 0.0).all(axis=1)
    slope = np.log(weight[full][:, 0] / weight[full][:, -1])
    exact = [np.mean(np.abs(slope - np.log(d[-1] / d[0])) < 1e-4) for d in DEPTHS]
    # half of the sources have the depths as they are, of either kind alike
    assert exact == pytest.approx([0.25, 0.25], abs=0.04)
    assert np.std(slope) > 0.5


def test_a_band_of_another_unit_changes_nothing():
    """Any unit of the model: the photometry is a matter of signal-to-noise alone."""
    observing = Observing(jnp.asarray(DEPTHS, jnp.float32), 3.0, 200.0)
    model = numpy_model(np.array([0.5, -0.3]), np.array(0.7))
    one, two = (observing(jnp.asarray(model * unit, jnp.float32), jr.key(3)) for unit in (1.0, 2.0**20))
    assert np.asarray(one.signal) == pytest.approx(np.asarray(two.signal), rel=1e-4, abs=1e-4)
    assert np.array_equal(np.asarray(one.weight), np.asarray(two.weight))


# ---------------------------------------------------------------- the bank
def test_bank_holds_prior_draws_with_their_fluxes():
    bank = simulation_bank(FORWARD, PRIOR, 5000, 2, 7).astype(np.float64)
    assert bank.shape == (5000, 3 + N_BAND)
    u, z = bank[:, :2], np.exp(bank[:, 2])
    assert np.all((z > Z_MIN) & (z < Z_MAX))
    assert np.all(np.abs(u.mean(axis=0)) < 4.0 / np.sqrt(5000)) and u.std() == pytest.approx(1.0, abs=0.03)
    for level in (0.1, 0.5, 0.9):
        at = Z_MIN + level * (Z_MAX - Z_MIN)
        grid = np.linspace(0.0, 1.0, 2001)
        below = np.interp(at, PRIOR.ppf(grid), grid)
        expected = UNIFORM_SHARE * level + (1.0 - UNIFORM_SHARE) * below
        assert np.mean(z < at) == pytest.approx(expected, abs=4.0 * np.sqrt(0.25 / 5000))
    expected = numpy_model(u, z)
    # z is stored as a float32 ln z: 1e-7, felt ten times over by lines a tenth wide
    assert bank[:, 3:] == pytest.approx(expected, rel=1e-5)
    again = simulation_bank(FORWARD, PRIOR, 5000, 2, 7)
    assert again.tobytes() == bank.astype(np.float32).tobytes()


def test_broken_fluxes_are_refused_with_their_redshift():
    class Broken(eqx.Module):
        def __call__(self, u, z):
            return jnp.where(z > 0.5, jnp.nan, 1.0) * jnp.ones(N_BAND)

    with pytest.raises(TrainingError, match=r"posterior-proposal: \d+ of 300 .* z = "):
        simulation_bank(Broken(), PRIOR, 300, 2, 0)


# ---------------------------------------------------------------- training
def test_training_lowers_the_loss_and_finds_redshifts(trained):
    history = trained.fit.history
    assert len(history) == EPOCHS
    assert history[-1].validation_loss < history[0].validation_loss - 0.3
    # sources that the bank does not hold: the proposal follows their redshift, and is narrower than the bank
    found = []
    for seed in range(20):
        rng = np.random.default_rng(100 + seed)
        z = rng.uniform(0.2, 1.6)
        flux, flux_err = source(seed, 60.0, z)
        found.append((z, *_redshift(trained.proposal, flux, flux_err)))
    z, mean, std = np.array(found).T
    bank_std = np.exp(simulation_bank(FORWARD, PRIOR, PROPOSAL.n_bank, 2, 3)[:, 2]).std()
    assert np.corrcoef(z, mean)[0, 1] > 0.7
    assert np.median(std) < 0.9 * bank_std


@eqx.filter_jit
def _draws(proposal, signal, weight, key):
    context = proposal.context(signal, weight)
    return jax.vmap(lambda eps: proposal.sample(context, eps)[1])(jr.normal(key, (2000, proposal.dim)))


def _redshift(proposal, flux, flux_err):
    from paeplatform.inference.model.posterior import whiten

    z = np.exp(np.asarray(_draws(proposal, *whiten(jnp.asarray(flux), jnp.asarray(flux_err))[:2], jr.key(0))))
    return z.mean(), z.std()


@pytest.mark.slow
def test_an_interrupted_training_resumes_to_the_same_bytes(trained, tmp_path):
    def stop(record):
        if record.epoch == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train(tmp_path, on_epoch=stop)
    epochs = []
    resumed = train(tmp_path, on_epoch=lambda record: epochs.append(record.epoch))
    assert 1 <= resumed.fit.resumed_from <= 2
    assert epochs == list(range(resumed.fit.resumed_from + 1, EPOCHS + 1))
    # to the byte: the same seed made both, and epochs 1 and 2 twice
    assert weights(resumed) == weights(trained)
    assert resumed.fit.history == trained.fit.history


def test_constants_are_not_trained(trained):
    """Limits and standardisation are what the prior and the bank say, to the bit, after training too."""
    assert np.asarray(trained.proposal.log_z_limits) == pytest.approx(np.log([Z_MIN, Z_MAX]), rel=1e-6)
    bank = simulation_bank(FORWARD, PRIOR, PROPOSAL.n_bank, 2, 3).astype(np.float64)
    place = (bank[:, 2] - np.log(Z_MIN)) / np.log(Z_MAX / Z_MIN)
    raw = np.log(place) - np.log1p(-place)
    assert float(trained.proposal.t_shift) == pytest.approx(raw.mean(), abs=1e-4)
    assert float(trained.proposal.t_scale) == pytest.approx(raw.std(), rel=1e-4)
