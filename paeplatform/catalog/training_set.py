"""The augmented training set: noiseless rest-frame spectra of perturbed copies of the bright
sources.

The table is written and read one row group at a time, so its size is set by the disk and not by the memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from paeplatform.catalog.streams import Stream, stream_rng
from paeplatform.config import Preset
from paeplatform.errors import ConfigError, InputError
from paeplatform.files import replaced
from paeplatform.sed.grid import library_on_grid, rest_grid
from paeplatform.sed.hot_dust import LEAST_K, MOST_K, HotDust, add_hot_dust
from paeplatform.sed.library import TemplateLibrary
from paeplatform.sed.spectra import SecondTemplates, attenuated_spectra

# Fastest to write (1.4x uncompressed) and to read (2.8x), and the smallest (0.7 of raw), of four settings
# tried on 40,000 spectra: neighbouring wavelengths share their leading bytes, which the split brings
# together.
WRITER_OPTIONS = {
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": False,
    "write_statistics": False,
    "use_byte_stream_split": ["flux.list.element"],
}
MOST_HOT_DUST = 0.95  # of the mean f_nu over 0.1-5 um; IRAS 08572+3915 has some 0.9
Z_FLOOR = 1e-4  # perturbed redshifts stay above this, so that ln z is defined


@dataclass(frozen=True)
class AugmentedSources:
    """What each training spectrum is made from; arrays of shape (n_spectra,) in the order of the table.

    Attributes:
        source_id: `object_id` of the source the spectrum is a copy of, int64.
        template_index: int16.
        dust_law: index into DUST_LAWS, int8.
        ebv: perturbed E(B-V) [mag], float32.
        z: perturbed redshift, float32.
        second: templates that mixtures hold beside, int16, and their shares of the dust-free light, float32.
        hot_dust: its share of the light and its temperature [K], float32.
        n_base: sources that copies were made of.
        n_unperturbed: spectra that are the source itself.
    """

    source_id: np.ndarray
    template_index: np.ndarray
    dust_law: np.ndarray
    ebv: np.ndarray
    z: np.ndarray
    second: SecondTemplates
    hot_dust: HotDust
    n_base: int
    n_unperturbed: int

    @property
    def n_mixed(self) -> int:
        """Spectra that are mixtures."""
        return int((self.second.share > 0.0).sum())

    @property
    def n_hot_dust(self) -> int:
        """Spectra with hot dust."""
        return int((self.hot_dust.share > 0.0).sum())


def augment_sources(preset: Preset, catalog: pl.DataFrame) -> AugmentedSources:
    """Chooses and perturbs the sources of the training set.

    The base is every source brighter than `training_set.mag_z_max` whose template is not in `tables.leave_out`.
    Each is used equally often (to within one): first as it is, then with z' = z + delta_z (1+z) N(0,1) and
    E(B-V)' = E(B-V) + delta_ebv N(0,1), both reflected at the ends of their range, (0, z_max] and [0, ebv_max].
    The order is shuffled, so that any prefix is a fair sample.

    A share `training_set.mixed_share` of the spectra get a second template, that of another one of these sources,
    with a share of the light that is uniform from 0 to 1. The templates are 160 points among which there is nothing;
    a galaxy that is none of them lies between them.

    A share `training_set.hot_dust_share` of the spectra get the light of hot dust (`sed.hot_dust`): a share of the mean
    f_nu that is uniform from 0 to `MOST_HOT_DUST`, at a temperature that is uniform in its logarithm.

    Raises:
        InputError: the catalogue lacks a column.
        ConfigError: no source is bright enough, or no source has a template that is to be left out.
    """
    cfg = preset.training_set
    needed = ["object_id", "template_index", "dust_law", "ebv", "z_true", "mag_z"]
    missing = [column for column in needed if column not in catalog.columns]
    if missing:
        raise InputError(f"training set: the catalogue lacks the columns {', '.join(missing)}")
    base = catalog.filter(pl.col("mag_z") < cfg.mag_z_max).sort("object_id")
    if preset.tables.leave_out:
        base = base.filter(~pl.col("template").is_in(_known(preset.tables.leave_out, catalog)))
    if not len(base):
        brightest = catalog["mag_z"].min() if len(catalog) else None
        raise ConfigError(
            f"training_set.mag_z_max {cfg.mag_z_max}: no source of {len(catalog)} is brighter "
            f"(brightest: {brightest})"
        )
    order = stream_rng(preset.seed, Stream.TRAINING_ORDER)
    pick = order.permutation(len(base))
    position = order.permutation(cfg.n_spectra)
    row, perturbed = pick[position % len(base)], position >= len(base)

    z = base["z_true"].to_numpy().astype(np.float64)[row]
    ebv = base["ebv"].to_numpy().astype(np.float64)[row]
    noise_z = stream_rng(preset.seed, Stream.TRAINING_REDSHIFT).standard_normal(cfg.n_spectra)
    noise_ebv = stream_rng(preset.seed, Stream.TRAINING_EBV).standard_normal(cfg.n_spectra)
    z = np.where(perturbed, z + cfg.delta_z * (1.0 + z) * noise_z, z)
    ebv = np.where(perturbed, ebv + cfg.delta_ebv * noise_ebv, ebv)
    z_max, ebv_max = preset.catalog.z_max, preset.catalog.ebv_max
    template_index = base["template_index"].to_numpy().astype(np.int16)[row]
    return AugmentedSources(
        source_id=base["object_id"].to_numpy().astype(np.int64)[row],
        template_index=template_index,
        dust_law=base["dust_law"].to_numpy().astype(np.int8)[row],
        ebv=np.minimum(reflect(ebv, 0.0, ebv_max).astype(np.float32), np.float32(ebv_max)),
        z=np.clip(reflect(z, 0.0, z_max), Z_FLOOR, z_max).astype(np.float32),
        second=_second_templates(preset, template_index),
        hot_dust=_hot_dust(preset, len(row)),
        n_base=len(base),
        n_unperturbed=int((~perturbed).sum()),
    )


def _second_templates(preset: Preset, template_index: np.ndarray) -> SecondTemplates:
    rng = stream_rng(preset.seed, Stream.TRAINING_MIXTURE)
    mixed = rng.random(len(template_index)) < preset.training_set.mixed_share
    share = np.where(mixed, rng.random(len(template_index)), 0.0).astype(np.float32)
    return SecondTemplates(rng.permutation(template_index), share)


def _hot_dust(preset: Preset, n: int) -> HotDust:
    rng = stream_rng(preset.seed, Stream.TRAINING_HOT_DUST)
    dusty = rng.random(n) < preset.training_set.hot_dust_share
    share = np.where(dusty, MOST_HOT_DUST * rng.random(n), 0.0)
    kelvin = np.exp(rng.uniform(np.log(LEAST_K), np.log(MOST_K), n))
    return HotDust(share.astype(np.float32), np.clip(kelvin.astype(np.float32), LEAST_K, MOST_K))


def training_spectra_of(
    sources: AugmentedSources, template_flux: np.ndarray, wave: np.ndarray, rows: slice | np.ndarray
) -> np.ndarray:
    """The spectra of some of the sources, float32 of shape (n, n_wave), mean 1 along the grid.

    Args:
        sources: of `augment_sources`.
        template_flux: (n_template, n_wave) of `library_on_grid`.
        wave: (n_wave,) rest grid [um].
        rows: which of them.
    """
    second = SecondTemplates(*(part[rows] for part in sources.second))
    spectra = attenuated_spectra(
        template_flux,
        wave,
        sources.template_index[rows],
        sources.dust_law[rows],
        sources.ebv[rows],
        second if (second.share > 0.0).any() else None,
    )
    add_hot_dust(spectra, wave, HotDust(*(part[rows] for part in sources.hot_dust)))
    return spectra


def _known(names: tuple[str, ...], catalog: pl.DataFrame) -> list[str]:
    """The templates to leave out, after a look at whether they are there."""
    there = set(catalog["template"].unique()) if "template" in catalog.columns else set()
    unknown = sorted(set(names) - there)
    if unknown:
        raise ConfigError(
            f"tables.leave_out: no source of the catalogue has the template {', '.join(unknown[:5])}; names are like "
            f"{', '.join(sorted(there)[:2]) or 'those of the library'}"
        )
    return list(names)


def write_training_set(
    preset: Preset, library: TemplateLibrary, catalog: pl.DataFrame, path: Path, progress: bool = True
) -> dict:
    """Writes the training set to Parquet, one row group of `training_set.chunk_size` spectra at a time.

    Columns: source_id i64, template_index i16, second_template i16 and second_share f32 (0 for a spectrum that is no
    mixture), hot_dust f32 (share of the mean f_nu) and hot_dust_k f32 [K], dust_law i8, ebv f32 [mag], z f32, flux
    fixed_size_list<f32>[n_wave] (f_nu on `rest_grid(preset.rest_grid)`, mean 1). The file appears under its name only
    when complete, and the same input gives the same bytes.

    Args:
        preset: uses `seed`, `rest_grid`, `catalog` and `training_set`.
        library: the templates the catalogue was drawn with.
        catalog: of `draw_mock_catalog`.
        path: the file to write; an older one is replaced.
        progress: show a bar.

    Returns:
        Counts: n_spectra, n_sources, n_unperturbed, n_mixed, n_hot_dust, n_wave, n_row_groups, bytes.

    Raises:
        InputError, ConfigError: as `augment_sources`, or a template index outside the library.
    """
    cfg, path = preset.training_set, Path(path)
    sources = augment_sources(preset, catalog)
    if sources.template_index.max() >= len(library):
        raise InputError(
            f"training set: template_index {sources.template_index.max()} is outside the library of "
            f"{len(library)}; the catalogue was drawn with another one"
        )
    wave = rest_grid(preset.rest_grid)
    schema = pa.schema(
        [
            ("source_id", pa.int64()),
            ("template_index", pa.int16()),
            ("second_template", pa.int16()),
            ("second_share", pa.float32()),
            ("hot_dust", pa.float32()),
            ("hot_dust_k", pa.float32()),
            ("dust_law", pa.int8()),
            ("ebv", pa.float32()),
            ("z", pa.float32()),
            ("flux", pa.list_(pa.float32(), len(wave))),
        ],
        metadata={
            "wave_min_um": repr(float(wave[0])),
            "wave_max_um": repr(float(wave[-1])),
            "library_hash": library.content_hash(),
        },
    )
    bar = tqdm(total=cfg.n_spectra, desc="training spectra", unit="", unit_scale=True, disable=not progress)
    with (
        replaced(path) as unfinished,
        bar,
        pq.ParquetWriter(unfinished, schema, **WRITER_OPTIONS) as writer,
    ):
        for batch in _batches(sources, library_on_grid(library, wave), wave, schema, cfg.chunk_size):
            writer.write_batch(batch, row_group_size=cfg.chunk_size)
            bar.update(len(batch))
    return {
        "n_spectra": cfg.n_spectra,
        "n_sources": min(sources.n_base, cfg.n_spectra),
        "n_unperturbed": sources.n_unperturbed,
        "n_mixed": sources.n_mixed,
        "n_hot_dust": sources.n_hot_dust,
        "n_wave": len(wave),
        "n_row_groups": -(-cfg.n_spectra // cfg.chunk_size),
        "bytes": path.stat().st_size,
    }


def read_spectra(path: Path) -> np.ndarray:
    """The column `flux` of a training set as one array, float32 of shape (n, n_wave).

    The result is allocated once and filled one row group at a time: the peak is the array and a row group.

    Raises:
        InputError: no such file, not Parquet, without a fixed-size float32 column `flux`, or with a null in
            it.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"training set {path} does not exist")
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise InputError(f"training set {path} is not a complete Parquet file: {error}") from error
    with file:
        kind = file.schema_arrow.field("flux").type if "flux" in file.schema_arrow.names else None
        if kind is None or not pa.types.is_fixed_size_list(kind) or kind.value_type != pa.float32():
            raise InputError(
                f"training set {path}: column flux must be fixed_size_list<float32>, found {kind}"
            )
        n_wave, n_rows = kind.list_size, file.metadata.num_rows
        out = np.empty((n_rows, n_wave), dtype=np.float32)
        start = 0
        for group in range(file.num_row_groups):
            for chunk in file.read_row_group(group, columns=["flux"]).column("flux").chunks:
                values = chunk.flatten()
                if chunk.null_count or values.null_count:
                    raise InputError(f"training set {path}, rows from {start}: column flux has nulls")
                out[start : start + len(chunk)] = values.to_numpy(zero_copy_only=True).reshape(
                    len(chunk), n_wave
                )
                start += len(chunk)
    return out


def read_redshifts(path: Path) -> np.ndarray:
    """The column `z` of a training set, float32 of shape (n,).

    Raises:
        InputError: no such file, or one without the column.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"training set {path} does not exist")
    if "z" not in pq.read_schema(path).names:
        raise InputError(f"training set {path} has no column z")
    return pl.read_parquet(path, columns=["z"], glob=False)["z"].to_numpy()


def _batches(
    sources: AugmentedSources, template_flux: np.ndarray, wave: np.ndarray, schema: pa.Schema, chunk_size: int
) -> Iterator[pa.RecordBatch]:
    for low in range(0, len(sources.z), chunk_size):
        rows = slice(low, low + chunk_size)
        flux = training_spectra_of(sources, template_flux, wave, rows)
        columns = [
            sources.source_id[rows],
            sources.template_index[rows],
            sources.second.index[rows],
            sources.second.share[rows],
            sources.hot_dust.share[rows],
            sources.hot_dust.kelvin[rows],
            sources.dust_law[rows],
            sources.ebv[rows],
            sources.z[rows],
        ]
        values = pa.array(flux.reshape(-1))
        arrays = [*map(pa.array, columns), pa.FixedSizeListArray.from_arrays(values, len(wave))]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def reflect(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """Folds values back into [low, high] as a mirror at each end does."""
    if high <= low:
        return np.full_like(value, low)
    span = high - low
    folded = np.mod(value - low, 2.0 * span)
    return low + np.minimum(folded, 2.0 * span - folded)
