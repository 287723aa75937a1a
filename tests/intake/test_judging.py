"""Each measurement that is set aside has one reason; the others are used as they are."""

import numpy as np
import polars as pl
import pytest

from paeplatform.intake.judging import Reason
from paeplatform.intake.options import ReadingOptions
from paeplatform.intake.sources import read_sources
from paeplatform.release.flags import Flag
from tests.intake.layouts import assert_measured, expected, write


@pytest.fixture
def clean(one: pl.DataFrame) -> pl.DataFrame:
    """One source without a flagged exposure."""
    return one.with_columns(flags=pl.lit(1 << Flag.SOURCE, pl.UInt64))


def reasons(table: pl.DataFrame, tmp_path, **settings) -> dict[int, str]:
    got = read_sources([write(table, tmp_path / "a.parquet")], ReadingOptions(**settings))
    aside = got.set_aside
    assert aside.schema == {
        "file": pl.String,
        "row": pl.UInt32,
        "source": pl.String,
        "source_row": pl.UInt32,
        "reason": pl.String,
    }
    known = aside.drop_nulls("source_row")
    assert known["source"].to_list() == [got.name[row] for row in known["source_row"]]
    assert (aside["source"].is_null() == aside["source_row"].is_null()).all()
    assert len(got.measurements.flux) + aside.height == table.height == got.n_rows
    return dict(aside.select("row", "reason").iter_rows())


CHANGES = [
    ("flux", None, Reason.FLUX_NOT_FINITE),
    ("flux", float("nan"), Reason.FLUX_NOT_FINITE),
    ("flux", float("-inf"), Reason.FLUX_NOT_FINITE),
    ("flux_err", None, Reason.ERROR_NOT_POSITIVE),
    ("flux_err", float("nan"), Reason.ERROR_NOT_POSITIVE),
    ("flux_err", float("inf"), Reason.ERROR_NOT_POSITIVE),
    ("flux_err", 0.0, Reason.ERROR_NOT_POSITIVE),
    ("flux_err", -99.0, Reason.ERROR_NOT_POSITIVE),
    ("lambda", None, Reason.WAVELENGTH_OUT_OF_RANGE),
    ("lambda", float("nan"), Reason.WAVELENGTH_OUT_OF_RANGE),
    ("lambda", -1.0, Reason.WAVELENGTH_OUT_OF_RANGE),
    ("lambda", 0.69, Reason.WAVELENGTH_OUT_OF_RANGE),
    ("lambda", 5.11, Reason.WAVELENGTH_OUT_OF_RANGE),
    ("lambda", 1.9e4, Reason.WAVELENGTH_OUT_OF_RANGE),
    ("lambda_width", None, Reason.WIDTH_NOT_POSITIVE),
    ("lambda_width", 0.0, Reason.WIDTH_NOT_POSITIVE),
    ("lambda_width", float("nan"), Reason.WIDTH_NOT_POSITIVE),
    ("flags", 1 << 33, "flagged FIT_ERROR"),
    ("flags", (1 << 1) + (1 << 15) + (1 << 19), "flagged OVERFLOW,NONLINEAR"),
    ("flags", 1 << 32, "flagged CONTAINS_BAD_PIXEL"),
    ("det_id", 0, Reason.UNKNOWN_DETECTOR),
    ("det_id", 7, Reason.UNKNOWN_DETECTOR),
    ("flux", -99.0 * 1e2, Reason.SENTINEL),
]


@pytest.mark.parametrize(("column", "value", "reason"), CHANGES)
def test_each_fault_has_its_reason(clean, tmp_path, column, value, reason):
    table = clean.with_columns(
        pl.when(pl.int_range(pl.len()).is_in([5, 11]))
        .then(pl.lit(value, clean.schema[column]))
        .otherwise(pl.col(column))
        .alias(column)
    )
    assert reasons(table, tmp_path) == {5: str(reason), 11: str(reason)}


def test_a_wavelength_on_another_detector(clean, tmp_path):
    here = int(np.argmax(clean["det_id"].to_numpy() == 2))
    table = clean.with_columns(
        pl.when(pl.int_range(pl.len()) == here).then(3.0).otherwise(pl.col("lambda")).alias("lambda"),
        pl.when(pl.int_range(pl.len()) == here)
        .then(3.0 / 35.0)
        .otherwise(pl.col("lambda_width"))
        .alias("lambda_width"),
    )
    assert reasons(table, tmp_path) == {here: "wavelength_outside_detector"}
    assert reasons(table.drop("det_id"), tmp_path) == {}, "without a detector there is none to contradict"


def test_the_ends_of_detectors_have_a_margin(clean, tmp_path):
    """Real tables have 0.4 % beyond the flight calibration's range."""
    table = clean.with_columns(
        pl.when(pl.col("det_id") == 6)
        .then(4.396)
        .when(pl.col("det_id") == 3)
        .then(1.6327)
        .otherwise(pl.col("lambda"))
        .alias("lambda"),
    )
    assert reasons(table, tmp_path) == {}


def test_the_first_reason_that_fits_is_given(clean, tmp_path):
    table = clean.with_columns(
        pl.when(pl.int_range(pl.len()) == 4).then(float("nan")).otherwise(pl.col("flux")).alias("flux"),
        pl.when(pl.int_range(pl.len()) == 4).then(-1.0).otherwise(pl.col("lambda")).alias("lambda"),
        pl.when(pl.int_range(pl.len()) == 4)
        .then(1 << 33)
        .otherwise(pl.col("flags"))
        .cast(pl.UInt64)
        .alias("flags"),
    )
    assert reasons(table, tmp_path) == {4: "flux_not_finite"}


# -- flags ------------------------------------------------------------------------------------------------------------
def test_the_strict_policy_names_every_flag(clean, tmp_path):
    table = clean[:4].with_columns(
        flags=pl.Series([1 << 21, (1 << 21) | 1, 1 << 12, 1 << 40], dtype=pl.UInt64)
    )
    assert reasons(table, tmp_path) == {}
    assert reasons(table, tmp_path, flag_policy="strict") == {1: "flagged TRANSIENT", 3: "flagged bit 40"}


@pytest.mark.parametrize("dtype", [pl.UInt64, pl.Int64, pl.Float64, pl.String, pl.UInt32])
def test_flags_of_any_type(clean, tmp_path, dtype):
    table = clean[:6].with_columns(flags=pl.Series([0, 2, 1 << 15, 1 << 21, 1, 0]).cast(pl.Int64).cast(dtype))
    assert reasons(table, tmp_path) == {1: "flagged OVERFLOW", 2: "flagged NONLINEAR"}


def test_missing_flags_mean_none_and_are_counted(clean, tmp_path):
    table = clean.with_columns(
        flags=pl.when(pl.int_range(pl.len()) < 3).then(None).otherwise(pl.col("flags"))
    )
    for suffix in (".csv", ".parquet"):
        got = read_sources([write(table, tmp_path / f"a{suffix}")])
        assert got.set_aside.is_empty()
        assert any("3 measurements without flags in column flags" in note for note in got.notes)


@pytest.mark.parametrize("spelled", ["{}", "D{}", "d{}", "Band {}", "spherex_d{}", "{}.0"])
def test_detectors_of_any_spelling(clean, tmp_path, spelled):
    texts = pl.Series("band", [spelled.format(number) for number in clean["det_id"].to_list()])
    table = clean.drop("det_id").with_columns(texts)
    assert reasons(table, tmp_path) == {}
    here = int(np.argmax(clean["det_id"].to_numpy() == 2))
    table[here, "lambda"] = 3.0
    assert reasons(table, tmp_path) == {here: "wavelength_outside_detector"}


# -- sentinels --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("word", [-99.0, -999.0, -9999.0, -99.99, -50.0])
def test_a_number_far_below_zero_that_repeats_is_no_flux(clean, tmp_path, word):
    """One galaxy with 11 measurements of -99 whose errors are good."""
    lost = list(range(0, 110, 10))
    table = clean.with_columns(
        pl.when(pl.int_range(pl.len()).is_in(lost)).then(word).otherwise(pl.col("flux")).alias("flux"),
        pl.when(pl.int_range(pl.len()).is_in(lost)).then(1.0).otherwise(pl.col("flux_err")).alias("flux_err"),
    )
    assert reasons(table, tmp_path) == dict.fromkeys(lost, "sentinel")


def test_a_single_number_far_below_zero_is_one_only_if_it_is_a_usual_one(clean, tmp_path):
    table = clean.with_columns(flux_err=pl.lit(1.0))
    table[8, "flux"], table[9, "flux"] = -99.0, -57.3
    assert reasons(table, tmp_path) == {8: "sentinel"}


def test_sentinels_are_seen_in_the_unit_of_the_file(clean, tmp_path):
    table = clean.with_columns(pl.col("flux") * 1e-3, flux_err=pl.lit(1e-3))
    table[8, "flux"] = -99.0
    assert reasons(table, tmp_path, unit="mJy") == {8: "sentinel"}


def test_a_flux_that_repeats_within_the_noise_is_used(clean, tmp_path):
    table = clean.with_columns(flux=pl.lit(0.0))
    assert reasons(table, tmp_path) == {}


# -- twice ------------------------------------------------------------------------------------------------------------
def test_of_rows_that_stand_there_twice_the_first_is_used(clean, tmp_path):
    table = pl.concat([clean, clean[3:6]])
    n = clean.height
    assert reasons(table, tmp_path) == dict.fromkeys((n, n + 1, n + 2), "duplicate_exposure")
    assert_measured(read_sources([tmp_path / "a.parquet"]), expected(clean))


def test_another_time_is_another_measurement(clean, tmp_path):
    again = clean[3:6].with_columns(mjd=pl.col("mjd") + 1.0)
    assert reasons(pl.concat([clean, again]), tmp_path) == {}


def test_without_times_the_errors_have_to_agree_too(clean, tmp_path):
    table = pl.concat([clean, clean[3:5]]).drop("mjd")
    n = clean.height
    assert reasons(table, tmp_path) == dict.fromkeys((n, n + 1), "duplicate_exposure")
    other = pl.concat([clean, clean[3:5].with_columns(pl.col("flux_err") * 1.1)]).drop("mjd")
    assert reasons(other, tmp_path) == {}


def test_times_may_be_texts(clean, tmp_path):
    day = pl.format("2026-08-01T{}", pl.int_range(pl.len()))
    table = clean.with_columns(mjd=day)
    assert reasons(table, tmp_path) == {}
    assert set(reasons(pl.concat([table, table[:2]]), tmp_path).values()) == {"duplicate_exposure"}


def test_the_same_measurement_of_two_sources_is_used_for_both(clean, tmp_path):
    table = pl.concat([clean.with_columns(name=pl.lit("a")), clean.with_columns(name=pl.lit("b"))])
    assert reasons(table, tmp_path) == {}


# -- releases ---------------------------------------------------------------------------------------------------------
def test_measurements_of_qr2_and_qr3_stand_together_with_a_note(clean, tmp_path):
    older = (
        pl.when(pl.int_range(pl.len()) % 3 == 0)
        .then(pl.lit("spherex_qr2"))
        .otherwise(pl.lit("spherex_qr3_deep"))
    )
    got = read_sources([write(clean.with_columns(data_collection=older), tmp_path / "a.csv")])
    assert_measured(got, expected(clean))
    assert any(
        "QR2 and QR3 stand together: the archive has put QR2 on QR3's gains" in note for note in got.notes
    )
    for only in ("spherex_qr2", "spherex_qr3"):
        got = read_sources([write(clean.with_columns(data_collection=pl.lit(only)), tmp_path / "a.csv")])
        assert not any("QR" in note for note in got.notes)


def test_a_collection_that_is_not_known_is_noted(clean, tmp_path):
    got = read_sources([write(clean.with_columns(data_collection=pl.lit("spherex_qr")), tmp_path / "a.csv")])
    assert any("data collection spherex_qr is none of QR2 or QR3" in note for note in got.notes)


def test_what_is_in_use_is_sorted_by_wavelength_within_each_source(rows, tmp_path):
    got = read_sources([write(rows, tmp_path / "a.csv")]).measurements
    for source in range(len(got)):
        assert (np.diff(got.rows(np.array([source])).wave_um) >= 0).all()
    assert got.start.dtype == np.int64
