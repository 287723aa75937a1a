"""Compares what two homes of the platform hold under var/store: tables by value, all other files byte for byte.

Use it to show that a change of the code changed no result. Run the same preset with the old and with the new code, each
into a home of its own, then

    python scripts/compare_homes.py /tmp/before /tmp/after

prints each file that differs with what differs in it: of a table the columns, with the largest difference of numbers
or the number of rows; of a JSON file the keys. Some values differ in every two runs and are ignored: the id of the run,
times and speeds, as columns, as keys, and as rows of tables with a row per metric (column `name`). --ignore names more
of them. A path inside its own home counts as the same. The exit code is 1 when the homes differ, 0 when they do not.
Files are read as Parquet, JSON or bytes, never by pickle.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import polars as pl

STORE = Path("var") / "store"
IGNORED = ("run_id", "created", "seconds", "galaxies_per_hour")  # the run, and what it took from a clock
METRIC = "name"  # column of tables with a row per metric


def compare(home_a: Path, home_b: Path, ignored: frozenset[str]) -> tuple[int, int, dict[str, list[str]]]:
    """(files equal in every byte, files equal but for what is ignored, differences by the file's path)."""
    a, b = (_files(home / STORE) for home in (home_a, home_b))
    differences = {name: [f"only in {home_a if name in a else home_b}"] for name in set(a) ^ set(b)}
    identical = alike = 0
    for name in sorted(set(a) & set(b)):
        if a[name].read_bytes() == b[name].read_bytes():
            identical += 1
        elif found := _file_differences((a[name], home_a), (b[name], home_b), ignored):
            differences[name] = found
        else:
            alike += 1
    return identical, alike, dict(sorted(differences.items()))


def table_differences(a: pl.DataFrame, b: pl.DataFrame, ignored: frozenset[str]) -> list[str]:
    """What differs between two tables, whose rows are compared in their order."""
    a, b = (_without_rows(table, ignored) for table in (a, b))
    found = [f"column {name}: only in one of the tables" for name in sorted(set(a.columns) ^ set(b.columns))]
    if a.height != b.height:
        return [*found, f"{a.height} rows and {b.height} rows"]
    for name in a.columns:
        if name in b.columns and name not in ignored:
            difference = _column_difference(a[name], b[name])
            found += [f"column {name}: {difference}"] if difference else []
    return found


def main() -> int:
    """Prints the comparison; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("home_a", type=Path, help="home of the first run")
    parser.add_argument("home_b", type=Path, help="home of the second run")
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="NAME",
        help="a column of tables, or a key of JSON files, that may differ; may be given several times",
    )
    parser.add_argument("--ignore-nothing", action="store_true", help=f"compare also {', '.join(IGNORED)}")
    given = parser.parse_args()
    for home in (given.home_a, given.home_b):
        if not (home / STORE).is_dir():
            parser.error(f"{home} is no home of the platform: it has no folder {STORE}")
    ignored = frozenset(given.ignore) | frozenset(() if given.ignore_nothing else IGNORED)
    identical, alike, differences = compare(given.home_a, given.home_b, ignored)
    print(f"{identical} files are equal in every byte")
    print(
        f"{alike} files hold the same (ignored: {', '.join(sorted(ignored)) or 'nothing'}; paths inside the home)"
    )
    print(f"{len(differences)} files differ")
    for name, found in differences.items():
        print(f"  {name}", *(f"    {line}" for line in found), sep="\n")
    return 1 if differences else 0


def _files(folder: Path) -> dict[str, Path]:
    """The files below a folder by their path in it, without those that a writer has not finished."""
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {
        str(name): path
        for name, path in files.items()
        if not any(part.startswith(".") for part in name.parts)
    }


def _file_differences(a: tuple[Path, Path], b: tuple[Path, Path], ignored: frozenset[str]) -> list[str]:
    """What differs between two files whose bytes differ; each comes with its home."""
    suffix = a[0].suffix
    if suffix == ".parquet":
        return table_differences(_table(*a), _table(*b), ignored)
    if suffix == ".json":
        one, other = (json.loads(path.read_text().replace(str(home), "")) for path, home in (a, b))
        return _json_differences(one, other, ignored, "")
    return [f"the bytes differ ({a[0].stat().st_size} and {b[0].stat().st_size} of them)"]


def _table(path: Path, home: Path) -> pl.DataFrame:
    """A table, in which paths begin at the home."""
    paths = pl.col(pl.String).str.replace_all(str(home), "", literal=True)
    return pl.read_parquet(path, glob=False).with_columns(paths)


def _without_rows(table: pl.DataFrame, ignored: frozenset[str]) -> pl.DataFrame:
    """A table without the rows of ignored metrics."""
    if table.schema.get(METRIC) != pl.String:
        return table
    return table.filter(~pl.col(METRIC).is_in(sorted(ignored)).fill_null(False))


def _json_differences(a: object, b: object, ignored: frozenset[str], where: str) -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        parts = [(name, a[name], b[name]) for name in a if name not in ignored]
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        parts = [(index, *both) for index, both in enumerate(zip(a, b, strict=True))]
    else:
        return [] if a == b else [f"key {where}: {str(a)[:60]} and {str(b)[:60]}"]
    return [
        line
        for name, one, other in parts
        for line in _json_differences(one, other, ignored, f"{where}.{name}".lstrip("."))
    ]


def _column_difference(a: pl.Series, b: pl.Series) -> str | None:
    """How two columns of the same length differ; None when they hold the same values."""
    if a.dtype != b.dtype:
        return f"type {a.dtype} and {b.dtype}"
    rows = a.ne_missing(b)  # a missing value equals a missing one, NaN equals NaN
    if not rows.any():
        return None
    said = f"{rows.sum()} of {len(a)} rows differ"
    largest = _largest_difference(a.filter(rows), b.filter(rows))
    return said if largest is None else f"{said}, by {largest:.3g} at most"


def _largest_difference(a: pl.Series, b: pl.Series) -> float | None:
    """The largest difference of numbers, also of those inside lists; None where there is nothing to subtract."""
    while isinstance(a.dtype, pl.List | pl.Array):
        a, b = a.explode(), b.explode()
        if len(a) != len(b):
            return None
    if not a.dtype.is_numeric():
        return None
    largest = (a.cast(pl.Float64) - b.cast(pl.Float64)).abs().fill_nan(None).max()
    return None if largest is None else float(largest)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
