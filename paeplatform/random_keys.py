"""From a source's 64-bit id to its own random numbers: the one way in which ids enter generators.

Ids are signed in tables and may be negative; here they are read as the unsigned number of the same 64 bits, so that
each id has random numbers of its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def unsigned_ids(object_id: ArrayLike) -> NDArray[np.uint64]:
    """The ids as unsigned numbers of the same bits, in the shape given."""
    return np.asarray(object_id).astype(np.int64).view(np.uint64)


def halves_of_ids(object_id: ArrayLike) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """(low, high) 32 bits of each id; JAX folds no more than 32 bits into a key at a time."""
    unsigned = unsigned_ids(object_id)
    return (unsigned & 0xFFFFFFFF).astype(np.uint32), (unsigned >> np.uint64(32)).astype(np.uint32)


def seeded_generator(seed: int, object_id: int, *stream: int) -> np.random.Generator:
    """NumPy's default generator of one source.

    Args:
        seed: of the run.
        object_id: of the source.
        stream: numbers that tell the draws of one purpose from those of another.
    """
    return np.random.default_rng([seed, int(object_id) % 2**64, *stream])


def counter_generator(seed: int, object_id: int) -> np.random.Generator:
    """A counter-based generator (Philox) of one source; quicker to make than `seeded_generator`."""
    key = np.array([seed % 2**64, int(object_id) % 2**64], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))
