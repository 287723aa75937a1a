"""p(z) of a table of sources: summaries for the catalogue, densities, and the place of a known redshift in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from tqdm.auto import tqdm

from paeplatform.config import SbiConfig
from paeplatform.errors import BandSetError, CheckpointError
from paeplatform.inference.results.pz_summary import redshift_columns, summarise_pz_grid
from paeplatform.random_keys import counter_generator
from paeplatform.sbi.domain import OUTSIDE, SbiFlag, distance_from_training, domain_flags
from paeplatform.sbi.features import relative_depth, total_snr
from paeplatform.sbi.heads import Density
from paeplatform.sbi.model import SbiModel, TrainedRange, choose_device
from paeplatform.sbi.noise import Photometry, as_photometry
from paeplatform.source_columns import array_column, check_sources, nullable, usable_sources

PREFIX = "sbi"
STATUSES = ("converged", "failed", "unlike_training")  # the first as the PAE calls what it trusts
DEFAULT = SbiConfig()


@dataclass(frozen=True)
class Curves:
    """Densities of some sources on places that resolve them.

    Attributes:
        z: (source, node) ascending; neighbours may coincide.
        pz: (source, node) p(z), exact there.
        cdf: (source, node) P(< z), exact there.
    """

    z: np.ndarray
    pz: np.ndarray
    cdf: np.ndarray


def estimate_sbi(
    model: SbiModel,
    flux: Float[np.ndarray, "source band"],
    flux_err: Float[np.ndarray, "source band"],
    object_id: np.ndarray,
    cfg: SbiConfig = DEFAULT,
    *,
    seed: int = 0,
    progress: bool = True,
) -> pl.DataFrame:
    """p(z) of every source, in one pass of the network.

    Args:
        model: trained.
        flux: [uJy]; negative values are legal.
        flux_err: 1 sigma [uJy]; not finite or not positive masks the band.
        object_id: (source,) integers; with `seed` they decide a source's samples.
        cfg: uses `summaries` ("grid" integrates the density on nodes that resolve it; "samples" draws `n_samples`
            redshifts as the paper does and summarises these), `batch_size` and `device`.
        seed: of the samples.
        progress: shows a bar in galaxies.

    Returns:
        One row a source, in the order given: object_id; the columns of `summarise_pz_grid` with prefix "sbi" (f32,
        null without a redshift); sbi_multimodal and sbi_at_edge; sbi_status, one of `STATUSES`; sbi_n_bands;
        sbi_distance from the training set (1 is the farthest that counts as like it); sbi_flags, bits of `SbiFlag`.

    Raises:
        BandSetError: flux or flux_err are not (source, band) for the network's bands.
        ConfigError: object_id has another length or is not integer.
        CheckpointError: the network carries no record of what it was trained on.
    """
    flux, flux_err, object_id = np.asarray(flux), np.asarray(flux_err), np.asarray(object_id)
    check_sources(flux, flux_err, model.n_band, object_id)
    if model.trained_range is None:
        raise CheckpointError(
            "this SBI model has no record of its training set's range: it was never trained"
        )
    usable, known = usable_sources(flux, flux_err)
    z_min, z_max = model.z_limits
    parts: list[dict[str, np.ndarray]] = []
    with tqdm(total=len(flux), desc="SBI", unit="galaxy", unit_scale=True, disable=not progress) as bar:
        for rows, seen, density, context in _passes(model, flux, flux_err, known, cfg):
            curves = _curves(density)
            if cfg.summaries == "grid":
                made = summarise_pz_grid(curves.z, curves.pz, prefix=PREFIX, z_min=z_min, z_max=z_max)
            else:
                draws = _samples(curves, object_id[rows], cfg.n_samples, seed)
                made = redshift_columns(draws, None, z_min=z_min, z_max=z_max, prefix=PREFIX)
            parts.append(
                {"rows": rows, **made, **_against_training(model.trained_range, model, seen, context)}
            )
            bar.update(len(rows))
        bar.update(len(flux) - int(known.sum()))
    return _table(parts, object_id, known, usable)


def density_curves(
    model: SbiModel, flux: np.ndarray, flux_err: np.ndarray, *, device: str = "auto"
) -> Curves:
    """Density and CDF of sources that all have a usable band.

    Raises:
        BandSetError: the arrays are not (source, band), or a source has no usable band or a flux that is not finite.
    """
    parts = [_curves(density) for _, _, density, _ in _all_passes(model, flux, flux_err, device)]
    return Curves(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("z", "pz", "cdf")))


def at_redshift(
    model: SbiModel,
    flux: np.ndarray,
    flux_err: np.ndarray,
    z: np.ndarray,
    *,
    device: str = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """(P(< z), ln p(z)) of one redshift a source: with true ones, the probability integral transform and the log score.

    Raises:
        BandSetError: as `density_curves`.
    """
    place, log_prob = np.empty(len(z)), np.empty(len(z))
    for rows, _, density, _ in _all_passes(model, flux, flux_err, device):
        x = torch.as_tensor(np.log1p(z[rows]), dtype=torch.float32)[:, None]
        x = x.to(_device_of(model))
        with torch.inference_mode():
            place[rows] = density.cdf(x)[:, 0].double().cpu().numpy()
            log_prob[rows] = density.log_prob(x)[:, 0].double().cpu().numpy() - np.log1p(z[rows])
    outside = (z < model.z_limits[0]) | (z > model.z_limits[1])
    log_prob[outside] = -np.inf
    return place, log_prob


_Pass = tuple[np.ndarray, Photometry, Density, torch.Tensor]


def _passes(
    model: SbiModel, flux: np.ndarray, flux_err: np.ndarray, known: np.ndarray, cfg: SbiConfig
) -> Iterator[_Pass]:
    """(rows, photometry, densities, contexts) batch by batch."""
    model = model.to(choose_device(cfg.device)).eval()
    rows = np.flatnonzero(known)
    for low in range(0, len(rows), cfg.batch_size):
        chosen = rows[low : low + cfg.batch_size]
        with torch.inference_mode(), np.errstate(invalid="ignore", over="ignore"):
            columns = (torch.as_tensor(part[chosen].astype(np.float32)) for part in (flux, flux_err))
            seen = as_photometry(*(column.to(_device_of(model)) for column in columns))
            context = model.context(seen)
            yield chosen, seen, model.density(context), context


def _all_passes(model: SbiModel, flux: np.ndarray, flux_err: np.ndarray, device: str) -> Iterator[_Pass]:
    flux, flux_err = np.asarray(flux), np.asarray(flux_err)
    check_sources(flux, flux_err, model.n_band)
    _, known = usable_sources(flux, flux_err)
    if not known.all():
        raise BandSetError(f"row {int(np.argmin(known))}: no usable band, or a flux that is not finite")
    yield from _passes(model, flux, flux_err, known, DEFAULT.model_copy(update={"device": device}))


def _device_of(model: SbiModel) -> torch.device:
    return model.depth.device


@torch.inference_mode()
def _curves(density: Density) -> Curves:
    x = density.nodes()
    log_prob, cdf = density.log_prob(x), density.cdf(x)
    place = x.double().cpu().numpy()
    return Curves(
        np.expm1(place), np.exp(log_prob.double().cpu().numpy() - place), cdf.double().cpu().numpy()
    )


def _samples(curves: Curves, object_id: np.ndarray, n_samples: int, seed: int) -> np.ndarray:
    """(source, n_samples) redshifts: uniform numbers of each source's own through the inverse CDF."""
    draws = np.empty((len(object_id), n_samples))
    for row, identity in enumerate(object_id.tolist()):
        level = counter_generator(seed, identity).random(n_samples)
        cdf = np.maximum.accumulate(curves.cdf[row])
        draws[row] = np.interp(cdf[0] + level * (cdf[-1] - cdf[0]), cdf, curves.z[row])
    return draws


def _against_training(
    known: TrainedRange, model: SbiModel, seen: Photometry, context: torch.Tensor
) -> dict[str, np.ndarray]:
    """Distance from the training set, and the flags of what lies outside of it."""

    def numbers(values: torch.Tensor) -> np.ndarray:
        return values.double().cpu().numpy()

    distance = distance_from_training(known, numbers(context))
    level = numbers(relative_depth(seen, model.depth))
    flags = domain_flags(known, numbers(total_snr(seen)), level, numbers(seen.used.sum(1)), distance)
    return {"distance": distance, "flags": flags}


def _table(
    parts: list[dict[str, np.ndarray]], object_id: np.ndarray, known: np.ndarray, usable: np.ndarray
) -> pl.DataFrame:
    if parts:
        made = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    else:  # no source with a band: the columns all the same
        empty = summarise_pz_grid(np.arange(2.0), np.empty((0, 2)), prefix=PREFIX)
        made = {"rows": np.empty(0, np.int64), **empty, "distance": np.empty(0), "flags": np.empty(0)}
    rows = made.pop("rows")

    def spread(values: np.ndarray, missing: float | bool) -> np.ndarray:
        column = np.full((len(object_id), *values.shape[1:]), missing)
        column[rows] = values
        return column

    flags = spread(made.pop("flags"), float(SbiFlag.NO_REDSHIFT)).astype(np.uint32)
    marks = {name: spread(made.pop(name), False).astype(bool) for name in ("multimodal", "at_edge")}
    flags |= np.where(marks["multimodal"], SbiFlag.MULTIMODAL, 0).astype(np.uint32)
    flags |= np.where(marks["at_edge"], SbiFlag.AT_EDGE, 0).astype(np.uint32)
    quantiles = spread(made.pop(f"{PREFIX}_z_quantiles"), np.nan)
    distance = made.pop("distance")
    return pl.DataFrame(
        {
            "object_id": object_id.astype(np.int64),
            **{name: nullable(spread(values, np.nan)) for name, values in made.items()},
            f"{PREFIX}_z_quantiles": array_column(quantiles, known),
            **{f"{PREFIX}_{name}": values for name, values in marks.items()},
            f"{PREFIX}_status": np.select([~known, flags & OUTSIDE != 0], STATUSES[1:], STATUSES[0]),
            f"{PREFIX}_n_bands": usable.sum(axis=1).astype(np.int16),
            f"{PREFIX}_distance": nullable(spread(distance, np.nan)),
            f"{PREFIX}_flags": flags,
        }
    )
