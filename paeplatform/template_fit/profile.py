"""The profile likelihood of eq. 12 on the redshift grid: chi^2 minimised over template, dust and amplitude.

The float32 sweep finds which models matter; their chi^2 is then computed again in float64. A sum over n bands in
float32 is off by at most (n + 16) 2^-24 of |d| (16 for making and scaling the model), so every template whose score
is within twice that of the largest at its redshift is computed again with all its dust: the minimum is that of the
float64 formula, model and value. This is done at the redshifts that matter: those within twice the bound of the
best, and within chi^2 + 25 of it (p(z) down to 4e-6 of its peak) for sources bright enough that float32 alone would
show. Elsewhere float32 stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from tqdm.auto import tqdm

from paeplatform.source_columns import usable_sources
from paeplatform.template_fit.grid import TemplateGrid
from paeplatform.template_fit.sweep import Sweep

BATCH = 256  # sources swept at a time
MIN_SHARED = 16  # sources of equal errors that get batches of their own; fewer go with the rest
EXACT_DELTA_CHI2 = 25.0
# |d|^2 from which the error of float32 alone, measured as 1.5e-6 of it at most, is worth the work
BRIGHT = 300.0
_PAIRS = 16  # of redshift and template, whose models with all dust are made at a time: 0.8 MB, which stays in cache


@dataclass(frozen=True)
class ProfileFit:
    """Profile of some sources; NaN and -1 for a source that has no usable band or a flux that is not finite.

    Attributes:
        chi2: (source, z) minimum over template, dust law, E(B-V) and amplitude >= 0.
        chi2_null: (source,) of no galaxy at all, the amplitude zero: an upper bound of `chi2`.
        z_index: (source,) where `chi2` is least; -1 when no model beats an amplitude of zero.
        template: (source,) index of the best model's template there; -1 likewise.
        law: (source,) index into the grid's dust laws; the first for a model without dust.
        ebv_index: (source,) index into the grid's E(B-V).
        amplitude: (source,) by which the model's fluxes are to be multiplied [uJy].
    """

    chi2: Float[np.ndarray, "source z"]
    chi2_null: Float[np.ndarray, " source"]
    z_index: Int[np.ndarray, " source"]
    template: Int[np.ndarray, " source"]
    law: Int[np.ndarray, " source"]
    ebv_index: Int[np.ndarray, " source"]
    amplitude: Float[np.ndarray, " source"]


def profile_sources(
    grid: TemplateGrid,
    flux: Float[np.ndarray, "source band"],
    flux_err: Float[np.ndarray, "source band"],
    *,
    progress: bool = True,
) -> ProfileFit:
    """Minimum chi^2 of every source at every redshift of the grid.

    Args:
        grid: the models.
        flux: [uJy]; negative values are legal.
        flux_err: 1 sigma [uJy]; not finite or not positive masks the band.
        progress: shows a bar in galaxies.
    """
    flux, flux_err = np.asarray(flux, dtype=np.float64), np.asarray(flux_err, dtype=np.float64)
    usable, good = usable_sources(flux, flux_err)
    n_source, n_z = len(flux), len(grid.config.z)
    nothing = np.full(n_source, -1)
    fit = ProfileFit(
        chi2=np.full((n_source, n_z), np.nan),
        chi2_null=np.full(n_source, np.nan),
        z_index=nothing,
        template=nothing.copy(),
        law=nothing.copy(),
        ebv_index=nothing.copy(),
        amplitude=np.full(n_source, np.nan),
    )
    weight = np.divide(1.0, flux_err, out=np.zeros_like(flux), where=usable)
    whitened = np.where(usable, flux, 0.0) * weight
    sweep = Sweep(grid)
    with tqdm(
        total=int(good.sum()),
        desc="templates",
        disable=not progress,
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total} galaxies [{elapsed}<{remaining}]",
    ) as bar:
        for rows, shared in _batches(weight, np.flatnonzero(good)):
            _Batch(sweep, whitened[rows], weight[rows], shared, fit, rows).run(bar)
    return fit


def _batches(weight: np.ndarray, rows: np.ndarray) -> list[tuple[np.ndarray, bool]]:
    """Rows of sources swept together, and whether they share their weights."""
    if not len(rows):
        return []
    _, pattern, count = np.unique(weight[rows], axis=0, return_inverse=True, return_counts=True)
    groups = [(rows[pattern == at], True) for at in np.flatnonzero(count >= MIN_SHARED)]
    groups.append((rows[(count < MIN_SHARED)[pattern]], False))
    return [
        (group[first : first + BATCH], shared)
        for group, shared in groups
        for first in range(0, len(group), BATCH)
    ]


class _Exact(NamedTuple):
    """Models computed again in float64, each for one source; all (model,), in the same order."""

    place: np.ndarray  # of the redshift in the tile
    template: np.ndarray
    source: np.ndarray
    score: np.ndarray  # the largest over dust
    dust: np.ndarray  # which that is
    norm: np.ndarray  # |m w| there


class _Batch:
    """One batch on its way through the redshifts, after which `rows` of `fit` are written."""

    def __init__(
        self,
        sweep: Sweep,
        whitened: np.ndarray,
        weight: np.ndarray,
        shared: bool,
        fit: ProfileFit,
        rows: np.ndarray,
    ) -> None:
        self._grid, self._sweep, self._fit, self._rows = sweep.grid, sweep, fit, rows
        self._n = len(whitened)
        # the compiled sizes are powers of two: a batch is filled up with sources of flux zero
        n_padded = max(MIN_SHARED, 1 << (self._n - 1).bit_length())
        # scaled to lengths of one, so that no unit is too large or small for float32
        self._norm = np.sqrt(np.sum(whitened**2, axis=1))
        scale = np.where(self._norm > 0.0, self._norm, 1.0)[:, None]
        self._direction, self._weight = whitened / scale, weight / weight.max(axis=1, keepdims=True)
        self._pattern = np.pad(
            self._weight[:1] if shared else self._weight, _rows(0 if shared else n_padded - self._n)
        )
        self._padded = np.pad(self._direction, _rows(n_padded - self._n))
        # amplitude of a model whose score is q: q |d| / |m w|, w as it was
        self._amplitude_unit = self._norm / weight.max(axis=1)
        self._bound = (whitened.shape[1] + 16) * 2.0**-24
        self._best = np.zeros(self._n)  # largest q of the float32 sweep so far
        self._exact = np.zeros(self._n)  # largest float64 one

    def run(self, bar: tqdm) -> None:
        """Sweeps all redshifts and writes the sources' rows."""
        score = np.zeros((self._n, len(self._grid.config.z)))
        tiles = self._sweep.tiles()
        # the next tile is computed while this one is looked through
        coming = self._sweep.scores(tiles[0], self._padded, self._pattern)
        for number, tile in enumerate(tiles):
            scores = np.asarray(coming)[:, :, : self._n]
            if number + 1 < len(tiles):
                coming = self._sweep.scores(tiles[number + 1], self._padded, self._pattern)
            kept = np.unique(tile, return_index=True)[1]  # the last tile repeats its end
            score[:, tile[kept]] = np.maximum(scores[kept].max(axis=1), 0.0).T
            self._refine(tile[kept], scores[kept], score)
            bar.update(self._n / len(tiles))
        squared = self._norm**2
        self._fit.chi2_null[self._rows] = squared
        self._fit.chi2[self._rows] = squared[:, None] * (1.0 - score) * (1.0 + score)

    def _refine(self, z_index: np.ndarray, scores: np.ndarray, score: np.ndarray) -> None:
        """Computes again in float64 what the answer hangs on."""
        highest = scores.max(axis=1)  # z, source
        self._best = np.maximum(self._best, highest.max(axis=0))
        squared = self._norm**2
        # q below which chi^2 exceeds the best by more than what matters; the bound is on q, so 4 of it on q^2
        slack = np.where(squared > BRIGHT, EXACT_DELTA_CHI2 / np.maximum(squared, 1.0), 0.0)
        slack = np.maximum(slack, 4.0 * self._bound)
        matters = (highest**2 >= self._best**2 - slack) & (highest > -self._bound) & (self._norm > 0.0)
        near = (scores >= highest[:, None] - 2.0 * self._bound) & matters[:, None]
        place, template, source = np.nonzero(near)
        if not len(place):
            return
        # each model is made once for all sources that want it
        pair, index = np.unique(place * scores.shape[1] + template, return_inverse=True)
        order = np.argsort(index, kind="stable")
        exact, dust, norm = (np.empty(len(index), kind) for kind in (float, np.int64, float))
        for first in range(0, len(pair), _PAIRS):
            chosen = order[
                np.searchsorted(index[order], first) : np.searchsorted(index[order], first + _PAIRS)
            ]
            these = pair[first : first + _PAIRS]
            models = self._grid.models(z_index[these // scores.shape[1]], these % scores.shape[1])
            exact[chosen], dust[chosen], norm[chosen] = self._exact_scores(
                models, index[chosen] - first, source[chosen]
            )
        improved = np.full((len(z_index), self._n), -np.inf)
        np.maximum.at(improved, (place, source), exact)
        at = np.nonzero(matters)
        score[at[1], z_index[at[0]]] = np.maximum(improved[at], 0.0)
        self._keep_best(z_index, _Exact(place, template, source, exact, dust, norm))

    def _exact_scores(
        self, models: np.ndarray, which: np.ndarray, source: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Largest float64 score over dust, which dust, and |m w| there, for pairs of model set and source."""
        n_law, n_ebv = models.shape[1:3]
        best, dust, length = np.empty(len(which)), np.empty(len(which), np.int64), np.empty(len(which))
        for first in range(0, len(which), _PAIRS):
            rows = slice(first, first + _PAIRS)
            model = models[which[rows]].reshape(-1, n_law * n_ebv, models.shape[-1])
            model = model * self._weight[source[rows]][:, None]
            norm = np.sqrt(np.vecdot(model, model))
            score = (model @ self._direction[source[rows]][:, :, None])[..., 0]
            score = np.divide(score, norm, out=np.zeros_like(score), where=norm > 0.0)
            # without dust all laws are one model: rounding must not choose between them
            score.reshape(-1, n_law, n_ebv)[:, 1:, 0] = -np.inf
            at = score.argmax(axis=1)
            row = np.arange(len(at))
            best[rows], dust[rows], length[rows] = score[row, at], at, norm[row, at]
        return best, dust, length

    def _keep_best(self, z_index: np.ndarray, found: _Exact) -> None:
        """The best model so far; of equal ones the first in redshift, then in template, stays."""
        order = np.lexsort((found.template, found.place, -found.score, found.source))
        first = order[np.unique(found.source[order], return_index=True)[1]]
        first = first[found.score[first] > self._exact[found.source[first]]]
        best, fit = _Exact(*(values[first] for values in found)), self._fit
        self._exact[best.source] = best.score
        into, n_ebv = self._rows[best.source], len(self._grid.config.ebv)
        fit.z_index[into], fit.template[into] = z_index[best.place], best.template
        fit.law[into], fit.ebv_index[into] = best.dust // n_ebv, best.dust % n_ebv
        fit.amplitude[into] = best.score * self._amplitude_unit[best.source] / best.norm


def _rows(n: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Padding of `n` rows at the end of a matrix."""
    return (0, n), (0, 0)
