"""The Transformer over spectral tokens (paper section VII): pre-norm layers, a learnable CLS token as the summary."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paeplatform.config import SbiEncoderConfig
from paeplatform.sbi.features import N_GLOBAL, Features
from paeplatform.sbi.noise import Photometry

INITIAL_STD = 0.02  # of CLS and positions


class Layer(nn.Module):
    """Attention and MLP, each on the normalised stream and added to it.

    Written out: for 21 tokens plain products are faster on a CPU than fused attention.
    """

    def __init__(self, width: int, n_heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self._n_heads = n_heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.rise, self.fall = nn.Linear(width, mlp_ratio * width), nn.Linear(mlp_ratio * width, width)

    def forward(self, x: Tensor, bias: Tensor | None, n_out: int) -> Tensor:
        """The first `n_out` tokens of the next stream; the others of x are only read.

        Args:
            x: (source, token, width).
            bias: (source, 1, 1, token), -inf for tokens not to be read; None for none.
            n_out: of the last layer 1, since nobody asks for more than CLS.
        """
        n, n_token, width = x.shape
        head = width // self._n_heads
        known = self.norm_attention(x)
        weight, offset = self.query_key_value.weight, self.query_key_value.bias
        query = F.linear(known[:, :n_out], weight[:width], offset[:width])
        query = query.view(n, n_out, self._n_heads, head).transpose(1, 2)
        rest = F.linear(known, weight[width:], offset[width:]).view(n, n_token, 2, self._n_heads, head)
        key, value = rest.permute(2, 0, 3, 1, 4)
        score = (query * head**-0.5) @ key.transpose(-1, -2)
        if bias is not None:
            score = score + bias
        read = (torch.softmax(score, dim=-1) @ value).transpose(1, 2).reshape(n, n_out, width)
        x = x[:, :n_out] + self.out(read)
        return x + self.fall(F.gelu(self.rise(self.norm_mlp(x))))


class Encoder(nn.Module):
    """Photometry to a context vector.

    Tokens without a band in use are not attended to. With `global_widths` an MLP over all channels is added to CLS
    before the first layer: it is the cheap part of the network and sees wavelengths that are far apart at once.

    Args:
        cfg: sizes.
        depth: (band,) survey depth [uJy].
    """

    def __init__(self, cfg: SbiEncoderConfig, depth: Tensor) -> None:
        super().__init__()
        self.features = Features(cfg, depth)
        n_channel, n_token = self.features.n_channel, self.features.n_token
        self.embed = nn.Linear(n_channel * cfg.token_width, cfg.width)
        self.cls = nn.Parameter(INITIAL_STD * torch.randn(1, 1, cfg.width))
        self.position = nn.Parameter(INITIAL_STD * torch.randn(1, n_token + 1, cfg.width))
        widths = (n_channel * self.features.n_band + N_GLOBAL, *cfg.global_widths, cfg.width)
        self.overview = _mlp(widths) if cfg.global_widths else None
        self.layers = nn.ModuleList(Layer(cfg.width, cfg.n_heads, cfg.mlp_ratio) for _ in range(cfg.n_layers))
        self.norm = nn.LayerNorm(cfg.width)

    def forward(self, seen: Photometry) -> Tensor:
        """(source, width)."""
        channels, whole = self.features(seen)
        cls = self.cls.expand(len(channels), -1, -1)
        if self.overview is not None:
            cls = cls + self.overview(torch.cat([channels.flatten(1), whole], dim=1))[:, None]
        x = torch.cat([cls, self.embed(self.features.tokens(channels))], dim=1) + self.position
        bias = self._bias(seen.used)
        for number, layer in enumerate(self.layers, start=1):
            x = layer(x, bias, x.shape[1] if number < len(self.layers) else 1)
        return self.norm(x[:, 0])

    def _bias(self, used: Tensor) -> Tensor | None:
        empty = self.features.empty_tokens(used)
        if not torch.compiler.is_compiling() and not empty.any():
            return None
        unread = F.pad(empty, (1, 0), value=False)  # CLS is always read
        return torch.zeros_like(unread, dtype=torch.float32).masked_fill(unread, -torch.inf)[:, None, None]


def _mlp(widths: tuple[int, ...]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        parts += [nn.Linear(n_in, n_out), nn.GELU()]
    return nn.Sequential(*parts[:-1])
