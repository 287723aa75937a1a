"""The stress test of missing photometry: the same sources with ever more bands masked (paper section V.3).

Masked bands keep their place and get zero weight (flux_err = inf). Each source loses bands in a random order of its
own, so that the bands missing at 25 % are among those missing at 50 %, and fractions differ by nothing else: a
source's id is the same throughout, hence the sampler's random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from tqdm.auto import tqdm

from paeplatform.errors import ConfigError, InputError
from paeplatform.instrument.noise import check_photometry, usable_bands
from paeplatform.random_keys import seeded_generator

FRACTIONS = (0.0, 0.25, 0.5, 0.75)

# flux, flux_err [uJy] (source, band) and object_id (source,) to a table, a row a source in that order
Estimate = Callable[[np.ndarray, np.ndarray, np.ndarray], pl.DataFrame]


def missing_bands(
    flux_err: Float[np.ndarray, "source band"],
    object_id: Int[np.ndarray, " source"],
    fraction: float,
    seed: int,
) -> Bool[np.ndarray, "source band"]:
    """Which usable bands are taken away; round(fraction x usable bands) of each source.

    Args:
        flux_err: [uJy]; bands masked already are not counted and not taken.
        object_id: with the seed it fixes the order in which a source loses bands.
        fraction: within [0, 1).
        seed: of the orders.

    Raises:
        ConfigError: the fraction is out of range.
    """
    if not 0.0 <= fraction < 1.0:
        raise ConfigError(f"fraction of missing bands {fraction:g} must lie within [0, 1)")
    usable = usable_bands(flux_err)
    missing = np.zeros(usable.shape, bool)
    for row, identity in enumerate(np.asarray(object_id)):
        bands = np.flatnonzero(usable[row])
        order = seeded_generator(seed, identity, 0x4D42).permutation(bands)
        missing[row, order[: round(fraction * len(bands))]] = True
    return missing


def stress_test(
    estimate: Estimate,
    flux: Float[np.ndarray, "source band"],
    flux_err: Float[np.ndarray, "source band"],
    object_id: Int[np.ndarray, " source"],
    *,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
    progress: bool = True,
) -> pl.DataFrame:
    """Runs an estimator on the sources with each fraction of their bands missing.

    Args:
        estimate: (flux, flux_err, object_id) to a table with a row for each source, in order, and `object_id`.
        flux: [uJy].
        flux_err: 1 sigma [uJy]; not finite or not positive masks the band.
        object_id: (source,) distinct integers.
        fractions: of the usable bands, ascending, within [0, 1).
        seed: of the order in which bands are lost.
        progress: shows a bar over fractions.

    Returns:
        The estimator's tables one above the other, with `fraction` and `n_missing` (bands taken away) in front.

    Raises:
        ConfigError: fractions or ids are not as said.
        BandSetError: photometry that cannot be used (`check_photometry`).
        InputError: the estimator's rows are not those of the sources.
    """
    flux, flux_err, object_id = np.asarray(flux), np.asarray(flux_err), np.asarray(object_id)
    check_photometry(flux, flux_err, flux.shape[-1])
    if not len(fractions) or list(fractions) != sorted(set(fractions)):
        raise ConfigError(f"fractions of missing bands {list(fractions)} must be ascending, one or more")
    if object_id.shape != (len(flux),) or len(np.unique(object_id)) != len(object_id):
        raise ConfigError(f"object_id {object_id.shape} must be {len(flux)} distinct integers, one a source")
    masks = [missing_bands(flux_err, object_id, fraction, seed) for fraction in fractions]
    tables = []
    steps = zip(fractions, masks, strict=True)
    for fraction, mask in tqdm(steps, total=len(masks), desc="missing bands", disable=not progress):
        rows = estimate(flux, np.where(mask, np.inf, flux_err), object_id)
        if "object_id" not in rows.columns or not np.array_equal(rows["object_id"].to_numpy(), object_id):
            raise InputError("the estimator's table must hold object_id and one row a source, in their order")
        tables.append(
            rows.select(
                pl.lit(float(fraction)).alias("fraction"),
                pl.Series("n_missing", mask.sum(axis=1).astype(np.int16)),
                pl.all(),
            )
        )
    return pl.concat(tables)
