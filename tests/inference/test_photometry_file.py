"""Photometry files of every layout give the same numbers; each fault is named with file, column and row."""

import os

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table

from paeplatform.errors import BandSetError, InputError
from paeplatform.inference.files.photometry_file import read_photometry_file
from tests.intake import layouts

N_BANDS = 12
IDS = np.array([30, -4, 2**62])


@pytest.fixture
def photometry():
    rng = np.random.default_rng(0)
    flux = rng.normal(size=(3, N_BANDS)) * 10.0
    flux_err = rng.uniform(0.5, 2.0, size=flux.shape)
    flux[0, 3], flux_err[2, 5] = np.nan, np.inf
    return flux, flux_err


def wide(flux, flux_err, name="{quantity}_{band}"):
    return {
        name.format(quantity=quantity, band=band + 1): values[:, band]
        for quantity, values in (("flux", flux), ("flux_err", flux_err))
        for band in range(values.shape[1])
    }


def arrays(flux, flux_err, kind=pl.Array):
    dtype = pl.Array(pl.Float64, flux.shape[1]) if kind is pl.Array else pl.List(pl.Float64)
    return {
        name: pl.Series(name, values.tolist(), dtype=dtype)
        for name, values in (("flux", flux), ("flux_err", flux_err))
    }


def write(path, layout, flux, flux_err):
    """A file with object_id and z_true in the given layout."""
    others = {"object_id": IDS, "z_true": np.array([0.1, 0.2, 0.3])}
    if layout.startswith("fits"):
        columns = {"flux": flux, "flux_err": flux_err} if layout == "fits vectors" else wide(flux, flux_err)
        Table(others | columns).write(path, format="fits")
        return
    columns = {
        "arrays": lambda: arrays(flux, flux_err),
        "lists": lambda: arrays(flux, flux_err, pl.List),
        "wide": lambda: wide(flux, flux_err),
        "padded": lambda: wide(flux, flux_err, "{quantity}_{band:03d}"),
    }[layout]()
    table = pl.DataFrame(others | columns)
    # the order of columns says nothing
    table = table.select(table.columns[::-1])
    table.write_csv(path) if path.suffix == ".csv" else table.write_parquet(path)


@pytest.mark.parametrize(
    ("suffix", "layout"),
    [
        (".parquet", "arrays"),
        (".parquet", "lists"),
        (".parquet", "wide"),
        (".csv", "wide"),
        (".csv", "padded"),
        (".fits", "fits vectors"),
        (".FITS", "fits wide"),
    ],
)
def test_every_layout_gives_the_same_numbers(tmp_path, photometry, suffix, layout):
    path = tmp_path / f"photometry{suffix}"
    write(path, layout, *photometry)
    got = read_photometry_file(path, N_BANDS)
    assert np.array_equal(got.flux, photometry[0], equal_nan=True)
    assert np.array_equal(got.flux_err, photometry[1], equal_nan=True)
    assert got.flux.dtype == np.float64 and got.flux.dtype.isnative
    assert np.array_equal(got.object_id, IDS) and got.object_id.dtype == np.int64
    assert got.extra.columns == ["z_true"]
    assert got.extra["z_true"].to_list() == [0.1, 0.2, 0.3] and got.extra["z_true"].dtype == pl.Float64
    said = [warning for warning in got.warnings if "states no unit" not in warning]
    assert said == []


@pytest.mark.parametrize(
    ("suffix", "layout"), [(".parquet", "arrays"), (".csv", "wide"), (".fits", "fits vectors")]
)
@pytest.mark.parametrize("name", ["cat[1]", "c*t1", "cat?", "{cat1}", "é #1"])
def test_a_name_means_the_file_of_that_name(tmp_path, photometry, name, suffix, layout):
    flux, flux_err = photometry
    write(tmp_path / f"cat1{suffix}", layout, flux + 5.0, flux_err)
    with pytest.raises(InputError, match="does not exist"):
        read_photometry_file(tmp_path / f"{name}{suffix}", N_BANDS)
    write(tmp_path / f"{name}{suffix}", layout, flux, flux_err)
    got = read_photometry_file(tmp_path / f"{name}{suffix}", N_BANDS)
    assert np.array_equal(got.flux, flux, equal_nan=True)


def test_without_object_id_rows_are_numbered_and_that_is_said(tmp_path, photometry):
    path = tmp_path / "few.parquet"
    pl.DataFrame(arrays(*photometry)).write_parquet(path)
    got = read_photometry_file(path, N_BANDS)
    assert got.object_id.tolist() == [0, 1, 2]
    assert len(got.warnings) == 1 and "object_id" in got.warnings[0]
    assert got.extra.height in {0, 3} and got.extra.width == 0


def test_missing_values_become_nan(tmp_path):
    path = tmp_path / "gaps.csv"
    path.write_text(
        "# from elsewhere\nobject_id,flux_1,flux_2,flux_err_1,flux_err_2\n1, 2.5,,1.0,NaN\n2,1,7,inf,0.5\n"
    )
    got = read_photometry_file(path, 2)
    assert np.array_equal(got.flux, [[2.5, np.nan], [1.0, 7.0]], equal_nan=True)
    assert np.array_equal(got.flux_err, [[1.0, np.nan], [np.inf, 0.5]], equal_nan=True)
    table = pl.DataFrame({"flux": [[1.0, None], None], "flux_err": [[1.0, 2.0], [1.0, 2.0]]})
    table.write_parquet(tmp_path / "gaps.parquet")
    got = read_photometry_file(tmp_path / "gaps.parquet", 2)
    assert np.array_equal(got.flux, [[1.0, np.nan], [np.nan, np.nan]], equal_nan=True)


@pytest.mark.parametrize(("unit", "factor"), [("Jy", 1e6), ("mJy", 1e3), ("uJy", 1.0), ("nJy", 1e-3)])
@pytest.mark.parametrize("where", ["fits", "column", "file"])
def test_stated_units_are_converted(tmp_path, photometry, unit, factor, where):
    flux, flux_err = photometry
    if where == "fits":
        path = tmp_path / "units.fits"
        table = Table({"flux": flux, "flux_err": flux_err * factor})
        table["flux"].unit, table["flux_err"].unit = unit, "uJy"
        table.write(path)
    else:
        path = tmp_path / "units.parquet"
        table = pl.DataFrame(arrays(flux, flux_err)).to_arrow()
        metadata = {"unit": unit}
        if where == "file":
            table = table.replace_schema_metadata(metadata)
        else:
            field = table.schema.field("flux").with_metadata(metadata)
            table = table.cast(pa.schema([field, table.schema.field("flux_err")]))
        pq.write_table(table, path)
    got = read_photometry_file(path, N_BANDS)
    assert np.allclose(got.flux, factor * flux, rtol=1e-14, equal_nan=True)
    expected_err = flux_err if where == "column" else factor * flux_err
    assert np.allclose(got.flux_err, expected_err, rtol=1e-14, equal_nan=True)
    assert not [warning for warning in got.warnings if "states no unit" in warning]


@pytest.mark.parametrize("unit", ["erg / (s cm2)", "MJy", "mag", "ujy"])
def test_other_units_are_refused(tmp_path, photometry, unit):
    path = tmp_path / "units.fits"
    table = Table({"flux": photometry[0], "flux_err": photometry[1]})
    table.write(path)
    with fits.open(path, mode="update") as hdus:
        hdus[1].header["TUNIT2"] = unit
    with pytest.raises(BandSetError, match=r"units\.fits: column flux_err is in .*uJy"):
        read_photometry_file(path, N_BANDS)


def test_fits_extras_of_every_kind(tmp_path, photometry):
    path = tmp_path / "extras.fits"
    table = Table({"flux": photometry[0], "flux_err": photometry[1]})
    table["name"] = ["NGC 1", "b", "c"]
    table["cube"] = np.zeros((3, 2, 2))
    table["field"] = np.array([1, 2, 3], np.int16)
    table = Table(table, masked=True)
    table["field"].mask[1] = True
    table.write(path)
    hdus = fits.open(path)
    hdus.append(fits.BinTableHDU(Table({"a": [1]})))
    hdus.writeto(path, overwrite=True)
    got = read_photometry_file(path, N_BANDS)
    assert got.extra.columns == ["name", "field"]
    assert got.extra["name"].to_list() == ["NGC 1", "b", "c"]
    assert got.extra["field"].to_list() == [1, None, 3]
    assert "2 tables" in got.warnings[0] and any("cube" in warning for warning in got.warnings)
    assert sum("states no unit" in warning for warning in got.warnings) == 2


def replaced(table, **changes):
    return table.with_columns(**{name: pl.Series(name, values) for name, values in changes.items()})


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda t: t.drop("flux_err"), ["no column flux_err", "flux_err_1 to flux_err_12", "object_id"]),
        (lambda t: t.drop("flux"), ["no column flux ", "array of 12"]),
        (
            lambda t: replaced(t, flux=[[1.0] * 12, [1.0] * 11, [1.0] * 12]),
            ["flux, row 1", "11 values", "12"],
        ),
        (lambda t: replaced(t, flux=[["a"] * 12] * 3), ["column flux is List(String)"]),
        (lambda t: replaced(t, flux=[1.0, 2.0, 3.0]), ["column flux is Float64", "array of 12"]),
        (lambda t: replaced(t, flux_1=[1.0, 2.0, 3.0]), ["flux and flux_1", "one of the two"]),
        (lambda t: replaced(t, object_id=[5, 7, 5]), ["object_id: 5", "rows 0 and 2", "distinct"]),
        (lambda t: replaced(t, object_id=["a", "b", "c"]), ["object_id is String", "integers"]),
        (lambda t: replaced(t, object_id=[1.0, 2.0, 3.0]), ["object_id is Float64"]),
        (lambda t: replaced(t, object_id=[1, None, 3]), ["object_id, row 1", "empty"]),
        (
            lambda t: replaced(t, object_id=pl.Series([1, 2, 2**63], dtype=pl.UInt64)),
            ["row 2", "9223372036854775808"],
        ),
        (lambda t: t.clear(), ["no rows"]),
    ],
)
def test_faults_of_tables_are_named(tmp_path, photometry, change, parts):
    path = tmp_path / "bad.parquet"
    change(pl.DataFrame({"object_id": IDS} | arrays(*photometry))).write_parquet(path)
    with pytest.raises(InputError) as caught:
        read_photometry_file(path, N_BANDS)
    for part in (str(path), *parts):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("header", "row", "parts"),
    [
        ("flux_1,flux_2,flux_err_1", "1,2,1", ["column flux_err_2 is missing", "flux_err_1 to flux_err_2"]),
        ("flux_1,flux_2,flux_3,flux_err_1,flux_err_2", "1,2,3,1,1", ["flux_3", "1 to 2"]),
        ("flux_0,flux_1,flux_err_0,flux_err_1", "1,2,1,1", ["flux_0", "1 to 2"]),
        ("flux_1,flux_01,flux_2,flux_err_1,flux_err_2", "1,2,3,1,1", ["flux_1 and flux_01"]),
        ("flux_1,flux_2,flux_err_1,flux_err_2", "1,bright,1,1", ["flux_2, row 1", "'bright'", "uJy"]),
        ("flux_1,flux_2,flux_err_1,flux_err_2", "1,true,1,1", ["flux_2, row 1"]),
        ("flux_1,flux_2,flux_err_1,flux_err_2", "1,2,3,4,5", ["row 1", "5 cells", "4 columns"]),
        ("object_id,flux_1,flux_2,flux_err_1,flux_err_2", "a,2,3,4,5", ["object_id is String", "integers"]),
    ],
)
def test_faults_of_csv_are_named(tmp_path, header, row, parts):
    path = tmp_path / "bad.csv"
    good = ",".join(["1"] * len(header.split(",")))
    path.write_text(f"{header}\n{good}\n{row}\n")
    with pytest.raises(InputError) as caught:
        read_photometry_file(path, 2)
    for part in (str(path), *parts):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".fits"])
def test_files_that_cannot_be_read(tmp_path, suffix):
    path = tmp_path / f"noise{suffix}"
    with pytest.raises(InputError, match="does not exist"):
        read_photometry_file(path, N_BANDS)
    path.write_bytes(b"\x00\xff\xfe" * 700)
    with pytest.raises(InputError) as caught:
        read_photometry_file(path, N_BANDS)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="noise"):
        read_photometry_file(path, N_BANDS)
    with pytest.raises(InputError, match="does not exist"):
        read_photometry_file(tmp_path.with_suffix(suffix), N_BANDS)


def test_other_kinds_of_files_are_refused_and_pickles_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    np.save(tmp_path / "trap.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    for suffix in (".npy", ".parquet", ".csv", ".fits"):
        (tmp_path / "trap.npy").rename(tmp_path / f"trap{suffix}")
        with pytest.raises(InputError, match="is a NumPy array; it must be CSV"):
            read_photometry_file(tmp_path / f"trap{suffix}", N_BANDS)
        (tmp_path / f"trap{suffix}").rename(tmp_path / "trap.npy")
    assert not (tmp_path / "ran").exists()


# -- files of other programs ------------------------------------------------------------------------------------------
def assert_photometry(got, photometry):
    np.testing.assert_array_equal(got.flux, photometry[0])
    np.testing.assert_array_equal(got.flux_err, photometry[1])
    assert got.object_id.tolist() == IDS.tolist()


def test_arrays_of_variable_length(tmp_path, photometry):
    columns = [fits.Column("object_id", "K", array=IDS)]
    for name, values in zip(("flux", "flux_err"), photometry, strict=True):
        cells = np.empty(3, dtype=object)
        cells[:] = list(values / 1e3)
        columns.append(fits.Column(name, "PD()", array=cells, unit="mJy"))
    path = tmp_path / "variable.fits"
    fits.BinTableHDU.from_columns(columns).writeto(path)
    got = read_photometry_file(path, N_BANDS)
    np.testing.assert_allclose(got.flux, photometry[0], rtol=1e-15)
    np.testing.assert_allclose(got.flux_err, photometry[1], rtol=1e-15)
    assert got.object_id.tolist() == IDS.tolist() and got.warnings == ()
    with fits.open(path, mode="update") as hdus:
        hdus[1].data["flux"][1] = np.ones(5)
    with pytest.raises(BandSetError, match=r"column flux, row 1 \(from 0\): 5 values, expected 12"):
        read_photometry_file(path, N_BANDS)


def test_photometry_after_another_table(tmp_path, photometry):
    names = {"object_id": IDS, "flux": photometry[0], "flux_err": photometry[1]}
    path = tmp_path / "second.fits"
    tables = [fits.BinTableHDU(Table({"fiber": IDS})), fits.BinTableHDU(Table(names))]
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(path)
    got = read_photometry_file(path, N_BANDS)
    assert_photometry(got, photometry)
    assert "2 tables" in got.warnings[0] and got.extra.columns == []
    # where none of the tables will do, the one that has fluxes is spoken of
    tables[1] = fits.BinTableHDU(Table({name: names[name] for name in ("object_id", "flux")}))
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(path, overwrite=True)
    with pytest.raises(BandSetError, match=r"no column flux_err .* found object_id, flux$"):
        read_photometry_file(path, N_BANDS)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("comma", [False, True])
def test_separators_of_other_programs(tmp_path, photometry, separator, comma):
    table = pl.DataFrame({"object_id": IDS, "field": ["a", "b", "c"]} | wide(*photometry))
    text = table.write_csv(separator=separator)
    if comma and separator != "|":
        text = text.replace(".", ",")
    path = tmp_path / "photometry.csv"
    path.write_text(text, encoding="utf-8-sig")
    got = read_photometry_file(path, N_BANDS)
    assert_photometry(got, photometry)
    assert got.extra["field"].to_list() == ["a", "b", "c"]
    assert any("decimal commas" in warning for warning in got.warnings) == (comma and separator != "|")


@pytest.mark.parametrize("name", ["a.csv.gz", "a.ecsv", "a.tbl", "a.vot", "a.dat"])
def test_formats_of_measurements_hold_channels_too(tmp_path, photometry, name):
    table = pl.DataFrame({"object_id": IDS} | wide(*photometry))
    if name.endswith((".tbl", ".dat")):  # which have no infinity, and where a missing number shortens the row
        table = table.with_columns(pl.selectors.float().fill_nan(0.5))
        photometry = tuple(
            table.select(f"{quantity}_{band}" for band in range(1, N_BANDS + 1)).to_numpy()
            for quantity in ("flux", "flux_err")
        )
    path = layouts.write(table, tmp_path / name)
    assert_photometry(read_photometry_file(path, N_BANDS), photometry)


def test_text_of_a_file_with_types_stays_text(tmp_path, photometry):
    names = ["007", "008", "009"]
    table = pl.DataFrame({"object_id": IDS, "tile": names} | arrays(*photometry))
    table.write_parquet(tmp_path / "a.parquet")
    got = read_photometry_file(tmp_path / "a.parquet", N_BANDS)
    assert got.extra["tile"].to_list() == names


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_text_in_another_encoding_ends_in_one_line(tmp_path, encoding):
    path = tmp_path / "a.csv"
    path.write_bytes("flux_1,flux_err_1,Größe\n1,1,2\n".encode(encoding))
    with pytest.raises(InputError, match="UTF-") as caught:
        read_photometry_file(path, 1)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 300
