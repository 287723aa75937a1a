"""Photometry to the channels and tokens that the encoder reads.

`paper`: arcsinh of the flux and the uncertainty (section VII); a missing band has both at zero.
`scale_free`: the whitened flux divided by the total SNR, so that a spectrum looks the same at every brightness; its
arcsinh; the error against the survey's depth, in ln; and which bands there are. Brightness enters once, as ln SNR.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paeplatform.config import SbiEncoderConfig
from paeplatform.sbi.noise import Photometry

N_GLOBAL = 3
SNR_FLOOR = 1e-3
TYPICAL_LN_SNR = 3.0
DEPTH_SCALE = 0.3  # of ln(error / depth)


def total_snr(seen: Photometry) -> Tensor:
    """sqrt(sum (flux/flux_err)^2) over the bands in use, (source,)."""
    return torch.linalg.vector_norm(seen.flux / seen.flux_err, dim=1).clamp(min=SNR_FLOOR)


def relative_depth(seen: Photometry, depth: Tensor) -> Tensor:
    """Mean of ln(flux_err / depth) over the bands in use, (source,); 0 without any."""
    return (torch.log(seen.flux_err / depth) * seen.used).sum(1) / seen.used.sum(1).clamp(min=1.0)


class Features(nn.Module):
    """Channels of every band, and numbers of the whole source.

    Args:
        cfg: which features, and how tokens are cut.
        depth: (band,) survey depth the errors are compared with [uJy].
    """

    depth: Tensor

    def __init__(self, cfg: SbiEncoderConfig, depth: Tensor) -> None:
        super().__init__()
        self._kind = cfg.features
        self._width, self._stride = cfg.token_width, cfg.token_stride
        self.n_band = len(depth)
        self.n_channel = 2 if cfg.features == "paper" else 4
        self.n_token = 1 + max(0, math.ceil((self.n_band - cfg.token_width) / cfg.token_stride))
        self._padding = (self.n_token - 1) * cfg.token_stride + cfg.token_width - self.n_band
        self.register_buffer("depth", depth.clone().float())

    def forward(self, seen: Photometry) -> tuple[Tensor, Tensor]:
        """((source, channel, band), (source, N_GLOBAL))."""
        snr = total_snr(seen)
        level = relative_depth(seen, self.depth)
        share = seen.used.mean(1)
        whole = torch.stack([torch.log(snr) - TYPICAL_LN_SNR, level / DEPTH_SCALE, share], dim=1)
        if self._kind == "paper":
            return torch.stack([torch.asinh(seen.flux), seen.flux_err * seen.used], dim=1), whole
        whitened = seen.flux / seen.flux_err
        scale = torch.sqrt(seen.used.sum(1).clamp(min=1.0)) / snr
        deviation = torch.log(seen.flux_err / self.depth) * seen.used / DEPTH_SCALE
        channels = [whitened * scale[:, None], 0.5 * torch.asinh(whitened), deviation, seen.used]
        return torch.stack(channels, dim=1), whole

    def tokens(self, channels: Tensor) -> Tensor:
        """(source, channel, band) to (source, token, channel * width), the last token filled up with zeros."""
        windows = F.pad(channels, (0, self._padding)).unfold(2, self._width, self._stride)
        return windows.permute(0, 2, 1, 3).flatten(2)

    def empty_tokens(self, used: Tensor) -> Tensor:
        """(source, token) booleans: tokens in which no band is in use."""
        windows = F.pad(used, (0, self._padding)).unfold(1, self._width, self._stride)
        return windows.sum(2) == 0
