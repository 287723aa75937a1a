"""The check of a proposal: a perfect one is calibrated, a narrow one is not, masked bands do not matter."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from paeplatform.config import load_preset
from paeplatform.inference.importance.proposal_check import check_proposal, draw_redshifts
from paeplatform.inference.model.priors import UniformPrior
from paeplatform.pae.proposal import Proposal, build_proposal
from paeplatform.scores.calibration import ks_distance_to_uniform

N_BAND, N_LATENT, N_SOURCES = 4, 2, 400


class FlatForward(eqx.Module):
    """Fluxes that know nothing of u and z: the posterior is the prior."""

    def __call__(self, u, z):
        return jnp.ones(N_BAND)


@pytest.fixture(scope="module")
def prior_like() -> Proposal:
    """u ~ N(0, I) and logit_z ~ N(0, scale): close to the prior the draws below come from in u."""
    cfg = load_preset("demo").proposal.model_copy(
        update={"encoder_widths": (4,), "n_layers": 2, "width": 4, "n_knots": 3}
    )
    built = build_proposal(cfg, N_LATENT, N_BAND, (0.01, 2.0), key=jr.key(0), t_moments=(2.0, 1.0))
    zeroed = eqx.tree_at(
        lambda p: (p.to_affine.weight, p.to_affine.bias, p.layers.outer.weight, p.layers.outer.bias),
        built,
        replace_fn=jnp.zeros_like,
    )
    return zeroed


def check(proposal: Proposal):
    cfg = load_preset("demo").proposal
    depths = np.ones((2, N_BAND))
    return check_proposal(
        proposal, FlatForward(), UniformPrior(0.01, 2.0), depths, cfg, seed=3, n_sources=N_SOURCES
    )


def test_ranks_of_u_are_uniform_for_the_right_proposal_and_not_for_a_narrow_one(prior_like: Proposal):
    right = check(prior_like)
    assert right.pit.shape == (N_SOURCES,)
    assert ((right.pit > 0.0) & (right.pit < 1.0)).all()
    critical = 1.95 / np.sqrt(N_SOURCES)  # of one Kolmogorov-Smirnov test at 0.1 %
    assert max(ks_distance_to_uniform(column) for column in right.pit_u.T) < critical
    narrow = eqx.tree_at(lambda p: p.to_affine.bias, prior_like, prior_like.to_affine.bias.at[3:6].set(-1.0))
    assert min(ks_distance_to_uniform(column) for column in check(narrow).pit_u.T) > critical
    assert ((right.z_true > 0.01) & (right.z_true < 2.0)).all()


def test_the_same_seed_gives_the_same_check(prior_like: Proposal):
    np.testing.assert_array_equal(check(prior_like).pit, check(prior_like).pit)


def test_redshifts_of_a_source_do_not_depend_on_the_others_or_on_masked_fluxes():
    cfg = load_preset("demo").proposal.model_copy(update={"encoder_widths": (8,), "n_layers": 2, "width": 8})
    proposal = build_proposal(cfg, N_LATENT, N_BAND, (0.01, 2.0), key=jr.key(1))
    flux, err = np.array([[1.0, 2.0, 3.0, 9.0], [4.0, 4.0, 4.0, 4.0]]), np.ones((2, N_BAND))
    err[0, 3] = np.inf
    both = draw_redshifts(proposal, flux, err, n_draws=16)
    assert both.shape == (2, 16)
    assert ((both > 0.01) & (both < 2.0)).all()
    flux[0, 3] = np.nan
    alone = draw_redshifts(proposal, flux[:1], err[:1], n_draws=16)
    np.testing.assert_allclose(alone[0], both[0], rtol=1e-5)
    assert np.abs(both[1] - both[0]).max() > 1e-3
