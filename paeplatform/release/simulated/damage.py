"""What the defects of `release.simulated.defects` do to rows, files and manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from paeplatform.errors import InputError
from paeplatform.release.flags import ALL_BITS, Flag
from paeplatform.release.manifest import Manifest
from paeplatform.release.reading import described_file, read_batches, write_table
from paeplatform.release.simulated.defects import DEFECTS, DefectSpec

ROW_SHARE = 0.002  # of a cell's rows that a row-level defect spoils; three at least
MANY_SHARE = 0.20
Change = Callable[[pl.DataFrame, np.random.Generator], pl.DataFrame]


def damage_rows(rows: pl.DataFrame, n_sources: int, defects: Sequence[DefectSpec], seed: int) -> pl.DataFrame:
    """Rows of a file with the defects of their cells; rows without column `cell` take defects of all cells only."""
    for spec in defects:
        change = _ROWS.get(spec.name)
        if change is None:
            continue
        here = pl.lit(True) if not spec.cells else pl.col("cell").is_in(spec.cells)
        if spec.cells and "cell" not in rows.columns:
            raise InputError(f"defect {spec.name}: cells are named, but the sources have no column cell")
        # each cell by itself, so that a small one is spoilt too
        keys = ["cell"] if "cell" in rows.columns else []
        spoilt, rest = rows.filter(here), rows.filter(~here)
        parts = spoilt.partition_by(keys, maintain_order=True) if keys and spoilt.height else [spoilt]
        rng = np.random.default_rng([seed, sorted(DEFECTS).index(spec.name), n_sources])
        rows = pl.concat([rest, *(change(part, rng).select(rows.columns) for part in parts)])
    return rows


def damage_delivery(folder: Path, manifest: Manifest, defects: Sequence[DefectSpec]) -> Manifest:
    """The manifest and files of a delivery with its defects of level release; returns the manifest to write."""
    for spec in defects:
        change = _DELIVERY.get(spec.name)
        if change is not None:
            manifest = change(folder, manifest)
    return manifest


# -- rows -------------------------------------------------------------------------------------------------------------
def _some(rows: pl.DataFrame, rng: np.random.Generator, share: float = ROW_SHARE) -> pl.Series:
    n = min(rows.height, max(3, round(share * rows.height)))
    picked = np.zeros(rows.height, bool)
    picked[rng.choice(rows.height, n, replace=False)] = True
    return pl.Series(picked)


def _where(here: pl.Expr, columns: Mapping[str, pl.Expr]) -> Change:
    """Other values in some columns of the rows that `here` chooses."""

    def change(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
        return rows.with_columns(
            pl.when(here).then(new).otherwise(pl.col(name)).alias(name) for name, new in columns.items()
        )

    return change


def _scaled(factor: float, *columns: str, where: pl.Expr = pl.lit(True)) -> Change:
    return _where(where, {name: pl.col(name) * factor for name in columns})


def _set(column: str, value: object, share: float = ROW_SHARE, where: pl.Expr = pl.lit(True)) -> Change:
    """Another value in a column of a random share of the rows, as far as `where` chooses them."""
    new = value if isinstance(value, pl.Expr) else pl.lit(value)

    def change(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
        here = pl.lit(_some(rows, rng, share)) & where
        return _where(here, {column: new.cast(rows.schema[column])})(rows, rng)

    return change


def _only(here: pl.Expr) -> Change:
    return lambda rows, rng: rows.filter(here)


def _heavy_tails(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """The variance of the visits stays: 0.85 x 0.35^2 + 0.15 x 2.44^2 = 1."""
    mean = pl.col("flux").mean().over("ra", "dec", "lvf_id")
    factor = pl.when(_some(rows, rng, 0.15)).then(2.44).otherwise(0.35)
    return rows.with_columns(flux=mean + factor * (pl.col("flux") - mean))


def _disorder(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    return rows[rng.permutation(rows.height)]


def _lost_positions(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    picked = np.flatnonzero(_some(rows, rng).to_numpy())
    ra, dec = rows["ra"].to_numpy().copy(), rows["dec"].to_numpy().copy()
    ra[picked[::2]], dec[picked[1::2]] = np.nan, 95.0
    return rows.with_columns(pl.Series("ra", ra), pl.Series("dec", dec))


def _twice(share: float) -> Change:
    def change(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
        again = np.flatnonzero(_some(rows, rng, share).to_numpy())
        return rows[np.sort(np.concatenate([np.arange(rows.height), again]))]

    return change


_FLUX, _ERROR, _DETECTOR, _NAME = (
    pl.col(name) for name in ("flux", "flux_err", "det_id", "obs_publisher_did")
)
_EVERY_OTHER_VISIT = pl.col("mjd").rank("ordinal").over("ra", "dec", "lvf_id") % 2 == 0
_STORMY = pl.col("flags") | pl.lit(1 << Flag.OUTLIER, pl.UInt64)
_NO_SOURCE = pl.col("flags") & pl.lit(ALL_BITS - (1 << Flag.SOURCE), pl.UInt64)
_OTHER_WAVELENGTH = (pl.col("lambda") + 1.0) % 4.2 + 0.78
# Hundreds of times the source's level; above the band too, and below the limit of outliers where the source is faint.
_SPIKE = pl.max_horizontal(300.0 * _FLUX.abs().median().over("ra", "dec", "det_id"), pl.lit(9e3))
_NAME_OF_OTHER_DETECTOR = _NAME.str.slice(0, _NAME.str.len_chars() - 1) + (_DETECTOR % 6 + 1).cast(pl.String)

_ROWS: dict[str, Change] = {
    "wrong_units": _scaled(1e-3, "flux", "flux_err", "flux_err_tractor"),
    "noisy_detector": _scaled(5.0, "flux_err", where=_DETECTOR == 3),
    "background_offset": _where(_DETECTOR == 5, {"flux": _FLUX - 4.0 * _ERROR}),
    # every other visit twelve sigma brighter, as a gain that is not stable does to a bright source
    "unstable_gain": _where(_EVERY_OTHER_VISIT, {"flux": _FLUX + (0.5 * _FLUX.abs() + 12.0 * _ERROR)}),
    "flag_storm": _set("flags", _STORMY, 0.7),
    "no_source_bit": _where(pl.lit(True), {"flags": _NO_SOURCE}),
    "missing_detector": _only(_DETECTOR != 4),
    "sparse_coverage": _only(pl.col("lvf_id") % 3 == 0),
    "colour_shift": _scaled(1.5, "flux", where=_DETECTOR == 2),
    "fit_quality_shift": _scaled(3.0, "fit_ql"),
    "time_disorder": _disorder,
    "noisy_channel": _scaled(5.0, "flux_err", where=pl.col("lvf_id") % 1000 == 40),
    "flag_storm_of_one": _set("flags", _STORMY, 0.7, where=_DETECTOR == 2),
    "fit_quality_tail": _set("fit_ql", 8.0, 0.125),
    "heavy_tails": _heavy_tails,
    "gain_step": _scaled(2.0, "flux", "flux_err", where=_DETECTOR == 4),
    "helium_airglow": _where(
        _EVERY_OTHER_VISIT & ((pl.col("lambda") - 1.083).abs() < 0.015), {"flux": _FLUX + 4.0 * _ERROR}
    ),
    "many_duplicates": _twice(MANY_SHARE),
    "many_wavelengths_off": _set("lambda", _OTHER_WAVELENGTH, MANY_SHARE),
    "many_widths_off": _set("lambda_width", 1.5 * pl.col("lambda_width"), MANY_SHARE),
    "many_times_off": _set("mjd", pl.col("mjd") - 1000.0, MANY_SHARE),
    "many_nan_errors": _set("flux_err", float("nan"), MANY_SHARE),
    "other_collection": _set("obs_publisher_did", _NAME.str.replace(r"spherex_qr\d", "spherex_qr1")),
    "unknown_detector": _set("det_id", 7),
    "lost_source_bit": _set("flags", _NO_SOURCE),
    "wrong_widths": _set("lambda_width", 1.5 * pl.col("lambda_width")),
    "flux_spikes": _set("flux", _SPIKE),
    "many_bad_rows": _set("flux_err", 0.0, MANY_SHARE),
    "unknown_bits": _set("flags", pl.col("flags") | pl.lit(1 << 40, pl.UInt64), 0.02),
    "bad_position": _lost_positions,
    "nan_flux": _set("flux", float("nan")),
    "negative_errors": _set("flux_err", -1.0),
    "placeholder_errors": _set("flux_err", 5e4),
    "wavelength_shift": _set("lambda", _OTHER_WAVELENGTH),
    "duplicates": _twice(ROW_SHARE),
    "bad_observation_id": _set("obs_publisher_did", "level2_2026W30_1A_0001"),
    "time_outside_window": _set("mjd", pl.col("mjd") - 1000.0),
    "observation_mismatch": _set("obs_publisher_did", _NAME_OF_OTHER_DETECTOR),
    "flux_outliers": _set("flux", 1e6),
}


# -- files and manifest -----------------------------------------------------------------------------------------------
def _told(**changes: object) -> Callable[[Path, Manifest], Manifest]:
    """A manifest that says something else."""
    return lambda folder, manifest: manifest.model_copy(update=changes)


def _first_file(manifest: Manifest, **changes: object) -> Manifest:
    first = manifest.files[0].model_copy(update=changes)
    return manifest.model_copy(update={"files": (first, *manifest.files[1:])})


def _rewritten(
    change: Callable[[pl.DataFrame], pl.DataFrame], n_files: int | None = None, **changes: object
) -> Callable[[Path, Manifest], Manifest]:
    """The first files, or all of them, with other content, and a manifest that knows it."""

    def rewrite(folder: Path, manifest: Manifest) -> Manifest:
        files = list(manifest.files)
        for place, file in enumerate(files[:n_files]):
            rows = change(pl.concat(list(read_batches(folder, file))).drop("file", "row"))
            write_table(rows, folder / file.name, file.format)
            files[place] = described_file(folder / file.name, file.format, rows.height)
        counted = manifest.n_rows if n_files else sum(file.rows for file in files)
        return manifest.model_copy(update={"files": tuple(files), "n_rows": counted, **changes})

    return rewrite


def _checksum(folder: Path, manifest: Manifest) -> Manifest:
    digest = manifest.files[0].sha256
    return _first_file(manifest, sha256=("0" if digest[0] != "0" else "1") + digest[1:])


def _missing(folder: Path, manifest: Manifest) -> Manifest:
    (folder / manifest.files[0].name).unlink()
    return manifest


def _row_count(folder: Path, manifest: Manifest) -> Manifest:
    lied = _first_file(manifest, rows=manifest.files[0].rows + 7)
    return lied.model_copy(update={"n_rows": manifest.n_rows + 7})


def _truncated(folder: Path, manifest: Manifest) -> Manifest:
    file = manifest.files[0]
    path = folder / file.name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return _first_file(manifest, **described_file(path, file.format, file.rows).model_dump())


def _mixed(rows: pl.DataFrame) -> pl.DataFrame:
    older = pl.int_range(pl.len()) % 5 == 0
    collection = pl.when(older).then(pl.lit("spherex_qr")).otherwise(pl.col("data_collection"))
    return rows.with_columns(data_collection=collection)


_DELIVERY: dict[str, Callable[[Path, Manifest], Manifest]] = {
    "checksum_mismatch": _checksum,
    "missing_file": _missing,
    "row_count_lie": _row_count,
    "truncated_file": _truncated,
    "source_count_lie": lambda folder, manifest: manifest.model_copy(
        update={"n_sources": manifest.n_sources + 7}
    ),
    "no_rows": _rewritten(lambda rows: rows.clear(), n_sources=0),
    "positions_lost": _rewritten(lambda rows: rows.with_columns(ra=pl.lit(float("nan")))),
    "positions_swapped": _rewritten(lambda rows: rows.with_columns(ra=pl.col("dec"), dec=pl.col("ra"))),
    "missing_column": _rewritten(lambda rows: rows.drop("flux_err"), 1),
    "wrong_dtype": _rewritten(
        lambda rows: rows.with_columns(pl.col("flags").cast(pl.Int32, strict=False)), 1
    ),
    "unknown_label": _told(data_collection="spherex_qr9"),
    "extra_column": _rewritten(lambda rows: rows.with_columns(seeing=pl.lit(1.1)), 1),
    "version_mismatch": _told(pipeline_version="6.5.6"),
    "mixed_releases": _rewritten(_mixed, 1),
}
