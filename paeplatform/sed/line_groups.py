"""Groups of emission lines that are stronger or weaker together, for terms of the likelihood.

A galaxy's lines can differ from those that the model has learned from its templates. A group has one strength; the
ratios of its lines are fixed. Its profile is the light f_nu of unit area in ln lambda, int f_nu dln lambda = 1: at the
resolution of SPHEREx its lines have no width of their own but for the feature at 3.3 um.

`SPREAD` is the standard deviation of each group's area over the library of 160 templates with mean flux 1, measured
against the straight line between the ends of the group's window (`measured_spread`; a test compares). It is the width
of the prior of a departure, in units of the galaxy's mean flux.

Ratios of lines: those of `sed.lines`, and for the infrared hydrogen lines case B as there. He I 1.083 um stands alone.
The feature of polycyclic aromatic hydrocarbons at 3.3 um has a full width at half maximum of 0.04 um (Tokunaga et al.
1991, ApJ 380, 452).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from paeplatform.errors import InputError
from paeplatform.sed.lines import LINES

PAH_UM, PAH_FWHM_UM = 3.29, 0.04
HELIUM_UM = 1.08332


class LineGroup(NamedTuple):
    """Lines of one strength.

    Attributes:
        name: for columns and messages.
        wave_um: vacuum wavelengths [um].
        flux: of each line, any scale [energy].
        fwhm_um: their own full width [um]; 0 for lines without.
        window_um: where the group's area is measured in templates.
    """

    name: str
    wave_um: tuple[float, ...]
    flux: tuple[float, ...]
    window_um: tuple[float, float]
    fwhm_um: float = 0.0


def _of_library(name: str, prefixes: tuple[str, ...], window_um: tuple[float, float]) -> LineGroup:
    lines = [line for line in LINES if line.name.startswith(prefixes)]
    return LineGroup(
        name, tuple(line.wave_um for line in lines), tuple(line.ratio for line in lines), window_um
    )


LINE_GROUPS = (
    _of_library("oii", ("[OII]",), (0.3683, 0.3773)),
    _of_library("hbeta_oiii", ("Hbeta", "[OIII]"), (0.4790, 0.5068)),
    _of_library("halpha_nii_sii", ("Halpha", "[NII]", "[SII]"), (0.6450, 0.6850)),
    LineGroup("hei", (HELIUM_UM,), (1.0,), (1.0722, 1.0917)),
    _of_library("paschen", ("Palpha", "Pbeta", "Pgamma", "Pdelta"), (1.8568, 1.8944)),
    _of_library("brackett", ("Bralpha", "Brbeta", "Brgamma"), (4.0118, 4.0928)),
    LineGroup("pah33", (PAH_UM,), (1.0,), (3.2, 3.4), PAH_FWHM_UM),
)
# of the window's area in ln lambda, mean flux 1; see the module
SPREAD = (0.0057, 0.0292, 0.0296, 0.0003, 0.0044, 0.0024, 0.0091)


def profiles(wave_um: Float[np.ndarray, " wave"]) -> Float[np.ndarray, "group wave"]:
    """f_nu of each group with unit area in ln lambda over its window's lines, on a rest-frame grid.

    A line without width is shared by the two points about it, so that the piecewise linear spectrum has its area and
    its place. Lines of a group outside of its window (Paschen beta of a group measured at Paschen alpha) come with the
    ratio that they have to those inside.

    Args:
        wave_um: rest wavelengths [um], increasing.

    Raises:
        InputError: the grid does not hold all lines.
    """
    wave = np.asarray(wave_um, dtype=np.float64)
    return np.stack([_profile(group, wave) for group in LINE_GROUPS])


def _profile(group: LineGroup, wave: np.ndarray) -> np.ndarray:
    log_wave = np.log(wave)
    if wave[0] > 0.99 * min(group.wave_um) or wave[-1] < 1.01 * max(group.wave_um):
        raise InputError(
            f"line group {group.name}: its lines at {min(group.wave_um):g}-{max(group.wave_um):g} um are outside the "
            f"rest-frame grid of {wave[0]:g}-{wave[-1]:g} um"
        )
    # F = int f_nu dnu = c / lambda int f_nu dln lambda
    areas = np.array(group.flux) * np.array(group.wave_um)
    inside = [group.window_um[0] < line < group.window_um[1] for line in group.wave_um]
    areas = areas / areas[inside].sum()
    found = np.zeros_like(wave)
    cell = np.gradient(log_wave)  # what a value at a point adds to the area
    for line, area in zip(group.wave_um, areas, strict=True):
        if group.fwhm_um > 0.0:
            shape = 2.0 ** (-4.0 * ((wave - line) / group.fwhm_um) ** 2)
            found += area * shape / np.sum(shape * cell)
            continue
        left = int(np.searchsorted(log_wave, np.log(line), side="right")) - 1
        t = (np.log(line) - log_wave[left]) / (log_wave[left + 1] - log_wave[left])
        found[left] += area * (1.0 - t) / cell[left]
        found[left + 1] += area * t / cell[left + 1]
    return found


def areas(
    template_flux: Float[np.ndarray, "template wave"], wave_um: Float[np.ndarray, " wave"]
) -> Float[np.ndarray, "template group"]:
    """Each group's area in ln lambda: light above the straight line between the ends of its window.

    Args:
        template_flux: f_nu, any scale.
        wave_um: rest wavelengths [um].
    """
    found = np.empty((len(template_flux), len(LINE_GROUPS)))
    for column, group in enumerate(LINE_GROUPS):
        inside = (wave_um >= group.window_um[0]) & (wave_um <= group.window_um[1])
        x, ends = np.log(wave_um[inside]), np.array(group.window_um)
        for row, spectrum in enumerate(template_flux):
            continuum = np.interp(wave_um[inside], ends, np.interp(ends, wave_um, spectrum))
            found[row, column] = np.trapezoid(spectrum[inside] - continuum, x)
    return found


def measured_spread(
    template_flux: Float[np.ndarray, "template wave"], wave_um: Float[np.ndarray, " wave"]
) -> Float[np.ndarray, " group"]:
    """Standard deviation of each group's area over templates with mean flux 1."""
    return areas(template_flux, wave_um).std(axis=0)
