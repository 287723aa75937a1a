"""The network: photometry to p(z), and what it was trained on."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from paeplatform.config import SbiConfig
from paeplatform.errors import ConfigError
from paeplatform.sbi.encoder import Encoder
from paeplatform.sbi.heads import Density, build_head
from paeplatform.sbi.noise import Photometry


class TrainedRange(NamedTuple):
    """What inputs of the training set look like; outside, the network extrapolates (`sbi.domain`).

    Attributes:
        snr: (lowest, highest) total SNR.
        depth: (lowest, highest) mean of ln(flux_err / survey depth).
        fewest_bands: in use.
        centre: (width,) mean context.
        whitening: (width, width); |whitening (context - centre)|^2 is the squared Mahalanobis distance.
        farthest: distance beyond which a context is unlike the training set's.
    """

    snr: tuple[float, float]
    depth: tuple[float, float]
    fewest_bands: int
    centre: np.ndarray
    whitening: np.ndarray
    farthest: float


class SbiModel(nn.Module):
    """Encoder and head.

    Args:
        cfg: sizes.
        depth: (band,) survey depth of the training set [uJy].
        z_limits: (z_min, z_max) that p(z) is confined to.
    """

    def __init__(self, cfg: SbiConfig, depth: np.ndarray, z_limits: tuple[float, float]) -> None:
        super().__init__()
        self.cfg, self.z_limits = cfg, (float(z_limits[0]), float(z_limits[1]))
        self.encoder = Encoder(cfg.encoder, torch.as_tensor(np.asarray(depth, dtype=np.float32)))
        self.head = build_head(cfg.head, cfg.encoder.width, self.limits)
        self.trained_range: TrainedRange | None = None

    @property
    def limits(self) -> tuple[float, float]:
        """Of x = ln(1+z)."""
        return math.log1p(self.z_limits[0]), math.log1p(self.z_limits[1])

    @property
    def n_band(self) -> int:
        """Bands of the photometry."""
        return self.encoder.features.n_band

    @property
    def depth(self) -> Tensor:
        """(band,) survey depth [uJy]."""
        return self.encoder.features.depth

    def forward(self, seen: Photometry, x: Tensor) -> Tensor:
        """ln p(x | photometry) of one x = ln(1+z) a source, (source,)."""
        return self.density(self.context(seen)).log_prob(x[:, None])[:, 0]

    def context(self, seen: Photometry) -> Tensor:
        """(source, width) float32, what the encoder knows of each source."""
        with half_precision(seen.flux.device):
            return self.encoder(seen).float()

    def density(self, context: Tensor) -> Density:
        """Of x = ln(1+z), one a source."""
        return self.head(context)


def build_model(cfg: SbiConfig, depth: np.ndarray, z_limits: tuple[float, float], *, seed: int) -> SbiModel:
    """A network with initial weights that depend on `seed` alone.

    Raises:
        ConfigError: limits that do not rise, a depth that is not positive, or fewer bands than a token is wide.
    """
    if not 0.0 <= z_limits[0] < z_limits[1] < math.inf:
        raise ConfigError(f"z_limits {z_limits} must rise from 0 or above")
    if not (np.isfinite(depth).all() and (np.asarray(depth) > 0.0).all()):
        raise ConfigError("depth must be finite and positive in every band")
    if len(depth) < cfg.encoder.token_width:
        raise ConfigError(f"sbi.encoder.token_width {cfg.encoder.token_width} exceeds the {len(depth)} bands")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SbiModel(cfg, depth, z_limits)


def n_parameters(model: nn.Module) -> int:
    """Trainable numbers."""
    return sum(part.numel() for part in model.parameters() if part.requires_grad)


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one.

    Raises:
        ConfigError: `cuda` was asked for and is not there.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError("sbi.device: cuda was asked for, and torch finds no CUDA device; use auto or cpu")
    return torch.device("cuda")


def half_precision(device: torch.device) -> torch.autocast:
    """bfloat16 for the encoder's products on a GPU; nothing on a CPU.

    Not for the head: three digits of a location would be coarser than the p(z) of bright sources.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
