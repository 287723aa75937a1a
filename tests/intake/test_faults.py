"""Files that are wrong end in one line that names file, column and row; nothing else ever comes out of a file."""

import gzip
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paeplatform.errors import InputError
from paeplatform.intake.options import ReadingOptions
from paeplatform.intake.sources import UserSources, holds_measurements, read_sources
from tests.intake.layouts import astropy_table, packed, write, write_packed_votable

Change = Callable[[pl.DataFrame], pl.DataFrame]
COLUMNS = ["ra", "dec", "mjd", "flags", "det_id", "lambda", "lambda_width", "flux", "flux_err"]


def refused(path: Path, parts: list[str], options: ReadingOptions = ReadingOptions()) -> None:
    with pytest.raises(InputError) as caught:
        read_sources([path], options)
    said = str(caught.value)
    assert "\n" not in said and str(path) in said and len(said) < len(str(path)) + 400, said
    for part in parts:
        assert part in said, f"{part!r} is not in {said!r}"


@pytest.fixture
def table(one: pl.DataFrame) -> pl.DataFrame:
    return one.select(COLUMNS).with_columns(flags=pl.lit(1 << 21, pl.UInt64))


# -- tables -----------------------------------------------------------------------------------------------------------
def at(column: str, value: object, row: int = 7) -> Change:
    """Another cell, as text."""

    def change(table: pl.DataFrame) -> pl.DataFrame:
        texts = table[column].cast(pl.String).to_list()
        texts[row] = value
        return table.with_columns(pl.Series(column, texts, dtype=pl.String))

    return change


def everywhere(**columns: pl.Expr) -> Change:
    return lambda table: table.with_columns(**columns)


def without(*names: str) -> Change:
    return lambda table: table.drop(names)


def renamed(**names: str) -> Change:
    return lambda table: table.rename(names)


def exchanged(one: str, other: str) -> Change:
    return lambda table: table.with_columns(pl.col(one).alias(other), pl.col(other).alias(one))


def faint(table: pl.DataFrame) -> pl.DataFrame:
    """A source that is as bright as the noise."""
    rng = np.random.default_rng(1)
    return table.with_columns(flux=pl.col("flux_err") * pl.Series(rng.normal(0.5, 1.0, table.height)))


TABLES: dict[str, tuple[Change, list[str]]] = {
    # columns that are missing or there twice
    "no wavelengths": (without("lambda"), ["no column of wavelengths", "found ra, dec", "--columns wave=NAME"]),
    "no fluxes": (without("flux"), ["no column of fluxes", "--columns flux=NAME"]),
    "no errors": (without("flux_err"), ["no column of errors of the fluxes", "--columns flux_err=NAME"]),
    "nothing of measurements": (lambda t: t.select("ra", "dec"), ["wavelengths", "nor of fluxes", "nor of errors"]),
    "ra without dec": (without("dec"), ["column ra but none of dec", "--columns dec=NAME"]),
    "dec without ra": (without("ra"), ["column dec but none of ra"]),
    "two wavelengths": (everywhere(wavelength=pl.col("lambda")), ["lambda and wavelength", "look like wave"]),
    "two fluxes": (everywhere(FLUX=pl.col("flux")), ["columns flux and FLUX both look like flux"]),
    "two errors": (everywhere(error=pl.col("flux_err")), ["flux_err and error", "--columns flux_err=flux_err"]),
    "two widths": (everywhere(fwhm=pl.lit(1.0)), ["lambda_width and fwhm", "look like width"]),
    "two detectors": (everywhere(band=pl.col("det_id")), ["det_id and band", "look like detector"]),
    "two flags": (everywhere(flag=pl.lit(0)), ["flags and flag both"]),
    "two right ascensions": (everywhere(RA=pl.col("ra")), ["ra and RA"]),
    "two ids": (everywhere(id=pl.lit(1), source_id=pl.lit(1)), ["id and source_id", "look like object_id"]),
    "two names": (everywhere(label=pl.lit("a"), target=pl.lit("a")), ["label and target", "look like name"]),
    "fluxes of channels": (
        lambda t: pl.DataFrame({f"{q}_{b}": [1.0] for q in ("flux", "flux_err") for b in range(1, 103)}),
        ["table of channels (flux_1 to flux_102)"],
    ),
    # cells that are none of their kind
    "text in fluxes": (at("flux", "bright"), ["column flux, row 7 (from 0): 'bright' is no number", "flux"]),
    "a number with a unit": (at("flux", "12.5 uJy"), ["column flux, row 7", "'12.5 uJy'"]),
    "a limit": (at("flux", "<3.2"), ["column flux, row 7", "'<3.2'"]),
    "a thousand with a comma": (at("flux", "1,234.5"), ["column flux, row 7", "'1,234.5'"]),
    "text in errors": (at("flux_err", "?"), ["column flux_err, row 7", "'?'"]),
    "text in wavelengths": (at("lambda", "K band", 0), ["column lambda, row 0", "'K band'"]),
    "text in widths": (at("lambda_width", "narrow", 100), ["column lambda_width, row 100"]),
    "a very long cell": (at("flux", "x" * 5000), ["column flux, row 7", "xxx..."]),
    "truth in fluxes": (at("flux", "true"), ["column flux, row 7", "'true'"]),
    "sexagesimal positions": (at("ra", "14:15:46.2"), ["column ra, row 7", "'14:15:46.2'", "decimal degrees"]),
    "a word in positions": (at("dec", "north"), ["column dec, row 7", "'north'"]),
    "negative flags": (at("flags", "-1"), ["column flags, row 7", "'-1'", "[0, 2^64 - 1]"]),
    "broken flags": (at("flags", "1.5"), ["column flags, row 7", "'1.5'"]),
    "flags in words": (at("flags", "GOOD"), ["column flags, row 7", "'GOOD'"]),
    "flags beyond 64 bits": (at("flags", str(2**64)), ["column flags, row 7"]),
    "true and false as flags": (everywhere(flags=pl.lit(True).cast(pl.String)), ["column flags, row 0", "'true'"]),
    "a detector in words": (at("det_id", "K"), ["column det_id, row 7", "'K'", "D1 to D6"]),
    "a broken detector": (at("det_id", "2.5"), ["column det_id, row 7", "'2.5'"]),
    "channels for detectors": (
        everywhere(det_id=pl.col("det_id") * 17),
        ["column det_id holds", "within [1, 6]", "--columns detector=NAME"],
    ),
    "reddening below zero": (
        lambda t: at("ebv", "-0.1")(everywhere(ebv=pl.lit(0.1))(t)),
        ["column ebv, row 7", "[0, 10] mag"],
    ),
    "reddening in words": (lambda t: at("ebv", "low")(everywhere(ebv=pl.lit(0.1))(t)), ["column ebv, row 7", "'low'"]),
    "two reddenings of one source": (
        lambda t: at("ebv_mw", "0.2")(everywhere(ebv_mw=pl.lit(0.1))(t)),
        ["column ebv_mw, row 7", "0.2", "one value a source"],
    ),
    # positions
    "a declination beyond the pole": (at("dec", "95.5", 3), ["column dec, row 3", "95.5", "[-90, 90] deg"]),
    "a right ascension beyond a turn": (at("ra", "5000", 3), ["column ra, row 3", "5000", "[-360, 360] deg"]),
    "ra and dec exchanged": (exchanged("ra", "dec"), ["column dec, row 0", "ra and dec look swapped"]),
    "an id with two positions": (
        lambda t: at("dec", "12.5", 3)(everywhere(object_id=pl.lit(5))(t)),
        ["source '5', row 3", "arcsec from row 0", "within 60 arcsec"],
    ),
    # columns exchanged, units
    "wavelength and width exchanged": (
        exchanged("lambda", "lambda_width"), ["columns lambda and lambda_width look swapped"],
    ),
    "flux and error of a bright source exchanged": (
        lambda t: exchanged("flux", "flux_err")(everywhere(flux=50.0 * pl.col("flux_err"))(t)),
        ["columns flux and flux_err look swapped", "exceeds flux nearly everywhere"],
    ),
    "flux and error of a faint source exchanged": (
        lambda t: exchanged("flux", "flux_err")(faint(t)),
        ["columns flux and flux_err look swapped", "negative in part", "--columns flux=flux"],
    ),
    "wavelengths in Angstrom": (
        everywhere(**{"lambda": 1e4 * pl.col("lambda"), "lambda_width": 1e4 * pl.col("lambda_width")}),
        ["column lambda", "looks like Angstrom", "[0.7, 5.1] um"],
    ),
    "wavelengths in nm": (
        everywhere(**{"lambda": 1e3 * pl.col("lambda"), "lambda_width": 1e3 * pl.col("lambda_width")}),
        ["column lambda", "looks like nm"],
    ),
    "wavelengths in m": (everywhere(**{"lambda": 1e-6 * pl.col("lambda")}), ["column lambda", "looks like m:"]),
    "frequencies for wavelengths": (everywhere(**{"lambda": 3e14 / pl.col("lambda")}), ["is no wavelength of SPHEREx"]),
    "wavelengths in another unit than stated": (
        lambda t: t.rename({"lambda": "lambda_nm"}), ["column lambda_nm", "taken in nm, as the file says"],
    ),
    "an unknown unit of wavelengths": (renamed(**{"lambda": "lambda [GHz]"}), ["is in 'GHz'", "um, nm, Angstrom or m"]),
    "an unknown unit of fluxes": (renamed(flux="flux [counts]"), ["flux [counts] is in 'counts'", "`--unit`"]),
    "surface brightness": (renamed(flux="flux [MJy/sr]"), ["is in 'MJy/sr'", "converts to Jy"]),
    "flux by wavelength": (renamed(flux="flux (erg/s/cm2/AA)"), ["is in 'erg/s/cm2/AA'"]),
    "magnitudes that may be of Vega": (renamed(flux="mag", flux_err="mag_err"), ["column mag", "must be AB"]),
    "magnitudes with errors in uJy": (
        renamed(flux="flux [ABmag]", flux_err="flux_err [uJy]"),
        ["flux [ABmag] and flux_err [uJy] are in ABmag and uJy", "both must be magnitudes or neither"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_are_wrong(table, tmp_path, name):
    change, parts = TABLES[name]
    refused(write(change(table), tmp_path / "bad.csv"), ["bad.csv", *parts])


@pytest.mark.parametrize("suffix", [".parquet", ".fits", ".ecsv", ".tbl", ".dat", ".vot", ".csv.gz"])
@pytest.mark.parametrize(
    "name", ["no wavelengths", "text in fluxes", "a declination beyond the pole", "wavelengths in nm"]
)
def test_every_format_names_the_same_faults(table, tmp_path, name, suffix):
    change, parts = TABLES[name]
    refused(write(change(table), tmp_path / f"bad{suffix}"), parts)


def test_the_unmodified_table_has_no_fault(table, tmp_path):
    assert len(read_sources([write(table, tmp_path / "good.csv")])) == 1


def test_columns_that_look_exchanged_are_taken_if_the_user_insists(table, tmp_path):
    change, _ = TABLES["flux and error of a bright source exchanged"]
    path = write(change(table), tmp_path / "a.csv")
    got = read_sources([path], ReadingOptions(columns={"flux": "flux", "flux_err": "flux_err"}))
    assert got.measurements.count[0] == table.height


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, 3.0, 30.0, 300.0])
@pytest.mark.parametrize("overestimated", [1.0, 3.0])
def test_sources_of_any_brightness_do_not_look_exchanged(table, tmp_path, factor, overestimated):
    rng = np.random.default_rng(3)
    noise = pl.Series(rng.normal(0.0, 1.0, table.height))
    some = table.with_columns(
        flux=(factor + noise) * pl.col("flux_err"), flux_err=overestimated * pl.col("flux_err")
    )
    assert len(read_sources([write(some, tmp_path / "a.csv")])) == 1
    positive = some.with_columns(flux=pl.col("flux").clip(1e-9))  # fits that allow no negative flux
    assert len(read_sources([write(positive, tmp_path / "b.csv")])) == 1


# -- files ------------------------------------------------------------------------------------------------------------
def text(table: pl.DataFrame) -> str:
    return table.write_csv()


def line(table: pl.DataFrame, number: int, change: Callable[[str], str]) -> str:
    lines = text(table).split("\n")
    lines[number] = change(lines[number])
    return "\n".join(lines)


def as_fits(table: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    astropy_table(table).write(stream, format="fits")
    return stream.getvalue()


def as_parquet(table: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    table.write_parquet(stream)
    return stream.getvalue()


def empty_fits(_: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(stream)
    return stream.getvalue()


def other_fits(_: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    tables = [fits.BinTableHDU(Table({name: [1, 2]})) for name in ("fiber", "plate")]
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(stream)
    return stream.getvalue()


def ragged_arrays(table: pl.DataFrame) -> bytes:
    wide = packed(table, ["ra", "dec"], COLUMNS[2:])
    return as_parquet(wide.with_columns(pl.col("flux_err").list.slice(1)))


def arrays_beside_numbers(table: pl.DataFrame) -> bytes:
    wide = packed(table, ["ra", "dec"], COLUMNS[2:])
    return as_parquet(wide.with_columns(pl.col("lambda").list.first()))


def nameless_arrays(table: pl.DataFrame) -> bytes:
    wide = packed(table, ["ra", "dec"], COLUMNS[2:]).drop("ra", "dec")
    return as_parquet(pl.concat([wide, wide]))


FILES: dict[str, tuple[str, Callable[[pl.DataFrame], bytes | str], list[str]]] = {
    "nothing": ("a.csv", lambda t: b"", ["is empty"]),
    "nothing, compressed": ("a.csv.gz", lambda t: gzip.compress(b""), ["is empty"]),
    "blanks": ("a.csv", lambda t: b" \n\n ", ["is empty"]),
    "comments alone": ("a.csv", lambda t: "# a\n# b\n", ["comments and no table"]),
    "a header alone": ("a.csv", lambda t: text(t[:0]), ["holds no rows"]),
    "a header alone, tabs": ("a.tsv", lambda t: t[:0].write_csv(separator="\t"), ["holds no rows"]),
    "a header alone, blanks": ("a.dat", lambda t: " ".join(t.columns), ["holds no rows"]),
    "Parquet of no rows": ("a.parquet", lambda t: as_parquet(t[:0]), ["holds no rows"]),
    "FITS of no rows": ("a.fits", lambda t: as_fits(t[:0]), ["holds no rows"]),
    "numbers without names": ("a.csv", lambda t: text(t).split("\n", 1)[1], ["begins with numbers"]),
    "UTF-16": ("a.csv", lambda t: text(t).encode("utf-16"), ["UTF-16", "UTF-8"]),
    "UTF-16 without a mark": ("a.csv", lambda t: text(t).encode("utf-16-le"), ["is zero (UTF-16?)"]),
    "Latin-1": (
        "a.csv",
        lambda t: text(t.with_columns(name=pl.lit("Ångström"))).encode("latin-1"),
        ["no UTF-8 text", "line 2"],
    ),
    "a header with a line end of its own": (
        "a.csv",
        lambda t: text(t).replace("det_id", "det\rid", 1),
        ["not a readable CSV file"],
    ),
    "a header without end": ("a.csv", lambda t: "flux," + "x" * 200_000 + "\n1,2\n", ["not a readable CSV file"]),
    "a row too long": (
        "a.csv",
        lambda t: line(t, 5, lambda row: row + ",1"),
        ["row 4 (from 0) has 10 cells", "9 columns"],
    ),
    "a row too short": (
        "a.csv",
        lambda t: line(t, 5, lambda row: row.rsplit(",", 2)[0]),
        ["row 4 (from 0) has 7 cells", "9 columns"],
    ),
    "cut off": ("a.csv", lambda t: text(t)[:4000].rsplit(",", 1)[0], ["was the file cut off?"]),
    "an open quotation": ("a.csv", lambda t: line(t, 5, lambda row: '"' + row), ["row 4", "quotation mark"]),
    "a row too long, blanks": (
        "a.dat",
        lambda t: "\n".join(line(t, 5, lambda row: row + ",1").replace(",", " ").split("\n")),
        ["not a readable text file"],
    ),
    "no gzip": ("a.csv.gz", lambda t: b"\x1f\x8b" + text(t).encode(), ["not a readable gzip file"]),
    "gzip cut off": ("a.csv.gz", lambda t: gzip.compress(text(t).encode())[:-50], ["not a readable gzip file"]),
    "FITS cut off": ("a.fits", lambda t: as_fits(t)[:6000], ["not a readable FITS file"]),
    "Parquet cut off": ("a.parquet", lambda t: as_parquet(t)[:-100], ["not a readable Parquet file"]),
    "no FITS": ("a.fits", text, ["not a readable FITS file", "begin like one"]),
    "no Parquet": ("a.parquet", text, ["not a readable Parquet file"]),
    "no VOTable": ("a.vot", text, ["not a readable VOTable file"]),
    "an image": ("a.fits", empty_fits, ["holds no table"]),
    "tables of other things": ("a.fits", other_fits, ["no column of wavelengths", "none of its 2 tables"]),
    "a spreadsheet": ("a.xlsx", lambda t: b"PK\x03\x04 and more", ["a ZIP archive", "CSV"]),
    "HDF5": ("a.h5", lambda t: b"\x89HDF\r\n\x1a\n", ["is HDF5"]),
    "a NumPy array": ("a.npy", lambda t: b"\x93NUMPY\x01\x00", ["is a NumPy array"]),
    "a web page": ("a.csv", lambda t: "<!DOCTYPE html><html><body>Login</body></html>", ["is an HTML page"]),
    "another XML": ("a.xml", lambda t: "<?xml version='1.0'?><a/>", ["not a readable VOTable"]),
    "a VOTable cut off": ("a.xml", lambda t: "<?xml version='1.0'?><VOTABLE><RESOURCE>", ["not a readable VOTable"]),
    "a VOTable without a table": (
        "a.xml",
        lambda t: "<VOTABLE version='1.4' xmlns='http://www.ivoa.net/xml/VOTable/v1.3'><RESOURCE/></VOTABLE>",
        ["holds no table"],
    ),
    "a broken ECSV": ("a.ecsv", lambda t: "# %ECSV 1.0\n# ---\n# datatype: 7\na b\n1 2\n", ["not a readable ECSV"]),
    "a broken IPAC table": ("a.tbl", lambda t: "|a|b|\n|double|\n 1 2\n", ["not a readable IPAC table"]),
    "prose": ("a.txt", lambda t: "Dear all,\nhere is the spectrum.\n", ["row 0 (from 0) has 1 cells", "2 columns"]),
    "arrays of two lengths": (
        "a.parquet",
        ragged_arrays,
        ["column flux_err, row 0 (from 0)", "values, but flux has"],
    ),
    "arrays beside numbers": (
        "a.parquet",
        arrays_beside_numbers,
        ["column lambda has one value a row", "has an array"],
    ),
    "arrays of nobody": ("a.parquet", nameless_arrays, ["2 rows with arrays", "ids, names nor positions"]),
    "times for fluxes": (
        "a.parquet",
        lambda t: as_parquet(t.with_columns(flux=pl.lit("2026-08-01").str.to_date())),
        ["column flux is Date", "a flux is expected"],
    ),
    "truth for flags": (
        "a.parquet",
        lambda t: as_parquet(t.with_columns(flags=pl.lit(True))),
        ["column flags is true or false", "64 bits"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_wrong(table, tmp_path, name):
    file_name, make, parts = FILES[name]
    content = make(table)
    path = tmp_path / file_name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    refused(path, parts)


def test_there_are_sixty_ways_of_being_wrong():
    assert len(TABLES) + len(FILES) >= 60


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "link to nothing"])
def test_paths_that_are_no_file(tmp_path, kind):
    path = tmp_path / "a.csv"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "link to nothing":
        path.symlink_to(tmp_path / "gone.csv")
    refused(path, ["does not exist" if kind in ("missing", "link to nothing") else "is no regular file"])
    with pytest.raises(InputError, match=r"a\.csv"):
        holds_measurements(path)


def test_no_file_and_one_file_twice(table, tmp_path):
    with pytest.raises(InputError, match="no file of measurements is given"):
        read_sources([])
    path = write(table, tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"a\.csv is given twice"):
        read_sources([path, tmp_path / "." / "a.csv"])


def test_a_name_means_the_file_of_that_name(table, tmp_path):
    for name in ("cat[1].csv", "c*t1.csv", "cat?.csv", "{cat1}.csv", "é #1.csv"):
        other = write(table[:5], tmp_path / "cat1.csv")
        refused(tmp_path / name, ["does not exist"])
        assert read_sources([write(table, tmp_path / name)]).n_rows == table.height
        assert read_sources([other]).n_rows == 5


def test_one_row_is_a_source(table, tmp_path):
    for suffix in (".csv", ".parquet", ".fits", ".ecsv", ".tbl", ".vot", ".dat"):
        got = read_sources([write(table[:1], tmp_path / f"a{suffix}")])
        assert got.measurements.count.tolist() == [1]


def test_a_file_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("paeplatform.intake.content.MOST_UNPACKED_BYTES", 1000)
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"1" * 100_000))
    refused(path, ["unpacks to more than"])


def test_pickles_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    np.save(tmp_path / "trap.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    for suffix in (".parquet", ".csv", ".fits", ".ecsv", ".vot", ".tbl"):
        path = (tmp_path / "trap.npy").rename(tmp_path / f"trap{suffix}")
        with pytest.raises(InputError):
            read_sources([path])
        path.rename(tmp_path / "trap.npy")
    assert not (tmp_path / "ran").exists()


# -- anything at all --------------------------------------------------------------------------------------------------
def outcome(name: str, content: bytes) -> UserSources | str:
    """The sources of a file of this content, or the one line that says why there are none; nothing else may happen."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            holds_measurements(path)
            got = read_sources([path])
        except InputError as error:
            said = str(error)
            got = None
        if got is None:
            assert "\n" not in said and str(path) in said
            return said
        assert got.n_rows == len(got.measurements.flux) + got.set_aside.height
        assert np.isfinite(got.measurements.flux).all() and (got.measurements.flux_err > 0).all()
        assert len(set(got.object_id.tolist())) == len(got)
        return got


@pytest.fixture(scope="session")
def good_files(one: pl.DataFrame, tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("good")
    small = one.select(COLUMNS)[:20]
    paths = [
        write(small, folder / f"a{suffix}")
        for suffix in (".csv", ".dat", ".parquet", ".fits", ".ecsv", ".tbl", ".vot")
    ]
    paths.append(write(small, folder / "b.csv.gz"))
    wide = packed(small.with_columns(pl.col("det_id").cast(pl.Int64)), ["ra", "dec"], COLUMNS[2:])
    paths.append(write_packed_votable(wide, folder / "wide.vot", units={"flux": "uJy"}))
    paths.append(write_packed_votable(wide, folder / "wide2.vot", units={}, serialisation="binary2"))
    return {path.name: path.read_bytes() for path in paths}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_damaged_files_end_in_one_line_or_in_a_result(good_files, data):
    """Cut off anywhere, with bytes changed, left out or added."""
    for name, content in good_files.items():
        start = data.draw(st.integers(0, len(content) - 1))
        piece = data.draw(st.binary(max_size=12))
        how = data.draw(st.sampled_from(["cut", "replace", "insert", "remove"]))
        rest = {
            "cut": b"",
            "replace": content[start + len(piece) :],
            "insert": content[start:],
            "remove": content[start + 40 :],
        }
        outcome(name, content[:start] + (b"" if how in ("cut", "remove") else piece) + rest[how])


@settings(max_examples=150)
@given(
    st.sampled_from(
        [
            "",
            "PAR1",
            "SIMPLE  =",
            "# %ECSV 1.0\n",
            "|",
            "\\",
            "<VOTABLE>",
            "<?xml ",
            "flux,flux_err,lambda\n",
            "a b c\n",
        ]
    ),
    st.one_of(st.binary(max_size=300), st.text(max_size=200).map(str.encode)),
    st.sampled_from([".csv", ".txt", ".fits", ".parquet", ".vot", ".ecsv", ".tbl", ".csv.gz", ""]),
)
def test_random_bytes_end_in_one_line_or_in_a_result(start, content, suffix):
    outcome(f"noise{suffix}", start.encode() + content)


@settings(max_examples=150)
@given(
    st.lists(
        st.lists(
            st.sampled_from(
                ["", "1", "2.5", "nan", "null", "-99", "D3", '"', "x", "1e400", "2097152", "0", "-1"]
            ),
            min_size=5,
            max_size=5,
        ),
        max_size=8,
    ),
    st.sampled_from([",", "\t", ";", " ", "|"]),
)
def test_cells_of_any_kind_end_in_one_line_or_in_a_result(cells, separator):
    names = ["flux", "flux_err", "wavelength", "flags", "band"]
    content = "\n".join(separator.join(row) for row in [names, *cells])
    outcome("a.csv", content.encode())


def test_undamaged_files_are_read(good_files):
    for name, content in good_files.items():
        got = outcome(name, content)
        assert isinstance(got, UserSources) and got.n_rows == 20, got
