"""Rest-frame spectra of the paper's files as a training set of the platform's."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib import format as npy
from tqdm.auto import tqdm

from paeplatform.errors import InputError
from paeplatform.files import replaced
from paeplatform.targets import MARK, creator

CHUNK = 2000  # spectra held at a time
_MEMBERS = ("sed_um_wave", "sed_mJy_fluxes", "srcids")


def write_training_spectra(
    path: Path,
    out: Path,
    wave: np.ndarray,
    properties: dict[int, float] | None = None,
    *,
    progress: bool = True,
) -> dict[str, int]:
    """Resamples the spectra of an .npz on the rest grid, divides each by its mean, and writes them as Parquet.

    Args:
        path: with `sed_um_wave` (n_wave,) [um, rest frame], `sed_mJy_fluxes` (n, n_wave), `srcids` (n,).
        out: Parquet file of the columns source_id, z and flux (fixed-size list of float32), as training reads it.
        wave: rest-frame grid [um], (n_rest,).
        properties: redshift by source id; null where an id has none.
        progress: shows a bar in spectra.

    Returns:
        Counts: spectra, unmatched_ids, not_finite and not_positive (these two are left out, and said).

    Raises:
        InputError: an array is missing or of another shape, wavelengths do not increase or do not cover the grid, or
            the file would run code (pickled objects).
    """
    path, out = Path(path), Path(out)
    _check_members(path)
    source_wave, ids = _array(path, "sed_um_wave"), _array(path, "srcids")
    if source_wave.ndim != 1 or not (np.diff(source_wave) > 0.0).all():
        raise InputError(
            f"{path}: sed_um_wave must increase along one axis, its shape is {source_wave.shape}"
        )
    if source_wave[0] > wave[0] or source_wave[-1] < wave[-1]:
        raise InputError(
            f"{path}: sed_um_wave covers {source_wave[0]:g}-{source_wave[-1]:g} um, "
            f"{wave[0]:g}-{wave[-1]:g} um is needed"
        )
    schema = pa.schema(
        [("source_id", pa.int64()), ("z", pa.float32()), ("flux", pa.list_(pa.float32(), len(wave)))],
        metadata={MARK: creator()},
    )
    counts = {"spectra": 0, "unmatched_ids": 0, "not_finite": 0, "not_positive": 0}
    with (
        replaced(out) as unfinished,
        pq.ParquetWriter(unfinished, schema) as writer,
        tqdm(total=len(ids), desc="spectra", unit="spectrum", disable=not progress) as bar,
    ):
        first = 0
        for flux in _rows(path, "sed_mJy_fluxes", (len(ids), len(source_wave))):
            identity = ids[first : first + len(flux)].astype(np.int64)
            first += len(flux)
            writer.write_table(_resampled(identity, flux, source_wave, wave, properties, counts, schema))
            bar.update(len(flux))
    return counts


def _resampled(
    identity: np.ndarray,
    flux: np.ndarray,
    source_wave: np.ndarray,
    wave: np.ndarray,
    properties: dict[int, float] | None,
    counts: dict[str, int],
    schema: pa.Schema,
) -> pa.Table:
    on_grid = np.stack([np.interp(wave, source_wave, row) for row in flux.astype(np.float64)])
    finite = np.isfinite(on_grid).all(axis=1)
    with np.errstate(invalid="ignore"):
        mean = on_grid.mean(axis=1)
        good = finite & (mean > 0.0)
    counts["not_finite"] += int((~finite).sum())
    counts["not_positive"] += int((finite & ~good).sum())
    counts["spectra"] += int(good.sum())
    kept = identity[good]
    z = [None if properties is None else properties.get(int(one)) for one in kept]
    counts["unmatched_ids"] += 0 if properties is None else sum(value is None for value in z)
    values = (on_grid[good] / mean[good, None]).astype(np.float32)
    columns = [
        pa.array(kept),
        pa.array(z, pa.float32()),
        pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), len(wave)),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _check_members(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no readable .npz file: {error}") from error
    missing = [name for name in _MEMBERS if name not in names]
    if missing:
        raise InputError(
            f"{path}: missing {', '.join(missing)}; it holds {', '.join(sorted(names)) or 'nothing'}"
        )


def _array(path: Path, name: str) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive[name]
    except ValueError as error:
        raise InputError(f"{path}: {name}: {error}") from error


def _rows(path: Path, name: str, shape: tuple[int, int]) -> Iterator[np.ndarray]:
    """A two-dimensional array of an .npz, some rows at a time: 200,000 spectra need not fit into memory."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
        version = npy.read_magic(stream)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        found, fortran, dtype = header(stream)
        if dtype.hasobject:
            raise InputError(f"{path}: {name} holds pickled objects, numbers are wanted")
        if found != shape or fortran:
            order = "column" if fortran else "row"
            raise InputError(f"{path}: {name} is {found} by {order}, expected {shape} by row")
        width = shape[1] * dtype.itemsize
        for first in range(0, shape[0], CHUNK):
            wanted = min(CHUNK, shape[0] - first)
            content = stream.read(wanted * width)
            if len(content) != wanted * width:
                raise InputError(
                    f"{path}: {name} ends after {first + len(content) // width} of {shape[0]} rows"
                )
            yield np.frombuffer(content, dtype).reshape(wanted, shape[1])
