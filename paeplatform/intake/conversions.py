"""Fluxes in uJy, wavelengths and widths in um: by the units that the user or the file states, or by what is usual."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from jaxtyping import Float

from paeplatform.errors import InputError
from paeplatform.instrument.bands import BandSet
from paeplatform.instrument.measurements import Measurements, channel_of
from paeplatform.intake.columns import is_magnitude, without_unit
from paeplatform.intake.content import RawTable
from paeplatform.intake.options import ReadingOptions
from paeplatform.intake.units import AB_MAGNITUDE, CHOICES, FluxUnit, flux_unit, stated, wave_factor
from paeplatform.release.rows import with_channel

AB_ZERO_UJY = 23.9  # AB magnitude of 1 uJy
_MAGNITUDE_LIMITS = (-30.0, 60.0)  # of an object's; -99 and 99 stand for none
_UNIT_KEYS = ("unit", "flux_unit", "flux unit")  # of a file's header


def in_um(
    raw: RawTable, found: Mapping[str, str], wave: np.ndarray, width: np.ndarray
) -> tuple[np.ndarray, np.ndarray, str | None]:
    """Wavelengths and widths by the units that the file states; a width without one has the wavelength's.

    Args:
        raw: a file's table.
        found: the file's column by our name.
        wave: (measurement,) as the file has them.
        width: (measurement,) as the file has them.

    Returns:
        (wavelengths [um], widths [um], the unit that the file states for the wavelengths, if any).

    Raises:
        InputError: a unit is no length; names the column.
    """
    unit = stated_unit(raw, found["wave"])
    width_unit = stated_unit(raw, found["width"]) if "width" in found else None
    factors = {}
    for name, text in (("wave", unit), ("width", width_unit or unit)):
        factor = 1.0 if text is None else wave_factor(text)
        if factor is None:
            column = found.get(name, found["wave"])
            raise InputError(
                f"{raw.path}: column {column} is in {text!r}; the unit must be um, nm, Angstrom or m"
            )
        factors[name] = factor
    return wave * factors["wave"], width * factors["width"], unit


def in_ujy(
    flux: np.ndarray, flux_err: np.ndarray, units: tuple[FluxUnit, FluxUnit]
) -> tuple[np.ndarray, np.ndarray]:
    """(fluxes, errors) [uJy], (measurement,); NaN for magnitudes that no object has, like -99 and 99."""
    of_flux, of_error = units
    with np.errstate(over="ignore", invalid="ignore"):
        if of_flux.factor is not None and of_error.factor is not None:
            return flux * of_flux.factor, flux_err * of_error.factor
        seen = (flux > _MAGNITUDE_LIMITS[0]) & (flux < _MAGNITUDE_LIMITS[1])
        linear = np.where(seen, 10.0 ** ((AB_ZERO_UJY - flux) / 2.5), np.nan)
        return linear, linear * np.log(10.0) / 2.5 * flux_err


def flux_units(
    raw: RawTable, found: Mapping[str, str], options: ReadingOptions
) -> tuple[tuple[FluxUnit, FluxUnit], list[str]]:
    """The units of fluxes and errors: the user's, the file's, or uJy.

    Args:
        raw: a file's table.
        found: the file's column by our name.
        options: the user's unit, if any.

    Returns:
        ((of fluxes, of errors), what was assumed).

    Raises:
        InputError: a unit is not known, magnitudes are not said to be AB, or only one of the two is in magnitudes.
    """
    names = found["flux"], found["flux_err"]
    said = [stated_unit(raw, name) for name in names]
    given = options.given_unit
    if given is not None:
        other = next((unit for unit in said if unit is not None and flux_unit(unit) != given), None)
        notes = [f"the file states {other!r}, but fluxes are taken in {given.name} as asked"] if other else []
        return (given, given), notes
    units = [
        None if text is None else _known_unit(raw, name, text) for name, text in zip(names, said, strict=True)
    ]
    whole = next((raw.header[key] for key in _UNIT_KEYS if stated(raw.header.get(key))), None)
    default = None if whole is None else _known_unit(raw, names[0], whole)
    if default is None and is_magnitude(names[0]):
        if units[0] is None and "ab" not in without_unit(names[0])[0]:
            raise InputError(
                f"{raw.path}: column {names[0]}: magnitudes must be AB; `--unit {AB_MAGNITUDE}` says that they are"
            )
        default = FluxUnit(AB_MAGNITUDE, None)
    notes = []
    for place, other in ((0, 1), (1, 0)):
        unit = units[place] or default or units[other]
        if unit is None:
            unit = FluxUnit("uJy", 1.0)
            notes.append(f"column {names[place]} states no unit: uJy is taken")
        elif units[place] is None and default is None and place == 0:
            notes.append(
                f"column {names[place]} states no unit: {unit.name} is taken, as {names[other]} has it"
            )
        units[place] = unit
    of_flux, of_error = units
    assert of_flux is not None and of_error is not None
    if (of_flux.factor is None) != (of_error.factor is None):
        raise InputError(
            f"{raw.path}: columns {names[0]} and {names[1]} are in {of_flux.name} and {of_error.name}: "
            "both must be magnitudes or neither"
        )
    return (of_flux, of_error), notes


def _known_unit(raw: RawTable, name: str, unit: str) -> FluxUnit:
    known = flux_unit(unit)
    if known is None:
        raise InputError(
            f"{raw.path}: column {name} is in {unit!r}; the unit must be one of {', '.join(CHOICES)}, "
            "or one that converts to Jy; `--unit` overrides it"
        )
    return known


def stated_unit(raw: RawTable, name: str) -> str | None:
    """The unit of a column: of the file's own list, or in the column's name; None where neither has one."""
    return stated(raw.units.get(name)) or stated(without_unit(name)[1])


def usual_width(
    wave: Float[np.ndarray, " row"], detector: np.ndarray, bands: BandSet
) -> Float[np.ndarray, " row"]:
    """Widths by the resolving power of the nearest channel: of the detector where it is known, else of all.

    Args:
        wave: [um]; NaN where missing.
        detector: (row,) 1 to 6; other numbers are unknown ones.
        bands: the channels.

    Returns:
        Widths [um], NaN where the wavelength is missing or not positive.
    """
    usable = np.isfinite(wave) & (wave > 0.0)
    width = np.full(len(wave), np.nan)
    known = np.isin(detector, np.unique(bands.detector))
    with_detector = pl.DataFrame({"det_id": np.where(known, detector, 0), "lambda": wave})
    channel = with_channel(with_detector, bands)["channel"].fill_null(0).to_numpy()
    order = np.argsort(bands.channel)
    place = order[np.clip(np.searchsorted(bands.channel[order], channel), 0, len(order) - 1)]
    alone = usable & ~known
    if alone.any():
        ones, start = np.ones(alone.sum()), np.array([0, alone.sum()])
        place[alone] = channel_of(Measurements(ones, ones, wave[alone], ones, start), bands)
    resolving = bands.wave_um[place] / bands.bandwidth_um[place]
    width[usable] = wave[usable] / resolving[usable]
    return width
