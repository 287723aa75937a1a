"""What the defects of `release.simulated.defects` do to rows, files and manifest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from paeplatform.errors import InputError
from paeplatform.instrument.bands import BandSet
from paeplatform.release.flags import Flag
from paeplatform.release.manifest import DeliveryFile, Manifest
from paeplatform.release.reading import file_sha256, write_table
from paeplatform.release.simulated.defects import DEFECTS, DefectSpec

ROW_SHARE = 0.002  # of a cell's rows that a row-level defect spoils; three at least
MANY_SHARE = 0.20
Change = Callable[[pl.DataFrame, np.random.Generator, BandSet], pl.DataFrame]


def damage_rows(
    rows: pl.DataFrame, sources: pl.DataFrame, bands: BandSet, defects: Sequence[DefectSpec], seed: int
) -> pl.DataFrame:
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
        rng = np.random.default_rng([seed, sorted(DEFECTS).index(spec.name), sources.height])
        rows = pl.concat([rest, *(change(part, rng, bands).select(rows.columns) for part in parts)])
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


def _set(column: str, value: object, share: float = ROW_SHARE) -> Change:
    def change(rows: pl.DataFrame, rng: np.random.Generator, bands: BandSet) -> pl.DataFrame:
        new = value if isinstance(value, pl.Expr) else pl.lit(value)
        old = pl.col(column)
        return rows.with_columns(
            pl.when(_some(rows, rng, share)).then(new.cast(rows.schema[column])).otherwise(old).alias(column)
        )

    return change


def _scaled(factor: float, *columns: str, where: pl.Expr | None = None) -> Change:
    def change(rows: pl.DataFrame, rng: np.random.Generator, bands: BandSet) -> pl.DataFrame:
        here = pl.lit(True) if where is None else where
        return rows.with_columns(
            pl.when(here).then(pl.col(name) * factor).otherwise(pl.col(name)).alias(name) for name in columns
        )

    return change


def _offset(rows: pl.DataFrame, rng: np.random.Generator, bands: BandSet) -> pl.DataFrame:
    shifted = pl.col("flux") - 4.0 * pl.col("flux_err")
    return rows.with_columns(
        pl.when(pl.col("det_id") == 5).then(shifted).otherwise(pl.col("flux")).alias("flux")
    )


def _unstable(rows: pl.DataFrame, rng: np.random.Generator, bands: BandSet) -> pl.DataFrame:
    """Every other visit twelve sigma brighter, as a gain that is not stable does to a bright source."""
    visit = pl.col("mjd").rank("ordinal").over("ra", "dec", "lvf_id")
    jump = pl.when(visit % 2 == 0).then(0.5 * pl.col("flux").abs() + 12.0 * pl.col("flux_err")).otherwise(0.0)
    return rows.with_columns(flux=pl.col("flux") + jump)


def _storm(rows: pl.DataFrame, rng: np.random.Generator, bands: BandSet) -> pl.DataFrame:
    storm = pl.col("flags") | pl.lit(1 << Flag.OUTLIER, pl.UInt64)
    return rows.with_columns(
        pl.when(_some(rows, rng, 0.7)).then(storm).otherwise(pl.col("flags")).alias("flags")
    )


def _storm_of_one(rows: pl.DataFrame, rng: np.random.Generator, bands: BandSet) -> pl.DataFrame:
    stormy = _storm(rows, rng, bands)["flags"]
    return rows.with_columns(flags=pl.when(pl.col("det_id") == 2).then(stormy).otherwise(pl.col("flags")))


def _heavy_tails(rows: pl.DataFrame, rng: np.random.Generator, bands: BandSet) -> pl.DataFrame:
    """The variance of the visits stays: 0.85 x 0.35^2 + 0.15 x 2.44^2 = 1."""
    mean = pl.col("flux").mean().over("ra", "dec", "lvf_id")
    factor = pl.when(_some(rows, rng, 0.15)).then(2.44).otherwise(0.35)
    return rows.with_columns(flux=mean + factor * (pl.col("flux") - mean))


def _airglow(rows: pl.DataFrame, rng: np.random.Generator, bands: BandSet) -> pl.DataFrame:
    visit = pl.col("mjd").rank("ordinal").over("ra", "dec", "lvf_id")
    lit = (pl.col("lambda") - 1.083).abs() < 0.015
    glow = pl.when(lit & (visit % 2 == 0)).then(4.0 * pl.col("flux_err")).otherwise(0.0)
    return rows.with_columns(flux=pl.col("flux") + glow)


def _no_source(rows: pl.DataFrame, rng: np.random.Generator, bands: BandSet) -> pl.DataFrame:
    return rows.with_columns(flags=pl.col("flags") & pl.lit(2**64 - 1 - (1 << Flag.SOURCE), pl.UInt64))


def _sparse(rows: pl.DataFrame, rng: np.random.Generator, bands: BandSet) -> pl.DataFrame:
    return rows.filter(pl.col("lvf_id") % 3 == 0)


def _without_detector(rows: pl.DataFrame, rng: np.random.Generator, bands: BandSet) -> pl.DataFrame:
    return rows.filter(pl.col("det_id") != 4)


def _disorder(rows: pl.DataFrame, rng: np.random.Generator, bands: BandSet) -> pl.DataFrame:
    return rows[rng.permutation(rows.height)]


def _unknown_bits(rows: pl.DataFrame, rng: np.random.Generator, bands: BandSet) -> pl.DataFrame:
    marked = pl.col("flags") | pl.lit(1 << 40, pl.UInt64)
    return rows.with_columns(
        pl.when(_some(rows, rng, 0.02)).then(marked).otherwise(pl.col("flags")).alias("flags")
    )


def _lost_positions(rows: pl.DataFrame, rng: np.random.Generator, bands: BandSet) -> pl.DataFrame:
    picked = np.flatnonzero(_some(rows, rng).to_numpy())
    ra, dec = rows["ra"].to_numpy().copy(), rows["dec"].to_numpy().copy()
    ra[picked[::2]], dec[picked[1::2]] = np.nan, 95.0
    return rows.with_columns(pl.Series("ra", ra), pl.Series("dec", dec))


def _twice(
    rows: pl.DataFrame, rng: np.random.Generator, bands: BandSet, share: float = ROW_SHARE
) -> pl.DataFrame:
    again = _some(rows, rng, share).to_numpy()
    return rows[np.sort(np.concatenate([np.arange(rows.height), np.flatnonzero(again)]))]


def _other_detector(rows: pl.DataFrame, rng: np.random.Generator, bands: BandSet) -> pl.DataFrame:
    name = pl.col("obs_publisher_did")
    other = name.str.slice(0, name.str.len_chars() - 1) + (pl.col("det_id") % 6 + 1).cast(pl.String)
    return _set("obs_publisher_did", other)(rows, rng, bands)


# Hundreds of times the source's level; above the band too, and below the limit of outliers where the source is faint.
_SPIKE = pl.max_horizontal(300.0 * pl.col("flux").abs().median().over("ra", "dec", "det_id"), pl.lit(9e3))

_ROWS: dict[str, Change] = {
    "wrong_units": _scaled(1e-3, "flux", "flux_err", "flux_err_tractor"),
    "noisy_detector": _scaled(5.0, "flux_err", where=pl.col("det_id") == 3),
    "background_offset": _offset,
    "unstable_gain": _unstable,
    "flag_storm": _storm,
    "no_source_bit": _no_source,
    "missing_detector": _without_detector,
    "sparse_coverage": _sparse,
    "colour_shift": _scaled(1.5, "flux", where=pl.col("det_id") == 2),
    "fit_quality_shift": _scaled(3.0, "fit_ql"),
    "time_disorder": _disorder,
    "noisy_channel": _scaled(5.0, "flux_err", where=pl.col("lvf_id") % 1000 == 40),
    "flag_storm_of_one": _storm_of_one,
    "fit_quality_tail": _set("fit_ql", 8.0, 0.125),
    "heavy_tails": _heavy_tails,
    "gain_step": _scaled(2.0, "flux", "flux_err", where=pl.col("det_id") == 4),
    "helium_airglow": _airglow,
    "many_duplicates": lambda rows, rng, bands: _twice(rows, rng, bands, MANY_SHARE),
    "many_wavelengths_off": _set("lambda", (pl.col("lambda") + 1.0) % 4.2 + 0.78, MANY_SHARE),
    "many_widths_off": _set("lambda_width", 1.5 * pl.col("lambda_width"), MANY_SHARE),
    "many_times_off": _set("mjd", pl.col("mjd") - 1000.0, MANY_SHARE),
    "many_nan_errors": _set("flux_err", float("nan"), MANY_SHARE),
    "other_collection": _set(
        "obs_publisher_did", pl.col("obs_publisher_did").str.replace(r"spherex_qr\d", "spherex_qr1")
    ),
    "unknown_detector": _set("det_id", 7),
    "lost_source_bit": _set("flags", pl.col("flags") & pl.lit(2**64 - 1 - (1 << Flag.SOURCE), pl.UInt64)),
    "wrong_widths": _set("lambda_width", 1.5 * pl.col("lambda_width")),
    "flux_spikes": _set("flux", _SPIKE),
    "many_bad_rows": _set("flux_err", 0.0, MANY_SHARE),
    "unknown_bits": _unknown_bits,
    "bad_position": _lost_positions,
    "nan_flux": _set("flux", float("nan")),
    "negative_errors": _set("flux_err", -1.0),
    "placeholder_errors": _set("flux_err", 5e4),
    "wavelength_shift": _set("lambda", (pl.col("lambda") + 1.0) % 4.2 + 0.78),
    "duplicates": _twice,
    "bad_observation_id": _set("obs_publisher_did", "level2_2026W30_1A_0001"),
    "time_outside_window": _set("mjd", pl.col("mjd") - 1000.0),
    "observation_mismatch": _other_detector,
    "flux_outliers": _set("flux", 1e6),
}


# -- files and manifest -----------------------------------------------------------------------------------------------
def _first_file(manifest: Manifest, **changes: object) -> Manifest:
    first = manifest.files[0].model_copy(update=changes)
    return manifest.model_copy(update={"files": (first, *manifest.files[1:])})


def _rewritten(folder: Path, manifest: Manifest, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Manifest:
    """The first file with other content and a manifest that knows it."""
    file = manifest.files[0]
    rows = change(_rows_of(folder, file))
    write_table(rows, folder / file.name, file.format)
    return _described_again(folder, manifest, rows.height)


def _all_rewritten(
    folder: Path, manifest: Manifest, change: Callable[[pl.DataFrame], pl.DataFrame]
) -> Manifest:
    """Every file with other content and a manifest that knows it; its number of sources stays."""
    files = []
    for file in manifest.files:
        rows, path = change(_rows_of(folder, file)), folder / file.name
        write_table(rows, path, file.format)
        told = {"sha256": file_sha256(path), "bytes": path.stat().st_size, "rows": rows.height}
        files.append(file.model_copy(update=told))
    counted = sum(file.rows for file in files)
    return manifest.model_copy(update={"files": tuple(files), "n_rows": counted})


def _rows_of(folder: Path, file: DeliveryFile) -> pl.DataFrame:
    from paeplatform.release.reading import read_batches

    return pl.concat(list(read_batches(folder, file))).drop("file", "row")


def _described_again(folder: Path, manifest: Manifest, rows: int) -> Manifest:
    path = folder / manifest.files[0].name
    return _first_file(manifest, sha256=file_sha256(path), bytes=path.stat().st_size, rows=rows)


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
    path = folder / manifest.files[0].name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return _described_again(folder, manifest, manifest.files[0].rows)


def _mixed(rows: pl.DataFrame) -> pl.DataFrame:
    older = pl.int_range(pl.len()) % 5 == 0
    return rows.with_columns(
        pl.when(older)
        .then(pl.lit("spherex_qr2"))
        .otherwise(pl.col("data_collection"))
        .alias("data_collection")
    )


_DELIVERY: dict[str, Callable[[Path, Manifest], Manifest]] = {
    "checksum_mismatch": _checksum,
    "missing_file": _missing,
    "row_count_lie": _row_count,
    "truncated_file": _truncated,
    "source_count_lie": lambda folder, manifest: manifest.model_copy(
        update={"n_sources": manifest.n_sources + 7}
    ),
    "no_rows": lambda folder, manifest: _all_rewritten(
        folder, manifest.model_copy(update={"n_sources": 0}), lambda rows: rows.clear()
    ),
    "positions_lost": lambda folder, manifest: _all_rewritten(
        folder, manifest, lambda rows: rows.with_columns(ra=pl.lit(float("nan")))
    ),
    "positions_swapped": lambda folder, manifest: _all_rewritten(
        folder, manifest, lambda rows: rows.with_columns(ra=pl.col("dec"), dec=pl.col("ra"))
    ),
    "missing_column": lambda folder, manifest: _rewritten(
        folder, manifest, lambda rows: rows.drop("flux_err")
    ),
    "wrong_dtype": lambda folder, manifest: _rewritten(
        folder, manifest, lambda rows: rows.with_columns(pl.col("flags").cast(pl.Int32, strict=False))
    ),
    "unknown_label": lambda folder, manifest: manifest.model_copy(update={"data_collection": "spherex_qr9"}),
    "extra_column": lambda folder, manifest: _rewritten(
        folder, manifest, lambda rows: rows.with_columns(seeing=pl.lit(1.1))
    ),
    "version_mismatch": lambda folder, manifest: manifest.model_copy(update={"pipeline_version": "6.5.6"}),
    "mixed_releases": lambda folder, manifest: _rewritten(folder, manifest, _mixed),
}
