"""Spectra of quasars from a few parameters.

With f_nu of the accretion disc normalised to 1 at 0.55 um,

    f_nu = [ disc(slope) (1 + Balmer continuum) + lines (line_scale) + hot_dust B(dust_k) ] 10^(-0.4 k E(B-V)) + host

- disc: nu^(-0.349 + slope) below 0.388 um and nu^(0.593 + slope) above (Temple, Hewett & Banerji 2021, MNRAS 508, 737,
  table 1), steeper by nu^-1 below 0.12 um. `slope` is 0 +- 0.3 among quasars (the scatter of Davis, Woo & Blaes 2007,
  ApJ 668, 682, and of Krawczyk et al. 2015, AJ 149, 203, is 0.2-0.4).
- hot dust: a blackbody of 1243.6 K, whose f_nu at 2 um is 3.961 times that of the disc at 0.55 um on average (the same
  paper; Glikman et al. 2006, ApJ 640, 579, find 1260 K), times the parameter `hot_dust`. `dust_k` may differ from it.
- Balmer continuum: 15,000 K, optical depth 1 at the edge (Grandi 1982, ApJ 255, 25), 10 % of the disc at 0.3 um.
- lines and Fe II: `quasar_lines`, times `line_scale`.
- reddening by the law of the SMC (Prevot et al. 1984), which fits quasars (Hopkins et al. 2004, AJ 128, 1112).
- host: an old galaxy, not reddened, with `host` times the disc's flux at 0.9 um.
- absorption by the intergalactic medium: the mean of Madau 1995 (ApJ 441, 18), `igm_transmission`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from paeplatform.classes.quasar_lines import line_spectrum
from paeplatform.errors import ConfigError
from paeplatform.sed.dust import attenuation
from paeplatform.sed.grid import rebin
from paeplatform.sed.hot_dust import blackbody
from paeplatform.sed.library import load_library

WAVE_MIN_UM, WAVE_MAX_UM, DLN_WAVE = 0.0625, 5.4, 1e-3
NORM_UM = 0.55
BREAK_UM, SLOPE_BLUE, SLOPE_RED = 0.388, -0.349, 0.593
FAR_UM, FAR_STEP = 0.12, -1.0
HOT_DUST_K, HOT_DUST_AT_2_UM = 1243.6, 3.961
BALMER_EDGE_UM, BALMER_K, BALMER_AT_03_UM = 0.3646, 15_000.0, 0.10
HOST_TEMPLATE, HOST_UM = "ilbert/Ell2_A_0", 0.9
HOST_Z_MAX = 1.5  # beyond it a quasar outshines its host
LYMAN_LIMIT_UM = 0.09118
# Madau 1995, equations 12 and 15: wavelength [um] and coefficient of each line of the series
LYMAN_SERIES = ((0.121567, 3.6e-3), (0.102572, 1.7e-3), (0.097254, 1.2e-3), (0.094974, 9.3e-4))


@dataclass(frozen=True)
class QuasarShape:
    """Parameters of one spectrum.

    Attributes:
        slope: added to both slopes of the disc, d ln f_nu / d ln nu.
        hot_dust: strength of the hot dust, 1 on average.
        line_scale: of all equivalent widths, 1 on average.
        ebv: reddening E(B-V) [mag], 0-1.
        host: flux of the galaxy over that of the disc at 0.9 um.
        dust_k: temperature of the hot dust [K], 300-3000.

    Raises:
        ConfigError: a value is outside of its range; names it.
    """

    slope: float = 0.0
    hot_dust: float = 1.0
    line_scale: float = 1.0
    ebv: float = 0.0
    host: float = 0.0
    dust_k: float = HOT_DUST_K

    def __post_init__(self) -> None:
        for name in ("hot_dust", "line_scale", "host"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0.0):
                raise ConfigError(f"quasar: {name} {getattr(self, name)} must be finite and at least 0")
        if not abs(self.slope) <= 3.0:
            raise ConfigError(f"quasar: slope {self.slope} must be within -3 and 3")
        if not 300.0 <= self.dust_k <= 3000.0:
            raise ConfigError(f"quasar: dust_k {self.dust_k} must be within 300 and 3000 K")
        if not 0.0 <= self.ebv <= 1.0:
            raise ConfigError(f"quasar: ebv {self.ebv} must be within 0 and 1")


class ShapeGrid(NamedTuple):
    """Shapes and the prior weight of each; the weights sum to 1."""

    shapes: list[QuasarShape]
    weight: Float[np.ndarray, " shape"]


def shape_grids() -> tuple[ShapeGrid, ShapeGrid]:
    """The shapes that the classifier compares below and above `HOST_Z_MAX`, equally many.

    The weights are those of a normal law of the slope (0.3), normal laws of ln(hot_dust) and ln(line_scale) (0.5 and
    0.6) and an exponential law of E(B-V) (0.06 mag), times the spacing of the nodes. Below that redshift SPHEREx sees
    the dust, so that its temperature has more nodes, and 30 % have a host; above it lines carry more of what is known.
    """
    strengths = {0.45: 0.28, 1.0: 0.44, 2.0: 0.28}
    near = {
        "slope": {-0.3: 0.5, 0.25: 0.5},
        "hot_dust": strengths,
        "line_scale": {0.5: 0.3, 1.0: 0.4, 2.0: 0.3},
        "ebv": {0.0: 0.55, 0.08: 0.33, 0.22: 0.12},
        "host": {0.0: 0.7, 0.6: 0.3},
        "dust_k": {1050.0: 0.3, 1250.0: 0.4, 1500.0: 0.3},
    }
    far = {
        "slope": {-0.45: 0.26, 0.0: 0.48, 0.35: 0.26},
        "hot_dust": strengths,
        "line_scale": {0.3: 0.08, 0.5: 0.18, 0.8: 0.25, 1.2: 0.25, 1.8: 0.16, 2.8: 0.08},
        "ebv": {0.0: 0.55, 0.08: 0.33, 0.22: 0.12},
        "host": {0.0: 1.0},
        "dust_k": {1150.0: 0.5, 1400.0: 0.5},
    }
    return _products(near), _products(far)


def _products(nodes: dict[str, dict[float, float]]) -> ShapeGrid:
    shapes = [QuasarShape(**dict(zip(nodes, values, strict=True))) for values in product(*nodes.values())]
    weight = np.array(
        [float(np.prod(weights)) for weights in product(*(part.values() for part in nodes.values()))]
    )
    return ShapeGrid(shapes, weight / weight.sum())


def rest_wave() -> Float[np.ndarray, " wave"]:
    """Rest wavelengths of the spectra [um], even in the logarithm."""
    n_wave = round(np.log(WAVE_MAX_UM / WAVE_MIN_UM) / DLN_WAVE) + 1
    return np.geomspace(WAVE_MIN_UM, WAVE_MAX_UM, n_wave)


def quasar_spectra(
    shapes: list[QuasarShape], wave_um: Float[np.ndarray, " wave"]
) -> Float[np.ndarray, "shape wave"]:
    """f_nu of each shape at rest, without the intergalactic medium; the disc is 1 at 0.55 um.

    Args:
        shapes: parameters.
        wave_um: rest wavelengths [um], from 0.06 up.
    """
    galaxy = _host(wave_um)
    balmer = _balmer_continuum(wave_um)
    discs = {slope: _disc(wave_um, slope) for slope in {shape.slope for shape in shapes}}
    lines = {slope: line_spectrum(wave_um, disc) for slope, disc in discs.items()}
    dusts = {
        kelvin: HOT_DUST_AT_2_UM * blackbody(wave_um, kelvin) / blackbody(np.array(2.0), kelvin)
        for kelvin in {shape.dust_k for shape in shapes}
    }
    screens = {ebv: attenuation("prevot", wave_um, ebv) for ebv in {shape.ebv for shape in shapes}}
    spectra = []
    for shape in shapes:
        disc = discs[shape.slope]
        level = float(np.interp(0.3, wave_um, disc))
        nucleus = disc + level * balmer + shape.line_scale * lines[shape.slope]
        nucleus += shape.hot_dust * dusts[shape.dust_k]
        at_host = float(np.interp(HOST_UM, wave_um, disc))
        spectra.append(nucleus * screens[shape.ebv] + shape.host * at_host * galaxy)
    return np.array(spectra)


def igm_transmission(wave_um: Float[np.ndarray, " wave"], z: float) -> Float[np.ndarray, " wave"]:
    """Mean transmission of the intergalactic medium for a source at redshift z (Madau 1995, equations 12-15).

    Nothing passes below the Lyman limit, which is true of all but a few sources at the redshifts where SPHEREx sees it.

    Args:
        wave_um: rest wavelengths [um].
        z: redshift of the source.
    """
    observed = np.asarray(wave_um) * (1.0 + z)
    depth = np.zeros_like(observed)
    for line_um, coefficient in LYMAN_SERIES:
        depth += np.where(wave_um < line_um, coefficient * (observed / line_um) ** 3.46, 0.0)
    return np.where(np.asarray(wave_um) < LYMAN_LIMIT_UM, 0.0, np.exp(-depth))


def _disc(wave: np.ndarray, slope: float) -> np.ndarray:
    blue, red = SLOPE_BLUE + slope, SLOPE_RED + slope
    at_break = (BREAK_UM / NORM_UM) ** -red
    disc = np.where(wave < BREAK_UM, at_break * (wave / BREAK_UM) ** -blue, (wave / NORM_UM) ** -red)
    return disc * np.where(wave < FAR_UM, (wave / FAR_UM) ** -FAR_STEP, 1.0)


def _balmer_continuum(wave: np.ndarray) -> np.ndarray:
    """Relative to the disc at 0.3 um; the edge is smoothed by the lines that crowd towards it, over 1 %."""

    def shape(wave: np.ndarray) -> np.ndarray:
        return blackbody(wave, BALMER_K) * -np.expm1(-((wave / BALMER_EDGE_UM) ** 3))

    edge = 0.5 * (1.0 - np.tanh((wave - BALMER_EDGE_UM) / (0.01 * BALMER_EDGE_UM)))
    return BALMER_AT_03_UM * edge * shape(wave) / shape(np.array(0.3))


def _host(wave: np.ndarray) -> np.ndarray:
    """The old galaxy, 1 at 0.9 um; nothing beyond the range of its template."""
    library = load_library()
    row = library.name.index(HOST_TEMPLATE)
    spectrum = rebin(library.wave[row], library.flux[row], wave)
    inside = wave >= library.wave[row][0]
    return np.where(inside, spectrum, 0.0) / float(np.interp(HOST_UM, wave, spectrum))
