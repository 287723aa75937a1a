"""Conditional densities of x = ln(1+z) on a bounded range, with exact density and CDF.

`spline`: a monotone rational-quadratic spline of [0, 1] (Durkan et al. 2019, arXiv:1906.04032) after the CDF of a
few logistic distributions cut off at the ends of the range. The logistics put the spline's bins where the
probability is, so that widths of 1e-4 of the range and several peaks are equally at home; the spline gives them shape.

`maf`: the paper's masked affine autoregressive flow. Of one number every step is an affine map that the context
decides, so p(z|x) is a Gaussian in the flow's coordinate whatever the number of steps; the coordinate here is the
logit of the place within the range.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paeplatform.config import SbiHeadConfig

SCALE_RANGE = (1e-4, 1.0)  # of a logistic, in units of the range
FIRST_SCALE = 0.1
LEAST_BIN = 5e-3  # width and height of a spline's bin
LEAST_SLOPE = 1e-2
NODES_UNIFORM = 256  # over the range
NODES_LOCAL = 41  # about each centre
NODES_REACH = 18.0  # logistic scales
# Within a bin of the spline: it may turn sharply beside a knot.
NODES_BIN = (0.0, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 0.99, 0.997)
EDGE = 1e-6  # of the range, that the maf's logit stays away from its ends


class Density(Protocol):
    """p(x | photometry) of some sources."""

    def log_prob(self, x: Tensor) -> Tensor:
        """ln p(x); x (source, place), outside the range -inf is not checked for."""
        ...

    def cdf(self, x: Tensor) -> Tensor:
        """P(< x), (source, place)."""
        ...

    def nodes(self) -> Tensor:
        """(source, node) places from end to end of the range, ascending, that resolve the density."""
        ...


class LogisticSpline(NamedTuple):
    """The default density; x is in [low, low + span].

    Attributes:
        log_weight, location, log_scale: (source, component) of the logistics; location and scale in units of the range.
        widths, heights: (source, bin), sum 1.
        slopes: (source, bin + 1).
        low, span: of the range.
    """

    log_weight: Tensor
    location: Tensor
    log_scale: Tensor
    widths: Tensor
    heights: Tensor
    slopes: Tensor
    low: float
    span: float

    def log_prob(self, x: Tensor) -> Tensor:
        """ln p(x)."""
        place, log_slope = self._logistics(x)
        _, log_spline_slope = _spline(place, self.widths, self.heights, self.slopes)
        return log_slope + log_spline_slope - math.log(self.span)

    def cdf(self, x: Tensor) -> Tensor:
        """P(< x)."""
        place, _ = self._logistics(x)
        return _spline(place, self.widths, self.heights, self.slopes)[0]

    def nodes(self) -> Tensor:
        """Over the range, about every logistic, and at `NODES_BIN` in every bin of the spline."""
        location, scale = self.low + self.span * self.location, self.span * torch.exp(self.log_scale)
        coarse = _nodes_about(location, scale, self.low, self.low + self.span)
        place, _ = self._logistics(coarse)
        left = F.pad(torch.cumsum(self.widths, dim=1), (1, 0))[:, :-1, None]
        wanted = (left + self.widths[..., None] * place.new_tensor(NODES_BIN)).flatten(1)
        last = coarse.shape[1] - 1
        above = torch.searchsorted(place.contiguous(), wanted.contiguous()).clamp(1, last)
        (x0, x1), (p0, p1) = (
            (torch.gather(values, 1, above - 1), torch.gather(values, 1, above)) for values in (coarse, place)
        )
        share = ((wanted - p0) / (p1 - p0).clamp(min=torch.finfo(p0.dtype).tiny)).clamp(0.0, 1.0)
        return torch.sort(torch.cat([coarse, x0 + share * (x1 - x0)], dim=1), dim=1).values

    def _logistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """CDF of the mixture, and ln of its density, at x; both in units of the range."""
        unit = ((x - self.low) / self.span)[..., None]
        location, scale = self.location[:, None], torch.exp(self.log_scale)[:, None]
        t = (unit - location) / scale
        below = torch.sigmoid(-location / scale)
        inside = torch.sigmoid((1.0 - location) / scale) - below
        weight = torch.exp(self.log_weight)[:, None]
        cdf = (weight * (torch.sigmoid(t) - below) / inside).sum(-1)
        log_each = -t.abs() - 2.0 * F.softplus(-t.abs()) - self.log_scale[:, None] - torch.log(inside)
        return cdf.clamp(0.0, 1.0), torch.logsumexp(log_each + self.log_weight[:, None], dim=-1)


class SplineHead(nn.Module):
    """Context to `LogisticSpline`.

    Args:
        cfg: sizes.
        n_context: of the context.
        limits: (low, high) of x.
    """

    def __init__(self, cfg: SbiHeadConfig, n_context: int, limits: tuple[float, float]) -> None:
        super().__init__()
        self._low, self._span = limits[0], limits[1] - limits[0]
        self._sizes = [cfg.n_components] * 3 + [cfg.n_knots] * 2 + [cfg.n_knots + 1]
        self.body = nn.Sequential(
            nn.Linear(n_context, cfg.hidden), nn.GELU(), nn.Linear(cfg.hidden, cfg.hidden), nn.GELU()
        )
        self.out = nn.Linear(cfg.hidden, sum(self._sizes))
        nn.init.normal_(self.out.weight, std=1e-2)
        nn.init.zeros_(self.out.bias)
        with torch.no_grad():  # centres spread over the range, wide; the spline the identity
            places = (torch.arange(cfg.n_components) + 0.5) / cfg.n_components
            self.out.bias[cfg.n_components : 2 * cfg.n_components] = torch.logit(places)
            self.out.bias[2 * cfg.n_components : 3 * cfg.n_components] = _scale_logit(FIRST_SCALE)
            self.out.bias[-(cfg.n_knots + 1) :] = math.log(math.expm1(1.0 - LEAST_SLOPE))

    def forward(self, context: Tensor) -> LogisticSpline:
        """The densities, one a source; float32 whatever the context is."""
        raw = self.out(self.body(context)).float()
        weight, location, scale, width, height, slope = torch.split(raw, self._sizes, dim=1)
        low, high = (math.log(limit) for limit in SCALE_RANGE)
        n_bin = width.shape[1]

        def bins(logits: Tensor) -> Tensor:
            return LEAST_BIN + (1.0 - LEAST_BIN * n_bin) * torch.softmax(logits, dim=1)

        return LogisticSpline(
            torch.log_softmax(weight, dim=1),
            torch.sigmoid(location),
            low + (high - low) * torch.sigmoid(scale),
            bins(width),
            bins(height),
            LEAST_SLOPE + F.softplus(slope),
            self._low,
            self._span,
        )


def _scale_logit(scale: float) -> float:
    low, high = (math.log(limit) for limit in SCALE_RANGE)
    share = (math.log(scale) - low) / (high - low)
    return math.log(share / (1.0 - share))


def _spline(at: Tensor, widths: Tensor, heights: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """(value, ln slope) of the rational-quadratic spline of [0, 1] at (source, place)."""
    left = F.pad(torch.cumsum(widths, dim=1), (1, 0))
    bottom = F.pad(torch.cumsum(heights, dim=1), (1, 0))
    index = torch.searchsorted(left[:, 1:-1].contiguous(), at.contiguous(), right=True)

    def of(values: Tensor) -> Tensor:
        return torch.gather(values, 1, index)

    width, height = of(widths), of(heights)
    first, last = of(slopes), torch.gather(slopes, 1, index + 1)
    mean = height / width
    theta = ((at - of(left)) / width).clamp(0.0, 1.0)
    cross = theta * (1.0 - theta)
    below = mean + (first + last - 2.0 * mean) * cross
    value = of(bottom) + height * (mean * theta**2 + first * cross) / below
    top = last * theta**2 + 2.0 * mean * cross + first * (1.0 - theta) ** 2
    return value.clamp(0.0, 1.0), 2.0 * torch.log(mean) + torch.log(top) - 2.0 * torch.log(below)


class LogitNormal(NamedTuple):
    """A Gaussian in the logit of the place within [low, low + span]; location and log_scale are (source,)."""

    location: Tensor
    log_scale: Tensor
    low: float
    span: float

    def log_prob(self, x: Tensor) -> Tensor:
        """ln p(x)."""
        place = self._place(x)
        t = self._standard(place)
        slope = torch.log(place) + torch.log1p(-place) + math.log(self.span)
        return -0.5 * t**2 - 0.5 * math.log(2.0 * math.pi) - self.log_scale[:, None] - slope

    def cdf(self, x: Tensor) -> Tensor:
        """P(< x), less what lies within `EDGE` of the ends."""
        return torch.special.ndtr(self._standard(self._place(x)))

    def nodes(self) -> Tensor:
        """Over the range, and about the median."""
        place = torch.sigmoid(self.location)
        scale = torch.exp(self.log_scale) * place * (1.0 - place)
        return _nodes_about(
            (self.low + self.span * place)[:, None],
            (self.span * scale)[:, None],
            self.low,
            self.low + self.span,
        )

    def _place(self, x: Tensor) -> Tensor:
        return ((x - self.low) / self.span).clamp(EDGE, 1.0 - EDGE)

    def _standard(self, place: Tensor) -> Tensor:
        return (torch.logit(place) - self.location[:, None]) * torch.exp(-self.log_scale[:, None])


class AffineStep(nn.Module):
    """One masked affine autoregressive step: an input layer that the mask closes (there is nothing before the only
    number), two residual blocks gated by the context (MAF as Papamakarios et al. 2017, arXiv:1705.07057).
    """

    mask: Tensor

    def __init__(self, n_context: int, hidden: int) -> None:
        super().__init__()
        self.first, self.context = nn.Linear(1, hidden), nn.Linear(n_context, hidden)
        self.register_buffer("mask", torch.zeros(hidden, 1))
        self.blocks = nn.ModuleList(_GatedBlock(n_context, hidden) for _ in range(2))
        self.last = nn.Linear(hidden, 2)
        nn.init.normal_(self.last.weight, std=1e-3)
        nn.init.zeros_(self.last.bias)

    def forward(self, value: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """(shift, ln scale), each (source,)."""
        x = F.linear(value[:, None], self.first.weight * self.mask, self.first.bias) + self.context(context)
        for block in self.blocks:
            x = block(x, context)
        shift, log_scale = self.last(x).unbind(1)
        return shift, log_scale


class _GatedBlock(nn.Module):
    def __init__(self, n_context: int, hidden: int) -> None:
        super().__init__()
        self.rise, self.fall = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.gate = nn.Linear(n_context, hidden)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        change = self.fall(F.relu(self.rise(F.relu(x))))
        return x + change * torch.sigmoid(self.gate(context))


class AffineFlowHead(nn.Module):
    """Context to `LogitNormal`: the composition of `n_steps` affine steps, base to logit."""

    def __init__(self, cfg: SbiHeadConfig, n_context: int, limits: tuple[float, float]) -> None:
        super().__init__()
        self._low, self._span = limits[0], limits[1] - limits[0]
        self.steps = nn.ModuleList(AffineStep(n_context, cfg.hidden) for _ in range(cfg.n_steps))

    def forward(self, context: Tensor) -> LogitNormal:
        """The densities, one a source; float32 whatever the context is."""
        location = torch.zeros(len(context), device=context.device)
        log_scale = torch.zeros_like(location)
        for step in self.steps:
            shift, log_step = step(location, context)
            log_step = log_step.float().clamp(-5.0, 5.0)
            location = location * torch.exp(log_step) + shift.float()
            log_scale = log_scale + log_step
        return LogitNormal(location, log_scale, self._low, self._span)


def build_head(
    cfg: SbiHeadConfig, n_context: int, limits: tuple[float, float]
) -> SplineHead | AffineFlowHead:
    """The head that the configuration names.

    Args:
        cfg: kind and sizes.
        n_context: of the encoder's output.
        limits: (low, high) of x = ln(1+z).
    """
    return (SplineHead if cfg.kind == "spline" else AffineFlowHead)(cfg, n_context, limits)


def _nodes_about(location: Tensor, scale: Tensor, low: float, high: float) -> Tensor:
    """(source, node) ascending places: over the range, and close about every (source, centre)."""
    uniform = torch.linspace(low, high, NODES_UNIFORM + 1, device=location.device)
    t = torch.linspace(-1.0, 1.0, NODES_LOCAL, device=location.device)
    reach = torch.sinh(4.0 * t) / math.sinh(4.0) * NODES_REACH
    local = (location[..., None] + scale[..., None] * reach).flatten(1).clamp(low, high)
    return torch.sort(torch.cat([uniform.expand(len(local), -1), local], dim=1), dim=1).values
