"""Is an input like those the network was trained on? Outside, it extrapolates, and its p(z) is not to be trusted.

Three ranges that anybody can check (total SNR, depth against the survey's, bands in use), and one distance: of the
context vector from the training set's, in the metric of their covariance. A spectrum that is no galaxy's, or noise
that is not what the errors say, mostly lands far out there; a network can also be blind to a fault, so the flag is a
warning and its absence no proof.
"""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING

import numpy as np
import torch

from paeplatform.sbi.features import relative_depth, total_snr
from paeplatform.sbi.noise import Photometry

if TYPE_CHECKING:
    from paeplatform.sbi.model import SbiModel, TrainedRange

RANGE_SHARE = 1e-3  # of the training set that lies outside the ranges, half of it at either end
FAR_SHARE = 1e-3  # of the training set that lies beyond `farthest`
RIDGE = 1e-6  # of the mean variance: contexts may not fill all of their dimensions
_BATCH = 2048


class SbiFlag(IntFlag):
    """Bits of `sbi_flags`; 0 is a source nothing speaks against."""

    NO_REDSHIFT = 1  # no usable band, or a flux that is not finite
    SNR_OUTSIDE = 2  # total SNR outside that of the training set
    DEPTH_OUTSIDE = 4  # errors much smaller or larger than the survey's
    FEW_BANDS = 8  # fewer bands than training sources had
    UNLIKE_TRAINING = 16  # the context is farther out than 99.9 % of the training set's
    MULTIMODAL = 32  # p(z) has a second peak
    AT_EDGE = 64  # p(z) piles up at an end of its range


OUTSIDE = SbiFlag.SNR_OUTSIDE | SbiFlag.DEPTH_OUTSIDE | SbiFlag.FEW_BANDS | SbiFlag.UNLIKE_TRAINING


@torch.no_grad()
def trained_range(model: SbiModel, seen: Photometry) -> TrainedRange:
    """The ranges of photometry like that of the training: held-out sources with their noise.

    Args:
        model: trained, on the CPU.
        seen: (source, band), a few hundred sources or more.
    """
    from paeplatform.sbi.model import TrainedRange

    context = torch.cat(
        [
            model.context(Photometry(*(part[low : low + _BATCH] for part in seen)))
            for low in range(0, len(seen.flux), _BATCH)
        ]
    ).double()
    centre = context.mean(0)
    offset = context - centre
    covariance = offset.T @ offset / max(len(offset) - 1, 1)
    variance, direction = torch.linalg.eigh(covariance)
    variance = variance.clamp(min=0.0) + RIDGE * variance.clamp(min=0.0).mean() + 1e-12
    whitening = direction.T / torch.sqrt(variance)[:, None]
    distance = torch.linalg.vector_norm(offset @ whitening.T, dim=1)
    snr, level = total_snr(seen).double().numpy(), relative_depth(seen, model.depth).double().numpy()
    ends = 0.5 * RANGE_SHARE, 1.0 - 0.5 * RANGE_SHARE
    low, high = np.quantile(snr, ends)
    shallow, deep = np.quantile(level, ends)
    return TrainedRange(
        snr=(float(low), float(high)),
        depth=(float(shallow), float(deep)),
        fewest_bands=int(np.quantile(seen.used.sum(1).numpy(), RANGE_SHARE)),
        centre=centre.float().numpy(),
        whitening=whitening.float().numpy(),
        farthest=float(torch.quantile(distance, 1.0 - FAR_SHARE)),
    )


def distance_from_training(known: TrainedRange, context: np.ndarray) -> np.ndarray:
    """Mahalanobis distance of contexts (source, width), in units of the farthest that counts as like the training."""
    offset = context.astype(np.float64) - known.centre
    return np.linalg.norm(offset @ known.whitening.astype(np.float64).T, axis=1) / known.farthest


def domain_flags(
    known: TrainedRange, snr: np.ndarray, depth: np.ndarray, n_bands: np.ndarray, distance: np.ndarray
) -> np.ndarray:
    """The bits of `OUTSIDE` that apply, (source,) uint32.

    Args:
        known: of the training set.
        snr: total SNR.
        depth: mean ln(flux_err / survey depth).
        n_bands: in use.
        distance: of `distance_from_training`.
    """
    rules = {
        SbiFlag.SNR_OUTSIDE: (snr < known.snr[0]) | (snr > known.snr[1]),
        SbiFlag.DEPTH_OUTSIDE: (depth < known.depth[0]) | (depth > known.depth[1]),
        SbiFlag.FEW_BANDS: n_bands < known.fewest_bands,
        SbiFlag.UNLIKE_TRAINING: ~(distance <= 1.0),
    }
    mask = np.zeros(len(snr), np.uint32)
    for flag, rule in rules.items():
        mask |= rule.astype(np.uint32) * np.uint32(flag)
    return mask
