"""Noise as a survey delivers it, drawn for noiseless photometry in every epoch: depth, lost exposures, lost bands.

A band's error is the survey's depth times the scatter of a source's depth, the scatter of its own error and
sqrt(visits / exposures left), so that the network meets the errors that binned deliveries have (`release.binning`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from paeplatform.config import SbiBankConfig


class Photometry(NamedTuple):
    """What the network reads, each (source, band) float32; `flux` is 0 and `flux_err` 1 where `used` is 0."""

    flux: Tensor
    flux_err: Tensor
    used: Tensor


def observe(flux_true: Tensor, depth: Tensor, cfg: SbiBankConfig, generator: torch.Generator) -> Photometry:
    """One noise realisation of noiseless photometry.

    Args:
        flux_true: (source, band) float32 [uJy].
        depth: (band,) 1 sigma of all visits together [uJy].
        cfg: visits, losses, scatter and masks.
        generator: of all that is random.
    """
    n, n_band = flux_true.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    scatter = cfg.error_scatter * uniform(n, 1) * normal(n, n_band) + cfg.depth_scatter * normal(n, 1)
    loss = cfg.visit_loss_max * uniform(n, 1)
    kept = (uniform(cfg.n_visits, n, n_band) >= loss).sum(0).to(flux_true.dtype)
    masked = (uniform(n, 1) < cfg.mask_probability) * cfg.mask_fraction_max * uniform(n, 1)
    used = (kept > 0) & (uniform(n, n_band) >= masked)
    error = depth * torch.exp(scatter) * torch.sqrt(cfg.n_visits / kept.clamp(min=1.0))
    flux = flux_true + error * normal(n, n_band)
    return as_photometry(flux, error, used)


def as_photometry(flux: Tensor, flux_err: Tensor, used: Tensor | None = None) -> Photometry:
    """Photometry with the values of masked bands taken out, whatever they are (also NaN).

    Args:
        flux: (source, band) [uJy].
        flux_err: [uJy]; not finite or not positive masks the band.
        used: bands that may be used; None for all.
    """
    good = torch.isfinite(flux_err) & (flux_err > 0.0)
    if used is not None:
        good = good & used
    return Photometry(
        torch.where(good, flux, 0.0).float(), torch.where(good, flux_err, 1.0).float(), good.float()
    )
