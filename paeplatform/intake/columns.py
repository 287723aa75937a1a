"""Which column of a file is what: the usual names of the columns of measurements.

A name is compared without regard to case, to blanks, dashes and points, and to a unit at its end: `Flux [mJy]` and
`flux_mJy` are `flux` in mJy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from paeplatform.errors import InputError

# Our names, and the usual ones.
NAMES: dict[str, tuple[str, ...]] = {
    "wave": (
        "wave", "wavelength", "wavelengths", "lambda", "lam", "wl", "wlen", "cwl", "central_wavelength",
        "center_wavelength", "centre_wavelength", "wavelength_central", "central_wave", "lambda_central", "lambda_c",
    ),
    "width": (
        "width", "bandwidth", "band_width", "lambda_width", "wavelength_width", "wave_width", "delta_lambda",
        "dlambda", "d_lambda", "delta_wavelength", "fwhm", "lambda_fwhm", "wavelength_fwhm",
    ),
    "flux": ("flux", "fluxes", "flux_density", "fnu", "f_nu", "flux_nu"),
    "flux_err": (
        "flux_err", "flux_error", "flux_errors", "fluxerr", "flux_unc", "flux_uncertainty", "flux_sigma", "flux_std",
        "err", "error", "errors", "e_flux", "eflux", "err_flux", "error_flux", "sigma", "sigma_flux", "unc",
        "uncertainty", "dflux", "d_flux", "flux_density_err", "flux_density_error", "fnu_err", "f_nu_err",
    ),
    "flags": ("flags", "flag"),
    "detector": ("detector", "det", "det_id", "detector_id", "band", "band_id", "band_name"),
    "mjd": ("mjd", "time", "obs_mjd", "mjd_obs", "mjd_mid", "mjd_avg", "obs_time", "t_mjd"),
    "ra": ("ra", "ra_deg", "raj2000", "ra_j2000", "ra_icrs", "right_ascension", "target_ra", "ra_target"),
    "dec": (
        "dec", "dec_deg", "de", "decl", "dej2000", "decj2000", "dec_j2000", "de_icrs", "dec_icrs", "declination",
        "target_dec", "dec_target",
    ),
    "object_id": ("object_id", "source_id", "id", "objid", "obj_id", "sourceid", "target_id", "targetid"),
    "name": (
        "name", "label", "target", "objname", "obj_name", "object", "object_name", "source", "source_name",
        "target_name",
    ),
    "data_collection": ("data_collection", "collection"),
    "ebv_mw": ("ebv_mw", "ebv", "e_bv", "mw_ebv"),
}  # fmt: skip
# Taken for `flux` and `flux_err` where a file has no column of fluxes, as magnitudes often stand beside these.
MAGNITUDES: dict[str, tuple[str, ...]] = {
    "flux": ("mag", "magnitude", "abmag", "mag_ab", "ab_mag"),
    "flux_err": (
        "mag_err", "magerr", "mag_error", "e_mag", "mag_unc", "sigma_mag", "dmag", "magnitude_err", "abmag_err",
        "abmag_error", "mag_ab_err", "mag_ab_error", "mag_err_ab", "ab_mag_err", "e_abmag", "e_mag_ab",
    ),
}  # fmt: skip
MEANING = {
    "wave": "wavelengths (wavelength, lambda)",
    "flux": "fluxes (flux)",
    "flux_err": "errors of the fluxes (flux_err, flux_error)",
}
_OURS = {name: ours for ours, names in NAMES.items() for name in names}
_OUR_MAGNITUDES = {name: ours for ours, names in MAGNITUDES.items() for name in names}
_BRACKETS = re.compile(r"(.*?)[\s_]*[\[(]\s*([^\[\]()]*(?:\([^()]*\))?)\s*[\])]\s*")
_UNITS = "ujy|mjy|njy|jy|abmag|um|micron|microns|nm|angstrom|aa|deg"
_TAIL = re.compile(rf"(.+)_({_UNITS})")
_MIDDLE = re.compile(rf"(.+)_({_UNITS})_(err|error|unc|uncertainty|sigma)")
_BAND_COLUMN = re.compile(r"flux_\d+", re.IGNORECASE)
_COPY = re.compile(r"(.*)_duplicated_\d+")
_SHOWN = 12  # columns that a message lists


def without_unit(name: str) -> tuple[str, str | None]:
    """The comparable form of a column's name, and the unit that the name states."""
    unit = None
    copied = _COPY.fullmatch(name)
    text = (copied[1] if copied else name).strip()
    in_brackets = _BRACKETS.fullmatch(text)
    if in_brackets and in_brackets[1]:
        text, unit = in_brackets[1], in_brackets[2]
    text = re.sub(r"[\s\-.]+", "_", text).strip("_").lower()
    if unit is None and text not in _OURS and text not in _OUR_MAGNITUDES:
        if match := _MIDDLE.fullmatch(text):
            text, unit = f"{match[1]}_{match[3]}", match[2]
        elif match := _TAIL.fullmatch(text):
            text, unit = match[1], match[2]
    return text, unit


def ours(name: str) -> str | None:
    """Our name of a column, magnitudes apart; None for one that is not known."""
    return _OURS.get(without_unit(name)[0])


def is_magnitude(name: str) -> bool:
    """Whether a column's name says magnitudes."""
    return without_unit(name)[0] in _OUR_MAGNITUDES


def band_columns(names: Sequence[str]) -> list[str]:
    """Columns of a table that has one for each of the 102 channels: `flux_1` and so on."""
    return [name for name in names if _BAND_COLUMN.fullmatch(name)]


def chosen_columns(columns: Mapping[str, str]) -> dict[str, str]:
    """The user's choice by our names.

    Args:
        columns: the file's column by ours, or by another usual name of ours.

    Raises:
        InputError: a key names nothing that is read, or two keys name the same.
    """
    chosen: dict[str, str] = {}
    for key, name in columns.items():
        meaning = _OURS.get(without_unit(key)[0])
        if meaning is None:
            raise InputError(f"columns: {key!r} must be one of {', '.join(NAMES)}")
        if meaning in chosen:
            raise InputError(f"columns: {chosen[meaning]} and {name} are both given for {meaning}")
        chosen[meaning] = name
    return chosen


def find_columns(path: Path, names: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
    """The file's column by our name, of those that it has.

    Args:
        path: of the file, for messages.
        names: its columns.
        chosen: of `chosen_columns`; what is chosen here is not looked for.

    Raises:
        InputError: a chosen column is not there, or two columns have the same meaning.
    """
    found = {meaning: _existing(path, names, meaning, name) for meaning, name in chosen.items()}
    free = [name for name in names if name not in found.values()]
    usual, magnitudes = _by_meaning(free, _OURS), _by_meaning(free, _OUR_MAGNITUDES)
    for meaning in NAMES:  # fluxes come before their errors
        if meaning in found:
            continue
        candidates = usual.get(meaning, [])
        if meaning == "flux" and not candidates:
            candidates = magnitudes.get("flux", [])
        if meaning == "flux_err" and "flux" in found and is_magnitude(found["flux"]):
            candidates = magnitudes.get("flux_err", []) or candidates
        if candidates:
            found[meaning] = _single(path, meaning, candidates)
    return found


def require(path: Path, names: Sequence[str], found: Mapping[str, str]) -> None:
    """Refuses a table that lacks wavelengths, fluxes or errors.

    Raises:
        InputError: one of them is missing; says what the table has.
    """
    missing = [meaning for meaning in MEANING if meaning not in found]
    if not missing:
        return
    if bands := band_columns(names):
        raise InputError(
            f"{path} is a table of channels ({bands[0]} to {bands[-1]}) without wavelengths of its measurements"
        )
    listed = ", ".join(name[:30] for name in names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
    raise InputError(
        f"{path}: no column of {', nor of '.join(MEANING[meaning] for meaning in missing)}; found {listed}. "
        f"`--columns {missing[0]}=NAME` names one"
    )


def _by_meaning(names: Sequence[str], table: Mapping[str, str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name in names:
        meaning = table.get(without_unit(name)[0])
        if meaning is not None:
            grouped.setdefault(meaning, []).append(name)
    return grouped


def _existing(path: Path, names: Sequence[str], meaning: str, name: str) -> str:
    if name in names:
        return name
    alike = [other for other in names if other.strip().lower() == name.strip().lower()]
    if len(alike) == 1:
        return alike[0]
    listed = ", ".join(other[:30] for other in names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
    raise InputError(f"{path}: no column {name}, which `--columns {meaning}={name}` names; found {listed}")


def _single(path: Path, meaning: str, candidates: list[str]) -> str:
    if len(candidates) > 1:
        shown = " and ".join(_COPY.sub(r"\1", name) for name in candidates[:3])
        raise InputError(
            f"{path}: columns {shown} both look like {meaning}: `--columns {meaning}={candidates[0]}` decides"
        )
    return candidates[0]
