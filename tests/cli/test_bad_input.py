"""What a user can put right: one line that says what and where, exit code 2, and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from paeplatform.cli import main
from paeplatform.config import load_preset
from paeplatform.errors import InputError


def assert_one_line(outcome, *parts: str) -> None:
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1, outcome.err
    for part in parts:
        assert part in outcome.err


def write_preset(folder: Path, **changes: object) -> Path:
    """The demo preset with top-level sections replaced or added."""
    tree = load_preset("demo").model_dump(mode="json") | changes
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.parametrize("subcommand", ["run", "status", "metrics", "ui", "evaluate"])
def test_unknown_preset_is_refused_by_every_command_that_takes_one(
    command: Callable, home: Path, subcommand: str
) -> None:
    outcome = command(subcommand, "--preset", "nope", "--home", home)
    assert_one_line(outcome, "unknown preset 'nope'", "demo", "standard", "paper")
    assert list(home.iterdir()) == []


def test_unknown_preset_key_is_named_with_its_path(command: Callable, tmp_path: Path, home: Path) -> None:
    path = write_preset(tmp_path, release={"cells": [27256], "sources_per_cell": 4, "colour": "red"})
    outcome = command("run", "--preset", path, "--home", home)
    assert_one_line(outcome, str(path), "release.colour")
    assert list(home.iterdir()) == []


def test_value_out_of_range_says_the_range(command: Callable, tmp_path: Path) -> None:
    path = write_preset(tmp_path, instrument={"n_redshift_nodes": 3})
    assert_one_line(command("preset", "check", path), "instrument.n_redshift_nodes", "64", "3")


def test_preset_file_that_is_missing(command: Callable, tmp_path: Path) -> None:
    assert_one_line(command("preset", "show", tmp_path / "none.yaml"), "none.yaml", "does not exist")


def template(folder: Path, flux_at_one_um: float = 1.0, wave_max_um: float = 5.5) -> Path:
    wave = np.linspace(0.09, wave_max_um, 400)
    flux = np.ones_like(wave)
    flux[np.argmin(np.abs(wave - 1.0))] = flux_at_one_um
    folder.mkdir(exist_ok=True)
    path = folder / "spiral.txt"
    np.savetxt(path, np.column_stack([wave, flux]))
    return path


@pytest.mark.parametrize(
    ("fault", "parts"),
    [({"flux_at_one_um": np.nan}, ("spiral.txt", "row 68")), ({"wave_max_um": 3.0}, ("spiral.txt", "5"))],
    ids=["NaN", "too short"],
)
def test_bad_template_is_named_by_the_check(
    command: Callable, tmp_path: Path, fault: dict, parts: tuple[str, ...]
) -> None:
    template(tmp_path / "seds", **fault)
    assert_one_line(command("templates", "check", tmp_path / "seds"), *parts)


def test_good_templates_pass_the_check(command: Callable, tmp_path: Path) -> None:
    template(tmp_path / "seds")
    outcome = command("templates", "check", tmp_path / "seds")
    assert outcome.code == 0
    assert "1 templates, all valid" in outcome.out


def test_bad_template_stops_a_run_before_it_makes_anything(
    command: Callable, tmp_path: Path, home: Path
) -> None:
    template(tmp_path / "seds", flux_at_one_um=-1.0)
    path = write_preset(tmp_path, templates={"folder": str(tmp_path / "seds")})
    outcome = command("run", "--select", "redshift_prior", "--preset", path, "--home", home)
    assert_one_line(outcome, "spiral.txt")
    assert not list(home.rglob("*.parquet"))


def test_unknown_asset_lists_the_known_ones(command: Callable, home: Path) -> None:
    assert_one_line(
        command("run", "--select", "redshfit_catalog", "--home", home), "redshfit_catalog", "pae_posteriors"
    )


def test_missing_champion_is_said_by_evaluate(command: Callable, home: Path) -> None:
    assert_one_line(command("evaluate", "--home", home), "pae@champion")
    assert not (home / "mlruns").exists()


def test_metrics_before_any_run(command: Callable, home: Path) -> None:
    assert_one_line(command("metrics", "--json", "--home", home), "no metrics")


def test_home_that_is_a_file(command: Callable, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = command("status", "--home", tmp_path / "file")
    assert outcome.code == 2
    assert "file" in outcome.err


def test_input_error_is_found_behind_what_dagster_wraps_around_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrapped(*_: object) -> None:
        try:
            try:
                raise InputError("flux, row 3:\n  not finite")
            except InputError as error:
                raise RuntimeError("step failed") from error
        except RuntimeError as error:
            raise LookupError("run failed") from error

    monkeypatch.setattr("paeplatform.config.load_preset", wrapped)
    with pytest.raises(SystemExit) as ended:
        main(["preset", "check", "demo"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: flux, row 3: not finite\n"


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("paeplatform.config.load_preset", broken)
    with pytest.raises(ZeroDivisionError):
        main(["preset", "check", "demo"])
