"""Heads: densities integrate to one, agree with the slope of their CDF, resolve narrow and double peaks."""

import numpy as np
import pytest
import torch

from paeplatform.config import SbiHeadConfig
from paeplatform.sbi.heads import NODES_UNIFORM, LogisticSpline, build_head

LIMITS = (0.01, 1.38)
KINDS = ("spline", "maf")


def random_density(kind: str, n: int = 40, seed: int = 0):
    torch.manual_seed(seed)
    head = build_head(SbiHeadConfig(kind=kind, hidden=32, n_components=3, n_knots=6, n_steps=4), 8, LIMITS)
    with torch.no_grad():
        for part in head.parameters():
            part += {"spline": 0.3, "maf": 0.08}[kind] * torch.randn_like(part)
        density = head(torch.randn(n, 8))
    # the same numbers in double precision, for numerical derivatives
    density = type(density)(*(part.double() if isinstance(part, torch.Tensor) else part for part in density))
    if kind == "spline":
        sums = {name: getattr(density, name) for name in ("widths", "heights")}
        density = density._replace(**{name: part / part.sum(1, keepdim=True) for name, part in sums.items()})
    return density


@pytest.mark.parametrize("kind", KINDS)
def test_density_integrates_to_one_over_the_range(kind: str) -> None:
    density = random_density(kind)
    x = density.nodes()
    # the intervals between nodes in 8 parts
    fine = torch.cat([x[:, :-1] + (x[:, 1:] - x[:, :-1]) * k / 8 for k in range(8)] + [x[:, -1:]], dim=1)
    fine = fine.sort(dim=1).values
    with torch.no_grad():
        integral = torch.trapezoid(torch.exp(density.log_prob(fine)), fine, dim=1)
    np.testing.assert_allclose(integral.numpy(), 1.0, atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_density_is_the_slope_of_the_cdf(kind: str) -> None:
    density = random_density(kind)
    with torch.no_grad():
        nodes = density.nodes()
        gap = nodes[:, 1:] - nodes[:, :-1]
        x, step = 0.5 * (nodes[:, 1:] + nodes[:, :-1]), 0.01 * gap.clamp(min=1e-9)
        numeric = (density.cdf(x + step) - density.cdf(x - step)) / (2.0 * step)
        exact = torch.exp(density.log_prob(x))
    wide = (gap > 1e-5).numpy()  # closer nodes leave differences nothing but rounding
    assert wide.mean() > 0.5
    np.testing.assert_allclose(numeric.numpy()[wide], exact.numpy()[wide], rtol=5e-3, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_cdf_rises_from_zero_to_one(kind: str) -> None:
    density = random_density(kind)
    with torch.no_grad():
        cdf = density.cdf(density.nodes()).numpy()
    assert (np.diff(cdf, axis=1) >= -1e-9).all()
    np.testing.assert_allclose(cdf[:, 0], 0.0, atol=1e-5)
    np.testing.assert_allclose(cdf[:, -1], 1.0, atol=1e-5)


def test_two_peaks_far_apart_and_a_thousandth_wide() -> None:
    flat = torch.full((1, 4), 0.25)
    density = LogisticSpline(
        torch.log(torch.tensor([[0.3, 0.7]])),
        torch.tensor([[0.2, 0.8]]),
        torch.log(torch.tensor([[1e-3, 1e-3]])),
        flat,
        flat,
        torch.ones(1, 5),
        LIMITS[0],
        LIMITS[1] - LIMITS[0],
    )
    x = density.nodes()
    cdf = density.cdf(x).numpy()[0]
    middle = np.interp(sum(LIMITS) / 2, x.numpy()[0], cdf)
    assert middle == pytest.approx(0.3, abs=1e-5)
    # quartiles of a logistic: its location -+ ln 3 scales
    z_quartile = np.interp(0.3 + 0.7 * 0.25, cdf, x.numpy()[0])
    span = LIMITS[1] - LIMITS[0]
    assert z_quartile == pytest.approx(LIMITS[0] + span * (0.8 - 1e-3 * np.log(3.0)), abs=2e-5)


def test_loss_stays_finite_a_thousand_widths_away() -> None:
    density = random_density("spline")
    narrow = density._replace(log_scale=torch.full_like(density.log_scale, float(np.log(1e-4))))
    x = torch.full((40, 1), 0.5 * sum(LIMITS)).requires_grad_()
    loss = -narrow.log_prob(x).mean()
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(x.grad).all()


def test_nodes_are_ascending_and_within_the_range() -> None:
    x = random_density("spline").nodes().numpy()
    assert x.shape[1] > NODES_UNIFORM and (np.diff(x, axis=1) >= 0).all()
    assert x.min() >= LIMITS[0] - 1e-6 and x.max() <= LIMITS[1] + 1e-6


def test_the_affine_flow_is_a_gaussian_in_its_coordinate_whatever_its_depth() -> None:
    density = random_density("maf")
    x = density.nodes()[:, 5:-5]
    place = (x - LIMITS[0]) / (LIMITS[1] - LIMITS[0])
    normal = torch.special.ndtri(density.cdf(x))
    inside = torch.isfinite(normal) & (normal.abs() < 4)
    with torch.no_grad():
        t = (torch.logit(place) - density.location[:, None]) / torch.exp(density.log_scale)[:, None]
    np.testing.assert_allclose(normal[inside].detach().numpy(), t[inside].numpy(), atol=1e-3)
