"""Backfills: chosen cells, failed cells, killed in the middle, twice at once."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from paeplatform.assets.recording.partitions import RELEASE
from paeplatform.assets.release.quality import check_name
from paeplatform.definitions import build_definitions
from paeplatform.errors import InputError
from paeplatform.release.data_docs import write_data_docs
from paeplatform.release.quality_rules import load_rules
from paeplatform.release.simulated.defects import DefectSpec
from paeplatform.release.simulated.delivery import DeliverySpec
from paeplatform.sensors.backfill import backfill
from tests.platform.conftest import CELLS, TINY, Platform

FIRST, SECOND = CELLS
N_KILLS = 20


@pytest.fixture(scope="module", autouse=True)
def _only_the_mock_release_stays(platform: Platform) -> Iterator[None]:
    """Deliveries of this module are forgotten at its end: other modules share the platform."""
    before = set(platform.instance.get_dynamic_partitions(RELEASE))
    yield
    for release in set(platform.instance.get_dynamic_partitions(RELEASE)) - before:
        platform.instance.delete_dynamic_partition(RELEASE, release)
        shutil.rmtree(platform.settings.landing / release)


def _deliver(platform: Platform, release: str, **more) -> None:
    platform.deliver(DeliverySpec(release, seed=21, **more))


def _backfill(platform: Platform, release: str, **more):
    return backfill(
        platform.settings,
        release,
        defs=build_definitions(platform.settings),
        instance=platform.instance,
        **more,
    )


def test_a_backfill_makes_chosen_cells_and_only_failed_those_that_need_it(platform: Platform):
    _deliver(platform, "bf-a", defects=(DefectSpec("missing_detector", (int(FIRST.split("-")[1]),)),))
    lines: list[tuple[str, str]] = []
    summary = _backfill(platform, "bf-a", on_cell=lambda cell, outcome, why: lines.append((cell, outcome)))
    assert lines == [(FIRST, "held"), (SECOND, "made")]
    assert list(summary.made) == [SECOND] and "coverage.detectors" in summary.held[FIRST] and not summary.ok
    before = platform.table(f"redshift_catalog/bf-a/{SECOND}")
    again = _backfill(platform, "bf-a", only_failed=True)
    assert (list(again.made), list(again.held)) == ([], [FIRST])
    chosen = _backfill(platform, "bf-a", cells=[SECOND])
    assert list(chosen.made) == [SECOND] and chosen.ok
    after = platform.table(f"redshift_catalog/bf-a/{SECOND}")
    assert after["run_id"][0] != before["run_id"][0] and after.drop("run_id").equals(before.drop("run_id"))
    assert platform.stale() == []


def test_bad_requests_are_said_before_work_starts(platform: Platform):
    with pytest.raises(InputError, match="no release 'nonesuch': delivered so far are bf-a"):
        _backfill(platform, "nonesuch")
    with pytest.raises(InputError, match="release bf-a has no cell hp6-1: there are hp6-27256, hp6-27258"):
        _backfill(platform, "bf-a", cells=["hp6-1"])


def test_the_page_of_quality_checks_names_what_is_held(platform: Platform, tmp_path: Path):
    from paeplatform.assets.release.photometry import stored_outcomes
    from paeplatform.resources.workspace import Workspace

    outcomes = stored_outcomes(Workspace.from_settings(platform.settings), "bf-a")
    assert set(outcomes) == {("bf-a", ""), ("bf-a", FIRST), ("bf-a", SECOND)}
    assert {one.rule for one in outcomes["bf-a", ""]} >= {"manifest.checksum", "label.known"}
    page = write_data_docs(tmp_path / "docs", outcomes, load_rules()).read_text()
    assert (
        "coverage.detectors" in page and "at least 6" in page and "<script" not in page and "http" not in page
    )
    assert all(rule.name in page for rule in load_rules().rules)
    suite = (tmp_path / "docs" / "cell_quality.json").read_text()
    assert all(rule.name in suite for rule in load_rules().of_level("cell"))
    assert check_name("errors.depth") == "errors_depth"


_PROGRAM = """
import sys
from pathlib import Path
from paeplatform.config import load_preset
from paeplatform.definitions import build_definitions
from paeplatform.resources.settings import PlatformSettings
from paeplatform.sensors.backfill import backfill
settings = PlatformSettings(Path(sys.argv[1]), load_preset(Path(sys.argv[2])))
print("begin", flush=True)
summary = backfill(settings, sys.argv[3], defs=build_definitions(settings), only_failed=True)
print("done", len(summary.made), flush=True)
sys.exit(0 if summary.ok else 1)
"""


@pytest.mark.slow
def test_a_backfill_killed_twenty_times_loses_nothing_and_ends_as_an_undisturbed_one(platform: Platform):
    """On a real instance (SQLite) under the home, by processes of their own."""
    _deliver(platform, "bf-k")
    undisturbed = _backfill(platform, "bf-k")
    assert undisturbed.ok
    store = platform.settings.store
    names = (
        "release_photometry",
        "pae_posteriors",
        "template_fits",
        "reweighted_posteriors",
        "redshift_catalog",
    )

    def tables() -> dict[str, pl.DataFrame]:
        return {
            f"{name}/{cell}": pl.read_parquet(store / name / "bf-k" / f"{cell}.parquet").drop(
                "run_id", strict=False
            )
            for name in names
            for cell in CELLS
        }

    wanted = tables()
    for name in names:
        for cell in CELLS:
            (store / name / "bf-k" / f"{cell}.parquet").unlink()
    command = [sys.executable, "-c", _PROGRAM, str(platform.settings.home), str(TINY), "bf-k"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    kills = 0
    for attempt in range(3 * N_KILLS):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "begin"
        time.sleep(0.2 + 0.35 * (attempt % 17))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
        for path in store.rglob("*.parquet"):
            if not any(part.startswith(".") for part in path.relative_to(store).parts):
                pl.read_parquet(path, n_rows=1)  # whatever is visible is whole; scratch folders are hidden
        if kills == N_KILLS:
            break
        for cell in CELLS[: attempt % 2]:  # so that there is work left to disturb
            (store / "pae_posteriors" / "bf-k" / f"{cell}.parquet").unlink(missing_ok=True)
    assert kills == N_KILLS
    assert subprocess.run(command, env=environment, check=False, capture_output=True).returncode == 0
    ended = tables()
    for name, table in wanted.items():
        assert ended[name].equals(table), name
