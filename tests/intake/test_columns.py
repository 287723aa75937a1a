"""Columns under their usual names and in any unit are the same measurements."""

import io

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from paeplatform.errors import InputError
from paeplatform.intake.columns import MAGNITUDES, NAMES, without_unit
from paeplatform.intake.options import ReadingOptions
from paeplatform.intake.sources import read_sources
from tests.intake.layouts import assert_measured, astropy_table, expected, write

NATIVE = {
    "wave": "lambda",
    "width": "lambda_width",
    "flux": "flux",
    "flux_err": "flux_err",
    "flags": "flags",
    "detector": "det_id",
}
NATIVE |= {"mjd": "mjd", "ra": "ra", "dec": "dec", "data_collection": "data_collection"}


@pytest.fixture
def plain(one: pl.DataFrame) -> pl.DataFrame:
    """The columns that count, of one source."""
    return one.select(NATIVE.values())


@pytest.mark.parametrize(
    ("meaning", "name"), [(meaning, name) for meaning in NATIVE for name in NAMES[meaning]]
)
def test_every_usual_name_is_known_in_any_case(plain, tmp_path, meaning, name):
    for spelled in (name, name.upper(), name.title(), f" {name} ", name.replace("_", " ")):
        path = write(plain.rename({NATIVE[meaning]: spelled}), tmp_path / "a.csv")
        assert_measured(read_sources([path]), expected(plain))


@pytest.mark.parametrize("name", NAMES["ebv_mw"])
def test_reddening(rows, tmp_path, name):
    positions = rows["ra"].rank("dense").cast(pl.Float64) * 0.02
    got = read_sources([write(rows.with_columns(positions.alias(name)), tmp_path / "a.parquet")])
    np.testing.assert_allclose(got.ebv_mw, [0.02, 0.04, 0.06, 0.08], rtol=1e-14)


@pytest.mark.parametrize(
    ("name", "base", "unit"),
    [
        ("flux_mJy", "flux", "mjy"),
        ("Flux [mJy]", "flux", "mJy"),
        ("flux (erg / (s cm2 Hz))", "flux", "erg / (s cm2 Hz)"),
        ("flux_err_uJy", "flux_err", "ujy"),
        ("flux_uJy_err", "flux_err", "ujy"),
        ("Wavelength (um)", "wavelength", "um"),
        ("lambda-width", "lambda_width", None),
        ("ra_deg", "ra_deg", None),
        ("mag_ab", "mag_ab", None),
        ("lambda_duplicated_0", "lambda", None),
    ],
)
def test_names_are_taken_apart(name, base, unit):
    assert without_unit(name) == (base, unit)


# -- choice -----------------------------------------------------------------------------------------------------------
def test_the_user_decides_between_columns(plain, tmp_path):
    table = plain.rename({"flux": "F_total"}).with_columns(flux=pl.lit(3.0), error=pl.lit(9.0))
    path = write(table, tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"a\.csv: columns flux_err and error both look like flux_err"):
        read_sources([path])
    options = ReadingOptions(columns={"flux": "F_total", "flux_err": "FLUX_ERR"})
    assert_measured(read_sources([path], options), expected(plain))
    # our name may be given as any usual one
    options = ReadingOptions(columns={"flux": "F_total", "e_flux": "flux_err", "lambda": "lambda"})
    assert_measured(read_sources([path], options), expected(plain))


def test_a_column_that_is_chosen_is_not_taken_for_something_else(plain, tmp_path):
    table = plain.rename({"lambda": "band", "det_id": "d"})
    options = ReadingOptions(columns={"wave": "band", "detector": "d"})
    assert_measured(read_sources([write(table, tmp_path / "a.csv")], options), expected(plain))


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"columns": {"colour": "x"}}, ["columns", "'colour'", "wave, width, flux"]),
        ({"columns": {"wave": "x", "lambda": "y"}}, ["columns", "x and y", "wave"]),
        ({"unit": "furlong"}, ["unit 'furlong'", "uJy, mJy, Jy, nJy, ABmag"]),
        ({"unit": "MJy"}, ["unit 'MJy'"]),
        ({"match_radius_arcsec": -1.0}, ["match radius -1", "[0, 3600] arcsec"]),
        ({"match_radius_arcsec": float("nan")}, ["match radius nan"]),
        ({"match_radius_arcsec": 3601.0}, ["3601"]),
        ({"flag_policy": "loose"}, ["'loose'", "tool or strict"]),
    ],
)
def test_options_out_of_range_are_refused(settings, parts):
    with pytest.raises(InputError) as caught:
        ReadingOptions(**settings)
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_chosen_column_has_to_be_there(plain, tmp_path):
    path = write(plain, tmp_path / "a.csv")
    with pytest.raises(
        InputError, match=r"a\.csv: no column F_total, which `--columns flux=F_total`.*found lambda"
    ):
        read_sources([path], ReadingOptions(columns={"flux": "F_total"}))


# -- units of fluxes --------------------------------------------------------------------------------------------------
UNITS = [
    ("Jy", 1e-6),
    ("mJy", 1e-3),
    ("uJy", 1.0),
    ("nJy", 1e3),
    ("erg / (s cm2 Hz)", 1e-29),
    ("1e-3 mJy", 1.0),
    ("W m-2 Hz-1", 1e-32),
]


def scaled(table: pl.DataFrame, factor: float) -> pl.DataFrame:
    return table.with_columns(pl.col("flux", "flux_err") * factor)


@pytest.mark.parametrize(("unit", "factor"), UNITS)
@pytest.mark.parametrize("suffix", [".fits", ".ecsv", ".vot", ".tbl", ".parquet"])
def test_units_that_the_file_states(plain, tmp_path, unit, factor, suffix):
    if suffix == ".tbl" and " " in unit:
        unit = unit.replace(" / ", "/")
    path = write(scaled(plain, factor), tmp_path / f"a{suffix}", units={"flux": unit, "flux_err": unit})
    got = read_sources([path])
    assert_measured(got, expected(plain), 1e-13)
    assert not got.notes


@pytest.mark.parametrize(
    "names", [("flux_mJy", "flux_err_mJy"), ("Flux [mJy]", "Flux err [mJy]"), ("flux_mjy", "flux_mjy_err")]
)
def test_units_in_names(plain, tmp_path, names):
    table = scaled(plain, 1e-3).rename(dict(zip(("flux", "flux_err"), names, strict=True)))
    got = read_sources([write(table, tmp_path / "a.csv")])
    assert_measured(got, expected(plain), 1e-13)
    assert not got.notes


def test_units_of_a_whole_file(plain, tmp_path):
    path = write(scaled(plain, 1e-3), tmp_path / "a.csv")
    path.write_text("# unit: mJy\n" + path.read_text())
    assert_measured(read_sources([path]), expected(plain), 1e-13)
    arrow = scaled(plain, 1e-3).to_arrow().replace_schema_metadata({"unit": "mJy"})
    pq.write_table(arrow, tmp_path / "a.parquet")
    assert_measured(read_sources([tmp_path / "a.parquet"]), expected(plain), 1e-13)


def test_units_of_a_parquet_file_that_astropy_wrote(plain, tmp_path):
    made = astropy_table(scaled(plain, 1e-3), {"flux": "mJy", "flux_err": "mJy", "lambda": "um"})
    stream = io.BytesIO()
    from astropy.table.meta import get_yaml_from_table

    described = "\n".join(get_yaml_from_table(made))
    arrow = scaled(plain, 1e-3).to_arrow()
    pq.write_table(arrow.replace_schema_metadata({"table_meta_yaml": described}), stream)
    (tmp_path / "a.parquet").write_bytes(stream.getvalue())
    assert isinstance(arrow, pa.Table)
    assert_measured(read_sources([tmp_path / "a.parquet"]), expected(plain), 1e-13)


def test_without_a_unit_ujy_is_taken_and_said(plain, tmp_path):
    path = write(plain, tmp_path / "a.csv")
    got = read_sources([path])
    assert got.notes == ("a.csv: column flux states no unit: uJy is taken",)
    got = read_sources([write(scaled(plain, 1e-3), tmp_path / "b.csv")], ReadingOptions(unit="mJy"))
    assert_measured(got, expected(plain), 1e-13)
    assert not got.notes


def test_the_user_s_unit_goes_before_the_file_s_with_a_note(plain, tmp_path):
    path = write(scaled(plain, 1e3), tmp_path / "a.fits", units={"flux": "mJy", "flux_err": "mJy"})
    got = read_sources([path], ReadingOptions(unit="nJy"))
    assert_measured(got, expected(plain), 1e-13)
    assert got.notes == ("a.fits: the file states 'mJy', but fluxes are taken in nJy as asked",)


def test_flux_and_error_may_have_units_of_their_own(plain, tmp_path):
    table = plain.with_columns(pl.col("flux") * 1e-3)
    path = write(table, tmp_path / "a.fits", units={"flux": "mJy", "flux_err": "uJy"})
    assert_measured(read_sources([path]), expected(plain), 1e-13)
    path = write(scaled(plain, 1e-3), tmp_path / "b.fits", units={"flux_err": "mJy"})
    got = read_sources([path])
    assert_measured(got, expected(plain), 1e-13)
    assert "mJy is taken, as flux_err has it" in got.notes[0]


# -- magnitudes -------------------------------------------------------------------------------------------------------
def magnitudes(table: pl.DataFrame, names: tuple[str, str]) -> pl.DataFrame:
    """Of the positive fluxes."""
    bright = table.filter(pl.col("flux") > 0.0)
    return bright.with_columns(
        (23.9 - 2.5 * pl.col("flux").log10()).alias("m"),
        (2.5 / np.log(10.0) * pl.col("flux_err") / pl.col("flux")).alias("dm"),
    ).drop("flux", "flux_err").rename(dict(zip(("m", "dm"), names, strict=True)))  # fmt: skip


@pytest.mark.parametrize(
    "names",
    [("mag_ab", "mag_ab_err"), ("ABmag", "e_ABmag"), ("flux_abmag", "flux_err_abmag"), ("mag_ab", "err")],
)
def test_magnitudes_by_their_names(plain, tmp_path, names):
    bright = plain.filter(pl.col("flux") > 0.0)
    got = read_sources([write(magnitudes(plain, names), tmp_path / "a.csv")])
    assert_measured(got, expected(bright), 1e-12)


@pytest.mark.parametrize("unit", ["mag(AB)", "ABmag", "mag (AB)", "AB"])
def test_magnitudes_by_their_unit(plain, tmp_path, unit):
    table = magnitudes(plain, ("flux", "flux_err"))
    arrow = table.to_arrow()
    fields = [
        field.with_metadata({"unit": unit}) if "flux" in field.name else field for field in arrow.schema
    ]
    pq.write_table(arrow.cast(pa.schema(fields)), tmp_path / "a.parquet")
    got = read_sources([tmp_path / "a.parquet"])
    assert_measured(got, expected(plain.filter(pl.col("flux") > 0.0)), 1e-12)


def test_magnitudes_on_request_and_never_by_guess(plain, tmp_path):
    path = write(magnitudes(plain, ("mag", "mag_err")), tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"a\.csv: column mag: magnitudes must be AB; `--unit ABmag`"):
        read_sources([path])
    got = read_sources([path], ReadingOptions(unit="ABmag"))
    assert_measured(got, expected(plain.filter(pl.col("flux") > 0.0)), 1e-12)


def test_fluxes_go_before_magnitudes_beside_them(plain, tmp_path):
    table = plain.with_columns(mag_ab=pl.lit(20.0), mag_ab_error=pl.lit(0.1))
    assert_measured(read_sources([write(table, tmp_path / "a.csv")]), expected(plain))


def test_magnitudes_of_none_are_missing(plain, tmp_path):
    table = magnitudes(plain, ("mag_ab", "mag_ab_err"))
    table[4, "mag_ab"], table[5, "mag_ab"] = 99.0, -99.0
    got = read_sources([write(table, tmp_path / "a.csv")])
    lost = got.set_aside.filter(pl.col("reason") == "flux_not_finite")["row"].to_list()
    assert lost == [4, 5]


def test_every_name_of_a_magnitude_is_one(plain, tmp_path):
    for name in MAGNITUDES["flux_err"]:
        got = read_sources([write(magnitudes(plain, ("abmag", name)), tmp_path / "a.csv")])
        assert_measured(got, expected(plain.filter(pl.col("flux") > 0.0)), 1e-12)


# -- wavelengths ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("unit", "factor"),
    [("Angstrom", 1e4), ("nm", 1e3), ("m", 1e-6), ("um", 1.0), ("micron", 1.0), ("cm", 1e-4)],
)
@pytest.mark.parametrize("suffix", [".fits", ".ecsv", ".tbl", ".vot", ".parquet"])
def test_units_of_wavelengths(plain, tmp_path, unit, factor, suffix):
    table = plain.with_columns(pl.col("lambda", "lambda_width") * factor)
    both = write(table, tmp_path / f"a{suffix}", units={"lambda": unit, "lambda_width": unit})
    assert_measured(read_sources([both]), expected(plain), 1e-13)
    # a width that states none has the wavelength's
    one = write(table, tmp_path / f"b{suffix}", units={"lambda": unit})
    assert_measured(read_sources([one]), expected(plain), 1e-13)


def test_widths_have_a_unit_of_their_own(plain, tmp_path):
    table = plain.with_columns(pl.col("lambda_width") * 1e3).rename({"lambda_width": "width_nm"})
    assert_measured(read_sources([write(table, tmp_path / "a.csv")]), expected(plain), 1e-13)


def test_missing_widths_are_those_of_the_nearest_channel(plain, bands, tmp_path):
    for suffix, columns in (("detector", ["lambda_width"]), ("wavelength", ["lambda_width", "det_id"])):
        got = read_sources([write(plain.drop(columns), tmp_path / f"{suffix}.csv")])
        resolving = got.measurements.wave_um / got.measurements.width_um
        nearest = np.abs(np.log(got.measurements.wave_um[:, None] / bands.wave_um)).argmin(axis=1)
        usual = (bands.wave_um / bands.bandwidth_um)[nearest]
        assert (np.abs(resolving / usual - 1.0) < 0.02).mean() > 0.9, "all but near the ends of detectors"
        np.testing.assert_allclose(got.measurements.width_um, expected(plain)[0]["width_um"], rtol=0.6)
        assert any(
            note.endswith(f"nearest channel by {'detector and ' if suffix == 'detector' else ''}wavelength")
            for note in got.notes
        )


def test_units_of_positions(plain, tmp_path):
    table = plain.with_columns(pl.col("ra") / 15.0, pl.col("dec") * np.pi / 180.0)
    got = read_sources([write(table, tmp_path / "a.ecsv", units={"ra": "hourangle", "dec": "rad"})])
    np.testing.assert_allclose([got.ra[0], got.dec[0]], [plain["ra"][0], plain["dec"][0]], rtol=1e-13)


# -- what else a file has ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".fits"])
def test_other_columns_that_are_constant_within_each_source_are_kept(rows, tmp_path, suffix):
    number = rows["ra"].rank("dense").cast(pl.Int64)
    table = rows.with_columns(
        (0.1 * number).alias("z_true"),
        number.alias("field"),
        pl.format("F{}", number).alias("survey"),
        pl.lit(True).alias("seen"),
    )
    got = read_sources([write(table, tmp_path / f"a{suffix}")])
    assert got.extra.height == 4
    np.testing.assert_allclose(got.extra["z_true"].to_numpy(), [0.1, 0.2, 0.3, 0.4], rtol=1e-14)
    assert got.extra["field"].to_list() == [1, 2, 3, 4]
    assert got.extra["survey"].to_list() == ["F1", "F2", "F3", "F4"]
    assert got.extra["seen"].to_list() == [True] * 4
    assert not {"x_image", "mjd", "flux", "ra", "fit_ql", "obs_publisher_did"} & set(got.extra.columns)


def test_an_extra_column_with_a_gap_is_not_constant(rows, tmp_path):
    z = pl.when(pl.int_range(pl.len()) == 3).then(None).otherwise(0.5).alias("z_true")
    got = read_sources([write(rows.with_columns(z), tmp_path / "a.csv")])
    assert "z_true" not in got.extra.columns


def test_extra_columns_of_several_files(one, tmp_path):
    other = one.with_columns(pl.col("ra") + 1.0)
    first = write(one.with_columns(z_true=pl.lit(0.5), only=pl.lit("here")), tmp_path / "a.csv")
    second = write(other.with_columns(z_true=pl.lit("unknown")), tmp_path / "b.parquet")
    got = read_sources([first, second])
    assert got.extra["z_true"].to_list() == ["0.5", "unknown"]
    assert got.extra["only"].to_list() == ["here", None]


def test_a_table_of_astropy_with_cubes_leaves_them_out_and_says_so(one, tmp_path):
    made = astropy_table(one)
    made["cube"] = np.zeros((len(made), 2, 2))
    made.write(tmp_path / "a.fits")
    got = read_sources([tmp_path / "a.fits"])
    assert_measured(got, expected(one))
    assert any("column cube was left out" in note for note in got.notes)
    assert isinstance(made, Table)
