"""Independent random streams, one for each purpose, all derived from the preset's seed."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a stream of random numbers is for.

    The numbers are part of what makes a run reproducible: add new purposes at the end and never renumber.
    """

    MAGNITUDE = 0
    GALAXY_TYPE = 1
    REDSHIFT = 2
    TEMPLATE = 3
    DUST_LAW = 4
    EBV = 5
    SKY = 6
    TRAINING_ORDER = 7
    TRAINING_REDSHIFT = 8
    TRAINING_EBV = 9
    RELEASE_DRAW = 10
    SBI_BANK = 11
    SBI_TRAINING = 12
    TRAINING_MIXTURE = 13
    LEFT_OUT_GALAXIES = 14
    TRAINING_HOT_DUST = 15


def stream_rng(seed: int, stream: Stream, *index: int) -> np.random.Generator:
    """The generator of one purpose.

    It equals a child of `SeedSequence(seed).spawn(...)`, so streams are independent, and a change in how many
    numbers one purpose uses leaves the others as they were.

    Args:
        seed: the preset's seed, >= 0.
        stream: the purpose.
        index: further non-negative keys, for example a sky cell.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(stream), *map(int, index))))
