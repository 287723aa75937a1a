"""Every shape of file that users have gives the measurements of the native table, to the digits that it carries."""

import gzip
import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table

from paeplatform.intake.sources import holds_measurements, read_sources
from paeplatform.release.schema import EXPOSURE_SCHEMA, source_id
from tests.intake.layouts import (
    FLOAT32,
    FLOAT64,
    OLDER,
    assert_measured,
    astropy_table,
    expected,
    packed,
    write,
    write_packed_votable,
)

UNITS = {"lambda": "um", "lambda_width": "um", "flux": "uJy", "flux_err": "uJy", "ra": "deg", "dec": "deg"}


def position_ids(rows: pl.DataFrame) -> list[int]:
    positions = rows.select("ra", "dec").unique(maintain_order=True)
    return source_id(positions["ra"].to_numpy(), positions["dec"].to_numpy()).tolist()


# -- exports of IRSA's tool, one row a measurement --------------------------------------------------------------------
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".fits", ".ecsv", ".tbl", ".vot"])
@pytest.mark.parametrize("columns", [OLDER, list(EXPOSURE_SCHEMA)], ids=["17", "21"])
@pytest.mark.parametrize("compressed", ["", ".gz"])
def test_an_export_in_every_format(rows, tmp_path, suffix, columns, compressed):
    path = write(rows.select(columns), tmp_path / f"export{suffix}{compressed}")
    assert holds_measurements(path)
    got = read_sources([path])
    assert_measured(got, expected(rows))
    assert got.object_id.tolist() == position_ids(rows) and got.object_id.dtype == np.int64
    assert got.n_rows == rows.height and got.n_rows == len(got.measurements.flux) + got.set_aside.height
    assert set(got.set_aside["reason"].str.extract(r"^(\w+)").to_list()) == {"flagged"}
    assert np.isnan(got.ebv_mw).all()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".ssv", ".dat"])
def test_text_with_any_separator(rows, tmp_path, suffix):
    # the observation's name has no blanks, so that it is one cell between blanks too
    assert_measured(read_sources([write(rows, tmp_path / f"export{suffix}")]), expected(rows))


def test_a_source_of_float32_columns_carries_their_digits(rows, tmp_path):
    narrow = rows.with_columns(pl.col("lambda", "lambda_width", "flux", "flux_err").cast(pl.Float32))
    for suffix in (".parquet", ".fits"):
        got = read_sources([write(narrow, tmp_path / f"narrow{suffix}")])
        assert_measured(got, expected(rows), FLOAT32)
        assert got.measurements.flux.dtype == np.float64
        with pytest.raises(AssertionError):  # the precision is that of float32 and no better
            assert_measured(got, expected(rows), FLOAT64)


def test_printed_decimals_carry_their_digits(rows, tmp_path):
    table = rows.with_columns(pl.col("lambda", "lambda_width", "flux", "flux_err").round(4))
    got = read_sources([write(table, tmp_path / "printed.csv")])
    for source, wanted in enumerate(expected(rows)):
        some = got.measurements.rows(np.array([source]))
        assert np.abs(some.flux - wanted["flux"]).max() <= 5e-5 * (1 + 1e-9)
        assert np.abs(some.width_um - wanted["width_um"]).max() <= 5e-5 * (1 + 1e-9)


# -- one row a source -------------------------------------------------------------------------------------------------
def wide(rows: pl.DataFrame) -> pl.DataFrame:
    """The packed form: a label, and the measurements in arrays."""
    measured = rows.with_columns(
        pl.col("det_id").cast(pl.Int64), wavelength=pl.col("lambda"), width=pl.col("lambda_width")
    )
    columns = ["wavelength", "width", "flux", "flux_err", "flags", "det_id", "mjd", "data_collection"]
    table = packed(measured, ["ra", "dec"], columns)
    return table.with_columns(
        label=pl.format("galaxy {}", pl.int_range(pl.len())), n_meas=pl.col("flux").list.len().cast(pl.Int64)
    )


@pytest.mark.parametrize("serialisation", ["tabledata", "binary", "binary2"])
@pytest.mark.parametrize(("unit", "factor"), [("uJy", 1.0), ("mJy", 1e-3)])
def test_the_packed_votable(rows, tmp_path, serialisation, unit, factor):
    table = wide(rows).with_columns(pl.col("flux", "flux_err").list.eval(pl.element() * factor))
    units = {"flux": unit, "flux_err": unit, "wavelength": "um", "width": "um", "ra": "deg", "dec": "deg"}
    path = write_packed_votable(table, tmp_path / "wide.xml", units=units, serialisation=serialisation)
    assert b'arraysize="12x*"' in path.read_bytes()
    assert holds_measurements(path)
    got = read_sources([path])
    assert_measured(got, expected(rows))
    assert got.name == tuple(f"galaxy {number}" for number in range(4))
    assert got.object_id.tolist() == position_ids(rows)
    assert got.extra["n_meas"].to_list() == table["n_meas"].to_list()
    assert not any("states no unit" in note or "left out" in note for note in got.notes)


def test_text_arrays_of_a_votable_are_taken_apart(rows, tmp_path):
    table = (
        wide(rows)
        .with_columns(
            pl.col("data_collection").list.eval(
                pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("spherex_qr2")).otherwise(pl.element())
            ),
            band=pl.col("det_id").list.eval(pl.format("D{}", pl.element())),
        )
        .drop("det_id", "width")
    )
    path = write_packed_votable(table, tmp_path / "wide.vot", units={"flux": "uJy"})
    got = read_sources([path])
    assert any("QR2 and QR3" in note for note in got.notes)
    # widths come from the detectors, which stand in an array of texts
    some, wanted = got.measurements.rows(np.array([0])), expected(rows)[0]
    np.testing.assert_allclose(some.width_um, wanted["width_um"], rtol=0.1)  # of the nearest channel
    assert any("nearest channel by detector" in note for note in got.notes)


def test_the_packed_votable_of_five_arrays(rows, tmp_path):
    """As public readers of the tool's answer have it: neither widths nor detectors."""
    keep = ["label", "ra", "dec", "wavelength", "flux", "flux_err", "flags", "data_collection"]
    path = write_packed_votable(
        wide(rows).select(keep), tmp_path / "irsa.xml", units={"flux": "uJy", "flux_err": "uJy"}
    )
    got = read_sources([path])
    assert_measured(
        got, [{name: one[name] for name in ("flux", "flux_err", "wave_um")} for one in expected(rows)]
    )
    assert got.notes == (
        "irsa.xml: there is no column of widths: each is that of the nearest channel by wavelength",
    )


@pytest.mark.parametrize("layout", ["list parquet", "array parquet", "variable fits", "fixed fits", "ecsv"])
def test_packed_tables_of_other_formats(rows, tmp_path, layout):
    table = wide(rows).drop("data_collection")
    arrays = [name for name, dtype in table.schema.items() if isinstance(dtype, pl.List)]
    if layout == "list parquet":
        path = write(table, tmp_path / "wide.parquet")
    elif layout == "array parquet":
        longest = table["flux"].list.len().max()
        filled = table.with_columns(
            pl.col(name).list.eval(pl.element().cast(pl.Float64)).list.to_array(longest)
            if table[name].list.len().min() == longest
            else pl.Series(
                name, [row + [None] * (longest - len(row)) for row in table[name].to_list()]
            ).list.to_array(longest)
            for name in arrays
        )
        path = write(filled, tmp_path / "wide.parquet")
    else:
        made = astropy_table(table.drop(arrays))
        longest = table["flux"].list.len().max()
        for name in arrays:
            cells = [
                np.array(cell, np.float64 if name != "flags" else np.int64) for cell in table[name].to_list()
            ]
            if layout == "fixed fits":
                blank = -1 if name == "flags" else np.nan
                values = [
                    np.concatenate([cell, np.full(longest - len(cell), blank, cell.dtype)]) for cell in cells
                ]
                mask = [np.arange(longest) >= len(cell) for cell in cells]
                made[name] = np.ma.array(values, mask=mask) if name == "flags" else np.array(values)
            else:
                column = np.empty(len(cells), object)
                column[:] = cells
                made[name] = column
        path = tmp_path / ("wide.ecsv" if layout == "ecsv" else "wide.fits")
        if layout == "variable fits":
            columns = [
                fits.Column(name, "PK()" if name == "flags" else "PD()", array=made[name].data)
                if name in arrays
                else fits.Column(
                    name, {"f": "D", "i": "K", "U": "20A"}[made[name].dtype.kind], array=made[name]
                )
                for name in made.colnames
            ]
            fits.BinTableHDU.from_columns(columns).writeto(path)
        else:
            made.write(path, format="ascii.ecsv" if layout == "ecsv" else "fits")
    got = read_sources([path])
    assert_measured(got, expected(rows))
    assert got.n_rows == rows.height, "places that fill up arrays are no measurements"


# -- tables of other makers -------------------------------------------------------------------------------------------
def foreign(one: pl.DataFrame) -> pl.DataFrame:
    """As forced photometry of other programs: their names, detectors as D3, no position."""
    return one.select(
        pl.col("mjd"),
        pl.col("lambda").alias("wavelength"),
        pl.col("lambda_width").alias("bandwidth"),
        "flux",
        pl.col("flux_err").alias("flux_error"),
        pl.col("flags").alias("flag"),
        pl.format("D{}", pl.col("det_id")).alias("band"),
    )


@pytest.mark.parametrize("suffix", [".csv", ".ssv", ".dat"])
@pytest.mark.parametrize("where", ["comment", "file name"])
def test_a_table_of_another_maker(one, tmp_path, suffix, where):
    path = write(foreign(one), tmp_path / f"H1413+117{suffix}")
    name = "H1413+117"
    if where == "comment":
        name = "the Cloverleaf"
        path.write_text(
            f"# name: {name}\n# RA = 213.942708 deg\n# Dec = 11.495389\n# units: uJy?\n" + path.read_text()
        )
    got = read_sources([path])
    assert got.name == (name,)
    assert_measured(got, expected(one))
    if where == "comment":
        assert (got.ra[0], got.dec[0]) == (213.942708, 11.495389)
        assert got.object_id[0] == source_id(got.ra, got.dec)[0]
    else:
        assert np.isnan(got.ra[0]) and np.isnan(got.dec[0])
        assert 0 <= got.object_id[0] < 2**63
        again = write(foreign(one), tmp_path / f"H1413+117{suffix}.gz")
        assert read_sources([again]).object_id[0] == got.object_id[0], "it depends on the name alone"


@pytest.mark.parametrize("mark", ["# ", "#", "#  "])
@pytest.mark.parametrize("suffix", [".csv", ".dat", ".tsv"])
def test_names_of_columns_in_a_comment(one, tmp_path, mark, suffix):
    path = write(foreign(one).with_columns(pl.col("band").str.slice(1)), tmp_path / f"a{suffix}")
    lines = path.read_text().split("\n")
    lines = lines[1:] if suffix == ".dat" else lines
    path.write_text("\n".join(["# forced photometry", mark + lines[0], *lines[1:]]))
    assert_measured(read_sources([path]), expected(one))


def test_comment_lines_and_blank_lines_between_rows_do_not_count(one, tmp_path):
    path = write(foreign(one), tmp_path / "a.csv")
    lines = path.read_text().split("\n")
    lines[9:9] = ["# second visit", "", '# with 5" aperture']
    lines[20] = lines[20].replace(lines[20].split(",")[3], "nan")
    path.write_text("\r\n".join(lines))
    got = read_sources([path])
    assert got.n_rows == one.height
    wanted = one["flux"][16]
    assert wanted not in got.measurements.flux.tolist()
    assert 16 in got.set_aside.filter(pl.col("reason") == "flux_not_finite")["row"].to_list()


def test_a_byte_order_mark_and_names_that_are_not_ascii(one, tmp_path):
    path = tmp_path / "Größe.csv"
    text = foreign(one).with_columns(target=pl.lit("Ångström 1")).write_csv()
    path.write_text(text, encoding="utf-8-sig")
    got = read_sources([path])
    assert got.name == ("Ångström 1",)
    assert_measured(got, expected(one))
    blanks = tmp_path / "blanks.dat"
    write(foreign(one).with_columns(target=pl.lit("Ångström")), blanks)
    assert read_sources([blanks]).name == ("Ångström",)


def test_decimal_commas_between_semicolons(one, tmp_path):
    path = write(foreign(one), tmp_path / "a.ssv")
    path.write_text(path.read_text().replace(".", ","))
    got = read_sources([path])
    assert_measured(got, expected(one))
    assert any("decimal commas" in note for note in got.notes)
    lines = path.read_text().splitlines()
    cells = lines[5].split(";")
    for place, word in ((3, "NaN"), (4, "inf")):  # flux and its error
        cells[place] = word
    path.write_text("\n".join([*lines[:5], ";".join(cells), *lines[6:]]))
    again = read_sources([path])
    assert again.n_rows == got.n_rows
    assert again.set_aside.height - got.set_aside.height in (0, 1), "a row may have been flagged before"
    assert 4 in again.set_aside["row"].to_list()


@pytest.mark.parametrize("suffix", [".csv", ".dat"])
def test_columns_are_judged_as_a_whole(one, tmp_path, suffix):
    """Whole numbers first, then others; `nan`, `null` and nothing at all; a column of nothing that is not used."""
    table = foreign(one).with_columns(
        pl.when(pl.int_range(pl.len()) < 150)
        .then(pl.col("flux").round(0).cast(pl.Int64).cast(pl.String))
        .otherwise(pl.col("flux").cast(pl.String))
        .alias("flux"),
        pl.lit("nan").alias("flux_bkg"),
    )
    words = ["nan", "null", "NaN", "--"] if suffix == ".dat" else ["nan", "null", "", "N/A"]
    for row, word in zip((160, 161, 162, 163), words, strict=True):
        table[row, "flux"] = word
    got = read_sources([write(table, tmp_path / f"a{suffix}")])
    assert got.set_aside.filter(pl.col("reason") == "flux_not_finite")["row"].to_list() == [
        160,
        161,
        162,
        163,
    ]
    assert not [reason for reason in got.set_aside["reason"] if not reason.startswith(("flux", "flagged"))]


# -- FITS -------------------------------------------------------------------------------------------------------------
def test_the_table_in_the_second_extension_is_found(rows, tmp_path):
    path = tmp_path / "two.fits"
    first = fits.BinTableHDU(Table({"fiber": [1, 2]}))
    fits.HDUList(
        [fits.PrimaryHDU(), fits.ImageHDU(np.zeros((2, 2))), first, fits.BinTableHDU(astropy_table(rows))]
    ).writeto(path)
    assert holds_measurements(path)
    assert_measured(read_sources([path]), expected(rows))


def test_flags_beyond_32_bits_are_seen_in_every_format(one, tmp_path):
    """Bit 33 marks a failed fit; read as a signed 32-bit number it would vanish."""
    table = one.with_columns(flags=pl.lit(1 << 21, pl.UInt64))
    table[3, "flags"] = (1 << 33) + (1 << 21)
    table[5, "flags"] = (1 << 63) + (1 << 21)  # no flag that is known
    for suffix in (".csv", ".parquet", ".fits", ".ecsv", ".dat"):
        got = read_sources([write(table, tmp_path / f"a{suffix}")])
        assert got.set_aside.select("row", "reason").rows() == [(3, "flagged FIT_ERROR")], suffix


def test_the_header_of_a_fits_file_names_the_source(one, tmp_path):
    path = tmp_path / "a.fits"
    hdu = fits.BinTableHDU(astropy_table(foreign(one).with_columns(pl.col("flag").cast(pl.Int64))))
    hdu.header["OBJECT"], hdu.header["RA"], hdu.header["DEC"] = "NGC 1", 1.5, -2.5
    hdu.writeto(path)
    got = read_sources([path])
    assert (got.name, got.ra[0], got.dec[0]) == (("NGC 1",), 1.5, -2.5)


# -- ECSV, IPAC -------------------------------------------------------------------------------------------------------
def test_positions_and_quantities_of_astropy(one, tmp_path):
    from astropy import units
    from astropy.table import QTable
    from astropy.time import Time

    made = QTable(
        {
            "sky": SkyCoord(one["ra"].to_numpy() * units.deg, one["dec"].to_numpy() * units.deg),
            "time": Time(one["mjd"].to_numpy(), format="mjd"),
            "lambda": one["lambda"].to_numpy() * 1e4 * units.AA,
            "lambda_width": one["lambda_width"].to_numpy() * 1e4 * units.AA,
            "flux": one["flux"].to_numpy() * 1e-3 * units.mJy,
            "flux_err": one["flux_err"].to_numpy() * 1e-3 * units.mJy,
            "flags": one["flags"].to_numpy(),
        },
        meta={"object": "a star"},
    )
    path = tmp_path / "a.ecsv"
    made.write(path, format="ascii.ecsv")
    got = read_sources([path])
    assert_measured(got, expected(one))
    assert got.name == ("a star",)
    assert (got.ra[0], got.dec[0]) == (one["ra"][0], one["dec"][0])


def test_keywords_of_an_ipac_table_name_the_source(one, tmp_path):
    path = write(foreign(one), tmp_path / "a.tbl", units={"flux": "uJy"})
    path.write_text("\\object = 'NGC 2'\n\\ra = 10.5\n\\dec = -3.25\n" + path.read_text())
    got = read_sources([path])
    assert (got.name, got.ra[0], got.dec[0]) == (("NGC 2",), 10.5, -3.25)
    assert_measured(got, expected(one))


# -- many -------------------------------------------------------------------------------------------------------------
def test_a_source_near_a_pole_with_twenty_thousand_measurements(one, tmp_path):
    rng = np.random.default_rng(2)
    n = 20_000
    wave = np.exp(rng.uniform(np.log(0.76), np.log(4.9), n))
    table = pl.DataFrame(
        {"ra": rng.uniform(0, 360, n), "dec": np.full(n, 90.0 - 1e-5), "lambda": wave, "lambda_width": wave / 41.0,
         "flux": 5.0 + rng.normal(size=n), "flux_err": np.ones(n), "mjd": 61000 + rng.uniform(0, 700, n)}
    )  # fmt: skip
    got = read_sources([write(table, tmp_path / "pole.parquet")])
    assert len(got) == 1 and got.measurements.count.tolist() == [n], (
        "right ascensions mean nothing at the pole"
    )
    assert (np.diff(got.measurements.wave_um) >= 0).all()


def test_a_file_read_from_its_content_whatever_its_name(rows, tmp_path):
    for suffix in (".parquet", ".fits", ".ecsv", ".tbl", ".vot", ".csv"):
        path = write(rows, tmp_path / f"a{suffix}")
        renamed = path.rename(tmp_path / "export.txt")
        assert_measured(read_sources([renamed]), expected(rows))


def test_a_packed_file_under_gzip_without_its_ending(rows, tmp_path):
    path = write(rows, tmp_path / "a.csv")
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert_measured(read_sources([path]), expected(rows))


def test_tables_of_channels_are_told_from_measurements(rows, tmp_path):
    wide_table = pl.DataFrame(
        {"object_id": [1]} | {f"{q}_{b}": [1.0] for q in ("flux", "flux_err") for b in range(1, 103)}
    )
    arrays = pl.DataFrame({"object_id": [1], "flux": [[1.0] * 102], "flux_err": [[1.0] * 102]})
    for suffix in (".csv", ".parquet", ".fits"):
        assert not holds_measurements(write(wide_table, tmp_path / f"wide{suffix}"))
    stream = io.BytesIO()
    Table({"object_id": [1], "flux": np.ones((1, 102)), "flux_err": np.ones((1, 102))}).write(
        stream, format="fits"
    )
    (tmp_path / "arrays.fits").write_bytes(stream.getvalue())
    assert not holds_measurements(tmp_path / "arrays.fits")
    assert not holds_measurements(write(arrays, tmp_path / "arrays.parquet"))
    tables = [fits.BinTableHDU(astropy_table(table)) for table in (wide_table, rows)]
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(tmp_path / "both.fits")
    assert holds_measurements(tmp_path / "both.fits")
    assert holds_measurements(write(rows.drop("lambda"), tmp_path / "lacks.csv"))
    assert holds_measurements(write(wide(rows).drop("data_collection"), tmp_path / "packed.parquet"))
    assert holds_measurements(Path(write(rows, tmp_path / "big.csv.gz")))
