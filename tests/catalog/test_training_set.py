"""The training set: what is in it, that it streams, and that it is written whole or not at all."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.modeling.models import BlackBody
from scipy import stats

from paeplatform.catalog import training_set
from paeplatform.catalog.training_set import MOST_HOT_DUST, augment_sources, read_spectra, write_training_set
from paeplatform.errors import ConfigError, InputError
from paeplatform.sed.dust import DUST_LAWS, attenuation
from paeplatform.sed.grid import library_on_grid, rest_grid
from paeplatform.sed.hot_dust import LEAST_K, MOST_K


def _with(preset, **changes):
    return preset.model_copy(update={"training_set": preset.training_set.model_copy(update=changes)})


@pytest.fixture(scope="module")
def written(preset, library, catalog, tmp_path_factory):
    path = tmp_path_factory.mktemp("training") / "training.parquet"
    return path, write_training_set(preset, library, catalog, path, progress=False)


def test_columns_and_counts(written, preset, catalog):
    path, summary = written
    table = pl.read_parquet(path)
    assert dict(table.schema) == {
        "source_id": pl.Int64,
        "template_index": pl.Int16,
        "second_template": pl.Int16,
        "second_share": pl.Float32,
        "hot_dust": pl.Float32,
        "hot_dust_k": pl.Float32,
        "dust_law": pl.Int8,
        "ebv": pl.Float32,
        "z": pl.Float32,
        "flux": pl.Array(pl.Float32, 800),
    }
    n_base = (catalog["mag_z"] < 23.0).sum()
    assert summary["n_spectra"] == len(table) == 3000
    assert summary["n_sources"] == summary["n_unperturbed"] == n_base == table["source_id"].n_unique()
    assert summary["n_row_groups"] == pq.ParquetFile(path).num_row_groups == 12
    assert summary["bytes"] == path.stat().st_size
    uses = table["source_id"].value_counts()["count"]
    assert uses.max() - uses.min() <= 1


def test_spectra_are_the_attenuated_templates_with_mean_one(written, preset, library):
    path, _ = written
    table, spectra = pl.read_parquet(path), read_spectra(path)
    assert spectra.dtype == np.float32
    np.testing.assert_allclose(spectra.mean(axis=1, dtype=np.float64), 1.0, atol=1e-5)
    wave = rest_grid(preset.rest_grid)
    flux = library_on_grid(library, wave)
    for row in (0, 255, 256, 2999):
        source = table.row(row, named=True)
        expected = flux[source["template_index"]] * attenuation(
            DUST_LAWS[source["dust_law"]], wave, source["ebv"]
        )
        np.testing.assert_allclose(spectra[row], expected / expected.mean(), rtol=2e-5, atol=1e-7)


def test_templates_to_leave_out_are_not_in_it(preset, catalog, library):
    gone = tuple(catalog["template"].unique().sort().to_list()[::7])
    tables = preset.tables.model_copy(update={"leave_out": gone})
    copies = augment_sources(preset.model_copy(update={"tables": tables}), catalog)
    used = {library.name[index] for index in np.unique(copies.template_index)}
    assert used and not used & set(gone)
    unknown = preset.model_copy(update={"tables": tables.model_copy(update={"leave_out": ("brown/M_31",)})})
    with pytest.raises(
        ConfigError, match="leave_out: no source of the catalogue has the template brown/M_31"
    ):
        augment_sources(unknown, catalog)
    rest = library.without(gone)
    assert len(rest) == len(library) - len(gone) and not set(rest.name) & set(gone)


def test_copies_scatter_as_configured_and_stay_in_range(preset, catalog):
    wide = _with(preset, n_spectra=20000, delta_z=0.05, delta_ebv=0.05)
    copies = augment_sources(wide, catalog)
    source = catalog[copies.source_id - 1]
    z, ebv = source["z_true"].to_numpy(), source["ebv"].to_numpy()
    same = (copies.z == z) & (copies.ebv == ebv)
    assert same.sum() == copies.n_unperturbed == copies.n_base
    far = ~same & (z > 0.4) & (z < 2.2)  # far from both ends in units of the scatter
    pull = ((copies.z - z) / (0.05 * (1.0 + z)))[far]
    assert stats.kstest(pull, "norm").pvalue > 1e-3
    inner = ~same & (ebv > 0.25) & (ebv < 0.75)
    assert stats.kstest(((copies.ebv - ebv) / 0.05)[inner], "norm").pvalue > 1e-3
    assert copies.z.min() > 0.0
    assert copies.z.max() <= 3.0
    assert copies.ebv.min() >= 0.0
    assert copies.ebv.max() <= 1.0
    # E(B-V) = 0 is reflected, not clipped: half a Gaussian, no pile at zero
    dustless = ~same & (ebv == 0.0)
    assert stats.kstest(copies.ebv[dustless] / 0.05, "halfnorm").pvalue > 1e-3


def test_a_prefix_is_a_fair_sample(written):
    table = pl.read_parquet(written[0], columns=["z", "ebv", "template_index"])
    head, tail = table.head(1000), table.tail(2000)
    for column in ("z", "ebv", "template_index"):
        assert stats.ks_2samp(head[column].to_numpy(), tail[column].to_numpy()).pvalue > 1e-3


def test_same_seed_same_bytes_and_row_groups_change_no_value(written, preset, library, catalog, tmp_path):
    path, _ = written
    write_training_set(preset, library, catalog, tmp_path / "again", progress=False)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    write_training_set(_with(preset, chunk_size=1000), library, catalog, tmp_path / "coarse", progress=False)
    assert pl.read_parquet(tmp_path / "coarse").equals(pl.read_parquet(path))
    other = preset.model_copy(update={"seed": 1})
    write_training_set(other, library, catalog, tmp_path / "other", progress=False)
    assert (tmp_path / "other").read_bytes() != path.read_bytes()


def test_mixtures_hold_two_templates_and_change_nothing_else(written, preset, library, catalog, tmp_path):
    plain = pl.read_parquet(written[0])
    assert written[1]["n_mixed"] == 0 and (plain["second_share"] == 0.0).all()
    counts = write_training_set(
        _with(preset, mixed_share=0.4), library, catalog, tmp_path / "mixed", progress=False
    )
    table, spectra = pl.read_parquet(tmp_path / "mixed"), read_spectra(tmp_path / "mixed")
    mixed = (table["second_share"] > 0.0).to_numpy()
    assert mixed.sum() == counts["n_mixed"]
    assert abs(mixed.mean() - 0.4) < 4.0 * np.sqrt(0.4 * 0.6 / 3000)
    assert stats.kstest(table["second_share"].to_numpy()[mixed], "uniform").pvalue > 1e-3
    same = ["source_id", "template_index", "dust_law", "ebv", "z"]
    assert table.select(same).equals(plain.select(same))
    np.testing.assert_array_equal(spectra[~mixed], read_spectra(written[0])[~mixed])
    wave = rest_grid(preset.rest_grid)
    flux = library_on_grid(library, wave)
    for row in np.flatnonzero(mixed)[:5].tolist():
        source = table.row(row, named=True)
        share = source["second_share"]
        light = (1 - share) * flux[source["template_index"]] + share * flux[source["second_template"]]
        expected = light * attenuation(DUST_LAWS[source["dust_law"]], wave, source["ebv"])
        np.testing.assert_allclose(spectra[row], expected / expected.mean(), rtol=3e-5, atol=1e-7)


def test_hot_dust_is_a_blackbody_with_its_share_of_the_light_and_changes_nothing_else(
    written, preset, library, catalog, tmp_path
):
    plain = pl.read_parquet(written[0])
    assert written[1]["n_hot_dust"] == 0 and (plain["hot_dust"] == 0.0).all()
    counts = write_training_set(
        _with(preset, hot_dust_share=0.3), library, catalog, tmp_path / "hot", progress=False
    )
    table, spectra = pl.read_parquet(tmp_path / "hot"), read_spectra(tmp_path / "hot")
    share, kelvin = table["hot_dust"].to_numpy(), table["hot_dust_k"].to_numpy()
    dusty = share > 0.0
    assert dusty.sum() == counts["n_hot_dust"]
    assert abs(dusty.mean() - 0.3) < 4.0 * np.sqrt(0.3 * 0.7 / 3000)
    assert stats.kstest(share[dusty] / MOST_HOT_DUST, "uniform").pvalue > 1e-3
    assert stats.kstest(np.log(kelvin[dusty] / LEAST_K) / np.log(MOST_K / LEAST_K), "uniform").pvalue > 1e-3
    same = ["source_id", "template_index", "second_share", "dust_law", "ebv", "z"]
    assert table.select(same).equals(plain.select(same))
    before, wave = read_spectra(written[0]), rest_grid(preset.rest_grid)
    np.testing.assert_array_equal(spectra[~dusty], before[~dusty])
    for row in np.flatnonzero(dusty)[:5]:
        light = BlackBody(float(kelvin[row]) * units.K)(wave * units.um).value
        expected = (1.0 - share[row]) * before[row] + share[row] * light / light.mean()
        np.testing.assert_allclose(spectra[row], expected, rtol=3e-5, atol=1e-7)


def test_templates_to_leave_out_are_in_no_mixture(preset, catalog, library):
    gone = tuple(catalog["template"].unique().sort().to_list()[::7])
    without = _with(preset, mixed_share=1.0).model_copy(
        update={"tables": preset.tables.model_copy(update={"leave_out": gone})}
    )
    second = augment_sources(without, catalog).second
    assert not {library.name[index] for index in np.unique(second.index)} & set(gone)


def test_fewer_spectra_than_sources_are_distinct_originals(preset, catalog):
    copies = augment_sources(_with(preset, n_spectra=100), catalog)
    assert len(set(copies.source_id)) == copies.n_unperturbed == 100


MEMORY_SCRIPT = """
import sys
from pathlib import Path
from paeplatform.catalog.mock import draw_mock_catalog
from paeplatform.catalog.training_set import read_spectra, write_training_set
from paeplatform.config import load_preset
from paeplatform.sed.library import load_library

def status(key):  # not getrusage: its maximum is inherited from the parent
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))

preset = load_preset("demo")
def sized(n):
    training_set = preset.training_set.model_copy(update={"n_spectra": n, "chunk_size": 512})
    return preset.model_copy(update={"training_set": training_set})

library, path = load_library(), Path(sys.argv[1])
catalog = draw_mock_catalog(
    preset.model_copy(update={"catalog": preset.catalog.model_copy(update={"n_sources": 3000})}), library
)
write_training_set(sized(1000), library, catalog, path, progress=False)  # caches, thread pools
read_spectra(path)
start = status("VmRSS")
write_training_set(sized(60000), library, catalog, path, progress=False)
written = status("VmHWM")
spectra = read_spectra(path)
print(written - start, status("VmHWM") - start, spectra.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_writing_and_reading_stream(tmp_path):
    """192 MB of spectra in a fresh process: writing holds a fraction of them, reading them once; neither
    twice."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT, str(tmp_path / "many.parquet")],
        capture_output=True,
        text=True,
        check=True,
    )
    written, read, raw = map(int, done.stdout.split())
    assert raw == 60000 * 800 * 4
    assert written < 0.7 * raw
    assert raw * 0.9 < read < 1.7 * raw


def test_a_failed_write_leaves_the_old_file_and_no_litter(
    written, preset, library, catalog, tmp_path, monkeypatch
):
    path = tmp_path / "training.parquet"
    path.write_bytes(b"old")
    calls = []

    def disk_full(*args):
        calls.append(args)
        if len(calls) == 3:
            raise OSError("no space left on device")
        return real(*args)

    real = training_set.attenuated_spectra
    monkeypatch.setattr(training_set, "attenuated_spectra", disk_full)
    with pytest.raises(OSError, match="no space left"):
        write_training_set(preset, library, catalog, path, progress=False)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["training.parquet"]


def test_unusable_input_is_refused(preset, library, catalog, tmp_path):
    path = tmp_path / "t.parquet"
    with pytest.raises(ConfigError, match=r"training_set.mag_z_max 10.0"):
        write_training_set(_with(preset, mag_z_max=10.0), library, catalog, path, progress=False)
    with pytest.raises(InputError, match="lacks the columns ebv"):
        write_training_set(preset, library, catalog.drop("ebv"), path, progress=False)
    foreign = catalog.with_columns(pl.lit(160, dtype=pl.Int16).alias("template_index"))
    with pytest.raises(InputError, match="template_index 160 is outside the library of 160"):
        write_training_set(preset, library, foreign, path, progress=False)
    assert not list(tmp_path.iterdir())


def test_unreadable_files_are_refused_by_name(written, catalog, tmp_path):
    with pytest.raises(InputError, match=r"nothing.parquet does not exist"):
        read_spectra(tmp_path / "nothing.parquet")
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(written[0].read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"cut.parquet is not a complete Parquet file"):
        read_spectra(cut)
    catalog.write_parquet(tmp_path / "catalog.parquet")
    with pytest.raises(InputError, match="column flux must be"):
        read_spectra(tmp_path / "catalog.parquet")
    nulls = pa.FixedSizeListArray.from_arrays(pa.array([1.0, None], pa.float32()), 2)
    pq.write_table(pa.table({"flux": nulls}), tmp_path / "nulls.parquet")
    with pytest.raises(InputError, match="column flux has nulls"):
        read_spectra(tmp_path / "nulls.parquet")
