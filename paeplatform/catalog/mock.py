"""The mock catalogue that stands in for COSMOS2020: magnitude, type, redshift and SED."""

from __future__ import annotations

import warnings

import numpy as np
import polars as pl

from paeplatform.catalog.broadband import BroadBandSynthesiser, rest_nuv_r
from paeplatform.catalog.population import (
    GALAXY_TYPES,
    TYPE_NAMES,
    draw_ebv,
    draw_mag_i,
    draw_redshift,
    draw_type,
)
from paeplatform.catalog.streams import Stream, stream_rng
from paeplatform.config import CatalogConfig, Preset
from paeplatform.errors import ConfigError, TemplateError
from paeplatform.sed.dust import DUST_LAWS
from paeplatform.sed.library import TemplateLibrary

FIELD_SIDE_DEG = 1.4  # side of the square of sky that the sources are scattered over, about that of COSMOS


def classify_templates(library: TemplateLibrary) -> np.ndarray:
    """Type of each template by rest-frame NUV - r and LePHARE's edges: indices into GALAXY_TYPES."""
    return _classify(rest_nuv_r(library))


def templates_by_type(library: TemplateLibrary) -> tuple[np.ndarray, ...]:
    """The template indices that serve each type of GALAXY_TYPES.

    A type that no template of a user's folder belongs to is served by the class that holds the template
    nearest to it in colour, and a warning says so.
    """
    colour = rest_nuv_r(library)
    kind = _classify(colour)
    pools = []
    upper = np.inf
    for index, galaxy_type in enumerate(GALAXY_TYPES):
        lower = galaxy_type.nuv_r_min
        pool = np.flatnonzero(kind == index)
        if not len(pool):
            distance = np.maximum(np.maximum(lower - colour, colour - upper), 0.0)
            served_by = int(kind[np.argmin(distance)])
            pool = np.flatnonzero(kind == served_by)
            warnings.warn(
                f"no template of type {galaxy_type.name} (NUV-r {lower:g} to {upper:g}): its sources use the "
                f"{len(pool)} templates of type {TYPE_NAMES[served_by]}",
                stacklevel=2,
            )
        pools.append(pool)
        upper = lower
    return tuple(pools)


def draw_mock_catalog(preset: Preset, library: TemplateLibrary) -> pl.DataFrame:
    """Draws the catalogue: i from the counts, T from p(T|i), z from p(z|T,i), then an SED of that type.

    The template is uniform among those of the type, the dust law among the preset's. The observed i magnitude
    sets the amplitude; z and W1 magnitudes follow from the redshifted, reddened template. A larger catalogue
    of the same seed begins with the smaller one.

    Args:
        preset: uses `seed`, `catalog` and `templates.dust_laws`.
        library: the templates.

    Returns:
        One row per source: object_id i64 (1 to n), ra f64, dec f64 [deg], template_index i16, template str,
        galaxy_type str, dust_law i8 (index into DUST_LAWS), ebv f32 [mag], z_true f32, mag_i f32, mag_z f32,
        mag_w1 f32 [AB].

    Raises:
        ConfigError: an empty magnitude range, a field that runs over a pole, or a z_max beyond the templates.
        TemplateError: a template without flux in one of the observed bands.
    """
    cfg = preset.catalog
    _check(cfg)
    n = cfg.n_sources

    def rng(stream: Stream) -> np.random.Generator:
        return stream_rng(preset.seed, stream)

    mag_i = draw_mag_i(rng(Stream.MAGNITUDE), n, cfg.counts_slope, cfg.mag_i_min, cfg.mag_i_max)
    kind = draw_type(rng(Stream.GALAXY_TYPE), mag_i)
    z_true = draw_redshift(rng(Stream.REDSHIFT), kind, mag_i, cfg.z_max).astype(np.float32)
    ebv = draw_ebv(rng(Stream.EBV), kind, cfg.ebv_max).astype(np.float32)
    template_index = _draw_template(rng(Stream.TEMPLATE), kind, templates_by_type(library))
    laws = np.array([DUST_LAWS.index(law) for law in preset.templates.dust_laws], dtype=np.int8)
    dust_law = laws[rng(Stream.DUST_LAW).integers(0, len(laws), size=n)]
    ra, dec = _scatter(rng(Stream.SKY), n, cfg)

    flux = BroadBandSynthesiser(library).fluxes(template_index, dust_law, ebv, z_true)
    _check_fluxes(flux, template_index, z_true, library)
    colour = -2.5 * np.log10(flux[:, 1:] / flux[:, :1])
    names = np.array(library.name)
    return pl.DataFrame(
        {
            "object_id": np.arange(1, n + 1, dtype=np.int64),
            "ra": ra,
            "dec": dec,
            "template_index": template_index.astype(np.int16),
            "template": names[template_index],
            "galaxy_type": np.array(TYPE_NAMES)[kind],
            "dust_law": dust_law,
            "ebv": ebv,
            "z_true": z_true,
            "mag_i": mag_i.astype(np.float32),
            "mag_z": (mag_i + colour[:, 0]).astype(np.float32),
            "mag_w1": (mag_i + colour[:, 1]).astype(np.float32),
        }
    )


def _classify(nuv_r: np.ndarray) -> np.ndarray:
    edges = np.array([kind.nuv_r_min for kind in GALAXY_TYPES[:-1]])  # 4.25, 3.19, 1.9
    return (nuv_r[:, None] <= edges).sum(axis=1)


def _draw_template(rng: np.random.Generator, kind: np.ndarray, pools: tuple[np.ndarray, ...]) -> np.ndarray:
    uniform = rng.random(len(kind))
    template_index = np.empty(len(kind), dtype=np.int64)
    for index, pool in enumerate(pools):
        rows = kind == index
        template_index[rows] = pool[(uniform[rows] * len(pool)).astype(np.int64)]
    return template_index


def _scatter(rng: np.random.Generator, n: int, cfg: CatalogConfig) -> tuple[np.ndarray, np.ndarray]:
    """Uniform (ra, dec) [deg] in a square of FIELD_SIDE_DEG; the strip in ra widens as 1/cos(dec)."""
    east, north = (FIELD_SIDE_DEG * (rng.random((n, 2)) - 0.5)).T
    dec = cfg.field_dec_deg + north
    return (cfg.field_ra_deg + east / np.cos(np.radians(dec))) % 360.0, dec


def _check(cfg: CatalogConfig) -> None:
    if cfg.mag_i_max <= cfg.mag_i_min:
        raise ConfigError(f"catalog.mag_i_max {cfg.mag_i_max} must exceed catalog.mag_i_min {cfg.mag_i_min}")
    limit = 90.0 - FIELD_SIDE_DEG
    if abs(cfg.field_dec_deg) > limit:
        raise ConfigError(f"catalog.field_dec_deg {cfg.field_dec_deg} must be within [-{limit}, {limit}]")


def _check_fluxes(
    flux: np.ndarray, template_index: np.ndarray, z: np.ndarray, library: TemplateLibrary
) -> None:
    bad = ~(np.isfinite(flux) & (flux > 0.0)).all(axis=1)
    if bad.any():
        row = int(np.argmax(bad))
        raise TemplateError(
            f"template {library.name[template_index[row]]} has no flux in the i, z or W1 band at "
            f"z = {z[row]:.3f}; it must be positive there"
        )
