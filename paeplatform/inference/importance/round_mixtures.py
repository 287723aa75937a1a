"""The mixtures that each round's draws came from, source by source: what all later draws are weighted against."""

from __future__ import annotations

import numpy as np

from paeplatform.inference.modes.mixture import StudentMixture


class RoundMixtures:
    """Mixtures by round (from 1) and row."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._rounds: list[tuple[np.ndarray, StudentMixture]] = []

    def add(self, stage: int, rows: np.ndarray, mixture: StudentMixture) -> None:
        """Keeps the mixtures (source, ...) of a round for some rows, which have none in it yet."""
        if len(self._rounds) < stage:
            self._rounds.append((rows, mixture))
            return
        known, older = self._rounds[stage - 1]
        self._rounds[stage - 1] = (np.concatenate([known, rows]), _stacked(older, mixture))

    def of(self, stage: int, rows: np.ndarray) -> StudentMixture:
        """Those of a round for rows that have one; a row may be there twice."""
        known, mixture = self._rounds[stage - 1]
        order = np.argsort(known)
        place = order[np.searchsorted(known, rows, sorter=order)]
        return StudentMixture(*(part[place] for part in mixture))

    def forget(self, rows: np.ndarray) -> None:
        """Drops those of some rows in all rounds."""
        for stage, (known, mixture) in enumerate(self._rounds):
            stays = ~np.isin(known, rows)
            self._rounds[stage] = (known[stays], StudentMixture(*(part[stays] for part in mixture)))


def _stacked(one: StudentMixture, other: StudentMixture) -> StudentMixture:
    """Both, one below the other; the one with fewer components gets copies of share zero."""
    n = max(one.log_share.shape[1], other.log_share.shape[1])

    def widened(mixture: StudentMixture) -> StudentMixture:
        short = n - mixture.log_share.shape[1]
        if not short:
            return mixture
        index = np.resize(np.arange(n - short), n)
        log_share = mixture.log_share[:, index].copy()
        log_share[:, n - short :] = -1e30
        return StudentMixture(mixture.mean[:, index], mixture.factor[:, index], log_share)

    pairs = zip(widened(one), widened(other), strict=True)
    return StudentMixture(*(np.concatenate(pair) for pair in pairs))
