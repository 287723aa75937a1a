"""Bands of other surveys beside SPHEREx's: curves, to which survey each belongs, and how well its zero point is known.

`NOMINAL` has trapezoids with rounded edges of often used bands: Legacy Surveys g, r, z (Dey et al. 2019, AJ 157, 168),
2MASS J, H, Ks (Cohen, Wheaton & Megeath 2003, AJ 126, 1090), WISE W1, W2 (Wright et al. 2010, AJ 140, 1868) and Euclid
Y, J, H (Schirmer et al. 2022, A&A 662, A92). They serve simulations and first looks; for data whose errors are a few
per cent give the measured curve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from paeplatform.errors import BandSetError
from paeplatform.instrument.filters import FilterCurves

DEFAULT_ZERO_POINT_ERR = 0.03  # relative, 1 sigma, of a survey without a stated one
N_NODES = 61

# (blue foot, blue top, red top, red foot) [um]
NOMINAL: Mapping[str, tuple[float, float, float, float]] = {
    "legacy/g": (0.395, 0.420, 0.540, 0.555),
    "legacy/r": (0.560, 0.575, 0.705, 0.725),
    "legacy/z": (0.830, 0.855, 0.990, 1.020),
    "2mass/J": (1.080, 1.170, 1.330, 1.400),
    "2mass/H": (1.470, 1.520, 1.770, 1.820),
    "2mass/Ks": (1.960, 2.030, 2.290, 2.360),
    "wise/W1": (2.800, 3.150, 3.750, 3.870),
    "wise/W2": (3.960, 4.150, 5.100, 5.350),
    "euclid/Y": (0.940, 0.960, 1.205, 1.220),
    "euclid/J": (1.160, 1.180, 1.560, 1.580),
    "euclid/H": (1.510, 1.530, 2.010, 2.040),
}


@dataclass(frozen=True, eq=False)
class ExternalBands:
    """Broad bands of one or more surveys.

    Attributes:
        name: of each band, distinct, `survey/band`.
        filters: their curves, in the same order.
        zero_point_err: of each survey, relative and 1 sigma; `DEFAULT_ZERO_POINT_ERR` where it is not named.

    Raises:
        BandSetError: names are not distinct or not of the form, there are not as many as curves, or a zero point's
            error is negative, not finite or of a survey without a band.
    """

    name: tuple[str, ...]
    filters: FilterCurves
    zero_point_err: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.name) != len(self.filters):
            raise BandSetError(f"external bands: {len(self.name)} names for {len(self.filters)} curves")
        bad = next((name for name in self.name if len(name.split("/")) != 2 or "" in name.split("/")), None)
        if bad is not None:
            raise BandSetError(f"external band {bad!r}: a name is survey/band, for example legacy/g")
        twice = sorted({name for name in self.name if self.name.count(name) > 1})
        if twice:
            raise BandSetError(f"external band {twice[0]!r} is there twice")
        for survey, value in self.zero_point_err.items():
            if survey not in self.surveys:
                raise BandSetError(
                    f"zero point of survey {survey!r}: none of its bands is there; surveys are "
                    f"{', '.join(self.surveys)}"
                )
            if not 0.0 <= value < np.inf:
                raise BandSetError(
                    f"zero point of survey {survey!r}: error {value} must be 0 or more, and finite"
                )

    def __len__(self) -> int:
        return len(self.name)

    @property
    def survey(self) -> tuple[str, ...]:
        """Of each band."""
        return tuple(name.split("/")[0] for name in self.name)

    @property
    def surveys(self) -> tuple[str, ...]:
        """Each once, in the order of the bands."""
        return tuple(dict.fromkeys(self.survey))

    @property
    def pivot_um(self) -> Float[np.ndarray, " band"]:
        """Pivot wavelengths [um]: sqrt of int T lambda dlambda over int T / lambda dlambda."""
        wave, transmission = self.filters.wave, self.filters.transmission
        top = np.trapezoid(transmission * wave, wave, axis=1)
        return np.sqrt(top / np.trapezoid(transmission / wave, wave, axis=1))

    def zero_points(self) -> Float[np.ndarray, "survey band"]:
        """What one standard deviation of each survey's zero point changes of each band, relative."""
        widths = [self.zero_point_err.get(survey, DEFAULT_ZERO_POINT_ERR) for survey in self.surveys]
        member = np.array([[one == survey for one in self.survey] for survey in self.surveys])
        return np.array(widths)[:, None] * member

    def check_within(self, rest_wave_um: Float[np.ndarray, " wave"], z_max: float) -> None:
        """Whether a model on this rest grid says anything about each band.

        Raises:
            BandSetError: a curve lies beside what the model predicts at every redshift up to `z_max`; names the band.
        """
        low, high = float(rest_wave_um[0]), float(rest_wave_um[-1]) * (1.0 + z_max)
        for name, wave, transmission in zip(
            self.name, self.filters.wave, self.filters.transmission, strict=True
        ):
            there = wave[transmission > 0.0]
            if there[-1] <= low or there[0] >= high:
                raise BandSetError(
                    f"external band {name}: its curve, {there[0]:g}-{there[-1]:g} um, does not overlap what the model "
                    f"predicts, {low:g}-{high:g} um up to z = {z_max:g}"
                )


def nominal_bands(names: Sequence[str], zero_point_err: Mapping[str, float] | None = None) -> ExternalBands:
    """Bands of `NOMINAL`.

    Args:
        names: which of them.
        zero_point_err: see `ExternalBands`.

    Raises:
        BandSetError: an unknown name; see `ExternalBands` too.
    """
    unknown = [name for name in names if name not in NOMINAL]
    if unknown:
        raise BandSetError(
            f"external band {unknown[0]!r} is not known; give its curve, or one of {', '.join(NOMINAL)}"
        )
    edges = np.array([NOMINAL[name] for name in names]).reshape(-1, 4)
    wave = edges[:, :1] + (edges[:, 3:] - edges[:, :1]) * np.linspace(0.0, 1.0, N_NODES)
    rising = (wave - edges[:, :1]) / (edges[:, 1:2] - edges[:, :1])
    falling = (edges[:, 3:] - wave) / (edges[:, 3:] - edges[:, 2:3])
    transmission = np.clip(np.minimum(rising, falling), 0.0, 1.0)
    return ExternalBands(tuple(names), FilterCurves(wave, transmission), dict(zero_point_err or {}))
