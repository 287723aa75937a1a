"""The profile likelihood of redshift: at every redshift the best fit over u (paper section VI.4.2, eq. 14).

The paper minimises -ln L with L-BFGS, 100 iterations from five restarts. Here it is Levenberg-Marquardt: chi^2 is a
sum of squares, whose Gauss-Newton matrix costs as much as four gradients. Without a prior the valleys of chi^2 are
long, bent and partly flat, so that every iteration tries dampings over five decades and keeps the best; one damping
at a time needed some three times the iterations. Two things hold what the data do not: the damping is relative to the
matrix's diagonal, and |u_i| stays at or below `LARGEST_U`, where the flow's splines end. Steps that would leave are
projected back, and coordinates that push against the bound are left out of the step.

Every redshift starts from the best of several groups of prior draws and landmarks; after a few iterations the best
`N_FINALISTS` go on. Then neighbours help each other: a redshift starts once more from the best of its neighbours'
solutions, and again as long as one of these has improved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float
from tqdm.auto import tqdm

from paeplatform.errors import InputError
from paeplatform.inference.batches.runtime import source_mesh
from paeplatform.inference.batches.sharding import LANE, sharded
from paeplatform.inference.model.posterior import TINY, LogPosterior, WhitenedPhotometry, whiten
from paeplatform.inference.model.priors import RedshiftPrior
from paeplatform.inference.modes.starts import PriorBank, at_redshifts, model_fluxes, score_bank
from paeplatform.pae.small_linalg import solve

N_NODES = 300  # the paper's grid, linear between the limits of the prior
LARGEST_U = 5.0  # the flow's interval (pae.flow.interval)
DAMPINGS = 10.0 ** np.arange(-3, 3)  # tried in each iteration, relative to the one that served last
N_POOL = 128  # prior draws, and at most as many landmarks, that the starts of each redshift are chosen from
BLOCK = 5  # iterations of one compiled call, after which finished lanes make room for waiting ones
LANES = 128  # lanes of one compiled call and device
N_SHORT, N_FINALISTS = (
    10,
    2,
)  # iterations after which only the best of a redshift's starts go on, and how many
TOLERANCE = 1e-2  # in chi^2: a step that gains less has arrived, a fit that gains less has not improved
FIRST_DAMPING, LARGEST_DAMPING, SMALLEST_DAMPING = 0.1, 1e4, 1e-6
RAISED = 50.0  # factor on the damping when none of those tried served
RIDGE = 1e-6  # relative to the diagonal: what float32 leaves of the smallest eigenvalues
NEIGHBOURS = (1, 2, 4, 8)  # distances, in nodes, at which a redshift asks for solutions
MAX_ROUNDS = 8  # of asking neighbours


@dataclass(frozen=True)
class ProfileLikelihood:
    """Best fits on a grid of redshifts; a source that cannot be fitted holds NaN throughout.

    Attributes:
        z_grid: (node,) redshifts.
        chi2: (source, node) of the best fit, amplitude and u free: -2 ln L up to a constant of the data.
        u_best: (source, node, n_latent) of that fit.
        n_iterations: (source, node) Levenberg-Marquardt steps that led to that fit from its start.
        at_bound: (source, node) whether a coordinate of u lies on the bound.
        nf_prior: whether |u|^2 was added to chi^2 in the search (eq. 14 does not).
    """

    z_grid: Float[np.ndarray, " node"]
    chi2: Float[np.ndarray, "source node"]
    u_best: Float[np.ndarray, "source node latent"]
    n_iterations: np.ndarray
    at_bound: np.ndarray
    nf_prior: bool

    @property
    def objective(self) -> Float[np.ndarray, "source node"]:
        """What was minimised: chi^2, with the NF prior chi^2 + |u|^2."""
        return self.chi2 + self.nf_prior * np.sum(self.u_best.astype(np.float64) ** 2, axis=-1)

    @property
    def z_best(self) -> Float[np.ndarray, " source"]:
        """Redshift of the highest profile likelihood, a node of the grid."""
        best = np.where(np.isnan(self.objective), np.inf, self.objective).argmin(axis=1)
        return np.where(np.isnan(self.objective).all(axis=1), np.nan, self.z_grid[best])

    def pz(self, z_prior: RedshiftPrior | None = None) -> Float[np.ndarray, "source node"]:
        """The profile likelihood as a density of z, by trapezoids over the grid; times a prior if one is given.

        A grid wider than the peak cannot hold it: the paper's step of 0.01 is that of a source of total SNR 50.
        """
        log_p = -0.5 * self.objective
        if z_prior is not None:
            log_p = log_p + np.asarray(jax.vmap(z_prior.log_density)(jnp.asarray(self.z_grid)), np.float64)
        density = np.exp(log_p - log_p.max(axis=1, keepdims=True))
        return density / np.trapezoid(density, self.z_grid, axis=1)[:, None]


class _Fit(NamedTuple):
    """A lane on its way: position, damping, and the Gauss-Newton picture of the objective there.

    JAX arrays of one lane inside compiled calls, NumPy arrays (task, ...) outside.
    """

    u: Any
    damping: Any
    objective: Any  # chi^2, with the prior + |u|^2
    gradient: Any  # of -objective/2
    curvature: Any
    arrived: Any
    n_done: Any


def profile_likelihood(
    posterior: LogPosterior,
    flux: Float[np.ndarray, "source band"],
    flux_err: Float[np.ndarray, "source band"],
    *,
    n_latent: int,
    z_grid: Float[np.ndarray, " node"] | None = None,
    n_restarts: int = 5,
    n_iterations: int = 100,
    nf_prior: bool = False,
    seed: int = 0,
    landmarks: Float[np.ndarray, "landmark latent"] | None = None,
    progress: bool = True,
) -> ProfileLikelihood:
    """Maximum of ln L over u, amplitude profiled, at every redshift of a grid (eq. 14).

    The amplitude is profiled whatever `posterior.amplitude` says: eq. 14 knows no marginal.

    Args:
        posterior: the forward model is used, and the prior's limits for the default grid; no density of a prior.
        flux: [uJy].
        flux_err: 1 sigma [uJy]; not finite or not positive masks the band.
        n_latent: size of u.
        z_grid: ascending redshifts within the prior's limits; None takes 300, linear between the limits.
        n_restarts: starts at each redshift before neighbours are asked.
        n_iterations: at most so many Levenberg-Marquardt steps from each start.
        nf_prior: adds ln N(u; 0, I) to what is maximised.
        seed: of the prior draws among which the starts are chosen, the same for all sources.
        landmarks: places in u that starts are chosen from too (`pae.landmarks`).
        progress: shows a bar in galaxies.

    Returns:
        Rows in the order given. Sources without a usable band, or with a flux in one that is not finite, hold NaN.

    Raises:
        InputError: the grid does not increase or leaves the prior's limits, or a number is not positive.
    """
    z_min, z_max = float(posterior.z_prior.z_min), float(posterior.z_prior.z_max)
    z_grid = np.linspace(z_min, z_max, N_NODES) if z_grid is None else np.asarray(z_grid, dtype=np.float64)
    if z_grid.ndim != 1 or len(z_grid) < 2 or not np.all(np.diff(z_grid) > 0.0):
        raise InputError("z_grid must hold at least two redshifts in ascending order")
    if z_grid[0] < z_min * (1.0 - 1e-6) or z_grid[-1] > z_max * (1.0 + 1e-6):
        raise InputError(
            f"z_grid [{z_grid[0]:g}, {z_grid[-1]:g}] must lie within the prior's limits [{z_min:g}, {z_max:g}]"
        )
    for name, number in (("n_restarts", n_restarts), ("n_iterations", n_iterations), ("n_latent", n_latent)):
        if number < 1:
            raise InputError(f"{name} {number} must be at least 1")
    whitened = whiten(jnp.asarray(flux, jnp.float32), jnp.asarray(flux_err, jnp.float32))
    photometry = jax.tree.map(np.asarray, whitened)
    usable = (photometry.weight > 0.0).any(axis=1) & np.isfinite(photometry.signal).all(axis=1)

    shape = (len(photometry.signal), len(z_grid))
    chi2, at_bound = np.full(shape, np.nan), np.zeros(shape, bool)
    u_best, done = np.full((*shape, n_latent), np.nan, np.float32), np.zeros(shape, np.int32)
    search = _Search(posterior, z_grid, n_latent, n_restarts, n_iterations, nf_prior, seed, landmarks)
    for row in tqdm(np.flatnonzero(usable), desc="profile", unit="galaxy", disable=not progress):
        fit = search.run(photometry.rows(row))
        u_best[row], done[row] = fit.u, fit.n_done
        chi2[row] = fit.objective - nf_prior * np.sum(fit.u.astype(np.float64) ** 2, axis=1)
        at_bound[row] = (np.abs(fit.u) >= LARGEST_U).any(axis=1)
    return ProfileLikelihood(z_grid, chi2, u_best, done, at_bound, nf_prior)


class _Search:
    """All redshifts of one source after another, with one pool of starts and one compiled program."""

    def __init__(
        self,
        posterior: LogPosterior,
        z_grid: np.ndarray,
        n_latent: int,
        n_restarts: int,
        n_iterations: int,
        nf_prior: bool,
        seed: int,
        landmarks: np.ndarray | None,
    ):
        self.posterior, self.z_grid = posterior, z_grid.astype(np.float32)
        self.n_restarts, self.n_iterations, self.nf_prior = n_restarts, n_iterations, nf_prior
        self.mesh = source_mesh()
        self.n_lane = LANES * self.mesh.size
        pool = np.random.default_rng([seed, 0x5046]).standard_normal((max(N_POOL, n_restarts), n_latent))
        if landmarks is not None:
            chosen = np.linspace(0, len(landmarks) - 1, min(N_POOL, len(landmarks))).astype(int)
            pool = np.concatenate([pool, np.asarray(landmarks)[chosen]])
        n_node = len(self.z_grid)
        tiled = np.tile(pool.astype(np.float32), (n_node, 1))
        places = at_redshifts(posterior.forward, tiled, np.repeat(self.z_grid, len(pool)))
        self.pool = np.clip(places, -LARGEST_U, LARGEST_U).reshape(n_node, len(pool), n_latent)
        self.model = self._pool_models()

    def _pool_models(self) -> Float[np.ndarray, "node pool band"]:
        n_node, n_pool = self.pool.shape[:2]
        z = np.repeat(self.z_grid, n_pool)
        return model_fluxes(self.posterior, self.pool.reshape(n_node * n_pool, -1), z).reshape(
            n_node, n_pool, -1
        )

    def run(self, photometry: WhitenedPhotometry) -> _Fit:
        """The best fit of one source at each node, arrays (node, ...)."""
        n_node, n_start = len(self.z_grid), self.n_restarts
        node = np.repeat(np.arange(n_node), n_start)
        fits = _fresh(self._starts(photometry).reshape(n_node * n_start, -1))
        self._climb(photometry, node, fits, np.arange(len(node)), min(N_SHORT, self.n_iterations))
        order = fits.objective.reshape(n_node, n_start).argsort(axis=1) + n_start * np.arange(n_node)[:, None]
        self._climb(photometry, node, fits, order[:, :N_FINALISTS].ravel(), self.n_iterations)
        winner = fits.objective.reshape(n_node, n_start).argmin(axis=1) + n_start * np.arange(n_node)
        best = _Fit(*(part[winner] for part in fits))
        improved = np.ones(n_node, bool)
        for _ in range(MAX_ROUNDS):
            node, starts = self._from_neighbours(photometry, best, improved)
            improved = np.zeros(n_node, bool)
            if not len(node):
                break
            fits = _fresh(starts)
            self._climb(photometry, node, fits, np.arange(len(node)), self.n_iterations)
            for task in np.argsort(
                -fits.objective, kind="stable"
            ):  # the best of a node's starts is written last
                gain = best.objective[node[task]] - fits.objective[task]
                improved[node[task]] |= gain > TOLERANCE
                if gain > 0.0:
                    for old, new in zip(best, fits, strict=True):
                        old[node[task]] = new[task]
        return best

    def _starts(self, photometry: WhitenedPhotometry) -> Float[np.ndarray, "node restart latent"]:
        """The pool is dealt into groups; each gives its best member at every redshift."""
        n_node, n_pool, n_band = self.model.shape
        unused = np.zeros(n_node * n_pool, np.float32)
        bank = PriorBank(unused[:, None], self.model.reshape(-1, n_band), unused)
        score = score_bank(bank, jax.tree.map(lambda part: part[None], photometry), "profile")
        score = score.reshape(n_node, n_pool)
        if self.nf_prior:
            score = score - 0.5 * np.sum(self.pool.astype(np.float64) ** 2, axis=2)
        groups = [np.arange(k, n_pool, self.n_restarts) for k in range(self.n_restarts)]
        chosen = np.stack([group[score[:, group].argmax(axis=1)] for group in groups], axis=1)
        return self.pool[np.arange(n_node)[:, None], chosen]

    def _from_neighbours(
        self, photometry: WhitenedPhotometry, best: _Fit, improved: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Nodes with a neighbour that has improved, and the starts they take.

        Of all offers the one that fits best as it is, and that of the neighbour whose own fit is best: at high SNR a
        spectrum moved by one node fits badly before it has been climbed from.
        """
        n_node = len(self.z_grid)
        offset = np.array([sign * k for k in NEIGHBOURS for sign in (-1, 1)])
        giver = np.arange(n_node)[:, None] + offset
        offered = (giver >= 0) & (giver < n_node)
        giver = np.clip(giver, 0, n_node - 1)
        offered &= improved[giver]
        node, which = np.nonzero(offered)
        if not len(node):
            return node, best.u[:0]
        here, there = np.full((2, *offered.shape), np.inf)
        here[node, which] = self._objective(photometry, node, best.u[giver[node, which]])
        there[node, which] = best.objective[giver[node, which]]
        asking = np.flatnonzero(offered.any(axis=1))
        first, second = here[asking].argmin(axis=1), there[asking].argmin(axis=1)
        both = first != second
        takers = np.concatenate([asking, asking[both]])
        return takers, best.u[giver[takers, np.concatenate([first, second[both]])]]

    # -- compiled calls --------------------------------------------------------------------------------------------
    def _put(self, *arrays: np.ndarray) -> list[Any]:
        return [jax.device_put(array, NamedSharding(self.mesh, LANE)) for array in arrays]

    def _lanes_of(self, photometry: WhitenedPhotometry) -> WhitenedPhotometry:
        return jax.tree.map(lambda part: self._put(np.tile(part, (self.n_lane, 1)))[0], photometry)

    def _objective(self, photometry: WhitenedPhotometry, node: np.ndarray, u: np.ndarray) -> np.ndarray:
        lanes, parts = self._lanes_of(photometry), []
        for first in range(0, len(node), self.n_lane):
            rows = np.arange(first, first + self.n_lane) % len(node)
            here, z = self._put(u[rows], self.z_grid[node[rows]])
            parts.append(np.asarray(_objectives(self.posterior, self.mesh, lanes, here, z, self.nf_prior)))
        return np.concatenate(parts)[: len(node)]

    def _climb(
        self,
        photometry: WhitenedPhotometry,
        node: np.ndarray,
        fits: _Fit,
        tasks: np.ndarray,
        n_iterations: int,
    ) -> None:
        """Takes `tasks` of `fits` (at nodes `node`) on, in place, until they arrive or have done `n_iterations`.

        Lanes that end make room for waiting tasks.
        """
        lanes = self._lanes_of(photometry)
        tasks = tasks[~fits.arrived[tasks] & (fits.n_done[tasks] < n_iterations)]
        active, waiting = tasks[: self.n_lane], tasks[self.n_lane :]
        while len(active):
            rows = np.resize(active, self.n_lane)
            state = _Fit(*self._put(*(part[rows] for part in fits)))
            z = self._put(self.z_grid[node[rows]])[0]
            stepped = _steps(self.posterior, self.mesh, lanes, z, state, self.nf_prior)
            for old, new in zip(fits, stepped, strict=True):
                old[active] = np.asarray(new)[: len(active)]
            active = active[~fits.arrived[active] & (fits.n_done[active] < n_iterations)]
            n_free = self.n_lane - len(active)
            active, waiting = np.concatenate([active, waiting[:n_free]]), waiting[n_free:]


def _fresh(u: Float[np.ndarray, "task latent"]) -> _Fit:
    """Fits that have not begun: without a gradient the first step stays where it is, and finds objective and slope."""
    n, dim = u.shape
    return _Fit(
        u=u.astype(np.float32),
        damping=np.full(n, FIRST_DAMPING, np.float32),
        objective=np.full(n, np.inf, np.float32),
        gradient=np.zeros((n, dim), np.float32),
        curvature=np.zeros((n, dim, dim), np.float32),
        arrived=np.zeros(n, bool),
        n_done=np.zeros(n, np.int32),
    )


@eqx.filter_jit
def _objectives(
    posterior: LogPosterior, mesh: Mesh, photometry: WhitenedPhotometry, u: Array, z: Array, nf_prior: bool
) -> Array:
    def one(posterior: LogPosterior, photometry: WhitenedPhotometry, u: Array, z: Array) -> Array:
        r = posterior.residual(u, z, photometry)
        value = jnp.sum(r**2) + nf_prior * jnp.sum(u**2)
        return jnp.where(jnp.isfinite(value), value, jnp.inf)

    return sharded(one, posterior, mesh, (photometry, u, z))


@eqx.filter_jit
def _steps(
    posterior: LogPosterior, mesh: Mesh, photometry: WhitenedPhotometry, z: Array, fit: _Fit, nf_prior: bool
) -> _Fit:
    """`BLOCK` Levenberg-Marquardt steps of all lanes; those that have arrived stay."""

    def one(posterior: LogPosterior, photometry: WhitenedPhotometry, z: Array, fit: _Fit) -> _Fit:
        def residual(u: Array) -> tuple[Array, Array]:
            r = posterior.residual(u, z, photometry)
            return r, r

        def value(u: Array) -> Array:
            objective = jnp.sum(residual(u)[0] ** 2) + nf_prior * jnp.sum(u**2)
            return jnp.where(jnp.isfinite(objective), objective, jnp.inf)

        def step(_: Array, fit: _Fit) -> _Fit:
            damping = fit.damping * jnp.asarray(DAMPINGS, jnp.float32)
            trials = jax.vmap(lambda damping: _trial(fit, damping))(damping)
            choice = jnp.argmin(jax.vmap(value)(trials))
            u = trials[choice]
            jacobian, r = jax.jacfwd(residual, has_aux=True)(u)
            gradient = -jacobian.T @ r - nf_prior * u
            curvature = jacobian.T @ jacobian + nf_prior * jnp.eye(u.size)
            objective = jnp.sum(r**2) + nf_prior * jnp.sum(u**2)
            sound = jnp.isfinite(objective) & jnp.isfinite(gradient).all() & jnp.isfinite(curvature).all()
            better = sound & (objective < fit.objective)
            there = _Fit(
                u=u,
                damping=jnp.maximum(damping[choice], SMALLEST_DAMPING),
                objective=objective,
                gradient=gradient,
                curvature=curvature,
                arrived=fit.objective - objective < TOLERANCE,
                n_done=fit.n_done + 1,
            )
            raised = RAISED * fit.damping
            here = fit._replace(damping=raised, arrived=raised > LARGEST_DAMPING, n_done=fit.n_done + 1)
            stepped = jax.tree.map(lambda new, old: jnp.where(better, new, old), there, here)
            return jax.tree.map(lambda new, old: jnp.where(fit.arrived, old, new), stepped, fit)

        return jax.lax.fori_loop(0, BLOCK, step, fit)

    return sharded(one, posterior, mesh, (photometry, z, fit))


def _trial(fit: _Fit, damping: Array) -> Array:
    """The damped Gauss-Newton step, solved in coordinates of unit curvature, within the bounds."""
    outward = ((fit.u >= LARGEST_U) & (fit.gradient > 0.0)) | ((fit.u <= -LARGEST_U) & (fit.gradient < 0.0))
    diagonal = jnp.diag(fit.curvature)
    scale = jnp.where(outward | (diagonal <= 0.0), 0.0, jax.lax.rsqrt(jnp.maximum(diagonal, TINY)))
    matrix = fit.curvature * scale * scale[:, None]
    # damping on the diagonal, and ones where there is nothing to solve for
    matrix = matrix + jnp.diag(jnp.where(scale > 0.0, damping + RIDGE, 1.0))
    move = scale * solve(matrix, scale * fit.gradient)
    move = jnp.where(jnp.isfinite(move), move, 0.0)
    move = move * jnp.minimum(1.0, 2.0 * LARGEST_U / jnp.maximum(jnp.max(jnp.abs(move)), TINY))
    return jnp.clip(fit.u + move, -LARGEST_U, LARGEST_U)
