"""The grids of the four classes in the SPHEREx channels.

Relative errors of the models, 1 sigma in a channel. They are this project's choice, except where a source is named:

- star 3 % where its spectrum is resolved, 5 % beyond 2.3 um, where the library has means of 10 %, and 5 % for
  blackbodies, which lack the lines; cooler than 4000 K 4 % and 7 %, for molecules are harder to model;
- brown dwarf 15 % and 30 %: BT-Settl models of L and T dwarfs miss observed ones by 10-20 % (clouds, and methane and
  carbon monoxide out of equilibrium), and beyond 2.3 um the library does not resolve methane at 3.3 um; 8 % where the
  template is observed, for the scatter of colours within a spectral type;
- quasar 8 %, at rest 12 % from 1.3 um and 15 % from 3.5 um on, where dust of many temperatures shines (with 8 % the
  shape of the dust would decide the redshift instead of the lines), and 50 % below Lyman alpha, where the absorption
  differs from one line of sight to the next;
- galaxy 4 %, what the platform measures of galaxies that were left out (`docs/inference.md`).
"""

from __future__ import annotations

from itertools import product

import numpy as np
from jaxtyping import Float

from paeplatform.classes.grid import ClassGrid, class_grid
from paeplatform.classes.library import StarLibrary, load_stars
from paeplatform.classes.quasar_spectra import (
    HOST_Z_MAX,
    LYMAN_SERIES,
    QuasarShape,
    igm_transmission,
    quasar_spectra,
    rest_wave,
    shape_grids,
)
from paeplatform.errors import ConfigError
from paeplatform.instrument.bands import BandSet
from paeplatform.instrument.filters import gaussian_filters
from paeplatform.instrument.weights import all_band_weights, as_sparse
from paeplatform.sed.dust import attenuation
from paeplatform.sed.library import TemplateLibrary, load_library
from paeplatform.template_fit.grid import TemplateGridConfig, build_template_grid

STAR_ERROR, STAR_ERROR_COARSE = 0.03, 0.05
COOL_STAR_ERROR, COOL_STAR_ERROR_COARSE, COOL_STAR_K = 0.04, 0.07, 4000.0
DWARF_ERROR, DWARF_ERROR_COARSE = 0.15, 0.30
OBSERVED_DWARF_ERROR = 0.08
# rest wavelengths [um] and errors there
QUASAR_ERROR = ((0.9, 1.3, 2.5, 3.5), (0.08, 0.12, 0.12, 0.15))
QUASAR_ERROR_FOREST = 0.50
QUASAR_SHARED = 8  # redshifts, 5 % of (1+z)
GALAXY_ERROR = 0.04
QUASAR_Z_MIN, QUASAR_Z_MAX, QUASAR_DLN_Z = 0.03, 6.0, 0.006
# A_V [mag] of the Milky Way's dust in front of a star, and the weights; R_V = 3.1
STAR_A_V = {0.0: 0.4, 0.2: 0.3, 0.5: 0.15, 1.0: 0.1, 2.0: 0.05}
# p(z) of quasars ~ z^a exp(-(z/b)^c): 17, 56 and 27 % below z = 1, to 2.15 and above, as the 30, 99 and 47 a square
# degree of Palanque-Delabrouille et al. 2013 (A&A 551, A29; g < 22.5), and 2 % above z = 4
QUASAR_Z_LAW = (5.872, 0.03937, 0.6329)
GALAXY_GRID = TemplateGridConfig(
    z_max=3.0, z_step=0.01, ebv_max=0.4, ebv_step=0.2, dust_laws=("prevot", "calzetti"), n_ebv_nodes=3
)
GALAXY_EBV_WEIGHT = (0.5, 0.35, 0.15)


def star_grid(bands: BandSet, library: StarLibrary | None = None, kind: str = "star") -> ClassGrid:
    """Stars or brown dwarfs: a group for each template, a model for each A_V (dwarfs are near: no dust).

    Args:
        bands: the channels.
        library: spectra; None for the packaged ones.
        kind: `star` or `brown_dwarf`.

    Returns:
        Templates have equal weights in each of the steps of temperature, whatever the number of gravities at each.

    Raises:
        ConfigError: the library has no spectrum of this kind.
    """
    chosen = (load_stars() if library is None else library).of_kind(kind)
    if not len(chosen):
        raise ConfigError(f"class grid {kind}: the library has no spectrum of this kind")
    screens = STAR_A_V if kind == "star" else {0.0: 1.0}
    spectra = np.stack(
        [chosen.flux * attenuation("allen", chosen.wave, a_v / 3.1) for a_v in screens], axis=1
    ).reshape(-1, len(chosen.wave))
    flux = band_fluxes(chosen.wave, spectra, bands)[0].reshape(len(chosen), len(screens), -1)
    resolved = band_fluxes(chosen.wave, chosen.resolved.astype(np.float64), bands)[0] > 0.99
    fine, coarse = _star_errors(chosen, kind)
    error = np.where(resolved, fine[:, None], coarse[:, None])
    temperature = np.where(np.isfinite(chosen.teff), chosen.teff, -np.arange(len(chosen)) - 1.0)
    _, place, count = np.unique(temperature, return_inverse=True, return_counts=True)
    weight = (1.0 / count[place])[:, None] * np.array(list(screens.values()))
    return class_grid(kind, flux, error, weight, 3 if kind == "star" else 2, labels=chosen.name)


def _star_errors(library: StarLibrary, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """(where the spectrum is resolved, elsewhere): relative error of each template."""
    observed = np.array([not name.startswith(("btsettl", "blackbody")) for name in library.name])
    theory = np.array([name.startswith("blackbody") for name in library.name])
    if kind == "star":
        cool = ~(library.teff > COOL_STAR_K)  # without a temperature it is a late M star
        coarse = np.where(cool, COOL_STAR_ERROR_COARSE, STAR_ERROR_COARSE)
        return np.where(theory, coarse, np.where(cool, COOL_STAR_ERROR, STAR_ERROR)), coarse
    fine = np.where(observed, OBSERVED_DWARF_ERROR, DWARF_ERROR)
    return fine, np.full(len(library), DWARF_ERROR_COARSE)


def quasar_grid(bands: BandSet) -> ClassGrid:
    """Quasars: a group for each redshift, 0.03-6 in even steps of ln(1+z), a model for each shape of `shape_grids`."""
    n_z = round((np.log1p(QUASAR_Z_MAX) - np.log1p(QUASAR_Z_MIN)) / QUASAR_DLN_Z) + 1
    z = np.expm1(np.linspace(np.log1p(QUASAR_Z_MIN), np.log1p(QUASAR_Z_MAX), n_z))
    near, far = shape_grids()
    parts = ((near, z[z < HOST_Z_MAX]), (far, z[z >= HOST_Z_MAX]))
    flux = np.concatenate([quasar_fluxes(part.shapes, at, bands) for part, at in parts])
    weight = np.concatenate([np.tile(part.weight, (len(at), 1)) for part, at in parts])
    a, b, c = QUASAR_Z_LAW
    of_z = z**a * np.exp(-((z / b) ** c)) * (1.0 + z)  # even steps of ln(1+z)
    # redshifts one after the other share their errors, which makes the products of the evidence larger and fewer
    shared = z[np.minimum(np.arange(n_z) // QUASAR_SHARED * QUASAR_SHARED + QUASAR_SHARED // 2, n_z - 1)]
    rest = bands.wave_um / (1.0 + shared[:, None])
    error = np.interp(rest, *QUASAR_ERROR)
    error = np.where(rest < LYMAN_SERIES[0][0], QUASAR_ERROR_FOREST, error)
    return class_grid("quasar", flux, error, weight * of_z[:, None], 8, z=z)


def quasar_fluxes(
    shapes: list[QuasarShape], z: Float[np.ndarray, " z"], bands: BandSet
) -> Float[np.ndarray, "z shape band"]:
    """Band fluxes of every shape at every redshift, in the scale of `quasar_spectra`."""
    wave = rest_wave()
    spectra = quasar_spectra(shapes, wave)
    flux = band_fluxes(wave, spectra, bands, z)
    # below this redshift no channel sees the forest
    for place in np.flatnonzero(
        bands.wave_um[0] - 2.0 * bands.bandwidth_um[0] < LYMAN_SERIES[0][0] * (1.0 + z)
    ):
        absorbed = spectra * igm_transmission(wave, z[place])
        flux[place] = band_fluxes(wave, absorbed, bands, z[place : place + 1])[0]
    return flux


def galaxy_grid(
    bands: BandSet,
    library: TemplateLibrary | None = None,
    config: TemplateGridConfig = GALAXY_GRID,
) -> ClassGrid:
    """Galaxies of template fitting, for use without a PAE: a group for each redshift.

    Args:
        bands: the channels.
        library: templates; None for the packaged 160.
        config: extent. E(B-V) must have three values, weighted by `GALAXY_EBV_WEIGHT`.

    Returns:
        A grid of some 140,000 models, 60 MB. Templates and equal steps of z have equal weights; `classify` brings
        p(z | m).

    Raises:
        ConfigError: the extent has another number of E(B-V).
    """
    if len(config.ebv) != len(GALAXY_EBV_WEIGHT):
        raise ConfigError(
            f"class grid galaxy: {len(config.ebv)} values of E(B-V), expected {len(GALAXY_EBV_WEIGHT)}"
        )
    templates = build_template_grid(
        load_library() if library is None else library, gaussian_filters(bands), config, progress=False
    )
    # even steps of ln(1+z), half as wide as the linear ones at the end, keep the number of redshifts small
    place = np.unique(
        np.searchsorted(config.z, np.expm1(np.linspace(np.log1p(0.01), np.log1p(config.z_max), 190)))
    )
    place = np.clip(place, 1, len(config.z) - 1)
    z = config.z[place]
    law, ebv = (np.array(part) for part in zip(*product(range(len(config.dust_laws)), range(3)), strict=True))
    kept = (ebv > 0) | (law == 0)  # without dust the laws are one model
    weight = (np.array(GALAXY_EBV_WEIGHT)[ebv] / np.where(ebv > 0, len(config.dust_laws), 1))[kept]
    n_template = len(templates.name)
    flux = np.empty((len(z), n_template, kept.sum(), len(bands)), np.float32)
    for row, at in enumerate(place):
        models = templates.models(np.full(n_template, at), np.arange(n_template))
        flux[row] = models.reshape(n_template, len(kept), -1)[:, kept]
    weights = np.gradient(z)[:, None] * np.tile(weight, n_template)
    error = np.full((len(z), len(bands)), GALAXY_ERROR)
    return class_grid("galaxy", flux.reshape(len(z), -1, len(bands)), error, weights, 4, z=z)


def band_fluxes(
    wave: Float[np.ndarray, " wave"],
    spectra: Float[np.ndarray, "spectrum wave"],
    bands: BandSet,
    z: Float[np.ndarray, " z"] | None = None,
) -> Float[np.ndarray, "z spectrum band"]:
    """Fluxes in the channels of spectra that are linear between their points; None is z = 0."""
    redshift = np.zeros(1) if z is None else z
    columns = np.ascontiguousarray(spectra.T)
    weights = all_band_weights(wave, gaussian_filters(bands), np.log1p(redshift))
    through = [as_sparse(band.value, band.start, len(wave)) @ columns for band in weights]
    return np.stack(through, axis=-1).reshape(len(redshift), len(spectra), len(bands))
