"""The capacity plan against sums done by hand, and what it refuses."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from paeplatform.capacity import STEPS, load_rates, plan
from paeplatform.cli import app
from paeplatform.errors import ConfigError, InputError

SLOW = dict.fromkeys(STEPS, 1000000000.0)


def test_the_whole_sky_is_cut_into_cells() -> None:
    made = plan(4.5e8, gpus=8, workers=4, rates=load_rates())
    assert made.cells == 12_288
    assert made.sources_per_cell == pytest.approx(36_621, abs=1)
    assert made.runs == 12_288 + 1_536  # photometry a cell, the rest eight cells a run
    assert plan(1e6, gpus=0, workers=1, rates=load_rates(), healpix_order=6, cells=7).cells == 7


def test_hours_are_sources_over_rates_and_starts() -> None:
    rates = load_rates(given=SLOW | {"pae_posteriors": 1e6, "photometry": 1e7})
    start = rates.run_start.value / 3600
    made = plan(4.5e8, gpus=10, workers=5, rates=rates)
    on_gpu = 450 + 2 * 0.45 + 1536 * start
    on_worker = 45 + 2 * 0.45 + 12_288 * start
    assert made.first.gpu_hours == pytest.approx(on_gpu)
    assert made.first.worker_hours == pytest.approx(on_worker)
    assert made.first.hours == pytest.approx(max(on_gpu / 10, on_worker / 5))
    # another champion: posteriors again, template fits and SBI stay
    assert made.new_champion.gpu_hours == pytest.approx(450 + 1536 * start)
    # another prior: weights, and the share that weights cannot move inferred again
    assert made.new_prior.gpu_hours == pytest.approx(450 * rates.inferred_again.value + 1536 * start)
    assert made.new_prior.worker_hours == pytest.approx(2 * 0.45)
    assert made.minutes_per_cell == pytest.approx(60 * 4.5e8 / 12_288 / 1e6)


def test_without_gpus_everything_is_the_workers_and_twice_as_many_take_half_the_time() -> None:
    one, two = (plan(1e7, gpus=0, workers=n, rates=load_rates()) for n in (10, 20))
    assert one.first.gpu_hours == 0
    assert one.first.hours == pytest.approx(2 * two.first.hours)
    assert "gpu_speedup" not in one.assumed
    assert one.first.worker_hours > 1e7 / load_rates().rates["pae_posteriors"].value


def test_a_given_rate_is_a_gpus_own_and_no_longer_assumed() -> None:
    shipped = plan(1e8, gpus=1, workers=100, rates=load_rates())
    assert "gpu_speedup" in shipped.assumed
    steps = dict.fromkeys(("pae_posteriors", "sbi_posteriors", "template_fits"), 1000000.0)
    given = plan(1e8, gpus=1, workers=100, rates=load_rates(given=steps))
    assert "gpu_speedup" not in given.assumed
    assert given.minutes_per_cell == pytest.approx(60 * 1e8 / 12_288 / 1e6)


def test_storage_adds_up() -> None:
    rates = load_rates()
    made = plan(2e8, gpus=0, workers=1, rates=rates)
    parts = {name: size for name, size in made.terabytes.items() if name != "total"}
    assert made.terabytes["total"] == pytest.approx(sum(parts.values()))
    assert parts["redshift_catalog"] == pytest.approx(
        2e8 * rates.bytes_per_source["redshift_catalog"].value / 1e12
    )


def test_benchmark_results_go_before_the_shipped_figures(tmp_path: Path, project_root: Path) -> None:
    (tmp_path / "native.json").write_text(json.dumps([{"name": "native_per_hour", "value": 12.0}]))
    rates = load_rates(results=tmp_path)
    assert rates.rates["pae_posteriors"].value == 12.0
    assert rates.rates["template_fits"].value == load_rates().rates["template_fits"].value
    with pytest.raises(ConfigError, match="is not a folder"):
        load_rates(results=tmp_path / "nonesuch")


def test_what_is_called_measured_names_a_figure_that_a_benchmark_here_gives(project_root: Path) -> None:
    rates = load_rates()
    named = [*rates.rates.values(), *rates.bytes_per_source.values(), rates.bytes_per_cell]
    for rate in (one for one in named if one.basis == "measured" and not one.source.startswith("demo home")):
        file, _, name = rate.source.partition(": ")
        results = json.loads((project_root / "benchmarks" / "results" / f"{file}.json").read_text())
        assert name in {one["name"] for one in results}, rate.source


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"sources": 0.0}, "must lie in"),
        ({"gpus": -1}, "gpus -1"),
        ({"workers": 0}, "workers 0"),
        ({"cells": 20_000}, "cells 20000 must lie in"),
        ({"healpix_order": 13}, "HEALPix order 13"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        plan(**{"sources": 1e6, "gpus": 1, "workers": 1, "rates": load_rates(), **options})


def test_a_bad_file_of_rates_is_said(tmp_path: Path) -> None:
    path = tmp_path / "rates.yaml"
    path.write_text("rates: {}\nspeed: 1\n")
    with pytest.raises(ConfigError, match="speed"):
        load_rates(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_rates(tmp_path / "nonesuch.yaml")


def test_the_command_says_what_is_assumed_and_takes_rates() -> None:
    runner = CliRunner()
    shown = runner.invoke(app, ["plan-capacity", "--sources", "4.5e8", "--gpus", "32", "--gpu-price", "2"])
    assert shown.exit_code == 0
    assert (
        "12,288 cells" in shown.stdout and "gpu_speedup" in shown.stdout and "another prior" in shown.stdout
    )
    asked = ["plan-capacity", "--gpus", "4", "--rate", "pae_posteriors=1e6", "--json"]
    tree = json.loads(runner.invoke(app, asked).stdout)
    assert tree["rates"]["rates"]["pae_posteriors"]["basis"] == "given"
    assert tree["minutes_per_cell"] == pytest.approx(60 * 4.5e8 / 12_288 / 1e6)
    wrong = runner.invoke(app, ["plan-capacity", "--rate", "speed"])
    assert isinstance(wrong.exception, InputError)


def test_measured_rates_are_those_of_the_benchmarks(project_root: Path) -> None:
    """To three digits, as the file gives them: it is written from the JSON of `make bench`."""
    tree = yaml.safe_load((project_root / "paeplatform" / "capacity_rates.yaml").read_text())
    figures = [*tree["rates"].values(), *tree["bytes_per_source"].values()]
    checked = 0
    for figure in figures:
        if figure["basis"] != "measured":
            continue
        benchmark, name = figure["source"].split(": ")
        results = json.loads((project_root / "benchmarks" / "results" / f"{benchmark}.json").read_text())
        assert figure["value"] == pytest.approx(_value(results, name), rel=0.015), figure
        checked += 1
    assert checked >= 10


def _value(results: list, name: str) -> float:
    found = [one["value"] for one in results if one["name"] == name]
    assert len(found) == 1, name
    return found[0]
