"""What the commands print when all is well."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from rich.console import Console

from paeplatform.cli.tables import WIDE, metric_rich_table
from paeplatform.config import load_preset, preset_names
from paeplatform.scores.metrics import RELEASE_METRICS
from paeplatform.scores.statistics import metric_table


def stored_metrics(home: Path, release: str = "mock-r1") -> pl.DataFrame:
    """A metric table where asset photoz_metrics keeps it; its tightest cut selects nothing."""
    rng = np.random.default_rng(1)
    z = rng.uniform(0.1, 1.0, 60)
    table = metric_table(z + rng.normal(0.0, 0.02, 60), np.full(60, 0.05), z, (0.001, 0.2), n_bootstrap=20)
    folder = home / "var" / "store" / "photoz_metrics"
    folder.mkdir(parents=True, exist_ok=True)
    table.write_parquet(folder / f"{release}.parquet")
    return table


def test_metrics_json_holds_the_tables_whole(command: Callable, home: Path) -> None:
    stored = stored_metrics(home)
    tree = json.loads(command("metrics", "--json", "--home", home).out)
    rows = tree["releases"]["mock-r1"]
    assert pl.DataFrame(rows, schema=stored.schema).equals(stored)
    assert rows[0]["n"] == 0
    assert all(rows[0][name] is None for name in RELEASE_METRICS)


def test_metrics_of_one_release(command: Callable, home: Path) -> None:
    stored_metrics(home)
    stored_metrics(home, "mock-r2")
    assert set(json.loads(command("metrics", "--json", "--home", home).out)["releases"]) == {
        "mock-r1",
        "mock-r2",
    }
    one = command("metrics", "--json", "--release", "mock-r2", "--home", home)
    assert set(json.loads(one.out)["releases"]) == {"mock-r2"}
    other = command("metrics", "--release", "mock-r3", "--home", home)
    assert other.code == 2
    assert "mock-r1, mock-r2" in other.err


def test_metric_table_for_people_shows_dashes_for_an_empty_cut(command: Callable, home: Path) -> None:
    stored = stored_metrics(home)
    shown = command("metrics", "--home", home).out
    assert "release mock-r1" in shown
    empty = next(line for line in shown.splitlines() if "< 0.001" in line)
    assert empty.count("-") >= 5
    everything = next(line for line in shown.splitlines() if " all " in line)
    assert f"{stored['nmad_paper'][-1]:.4f}" in everything


def test_every_metric_of_the_table_is_shown_to_people_with_a_wide_terminal(home: Path) -> None:
    shown = metric_rich_table(stored_metrics(home), "title", width=WIDE)
    assert len(shown.columns) == 2 + len(RELEASE_METRICS)


def test_the_metric_table_fits_a_terminal_of_80_columns(home: Path) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(metric_rich_table(stored_metrics(home), "title", width=80))
    assert "…" not in console.export_text()


def test_preset_show_prints_what_preset_check_accepts(command: Callable, tmp_path: Path) -> None:
    shown = command("preset", "show", "demo")
    path = tmp_path / "mine.yaml"
    path.write_text(shown.out)
    assert load_preset(path) == load_preset("demo")
    assert yaml.safe_load(shown.out)["mclmc"]["n_chains"] == 4
    checked = command("preset", "check", path)
    assert checked.code == 0
    assert load_preset("demo").digest() in checked.out


def test_presets_lists_all_that_ship(command: Callable) -> None:
    shown = command("presets").out
    assert all(name in shown for name in preset_names())


def test_status_lists_the_whole_graph_in_an_empty_home_and_makes_no_table(
    command: Callable, home: Path
) -> None:
    tree = json.loads(command("status", "--json", "--home", home).out)
    labels = {row["target"] for row in tree["stale"]}
    assert {"sed_templates", "autoencoder[10]", "pae_champion", "mock_delivery"} <= labels
    assert not [label for label in labels if "mock-r1" in label], "cells are known once they are delivered"
    assert not list(home.rglob("*.parquet"))


def test_run_makes_the_selection_once(command: Callable, home: Path) -> None:
    first = command("run", "--select", "spherex_bands", "--home", home)
    assert first.code == 0, first
    assert "spherex_bands" in first.out
    assert (home / "var" / "store" / "spherex_bands.parquet").is_file()
    again = command("run", "--select", "spherex_bands", "--home", home)
    assert again.code == 0
    assert "Nothing to do" in again.out


@pytest.mark.parametrize(
    "subcommand",
    [
        "demo",
        "run",
        "plan",
        "backfill",
        "quality",
        "simulate-release",
        "export",
        "show",
        "paper-data",
        "status",
        "metrics",
        "ui",
        "evaluate",
        "models",
        "models install-reference",
        "presets",
        "preset check",
        "preset show",
        "templates check",
    ],
)
def test_help_of_every_command_answers(command: Callable, subcommand: str) -> None:
    shown = command(*subcommand.split(), "--help")
    assert shown.code == 0
    assert "Usage: paeplatform" in shown.out


def test_preset_path_reaches_child_processes_as_an_absolute_one(
    command: Callable, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    (tmp_path / "mine.yaml").write_text(command("preset", "show", "demo").out)
    monkeypatch.chdir(tmp_path)
    assert command("status", "--preset", "mine.yaml", "--home", home).code == 0
    assert os.environ["PAEPLATFORM_PRESET"] == str(tmp_path / "mine.yaml")
    assert os.environ["PAEPLATFORM_HOME"] == str(home)
