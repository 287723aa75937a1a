"""Which rows are one source: by ids, names, positions or files, in one file and in several."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paeplatform.errors import InputError
from paeplatform.intake.grouping import friends, separation_arcsec
from paeplatform.intake.options import ReadingOptions
from paeplatform.intake.sources import read_sources
from paeplatform.release.schema import source_id
from tests.intake.layouts import assert_measured, expected, write

ARCSEC = 1.0 / 3600.0


# -- positions --------------------------------------------------------------------------------------------------------
def brute_force(ra: np.ndarray, dec: np.ndarray, radius: float) -> list[int]:
    leaders: list[int] = []
    groups = []
    for here in range(len(ra)):
        near = [
            number
            for number, lead in enumerate(leaders)
            if separation_arcsec(ra[here], dec[here], ra[lead], dec[lead]) <= radius
        ]
        if not near:
            leaders.append(here)
            near = [len(leaders) - 1]
        groups.append(near[0])
    return groups


@given(
    st.integers(0, 10_000), st.sampled_from([0.0, 45.0, -89.9999, 90.0]), st.sampled_from([0.0, 180.0, 360.0])
)
def test_friends_are_those_of_the_first_position(seed, dec, ra):
    """Clusters of positions far from each other, which scatter by less than the radius, in any order."""
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, 6, 60)
    north, east = rng.uniform(-0.3, 0.3, (2, 60)) * ARCSEC
    centre = dec + np.where(dec > 0, -1.0, 1.0) * 5.0 * ARCSEC * cluster
    decs = np.clip(centre + north, -90.0, 90.0)
    ras = ra + east / np.maximum(np.cos(np.radians(decs)), 1e-9) if abs(dec) < 89 else rng.uniform(0, 360, 60)
    if (
        abs(dec) >= 89
    ):  # circles about the pole: a wild right ascension moves a position by the circle's radius
        decs = np.sign(dec) * (90.0 - 0.2 * ARCSEC * rng.uniform(0, 1, 60))
    assert friends(ras, decs, 1.0).tolist() == brute_force(ras, decs, 1.0)


def test_right_ascension_goes_round():
    ra = np.array([359.99999, 0.00001, -0.00001, 720.0, 0.01])
    assert friends(ra, np.zeros(5), 1.0).tolist() == [0, 0, 0, 0, 1]


def test_the_radius_is_from_the_first_position_not_from_the_last():
    """Three positions in a row, 0.8 arcsec apart: the third is no friend of the first."""
    dec = np.array([0.0, 0.8, 1.6]) * ARCSEC
    assert friends(np.zeros(3), dec, 1.0).tolist() == [0, 0, 1]
    assert friends(np.zeros(3), dec[[1, 0, 2]], 1.0).tolist() == [0, 0, 0]
    assert friends(np.zeros(3), dec, 0.0).tolist() == [0, 1, 2]
    assert friends(np.zeros(0), np.zeros(0), 1.0).tolist() == []


def test_an_eighth_of_the_radius_is_the_precision():
    rng = np.random.default_rng(1)
    dec = np.concatenate([np.zeros(1), rng.uniform(0.7, 1.4, 2000) * ARCSEC])
    group = friends(np.zeros(2001), dec, 1.0)
    joined = dec[group == 0] / ARCSEC
    assert joined.max() < 1.25 and (dec[group != 0] / ARCSEC).min() > 0.75


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_positions_that_differ_by_rounding_are_one_source(rows, tmp_path, suffix):
    rng = np.random.default_rng(0)
    jitter = rng.uniform(-0.2, 0.2, (2, rows.height)) * ARCSEC
    table = rows.with_columns(
        ra=pl.col("ra") + pl.Series(jitter[0]), dec=pl.col("dec") + pl.Series(jitter[1])
    )
    got = read_sources([write(table, tmp_path / f"a{suffix}")])
    assert_measured(got, expected(rows))
    first = [table["ra"][0], table["dec"][0]]
    assert [got.ra[0], got.dec[0]] == first and got.object_id[0] == source_id(*map(np.atleast_1d, first))[0]
    apart = read_sources([tmp_path / f"a{suffix}"], ReadingOptions(match_radius_arcsec=0.01))
    assert len(apart) > 100


def test_sources_that_only_positions_tell_apart_are_called_by_these(rows, tmp_path):
    got = read_sources([write(rows, tmp_path / "field.csv")])
    assert got.name[:2] == ("213.90000+11.40000", "213.95000+11.43000")
    one = rows.filter(pl.col("ra") == 213.9)
    assert read_sources([write(one, tmp_path / "field.csv")]).name == ("field",)


def test_a_row_without_a_position_belongs_to_none(rows, tmp_path):
    table = rows.with_columns(ra=pl.when(pl.int_range(pl.len()) == 7).then(None).otherwise(pl.col("ra")))
    got = read_sources([write(table, tmp_path / "a.csv")])
    assert len(got) == 4
    lost = got.set_aside.filter(pl.col("reason") == "source_missing")
    assert lost.rows() == [(str(tmp_path / "a.csv"), 7, None, None, "source_missing")]


# -- ids and names ----------------------------------------------------------------------------------------------------
def numbered(rows: pl.DataFrame, **columns: list) -> pl.DataFrame:
    """With a column of one value a source."""
    place = rows["ra"].rank("dense").cast(pl.Int64) - 1
    return rows.with_columns(pl.Series(values).gather(place).alias(name) for name, values in columns.items())


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".fits", ".dat"])
def test_integer_ids_are_kept(rows, tmp_path, suffix):
    ids = [30, -4, 2**62, 7]
    table = numbered(rows, object_id=ids).drop("ra", "dec")
    got = read_sources([write(table, tmp_path / f"a{suffix}")])
    assert got.object_id.tolist() == ids and got.name == tuple(map(str, ids))
    assert_measured(got, expected(rows))
    assert np.isnan(got.ra).all()


def test_whole_numbers_written_as_floats_are_ids(rows, tmp_path):
    got = read_sources([write(numbered(rows, source_id=[1.0, 2.0, 5.0, 9.0]), tmp_path / "a.csv")])
    assert got.object_id.tolist() == [1, 2, 5, 9] and got.name[2] == "5"


def test_names_call_the_source_and_ids_come_from_positions(rows, tmp_path):
    names = ["NGC 1", "Ångström", "b-2", "東"]
    got = read_sources([write(numbered(rows, label=names), tmp_path / "a.csv")])
    assert got.name == tuple(names)
    positions = rows.select("ra", "dec").unique(maintain_order=True)
    assert (
        got.object_id.tolist() == source_id(positions["ra"].to_numpy(), positions["dec"].to_numpy()).tolist()
    )
    both = read_sources([write(numbered(rows, label=names, object_id=[4, 3, 2, 1]), tmp_path / "b.csv")])
    assert both.name == tuple(names) and both.object_id.tolist() == [4, 3, 2, 1]


def test_names_without_positions_have_stable_distinct_ids(rows, tmp_path):
    table = numbered(rows, target=["a", "b", "c", "d"]).drop("ra", "dec")
    got = read_sources([write(table, tmp_path / "a.csv")])
    assert len(set(got.object_id.tolist())) == 4 and (got.object_id >= 0).all()
    again = read_sources([write(table[::-1], tmp_path / "b.parquet")])
    assert dict(zip(again.name, again.object_id.tolist(), strict=True)) == dict(
        zip(got.name, got.object_id.tolist(), strict=True)
    )
    # the first 63 bits of the SHA-256 of "a": ca978112ca1bbdca...
    assert got.object_id[0] == 0xCA978112CA1BBDCA >> 1


def test_two_names_at_one_position_stay_two_sources_with_distinct_ids(rows, tmp_path):
    table = numbered(rows, name=["a", "b", "c", "d"]).with_columns(ra=pl.lit(10.0), dec=pl.lit(5.0))
    got = read_sources([write(table, tmp_path / "a.csv")])
    assert got.name == ("a", "b", "c", "d") and len(set(got.object_id.tolist())) == 4
    assert got.object_id[0] == source_id(np.array([10.0]), np.array([5.0]))[0]


def test_ids_beyond_63_bits_are_names(rows, tmp_path):
    table = numbered(rows, object_id=[2**63 + 1, 2**63 + 2, 2**63 + 3, 5])
    got = read_sources([write(table.cast({"object_id": pl.UInt64}), tmp_path / "a.parquet")])
    assert got.name[0] == str(2**63 + 1) and len(set(got.object_id.tolist())) == 4


def test_a_column_id_that_numbers_the_rows_is_no_id_of_sources(rows, tmp_path):
    table = rows.with_columns(id=pl.int_range(pl.len()))
    got = read_sources([write(table, tmp_path / "a.csv")])
    assert len(got) == 4 and any("column id numbers the rows" in note for note in got.notes)


def test_rows_without_an_id_are_set_aside(rows, tmp_path):
    table = numbered(rows, name=["a", "", "c", "d"])
    got = read_sources([write(table, tmp_path / "a.csv")])
    assert got.name == ("a", "c", "d")
    lost = got.set_aside.filter(pl.col("reason") == "source_missing")
    assert lost.height == rows.filter(pl.col("ra") == rows["ra"].unique().sort()[1]).height


def test_an_empty_column_of_names_tells_nothing_apart(rows, tmp_path):
    got = read_sources([write(rows.with_columns(label=pl.lit("")), tmp_path / "a.csv")])
    assert len(got) == 4 and any("column label is empty" in note for note in got.notes)


def test_sources_of_which_nothing_is_left_stay(rows, tmp_path):
    first = rows["ra"][0]
    table = rows.with_columns(flux_err=pl.when(pl.col("ra") == first).then(0.0).otherwise(pl.col("flux_err")))
    got = read_sources([write(table, tmp_path / "a.csv")])
    assert len(got) == 4 and got.measurements.count[0] == 0 and got.measurements.count[1] > 100
    table = pl.DataFrame(
        {
            "name": ["a", "b"],
            "wave": [[1.0], []],
            "width": [[0.02], []],
            "flux": [[5.0], []],
            "flux_err": [[1.0], []],
        }
    )
    got = read_sources([write(table, tmp_path / "packed.parquet")])
    assert got.name == ("a", "b") and got.measurements.count.tolist() == [1, 0]


# -- several files ----------------------------------------------------------------------------------------------------
def halves(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    return rows[::2], rows[1::2]


def test_the_same_id_in_two_files_is_one_source(rows, tmp_path):
    parts = halves(numbered(rows, object_id=[3, 1, 2, 4]).drop("ra", "dec"))
    paths = [
        write(part, tmp_path / f"{number}{suffix}")
        for number, (part, suffix) in enumerate(zip(parts, (".csv", ".fits"), strict=True))
    ]
    got = read_sources(paths)
    assert got.object_id.tolist() == [3, 1, 2, 4]
    assert_measured(got, expected(rows))
    assert "4 sources stand in several files: the measurements of each are taken together" in got.notes


def test_the_same_position_in_two_files_is_one_source(rows, tmp_path):
    first, second = halves(rows)
    second = second.with_columns(pl.col("ra") + 0.3 * ARCSEC)
    got = read_sources([write(first, tmp_path / "a.csv"), write(second, tmp_path / "b.parquet")])
    assert_measured(got, expected(rows))
    assert (got.ra == np.array(rows["ra"].unique(maintain_order=True))).all()
    assert any(note.startswith("4 sources stand in several files") for note in got.notes)


def test_a_name_in_one_file_and_its_position_in_another_are_one_source(one, tmp_path):
    first, second = halves(one)
    named = write(first.with_columns(name=pl.lit("Cloverleaf")), tmp_path / "a.csv")
    placed = write(second, tmp_path / "b.csv")
    got = read_sources([named, placed])
    assert got.name == ("Cloverleaf",)
    assert_measured(got, expected(one))
    assert read_sources([placed, named]).name == ("b",), "the first file says what it is called"


def test_one_source_a_file(rows, tmp_path):
    parts = rows.partition_by("ra", maintain_order=True)
    paths = [
        write(part.drop("ra", "dec"), tmp_path / f"target {number}.csv.gz")
        for number, part in enumerate(parts)
    ]
    got = read_sources(paths)
    assert got.name == ("target 0", "target 1", "target 2", "target 3")
    assert_measured(got, expected(rows))
    assert (
        len(got.notes) == 1 and "target 0.csv.gz and 3 more files: column flux states no unit" in got.notes[0]
    )


def test_files_of_one_name_in_two_folders_are_two_sources(rows, tmp_path):
    parts = rows.partition_by("ra", maintain_order=True)[:2]
    paths = []
    for number, part in enumerate(parts):
        (tmp_path / f"d{number}").mkdir()
        paths.append(write(part.drop("ra", "dec"), tmp_path / f"d{number}" / "spec.csv"))
    got = read_sources(paths)
    assert got.name == ("d0/spec", "d1/spec") and len(set(got.object_id.tolist())) == 2


def test_the_same_name_in_two_headers_is_one_source(one, tmp_path):
    paths = []
    for number, part in enumerate(halves(one.drop("ra", "dec"))):
        path = write(part, tmp_path / f"visit{number}.csv")
        path.write_text("# target: H1413+117\n" + path.read_text())
        paths.append(path)
    got = read_sources(paths)
    assert got.name == ("H1413+117",)
    assert_measured(got, expected(one))


def test_two_sources_of_one_file_at_one_position_are_not_joined_by_another_file(one, tmp_path):
    first, second = halves(one)
    both = pl.concat([first.with_columns(name=pl.lit("A")), second.with_columns(name=pl.lit("B"))])
    third = one.with_columns(mjd=pl.col("mjd") + 300.0)
    got = read_sources([write(both, tmp_path / "pair.csv"), write(third, tmp_path / "blend.csv")])
    assert got.name == ("A", "B")
    assert got.measurements.count[1] == len(expected(second)[0]["flux"]), "the first takes the other file's"


def test_measurements_that_two_files_repeat_are_used_once(one, tmp_path):
    paths = [write(one, tmp_path / "wide.csv"), write(one[:40], tmp_path / "deep.parquet")]
    got = read_sources(paths)
    assert_measured(got, expected(one))
    again = got.set_aside.filter(pl.col("reason") == "duplicate_exposure")
    assert again["file"].unique().to_list() == [str(paths[1])]
    assert (
        again.height
        == 40
        - got.set_aside.filter(
            pl.col("reason").str.starts_with("flagged"), pl.col("file") == str(paths[1])
        ).height
    )


def test_the_order_of_sources_is_that_of_the_files(rows, tmp_path):
    shuffled = rows.sample(fraction=1.0, shuffle=True, seed=3)
    got = read_sources([write(shuffled, tmp_path / "a.csv")])
    assert got.ra.tolist() == shuffled["ra"].unique(maintain_order=True).to_list()
    assert_measured(got, expected(shuffled))


def test_an_id_with_positions_far_apart_is_refused(rows, tmp_path):
    path = write(rows.with_columns(object_id=pl.lit(1)), tmp_path / "a.csv")
    with pytest.raises(
        InputError, match=r"a\.csv: source '1', row \d+ \(from 0\) lies \d+ arcsec from row 0"
    ):
        read_sources([path])
    parts = [
        part.with_columns(object_id=pl.lit(1)) for part in rows.partition_by("ra", maintain_order=True)[:2]
    ]
    paths = [write(part, tmp_path / f"{number}.csv") for number, part in enumerate(parts)]
    with pytest.raises(InputError, match=r"1\.csv: source '1', row 0 .*0\.csv; the positions of one id"):
        read_sources(paths)
