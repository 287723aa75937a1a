"""Posterior tables come back from every format, and no half-written file is left."""

import numpy as np
import polars as pl
import pytest
from astropy.io import fits
from astropy.table import Table
from polars.testing import assert_frame_equal

from paeplatform.config import DEFAULT_TRUST, TrustConfig
from paeplatform.errors import InputError
from paeplatform.inference.files.posterior_file import check_output, write_posteriors


@pytest.fixture
def table():
    return pl.DataFrame(
        {
            "object_id": [7, -3, 2**60],
            "pae_z_mean": pl.Series([0.25, None, 1.5], dtype=pl.Float32),
            "pae_z_quantiles": pl.Series([[0.1, 0.2], None, [1.0, 2.0]], dtype=pl.Array(pl.Float32, 2)),
            "flux": pl.Series([[1.0, 2.0], [3.0, 4.0], [5.0, None]], dtype=pl.List(pl.Float64)),
            "pae_n_bands": pl.Series([102, 0, None], dtype=pl.Int16),
            "pae_status": ["converged", None, "failed"],
            "pae_reweight_allowed": [True, False, True],
            "maybe": [True, None, False],
            "ragged": [[1.0], [1.0, 2.0], None],
        }
    )


def test_parquet_keeps_everything(tmp_path, table):
    path = tmp_path / "new" / "out.parquet"
    assert write_posteriors(path, table, trust=DEFAULT_TRUST) == ()
    assert_frame_equal(pl.read_parquet(path), table)


def test_the_limits_that_made_a_table_stand_in_its_file(tmp_path, table):
    strict = TrustConfig(ess_min=400.0)
    write_posteriors(tmp_path / "out.parquet", table, trust=strict)
    write_posteriors(tmp_path / "out.fits", table, trust=strict)
    for noted in (
        pl.read_parquet_metadata(tmp_path / "out.parquet")["trust"],
        fits.getheader(tmp_path / "out.fits")["TRUST"],
    ):
        assert TrustConfig.model_validate_json(noted) == strict


def test_csv_leaves_arrays_out_and_says_so(tmp_path, table):
    path = tmp_path / "out.csv"
    left_out = ("pae_z_quantiles", "flux", "ragged")
    assert write_posteriors(path, table, trust=DEFAULT_TRUST) == left_out
    schema = {name: dtype for name, dtype in table.schema.items() if name not in left_out}
    assert_frame_equal(pl.read_csv(path, schema=schema), table.drop(left_out))


def test_fits_keeps_vectors_and_marks_what_is_missing(tmp_path, table):
    path = tmp_path / "out.fits"
    assert write_posteriors(path, table, trust=DEFAULT_TRUST) == ("ragged",)
    got = Table.read(path)
    assert got.colnames == [name for name in table.columns if name != "ragged"]
    assert got["object_id"].tolist() == [7, -3, 2**60]
    assert np.array_equal(np.ma.filled(got["pae_z_mean"], np.nan), [0.25, np.nan, 1.5], equal_nan=True)
    quantiles = np.ma.filled(got["pae_z_quantiles"], np.nan)
    assert quantiles.dtype.itemsize == 4 and np.isnan(quantiles[1]).all()
    assert quantiles[[0, 2]] == pytest.approx(np.array([[0.1, 0.2], [1.0, 2.0]]))
    assert np.array_equal(np.ma.filled(got["flux"], np.nan), [[1, 2], [3, 4], [5, np.nan]], equal_nan=True)
    assert got["pae_n_bands"].tolist() == [102, 0, None]
    assert np.ma.filled(got["pae_status"], "").tolist() == ["converged", "", "failed"]
    assert got["pae_reweight_allowed"].tolist() == [True, False, True]
    assert got["maybe"].tolist() == [1, None, 0]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".fits"])
def test_own_file_is_replaced_when_told_and_the_same_table_gives_the_same_bytes(tmp_path, table, suffix):
    path = tmp_path / f"out{suffix}"
    write_posteriors(path, table, trust=DEFAULT_TRUST)
    first = path.read_bytes()
    with pytest.raises(InputError, match=r"--output .* exists: add --overwrite"):
        write_posteriors(path, table.head(1), trust=DEFAULT_TRUST)
    assert path.read_bytes() == first
    write_posteriors(path, table.head(1), trust=DEFAULT_TRUST, overwrite=True)
    assert path.read_bytes() != first
    write_posteriors(path, table, trust=DEFAULT_TRUST, overwrite=True)
    assert path.read_bytes() == first
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".fits"])
def test_a_file_of_somebody_else_stays(tmp_path, table, suffix):
    path = tmp_path / f"out{suffix}"
    mine = table.select("object_id", "pae_z_mean")
    if suffix == ".parquet":
        mine.write_parquet(path)
    elif suffix == ".csv":
        mine.write_csv(path)
    else:
        Table({"object_id": mine["object_id"].to_numpy()}).write(path)
    before = path.read_bytes()
    for overwrite in (False, True):
        with pytest.raises(InputError, match="was not written by paeplatform"):
            write_posteriors(path, table, trust=DEFAULT_TRUST, overwrite=overwrite)
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".fits"])
def test_a_failed_write_leaves_the_older_file(tmp_path, table, suffix, monkeypatch):
    path = tmp_path / f"out{suffix}"
    write_posteriors(path, table, trust=DEFAULT_TRUST)
    before = path.read_bytes()

    def full_disc(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", full_disc)
    with pytest.raises(OSError, match="no space"):
        write_posteriors(path, table.head(1), trust=DEFAULT_TRUST, overwrite=True)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_hopeless_paths_are_refused_before_work(tmp_path):
    with pytest.raises(InputError, match=r"\.txt must be one of"):
        check_output(tmp_path / "out.txt")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        check_output(tmp_path / "folder.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is not a folder"):
        check_output(tmp_path / "file" / "deeper" / "out.csv")
    check_output(tmp_path / "not" / "yet" / "out.fits")
    assert not (tmp_path / "not").exists()
