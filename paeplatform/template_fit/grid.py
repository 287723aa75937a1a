"""Band fluxes of the template grid: template x dust law x E(B-V) x redshift (paper section VI).

The paper's 15.1 million models in 102 bands would be 6.2 GB in float32, so they are never stored. Kept are exact
fluxes at a few Chebyshev-Lobatto nodes in E(B-V), zero among them, 0.7 GB; between the nodes

    m(E) = exp(-E kappa) sum_k ell_k(E) g_k,    g_k = m(E_k) exp(E_k kappa),

with kappa the attenuation exponent at the band's centre and ell_k the nodes' Lagrange polynomials. Behind the
common factor a band flux is a sum of exponentials whose exponents vary by no more than the dust curve does across
one filter, hence all but a polynomial: three nodes leave 5e-5 of the flux at worst and 2e-9 in the median.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from tqdm.auto import tqdm

from paeplatform.config import Preset
from paeplatform.errors import ConfigError
from paeplatform.instrument.filters import FilterCurves
from paeplatform.instrument.weights import BandWeights, all_band_weights, as_sparse
from paeplatform.sed.dust import DUST_LAWS, EBV_MAX, k_lambda
from paeplatform.sed.grid import hires_grid, library_on_grid
from paeplatform.sed.library import TemplateLibrary

MAGNITUDE_TO_EXPONENT = 0.4 * np.log(10.0)
MAX_NODE_ERROR = 1e-3  # relative, of a band flux between nodes
_BLOCK = 32  # redshifts at a time


@dataclass(frozen=True)
class TemplateGridConfig:
    """Extent of the grid; the defaults are the paper's (section VI).

    Attributes:
        z_max: last redshift; the first is 0.
        z_step: step in redshift.
        ebv_max: last E(B-V) [mag]; the first is 0.
        ebv_step: step in E(B-V).
        dust_laws: of `DUST_LAWS`.
        n_ebv_nodes: E(B-V) at which fluxes are exact; wide filters may need more than three.

    Raises:
        ConfigError: a value outside its range, or a step that does not divide its range.
    """

    z_max: float = 3.0
    z_step: float = 0.002
    ebv_max: float = 1.0
    ebv_step: float = 0.05
    dust_laws: tuple[str, ...] = DUST_LAWS
    n_ebv_nodes: int = 3

    @classmethod
    def from_preset(cls, preset: Preset) -> TemplateGridConfig:
        """The extent that a preset asks for."""
        return cls(**preset.template_fit.model_dump(), dust_laws=preset.templates.dust_laws)

    def __post_init__(self) -> None:
        ranges = {"z": (self.z_max, self.z_step, np.inf), "ebv": (self.ebv_max, self.ebv_step, EBV_MAX)}
        for name, (last, step, limit) in ranges.items():
            if not (0.0 < step <= last <= limit and np.isfinite(last)):
                raise ConfigError(
                    f"template grid: {name}_step {step:g} and {name}_max {last:g} must be "
                    f"0 < {name}_step <= {name}_max" + (f" <= {limit:g}" if np.isfinite(limit) else "")
                )
            if abs(last / step - round(last / step)) > 1e-6:
                raise ConfigError(f"template grid: {name}_step {step:g} must divide {name}_max {last:g}")
        unknown = [law for law in self.dust_laws if law not in DUST_LAWS]
        if unknown or not self.dust_laws or len(set(self.dust_laws)) != len(self.dust_laws):
            raise ConfigError(
                f"template grid: dust_laws {list(self.dust_laws)} must be distinct, of {list(DUST_LAWS)}"
            )
        if not 2 <= self.n_ebv_nodes <= 12:
            raise ConfigError(f"template grid: n_ebv_nodes {self.n_ebv_nodes} must be within 2-12")

    @cached_property
    def z(self) -> Float[np.ndarray, " z"]:
        """Redshifts, float64."""
        return np.linspace(0.0, self.z_max, round(self.z_max / self.z_step) + 1)

    @cached_property
    def ebv(self) -> Float[np.ndarray, " ebv"]:
        """E(B-V) [mag], float64."""
        return np.linspace(0.0, self.ebv_max, round(self.ebv_max / self.ebv_step) + 1)

    @cached_property
    def ebv_nodes(self) -> Float[np.ndarray, " node"]:
        """Chebyshev-Lobatto nodes on [0, ebv_max]."""
        angle = np.pi * np.arange(self.n_ebv_nodes) / (self.n_ebv_nodes - 1)
        return 0.5 * self.ebv_max * (1.0 - np.cos(angle))


@dataclass(frozen=True, eq=False)
class TemplateGrid:
    """Models of every template, dust law, E(B-V) and redshift, each with an arbitrary scale.

    Attributes:
        config: extent.
        name: (template,) names.
        node_flux: (z, template, slot, band) float32, g_k above: slot 0 without dust, then for each law the nodes
            after the first.
        exponent: (z, law, band) float64, kappa above.
        node_error: largest relative error of a band flux midway between nodes, over the redshifts and templates
            tried.
    """

    config: TemplateGridConfig
    name: tuple[str, ...]
    node_flux: Float[np.ndarray, "z template slot band"]
    exponent: Float[np.ndarray, "z law band"]
    node_error: float

    @property
    def n_band(self) -> int:
        """Bands of a model."""
        return self.node_flux.shape[-1]

    @property
    def n_models(self) -> int:
        """Points of the grid, 15.1 million by default; without dust the laws are alike and counted each."""
        return len(self.config.z) * len(self.name) * len(self.config.dust_laws) * len(self.config.ebv)

    @cached_property
    def lagrange(self) -> Float[np.ndarray, "ebv node"]:
        """The nodes' polynomials at the grid's E(B-V), float64."""
        return _lagrange(self.config.ebv_nodes, self.config.ebv)

    def models(self, z_index: np.ndarray, template: np.ndarray) -> Float[np.ndarray, "pair law ebv band"]:
        """Fluxes of pairs of redshift and template with all their dust, float64.

        Args:
            z_index: (pair,) indices into `config.z`.
            template: (pair,) indices into `name`.
        """
        slot = node_slots(len(self.config.dust_laws), self.config.n_ebv_nodes)
        nodes = self.node_flux[z_index, template][:, slot].astype(np.float64)  # pair, law, node, band
        places, inverse = np.unique(z_index, return_inverse=True)
        dimming = np.exp(-self.exponent[places][:, :, None] * self.config.ebv[:, None])
        return (self.lagrange @ nodes) * dimming[inverse]


def node_slots(n_law: int, n_node: int) -> np.ndarray:
    """(law, node) integers: which slot of `node_flux` holds a law's node."""
    later = 1 + np.arange(n_law * (n_node - 1)).reshape(n_law, n_node - 1)
    return np.column_stack([np.zeros(n_law, int), later])


def build_template_grid(
    library: TemplateLibrary,
    filters: FilterCurves,
    config: TemplateGridConfig | None = None,
    *,
    progress: bool = True,
) -> TemplateGrid:
    """Integrates every filter over the templates behind dust, at every redshift.

    Spectra live on the high-resolution grid of the mock catalogue and are linear between its points; the filter
    weights are exact for such spectra (`instrument.weights`), products are in float32.

    Args:
        library: the templates.
        filters: n_band curves.
        config: extent; None for the paper's.
        progress: shows a bar in redshifts.

    Raises:
        ConfigError: the filters look at rest wavelengths no dust law is defined at, or are too wide for
            `n_ebv_nodes` (the error between nodes exceeds 1e-3).
    """
    config = config or TemplateGridConfig()
    wave = hires_grid()
    bluest = float(filters.wave.min()) / (1.0 + config.z_max)
    if bluest < wave[0]:
        raise ConfigError(
            f"template grid: at z_max {config.z_max:g} the bluest filter sees {bluest:.4g} um at rest, "
            f"the templates begin at {wave[0]:g} um"
        )
    flux = library_on_grid(library, wave)
    spectra = _spectra(flux, wave, config)
    n_slot, n_band = spectra.shape[1] // len(library), len(filters)
    centre = 0.5 * (filters.wave[:, 0] + filters.wave[:, -1])
    rest = centre / (1.0 + config.z[:, None])
    exponent = np.stack([k_lambda(law, rest) for law in config.dust_laws], axis=1) * MAGNITUDE_TO_EXPONENT

    node_flux = np.empty((len(config.z), len(library), n_slot, n_band), np.float32)
    with tqdm(total=len(config.z), desc="template grid", unit="z", disable=not progress) as bar:
        for first in range(0, len(config.z), _BLOCK):
            rows = slice(first, min(first + _BLOCK, len(config.z)))
            weights = all_band_weights(wave, filters, np.log1p(config.z[rows]))
            block = np.stack([_through(band, spectra) for band in weights], axis=-1)
            node_flux[rows] = block.reshape(-1, len(library), n_slot, n_band)
            bar.update(len(block))
    # from m(E_k) to g_k: zero dims nothing, the later nodes of each law follow
    growth = np.exp(exponent[:, :, None] * config.ebv_nodes[1:, None])
    node_flux[:, :, 1:] *= growth.reshape(len(config.z), 1, -1, n_band).astype(np.float32)
    grid = TemplateGrid(
        config, tuple(library.name), node_flux, exponent, _node_error(flux, wave, filters, config)
    )
    if grid.node_error > MAX_NODE_ERROR:
        raise ConfigError(
            f"template grid: n_ebv_nodes {config.n_ebv_nodes} leaves an error of {grid.node_error:.2g} between "
            f"the nodes, over {MAX_NODE_ERROR:g}: give more nodes for filters as wide as these"
        )
    return grid


def _spectra(flux: np.ndarray, wave: np.ndarray, config: TemplateGridConfig) -> np.ndarray:
    """(wave, template * slot) float32: each template without dust, then at every later node of every law."""
    dust = [np.ones(len(wave))]
    for law in config.dust_laws:
        exponent = MAGNITUDE_TO_EXPONENT * k_lambda(law, wave)
        dust += [np.exp(-ebv * exponent) for ebv in config.ebv_nodes[1:]]
    spectra = (flux[:, None] * np.array(dust)).reshape(-1, len(wave))
    return np.ascontiguousarray(spectra.T, np.float32)  # so that a filter's window is one stretch of memory


def _through(band: BandWeights, spectra: np.ndarray) -> np.ndarray:
    """Fluxes (z, spectrum) of one band.

    Sparse rather than BLAS: these products are small, and BLAS's threads wait for each other on a busy machine.
    """
    return as_sparse(band.value.astype(np.float32), band.start, len(spectra)) @ spectra


def _lagrange(nodes: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(at, node) Lagrange polynomials of `nodes`."""
    n = len(nodes)
    gap = (at[:, None] - nodes)[:, None, :] / (nodes[:, None] - nodes + np.eye(n))
    return np.where(np.eye(n, dtype=bool), 1.0, gap).prod(axis=2)


def _node_error(
    flux: np.ndarray, wave: np.ndarray, filters: FilterCurves, config: TemplateGridConfig
) -> float:
    """Largest relative error midway between nodes, over every law, some templates and the grid's redshifts in
    strides: what the interpolation does to an integral that is itself exact.
    """
    z = np.unique(np.linspace(0.0, config.z_max, 13))
    sample = flux[:: max(len(flux) // 8, 1)]
    middle = 0.5 * (config.ebv_nodes[1:] + config.ebv_nodes[:-1])
    lagrange = _lagrange(config.ebv_nodes, middle)
    centre = 0.5 * (filters.wave[:, 0] + filters.wave[:, -1])
    worst = 0.0
    for band, weights in enumerate(all_band_weights(wave, filters, np.log1p(z))):
        for row in range(len(z)):
            window = slice(weights.start[row], weights.start[row] + weights.value.shape[1])
            light = weights.value[row] * sample[:, window]
            for law in config.dust_laws:
                kappa = k_lambda(law, np.append(wave[window], centre[band] / (1.0 + z[row])))
                spread = MAGNITUDE_TO_EXPONENT * (kappa[:-1] - kappa[-1])
                exact, nodes = (light @ np.exp(-spread[:, None] * ebv) for ebv in (middle, config.ebv_nodes))
                # a band in which a template has no flux has no relative error
                scale = np.maximum(np.abs(exact), 1e-12 * np.abs(sample).mean())
                worst = max(worst, float(np.max(np.abs(nodes @ lagrange.T - exact) / scale)))
    return worst
