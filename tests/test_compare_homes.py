"""The comparison of two homes that stands behind "this change altered no result"."""

import json
import sys
from pathlib import Path

import polars as pl
import pytest

from tests.scripts import load_script

compare_homes = load_script("compare_homes")

TABLE = pl.DataFrame(
    {
        "name": ["nmad", "galaxies_per_hour"],
        "value": [0.5, 100.0],
        "draws": pl.Series([[1.0, float("nan")], [2.0, 3.0]], dtype=pl.Array(pl.Float32, 2)),
    }
)


def home(path: Path, run_id: str, speed: float, *, draw: float = 1.0, weights: bytes = b"w") -> Path:
    store = path / "var" / "store"
    (store / "models").mkdir(parents=True)
    draws = pl.Series([[draw, float("nan")], [2.0, 3.0]], dtype=pl.Array(pl.Float32, 2))
    table = TABLE.with_columns(
        value=pl.Series([0.5, speed]), draws=draws, run_id=pl.lit(run_id), png=pl.lit(f"{path}/figure.png")
    )
    table.write_parquet(store / "table.parquet")
    (store / "models" / "weights.eqx").write_bytes(weights)
    (store / "models" / "record.json").write_text(json.dumps({"metrics": {"mse": 1.0, "seconds": speed}}))
    (store / ".half.tmp.parquet").write_text(run_id)
    return path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["compare_homes.py", *map(str, arguments)])
    return compare_homes.main()


def test_runs_that_differ_in_clocks_and_paths_alone_hold_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    homes = home(tmp_path / "a", "r1", 100.0), home(tmp_path / "b", "r2", 90.0)
    assert run(monkeypatch, *homes) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 files differ"
    assert run(monkeypatch, *homes, "--ignore-nothing") == 1
    said = capsys.readouterr().out
    assert "column run_id: 2 of 2 rows differ" in said and "key metrics.seconds: 100.0 and 90.0" in said
    assert "column value: 1 of 2 rows differ, by 10 at most" in said and "png" not in said


def test_what_differs_is_named_with_the_largest_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    one = home(tmp_path / "a", "r1", 100.0)
    other = home(tmp_path / "b", "r1", 100.0, draw=1.5, weights=b"v")
    (one / "var" / "store" / "alone.parquet").touch()
    assert run(monkeypatch, one, other) == 1
    said = capsys.readouterr().out
    assert "column draws: 1 of 1 rows differ, by 0.5 at most" in said
    assert f"only in {one}" in said and "models/weights.eqx" in said and "3 files differ" in said
    assert run(monkeypatch, one, other, "--ignore", "draws") == 1
    assert "2 files differ" in capsys.readouterr().out


def test_a_folder_that_is_no_home_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, tmp_path, tmp_path)
