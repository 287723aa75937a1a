"""Units of fluxes, wavelengths and positions, as files state them."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass

AB_MAGNITUDE = "ABmag"
_FACTORS = {"uJy": 1.0, "mJy": 1e3, "Jy": 1e6, "nJy": 1e-3}
CHOICES = (*_FACTORS, AB_MAGNITUDE)
# Other spellings. Capitals matter: MJy is a million million mJy.
_SPELLED = {
    "ujy": "uJy", "µJy": "uJy", "μJy": "uJy", "microJy": "uJy", "mjy": "mJy", "jy": "Jy", "njy": "nJy",
}  # fmt: skip
_AB = {"abmag", "magab", "ab", "abmagnitude", "abmagnitudes"}
_WAVE_TO_UM = {
    "um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "nm": 1e-3, "nanometer": 1e-3, "angstrom": 1e-4, "angstroms": 1e-4, "aa": 1e-4, "å": 1e-4, "m": 1e6,
}  # fmt: skip
_UNSTATED = {"", "-", "--", "none", "null", "unknown", "n/a"}


@dataclass(frozen=True)
class FluxUnit:
    """A unit of fluxes.

    Attributes:
        name: for messages.
        factor: to uJy; None for AB magnitudes.
    """

    name: str
    factor: float | None


def stated(unit: str | None) -> str | None:
    """A unit as a file states it; None for words that say that there is none."""
    text = (unit or "").strip()
    return None if text.lower() in _UNSTATED else text


def flux_unit(text: str) -> FluxUnit | None:
    """The unit of fluxes that a text names; None where it names none that converts to uJy."""
    name = _SPELLED.get(text, text)
    if name in _FACTORS:
        return FluxUnit(name, _FACTORS[name])
    if re.sub(r"[\s_()\[\]]", "", text).lower() in _AB:
        return FluxUnit(AB_MAGNITUDE, None)
    factor = _converted(text, "uJy")
    return None if factor is None else FluxUnit(text, factor)


def wave_factor(text: str) -> float | None:
    """What takes a length in the named unit to um; None where it is no length."""
    known = _WAVE_TO_UM.get(text.lower())
    return _converted(text, "um") if known is None else known


def angle_factor(text: str) -> float | None:
    """What takes an angle in the named unit to deg; None where it is no angle."""
    return 1.0 if text.lower() in ("deg", "degree", "degrees") else _converted(text, "deg")


def _converted(text: str, target: str) -> float | None:
    """Of units that are not in the tables above, by astropy (which costs half a second to import)."""
    from astropy import units

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated spellings
            return float(units.Unit(text).to(units.Unit(target)))
    except Exception:  # astropy raises ValueError, TypeError and kinds of its own
        return None
