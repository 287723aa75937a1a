"""Deliveries like a survey's, made from mock sources: several visits a channel, flags, signed fluxes.

No two exposures of a source share a passband, since the filter varies continuously over a detector: each has its own
wavelength and width (`passbands`), and its flux is what the sky emits there (`sky`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from tqdm.auto import tqdm

from paeplatform.errors import InputError
from paeplatform.instrument.bands import BandSet
from paeplatform.names import check_release_name
from paeplatform.random_keys import counter_generator
from paeplatform.release.flags import Flag
from paeplatform.release.manifest import MANIFEST, DeliveryFile, Manifest, write_manifest
from paeplatform.release.reading import described_file, file_sha256, write_table
from paeplatform.release.schema import COLLECTIONS, EXPOSURE_SCHEMA, source_id
from paeplatform.release.simulated.damage import damage_delivery, damage_rows
from paeplatform.release.simulated.defects import DefectSpec
from paeplatform.release.simulated.passbands import ChannelPassbands
from paeplatform.release.simulated.sky import ChannelSky, Sky
from paeplatform.targets import Target, creator

WEEKS_BETWEEN_VISITS = 26  # an all-sky survey comes back after half a year
LOST_SHARE = 0.01  # of exposures: they fell on no good pixels and were not delivered
ERROR_SCATTER = 0.10  # of a single exposure's error
FIT_DOF = 60.0  # fit quality is chi^2/dof-like
# Share of rows with a bit set. SOURCE is on all of them.
FLAG_RATES = {
    Flag.TRANSIENT: 0.01,
    Flag.OVERFLOW: 0.002,
    Flag.FULLSAMPLE: 0.30,
    Flag.NONLINEAR: 0.003,
    Flag.PERSIST: 0.01,
    Flag.OUTLIER: 0.02,
    Flag.GHOST: 0.01,
    Flag.HALO: 0.005,
    Flag.CONTAINS_BAD_PIXEL: 0.02,
    Flag.FIT_ERROR: 0.002,
}
DICHROIC_RATE = 0.03  # detectors 3 and 4 alone
NOTE = ".paeplatform.json"  # in the folder of a delivery that this module wrote: its files with their sizes
SOURCES_AT_A_TIME = 256  # exposures of more sources are not in memory together, beside the rows of a file
_MJD_2000 = 51544.0
_STREAM = 0x44454C49  # of the random numbers of deliveries


@dataclass(frozen=True)
class DeliverySpec:
    """What to write.

    Attributes:
        release: name; that of the folder too.
        data_collection: one of `schema.COLLECTIONS`.
        pipeline_version: within the collection's range.
        n_visits: exposures of a source in each channel.
        rows_per_file: cut of the files.
        file_format: parquet, csv or fits.
        seed: of everything random, with each source's id.
        cell_seeds: other seeds for the sources of some cells (column `cell` of the table), for a delivery that is
            repeated with changes in these cells only.
        depth: of all visits together, "mev" or "inflight".
        first_day: of the observations.
        defects: what to spoil.
    """

    release: str
    data_collection: str = "spherex_qr3"
    pipeline_version: str = "7.0.5"
    n_visits: int = 3
    rows_per_file: int = 500_000
    file_format: str = "parquet"
    seed: int = 1
    cell_seeds: Mapping[int, int] = field(default_factory=dict)
    depth: str = "mev"
    first_day: date = date(2026, 7, 20)
    defects: tuple[DefectSpec, ...] = ()


def check_delivery(folder: Path, spec: DeliverySpec, *, overwrite: bool = True) -> None:
    """Refuses, before work starts, a folder that `write_delivery` could not write or may not replace.

    Args:
        folder: of the delivery.
        spec: of the delivery.
        overwrite: see `write_delivery`.

    Raises:
        InputError: a folder or file is in the way that this module did not write, or nothing can be written there.
    """
    _target(folder, spec.release, overwrite).check()


def write_delivery(
    table: pl.DataFrame,
    bands: BandSet,
    folder: Path,
    spec: DeliverySpec,
    *,
    sky: Sky | None = None,
    overwrite: bool = True,
    progress: bool = True,
) -> Manifest:
    """Writes a delivery, which appears as a whole.

    Args:
        table: sources with ra, dec [deg] and the columns that the sky asks for, such as flux_true (source, band) [uJy];
            cell, when a defect or seed names cells.
        bands: the channels with their depth: that of all visits together.
        folder: of the delivery, `<landing>/<release>`.
        spec: see there.
        sky: what the sources emit; `TemplateSky` for those of the mock catalogue. None: `ChannelSky(bands)`, which
            approximates it from flux_true.
        overwrite: replaces a delivery that this function wrote. What else stands there, such as a delivery of the
            survey, is never replaced.
        progress: shows a bar in sources.

    Raises:
        InputError: the folder's name is not the release's, an unknown collection, a column is missing, a size is not
            positive, or what stands in the folder's place may not be replaced.
    """
    folder = Path(folder)
    sky = ChannelSky(bands) if sky is None else sky
    _check(table, folder, spec, sky)
    file_format, chunk = spec.file_format, max(1, spec.rows_per_file // (len(bands) * spec.n_visits))
    with _target(folder, spec.release, overwrite).new() as unfinished:
        unfinished.mkdir()
        files: list[DeliveryFile] = []
        with tqdm(total=table.height, desc=spec.release, unit="source", disable=not progress) as bar:
            for first in range(0, max(table.height, 1), chunk):
                part = table[first : first + chunk]
                made = []
                for low in range(0, max(part.height, 1), SOURCES_AT_A_TIME):
                    some = part[low : low + SOURCES_AT_A_TIME]
                    made.append(exposures(some, bands, spec, sky))
                    bar.update(some.height)
                rows = damage_rows(pl.concat(made), part.height, spec.defects, spec.seed)
                path = unfinished / f"spectrophotometry_{spec.release}_{len(files):04d}.{file_format}"
                written = rows.select([name for name in EXPOSURE_SCHEMA if name in rows.columns])
                write_table(written, path, file_format)
                files.append(described_file(path, file_format, rows.height))
        first_mjd = _mjd(spec.first_day)
        manifest = Manifest(
            release=spec.release,
            data_collection=spec.data_collection,
            pipeline_version=spec.pipeline_version,
            created=datetime.now(UTC).isoformat(timespec="microseconds"),
            mjd_min=first_mjd,
            mjd_max=first_mjd + 7.0 * (WEEKS_BETWEEN_VISITS * spec.n_visits + 2),
            files=tuple(files),
            n_rows=sum(file.rows for file in files),
            n_sources=table.height,
        )
        manifest = damage_delivery(unfinished, manifest, spec.defects)
        write_manifest(unfinished, manifest)
        sizes = {path.name: path.stat().st_size for path in sorted(unfinished.iterdir())}
        note = {"creator": creator(), "manifest_sha256": file_sha256(unfinished / MANIFEST), "files": sizes}
        (unfinished / NOTE).write_text(json.dumps(note, indent=1) + "\n")
    return manifest


def exposures(
    table: pl.DataFrame, bands: BandSet, spec: DeliverySpec, sky: Sky | None = None
) -> pl.DataFrame:
    """Exposures of some sources, by source and then time; columns of `EXPOSURE_SCHEMA` and `cell`, if there is one.

    Each falls anywhere within its channel and measures what the sky emits there; sky None is `ChannelSky(bands)`. The
    random numbers of a source depend on the seed and its place on the sky alone.
    """
    n_source, n_band = table.height, len(bands)
    shape = n_source, n_band * spec.n_visits
    normal, uniform = _draws(table, spec, shape)
    band = np.broadcast_to(np.tile(np.arange(n_band), spec.n_visits), shape)
    wave, width = ChannelPassbands(bands).draw(band, uniform[0], uniform[3])
    true = (ChannelSky(bands) if sky is None else sky).fluxes(table, wave, width)
    values = _measured(true, bands, spec, band, normal, uniform)
    values |= {"lambda": wave, "lambda_width": width}
    values |= {name: np.broadcast_to(table[name].to_numpy()[:, None], shape) for name in ("ra", "dec")}
    delivered = uniform[2] >= LOST_SHARE
    rows = pl.DataFrame(
        {
            name: pl.Series(name, np.ascontiguousarray(column)[delivered]).cast(EXPOSURE_SCHEMA[name])
            for name, column in values.items()
        }
    )
    source, exposure = (np.broadcast_to(index, shape)[delivered] for index in np.ogrid[:n_source, : shape[1]])
    rows = rows.with_columns(
        pl.lit(True).alias("local_bkg_flg"),
        pl.lit(spec.data_collection.endswith("_deep")).alias("deep_flg"),
        pl.lit(spec.data_collection).alias("data_collection"),
        _observation(spec, values["det_id"][delivered], values["mjd"][delivered], exposure),
    )
    columns = [*EXPOSURE_SCHEMA]
    if "cell" in table.columns:
        rows = rows.with_columns(table["cell"].gather(source).alias("cell"))
        columns.append("cell")
    return rows.select(columns)[np.lexsort((values["mjd"][delivered], source))]


def _draws(table: pl.DataFrame, spec: DeliverySpec, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Normal (4, source, exposure) and uniform (draw, source, exposure) random numbers of each source's own."""
    ra, dec = table["ra"].to_numpy(), table["dec"].to_numpy()
    identity = source_id(ra, dec) if len(ra) else np.zeros(0, np.int64)
    cells = table["cell"].to_list() if "cell" in table.columns else [None] * len(ra)
    seeds = [spec.cell_seeds.get(cell, spec.seed) if cell is not None else spec.seed for cell in cells]
    normal, uniform = np.empty((4, *shape)), np.empty((8 + len(FLAG_RATES) + 1, *shape))
    for row, (key, seed) in enumerate(zip(identity.tolist(), seeds, strict=True)):
        rng = counter_generator(seed ^ _STREAM, key)
        normal[:, row] = rng.standard_normal((4, shape[1]))
        uniform[:, row] = rng.uniform(size=(len(uniform), shape[1]))
    return normal, uniform


def _measured(
    flux_true: np.ndarray,
    bands: BandSet,
    spec: DeliverySpec,
    band: np.ndarray,
    normal: np.ndarray,
    uniform: np.ndarray,
) -> dict[str, np.ndarray]:
    """What the survey measures of (source, exposure) beside its passband, by column.

    Args:
        flux_true: (source, exposure) [uJy].
        bands: the channels.
        spec: of the delivery.
        band: (source, exposure) index of the channel.
        normal: of `_draws`.
        uniform: of `_draws`.
    """
    detector = bands.detector[band]
    error = bands.depth(spec.depth)[band] * np.sqrt(spec.n_visits) * np.exp(ERROR_SCATTER * normal[0])
    # A visit takes two weeks: the channels of a detector come one after the other, as the sky drifts across it.
    progress = np.argsort(np.argsort(bands.wave_um)) / len(bands)
    start = _mjd(spec.first_day) + 7.0 * WEEKS_BETWEEN_VISITS * (np.arange(band.shape[1]) // len(bands))
    return {
        "x_image": 2040.0 * uniform[4],
        "y_image": 2040.0 * uniform[5],
        "mjd": start + 13.0 * progress[band] + 0.05 * uniform[1] + 0.1,
        "flux_bkg": 0.2 + 0.02 * normal[2],
        "flags": _flags(uniform[7:], detector),
        "fit_ql": 1.0 + np.sqrt(2.0 / FIT_DOF) * normal[3],
        "det_id": detector,
        "lvf_id": 1000 * detector + bands.channel[band],
        "flux": flux_true + error * normal[1],
        "flux_err": error,
        "flux_err_tractor": 0.9 * error,
        "shape_r": np.full(band.shape, 1.0),
        "phi": 180.0 * uniform[6],
    }


def _observation(
    spec: DeliverySpec, detector: np.ndarray, mjd: np.ndarray, exposure: np.ndarray
) -> pl.Series:
    """obs_publisher_did: the planning week of the MJD, a number that parts the exposures of a source, the detector."""
    week: dict[int, str] = {}
    for day in np.unique(np.floor(mjd)).astype(int).tolist():
        year, number, _ = (date(2000, 1, 1) + timedelta(days=day - int(_MJD_2000))).isocalendar()
        week[day] = f"{year}W{number:02d}"
    names = [week[day] for day in np.floor(mjd).astype(int).tolist()]
    texts = [
        f"ivo://irsa.ipac/{spec.data_collection}?{name}_1A_{number:04d}_{number % 4 + 1}/D{which}"
        for name, number, which in zip(names, (exposure % 10_000).tolist(), detector.tolist(), strict=True)
    ]
    return pl.Series("obs_publisher_did", texts, dtype=pl.String)


def _flags(uniform: np.ndarray, detector: np.ndarray) -> np.ndarray:
    flags = np.full(detector.shape, 1 << Flag.SOURCE, dtype=np.uint64)
    for draw, (flag, rate) in zip(uniform, FLAG_RATES.items(), strict=False):
        flags |= np.where(draw < rate, np.uint64(1 << flag), np.uint64(0))
    dichroic = (uniform[len(FLAG_RATES)] < DICHROIC_RATE) & np.isin(detector, (3, 4))
    return flags | np.where(dichroic, np.uint64(1 << Flag.DICHROIC), np.uint64(0))


def _mjd(day: date) -> float:
    return (day - date(2000, 1, 1)).days + _MJD_2000


def _target(folder: Path, release: str, overwrite: bool) -> Target:
    return Target(folder, overwrite, "delivery", folder=True, fault=lambda found: _fault(found, release))


def _fault(folder: Path, release: str) -> str | None:
    """Why a folder may not be replaced: None for a delivery of this module, with nothing changed or added."""
    found = {path.name: path.lstat().st_size for path in folder.iterdir()}
    there = found.pop(NOTE, None) is not None
    known = _noted(folder) if there else _listed_without_note(folder, release)
    if known is None:
        return "is no delivery that `paeplatform simulate-release` wrote"
    other = sorted(name for name in found if found[name] != known.get(name))
    return f"holds {other[0]}, which is not of the simulated delivery" if other else None


def _noted(folder: Path) -> dict[str, int] | None:
    """Files and sizes by the note; None if the manifest is another one now, as of a delivery put in the same place."""
    try:
        note = json.loads((folder / NOTE).read_text())
        return note["files"] if note["manifest_sha256"] == file_sha256(folder / MANIFEST) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _listed_without_note(folder: Path, release: str) -> dict[str, int] | None:
    """Files and sizes by the manifest, of deliveries from before there was a note: their names tell."""
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    # The folder's name is not compared: it is hidden by the time this is asked for the last time.
    if manifest.release != release or any(
        not re.fullmatch(rf"spectrophotometry_{release}_\d{{4,}}\.\w+", file.name) for file in manifest.files
    ):
        return None
    sizes = {file.name: file.bytes for file in manifest.files}
    return sizes | {MANIFEST: (folder / MANIFEST).stat().st_size}


def _check(table: pl.DataFrame, folder: Path, spec: DeliverySpec, sky: Sky) -> None:
    check_release_name(spec.release)
    if folder.name != spec.release:
        raise InputError(f"delivery folder {folder} must be named like its release, {spec.release!r}")
    if spec.data_collection not in COLLECTIONS and not spec.defects:
        raise InputError(f"data collection {spec.data_collection!r} must be one of {', '.join(COLLECTIONS)}")
    missing = [name for name in ("ra", "dec", *sky.columns) if name not in table.columns]
    if missing:
        raise InputError(f"delivery: the table of sources lacks {', '.join(missing)}")
    if spec.n_visits < 1 or spec.rows_per_file < 1:
        raise InputError(f"visits {spec.n_visits} and rows a file {spec.rows_per_file} must be at least 1")
