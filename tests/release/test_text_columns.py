"""Text files are typed by the documented schema, not by what their first rows look like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from paeplatform.errors import InputError
from paeplatform.instrument.bands import BandSet
from paeplatform.release.manifest import Manifest
from paeplatform.release.reading import described_file, read_batches, verify_files
from paeplatform.release.rows import set_aside
from paeplatform.release.schema import EXPOSURE_SCHEMA, source_id
from paeplatform.release.text import MISSING, as_type, present

Deliver = Callable[..., tuple[Path, Manifest]]
Change = Callable[[pl.DataFrame], pl.DataFrame]


def _rewritten(folder: Path, manifest: Manifest, change: Change) -> Manifest:
    """The delivery with other text in its CSV file, and the manifest of that."""
    (file,) = manifest.files
    path = folder / file.name
    table = change(pl.read_csv(path, infer_schema=False, glob=False))
    table.write_csv(path)
    return manifest.model_copy(update={"files": (described_file(path, "csv", table.height),)})


def _failed(folder: Path, manifest: Manifest) -> dict[str, str]:
    outcomes = verify_files(folder, manifest, progress=False)
    return {one.rule: one.observed for one in outcomes if not one.passed}


def _rows(folder: Path, manifest: Manifest) -> pl.DataFrame:
    return pl.concat(list(read_batches(folder, manifest.files[0], 5000)))


def _in_rows(column: str, rows: list[int], word: str) -> Change:
    here = pl.int_range(pl.len()).is_in(rows)
    return lambda table: table.with_columns(
        pl.when(here).then(pl.lit(word)).otherwise(pl.col(column)).alias(column)
    )


# -- deliveries -------------------------------------------------------------------------------------------------------
def test_whole_numbers_first_and_others_later(deliver: Deliver):
    folder, manifest = deliver(file_format="csv")
    early = pl.int_range(pl.len()) < 1500
    manifest = _rewritten(
        folder,
        manifest,
        lambda table: table.with_columns(shape_r=pl.when(early).then(pl.lit("0")).otherwise(pl.lit("1.25"))),
    )
    assert _failed(folder, manifest) == {}
    found = _rows(folder, manifest)["shape_r"]
    assert found.dtype == pl.Float64 and found[0] == 0.0 and found[1499:1501].to_list() == [0.0, 1.25]


@pytest.mark.parametrize("word", ["nan", "NaN", "null", "NULL", "", " ", "N/A", "--"])
def test_words_for_no_value_set_rows_aside_and_nothing_else(deliver: Deliver, bands: BandSet, word: str):
    folder, manifest = deliver(file_format="csv")
    manifest = _rewritten(folder, manifest, _in_rows("flux", [5, 6, 7000], word))
    assert _failed(folder, manifest) == {}
    rows = _rows(folder, manifest)
    assert rows.schema["flux"] == pl.Float64
    rows = rows.with_columns(pl.Series("object_id", source_id(rows["ra"].to_numpy(), rows["dec"].to_numpy())))
    kept, lost = set_aside(rows, manifest, bands)
    assert lost["reason"].to_list() == ["flux_not_finite"] * 3 and lost["row"].to_list() == [5, 6, 7000]
    assert kept.height == rows.height - 3


@pytest.mark.parametrize("column", ["flux_bkg", "phi", "lvf_id", "x_image"])
def test_a_column_without_any_value_is_of_its_type(deliver: Deliver, column: str):
    folder, manifest = deliver(file_format="csv")
    manifest = _rewritten(folder, manifest, lambda table: table.with_columns(pl.lit("").alias(column)))
    assert _failed(folder, manifest) == {}
    found = _rows(folder, manifest)[column]
    assert found.dtype == EXPOSURE_SCHEMA[column] and found.null_count() == len(found)


def test_whole_numbers_written_as_floats_are_whole_numbers(deliver: Deliver):
    folder, manifest = deliver(file_format="csv")
    before = _rows(folder, manifest)
    names = ["det_id", "flags", "lvf_id"]
    manifest = _rewritten(folder, manifest, lambda table: table.with_columns(pl.col(names) + ".0"))
    assert _failed(folder, manifest) == {}
    assert _rows(folder, manifest).select(names).equals(before.select(names))


@pytest.mark.parametrize(
    ("column", "word"),
    [
        ("flux", "bright"),
        ("det_id", "1.5"),
        ("flags", "-1"),
        ("flags", str(2**64)),
        ("deep_flg", "maybe"),
        ("lvf_id", "1e30"),
    ],
)
def test_a_cell_of_another_type_is_at_fault_wherever_it_stands(deliver: Deliver, column: str, word: str):
    folder, manifest = deliver(file_format="csv")
    last = manifest.n_rows - 1
    manifest = _rewritten(folder, manifest, _in_rows(column, [last], word))
    assert _failed(folder, manifest) == {"schema.dtypes": f"{column} String"}
    with pytest.raises(InputError) as caught:
        _rows(folder, manifest)
    said = str(caught.value)
    first = last // 5000 * 5000
    assert f"from row {first}: column {column}, row {last - first}: '{word}" in said and "\n" not in said


def test_a_missing_value_before_a_bad_one_is_not_the_one_that_is_named(deliver: Deliver):
    folder, manifest = deliver(file_format="csv")
    manifest = _rewritten(folder, manifest, _in_rows("mjd", [3], "null"))
    manifest = _rewritten(folder, manifest, _in_rows("mjd", [8], "yesterday"))
    with pytest.raises(InputError, match="column mjd, row 8: 'yesterday' is no Float64"):
        _rows(folder, manifest)


# -- columns ----------------------------------------------------------------------------------------------------------
def test_missing_words_are_null_in_any_case_and_blanks_go():
    column = pl.Series("a", [f" {word.upper()} " for word in MISSING] + [None, " 1.5 "])
    assert present(column).to_list() == [None] * (len(MISSING) + 1) + ["1.5"]


@pytest.mark.parametrize(
    ("dtype", "cells", "values", "bad"),
    [
        (pl.Float64(), ["1", "-2.5e3", "inf", "nan", "x"], [1.0, -2500.0, float("inf"), None, None], [4]),
        (pl.Int16(), ["1", "3.0", "3.5", "40000", ""], [1, 3, None, None, None], [2, 3]),
        (pl.UInt64(), [str(2**64 - 1), "8592031744.0", "-1", "1e17"], [2**64 - 1, 8592031744, None, None], [2, 3]),
        (pl.Boolean(), ["true", "F", "1", "0", "TRUE", "yes", None], [True, False, True, False, True, None, None], [5]),
        (pl.String(), ["a", "", None], ["a", "", None], []),
    ],
)  # fmt: skip
def test_columns_of_each_type(dtype, cells, values, bad):
    found, at_fault = as_type(pl.Series("a", cells, dtype=pl.String), dtype)
    assert found.name == "a" and found.dtype == dtype and found.to_list() == values
    assert at_fault.arg_true().to_list() == bad
