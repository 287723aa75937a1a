"""Synthetic broad-band fluxes of redshifted, reddened templates: the i, z and W1 magnitudes of the catalogue.

The bands are trapezoids set by the nominal edges of Hyper Suprime-Cam i and z (Kawanomoto et al. 2018) and
WISE W1 (Wright et al. 2010), not fits to their transmission curves: the catalogue needs magnitudes to select
by, not calibration. On the logarithmic grid a redshift is a shift, so a band is one window of the spectrum
times fixed weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from paeplatform.errors import ConfigError
from paeplatform.sed.dust import DUST_LAWS, k_lambda
from paeplatform.sed.grid import hires_grid, library_on_grid
from paeplatform.sed.library import TemplateLibrary

CHUNK = 4096  # sources per gather: windows of some 10 MB


@dataclass(frozen=True)
class Trapezoid:
    """A transmission that rises between the blue foot and top, is flat, and falls to the red foot [um]."""

    name: str
    foot_blue: float
    top_blue: float
    top_red: float
    foot_red: float

    def transmission(self, wave: np.ndarray) -> np.ndarray:
        """Relative transmission at `wave` [um], same shape, within [0, 1]."""
        return np.interp(
            wave, [self.foot_blue, self.top_blue, self.top_red, self.foot_red], [0.0, 1.0, 1.0, 0.0]
        )


HSC_I = Trapezoid("i", 0.685, 0.700, 0.840, 0.855)
HSC_Z = Trapezoid("z", 0.845, 0.860, 0.925, 0.940)
WISE_W1 = Trapezoid("W1", 2.80, 3.15, 3.75, 3.87)
CATALOG_BANDS = (HSC_I, HSC_Z, WISE_W1)

# The rest-frame colour that sorts templates into types: boxes as wide as GALEX NUV and SDSS r.
REST_NUV_UM = (0.18, 0.28)
REST_R_UM = (0.55, 0.70)


def rest_nuv_r(library: TemplateLibrary) -> np.ndarray:
    """Rest-frame NUV - r of each template as it stands [AB mag], (n_template,); inf for one dark in NUV."""
    wave = hires_grid()
    flux = library_on_grid(library, wave)
    weight = np.gradient(np.log(wave))  # photon-weighted f_nu: dlam / lam
    with np.errstate(divide="ignore", invalid="ignore"):
        mags = [
            -2.5 * np.log10(np.average(flux[:, inside], axis=1, weights=weight[inside]))
            for inside in ((wave >= low) & (wave <= high) for low, high in (REST_NUV_UM, REST_R_UM))
        ]
        colour = mags[0] - mags[1]
    return np.where(np.isnan(colour), np.inf, colour)  # dark in both


class BroadBandSynthesiser:
    """Band fluxes of (template, dust law, E(B-V), z) tuples, in float32 on the high-resolution grid.

    Args:
        library: the templates.
        bands: the observed bands.
    """

    def __init__(self, library: TemplateLibrary, bands: tuple[Trapezoid, ...] = CATALOG_BANDS) -> None:
        wave = hires_grid()
        self._step = float(np.log(wave[-1] / wave[0]) / (len(wave) - 1))
        self._flux = library_on_grid(library, wave).astype(np.float32)
        # The exponent of the attenuation, so that a window of it times E(B-V) goes into one exp.
        self._exponent = np.stack([-0.4 * np.log(10.0) * k_lambda(law, wave) for law in DUST_LAWS]).astype(
            np.float32
        )
        self._wave = wave
        self._bands = []
        for band in bands:
            transmission = band.transmission(wave)
            nodes = np.flatnonzero(transmission > 0.0)
            weight = transmission[nodes[0] : nodes[-1] + 1]
            self._bands.append((band, int(nodes[0]), (weight / weight.sum()).astype(np.float32)))

    @property
    def wave(self) -> np.ndarray:
        """The high-resolution rest-frame grid, (n_hires,) [um]."""
        return self._wave

    def spectra(self, template_index: np.ndarray, dust_law: np.ndarray, ebv: np.ndarray) -> np.ndarray:
        """Reddened rest-frame f_nu on `wave` in the scale of `fluxes`, float32 of shape (n, n_hires)."""
        out = self._exponent[dust_law]
        out *= np.asarray(ebv, dtype=np.float32)[:, None]
        np.exp(out, out=out)
        out *= self._flux[template_index]
        return out

    def fluxes(
        self, template_index: np.ndarray, dust_law: np.ndarray, ebv: np.ndarray, z: np.ndarray
    ) -> np.ndarray:
        """AB fluxes (mean f_nu weighted by dlam/lam), relative, float64 of shape (n, n_band).

        The spectra have the library's normalisation before dust; the scale of a source is free, its colours
        are not.

        Args:
            template_index: (n,) indices into the library.
            dust_law: (n,) indices into DUST_LAWS.
            ebv: (n,) E(B-V) [mag].
            z: (n,) redshifts > 0.

        Raises:
            ConfigError: a redshift that moves a band beyond the blue end of the templates.
        """
        shift = np.log1p(np.asarray(z, dtype=np.float64)) / self._step
        whole = np.floor(shift).astype(np.int64)
        fraction = (shift - whole).astype(np.float32)
        out = np.empty((len(shift), len(self._bands)))
        for column, (band, first, weight) in enumerate(self._bands):
            start = first - whole - 1
            if len(start) and start.min() < 0:
                limit = band.foot_blue / self._wave[0] - 1.0
                raise ConfigError(
                    f"catalog.z_max: z = {np.max(z):g} must stay below {limit:.2f} (band {band.name})"
                )
            n_node = len(weight) + 1
            flux_windows = sliding_window_view(self._flux, n_node, axis=1)
            exponent_windows = sliding_window_view(self._exponent, n_node, axis=1)
            for low in range(0, len(start), CHUNK):
                rows = slice(low, low + CHUNK)
                window = exponent_windows[dust_law[rows], start[rows]]
                window *= np.asarray(ebv[rows], dtype=np.float32)[:, None]
                np.exp(window, out=window)
                window *= flux_windows[template_index[rows], start[rows]]
                # Node k of the band sits at index k - shift: linear interpolation between the two neighbours.
                # einsum, because the rounding of a BLAS product depends on how many rows it is given.
                lower, upper = (
                    np.einsum("ij,j->i", part, weight) for part in (window[:, :-1], window[:, 1:])
                )
                out[rows, column] = fraction[rows] * lower + (1.0 - fraction[rows]) * upper
        return out
