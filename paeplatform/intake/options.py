"""What a user may say about files of measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from paeplatform.errors import InputError
from paeplatform.intake.columns import chosen_columns
from paeplatform.intake.units import CHOICES, FluxUnit, flux_unit
from paeplatform.release.flags import reject_mask

LARGEST_RADIUS_ARCSEC = 3600.0


@dataclass(frozen=True)
class ReadingOptions:
    """How files of measurements are read.

    Attributes:
        columns: the file's column by our name (`columns.NAMES`), where its own name does not tell.
        unit: of fluxes and errors, in place of what the file states: uJy, mJy, Jy, nJy or ABmag.
        match_radius_arcsec: positions so near to a source's first one are that source.
        flag_policy: which flags take a measurement out, see `release.flags.reject_mask`.

    Raises:
        InputError: a value is outside its range; names it.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    unit: str | None = None
    match_radius_arcsec: float = 1.0
    flag_policy: str = "tool"

    def __post_init__(self) -> None:
        chosen_columns(self.columns)
        reject_mask(self.flag_policy)
        if self.unit is not None and (self.given_unit is None or self.unit not in CHOICES):
            raise InputError(f"unit {self.unit!r} must be one of {', '.join(CHOICES)}")
        radius = self.match_radius_arcsec
        if not (math.isfinite(radius) and 0.0 <= radius <= LARGEST_RADIUS_ARCSEC):
            raise InputError(f"match radius {radius:g} must be within [0, {LARGEST_RADIUS_ARCSEC:g}] arcsec")

    @property
    def given_unit(self) -> FluxUnit | None:
        """The unit that the user gives, if any."""
        return None if self.unit is None else flux_unit(self.unit)
