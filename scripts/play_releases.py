"""Plays a survey through a real instance: web server, daemon, run queue and MLflow as processes of their own.

Releases arrive, one of them bad; the prior changes, the champion is moved through MLflow's server, a cell is delivered
again; a backfill is asked for as Dagster's page asks, and by `dg launch`. After each step the runs that the platform
started by itself are counted, by what they are about, and have to be those expected and no others.

    python scripts/play_releases.py                                   # tiny, in a temporary home: some 15 minutes
    python scripts/play_releases.py --home runs/play --preset demo --json figures.json
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickStatus
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from paeplatform.assets.recording.partitions import cell_partition  # noqa: E402
from paeplatform.assets.recording.provenance import GATE_TAG, HELD, latest_records  # noqa: E402
from paeplatform.assets.recording.tables import library_from  # noqa: E402
from paeplatform.catalog.cells import cell_key  # noqa: E402
from paeplatform.config import load_preset  # noqa: E402
from paeplatform.instrument.bands import load_bands  # noqa: E402
from paeplatform.release.simulated.defects import DefectSpec  # noqa: E402
from paeplatform.release.simulated.delivery import DeliverySpec, write_delivery  # noqa: E402
from paeplatform.release.simulated.sky import TemplateSky  # noqa: E402
from paeplatform.resources.registry import CHAMPION, PAE  # noqa: E402
from paeplatform.resources.settings import PlatformSettings  # noqa: E402
from paeplatform.sensors.backfill import BACKFILL_TAG  # noqa: E402
from paeplatform.sensors.reconcile import TARGET_TAG  # noqa: E402

TICK_SECONDS = 5
OF_A_CELL = ("pae_posteriors", "sbi_posteriors", "template_fits", "reweighted_posteriors", "redshift_catalog")
_ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""
# What every change of prior or champion has to make beside the cells: metrics and report of the mock release.
REPORT = ("photoz_metrics[{mock}]", "validation_report[{mock}]")


@dataclass(frozen=True)
class Step:
    """One thing that happened and what came of it."""

    name: str
    wanted: Counter[str]
    asked: Counter[str]
    failed: list[str]
    seconds: float
    faults: list[str]

    @property
    def ok(self) -> bool:
        return self.wanted == self.asked and not self.faults


class Stage:
    """A home, its processes, and what they have done so far."""

    def __init__(self, settings: PlatformSettings, instance: dg.DagsterInstance, ports: tuple[int, int]):
        self.settings, self.instance, (self.dagster, self.mlflow) = settings, instance, ports
        order = settings.preset.release.healpix_order
        self.cells = [cell_key(order, cell) for cell in settings.preset.release.cells]
        self.steps: list[Step] = []

    @property
    def mock(self) -> str:
        return self.settings.preset.release.name

    def table(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.settings.store / f"{name}.parquet", glob=False)

    def made(self, asset: str) -> dict[str, int]:
        """Number of the event that made each partition last."""
        storage = self.instance.event_log_storage
        return dict(
            storage.get_latest_storage_id_by_partition(
                dg.AssetKey(asset), dg.DagsterEventType.ASSET_MATERIALIZATION
            )
        )

    def deliver(self, release: str, seed: int, **more: Any) -> None:
        """Puts a delivery into the landing zone."""
        spec = DeliverySpec(release, seed=seed, **more)
        folder = self.settings.landing / release
        sky = TemplateSky(library_from(self.table("sed_templates")))
        write_delivery(self.table("mock_photometry"), load_bands(), folder, spec, sky=sky, progress=False)

    def play(
        self, name: str, act: Callable[[], None], wanted: list[str], *checks: tuple[str, Callable[[], bool]]
    ) -> None:
        """Acts, waits until nothing moves any more, and holds the runs against those wanted."""
        before = {run.run_id for run in self.instance.get_runs()}
        wall = time.monotonic()
        act()
        self._settle(time.time(), name)
        # A run whose process did not start on a busy machine is started again by the daemon; it was asked for once.
        runs = [
            run for run in self.instance.get_runs() if run.run_id not in before and not _to_be_retried(run)
        ]
        asked = Counter(_about(run) for run in runs)
        failed = sorted(_about(run) for run in runs if run.status != dg.DagsterRunStatus.SUCCESS)
        faults = [text for text, check in checks if not _holds(check)]
        step = Step(name, Counter(wanted), asked, failed, time.monotonic() - wall, faults)
        self.steps.append(step)
        mark = "ok" if step.ok else f"WRONG: wanted {dict(step.wanted)}, asked {dict(step.asked)}, {faults}"
        print(f"{name:<44} {sum(asked.values()):>3} runs {step.seconds:>6.0f} s  {mark}", flush=True)

    def _settle(self, since: float, what: str, timeout_s: float = 1800.0) -> None:
        """Until no run is under way and both sensors looked twice after the last one ended and asked for nothing."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            time.sleep(2.0)
            records = self.instance.get_run_records()
            if any(record.dagster_run.status not in _ENDED for record in records):
                continue
            if any(not backfill.status.name.startswith("COMPLETED") for backfill in self._backfills()):
                continue
            last = max([since, *(record.end_time or 0.0 for record in records)])
            states = self.instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
            looked = [
                self.instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=2)
                for state in states
            ]
            if len(looked) == 2 and all(
                len(ticks) == 2
                and all(tick.timestamp > last and tick.status == TickStatus.SKIPPED for tick in ticks)
                for ticks in looked
            ):
                return
        raise SystemExit(
            f"{what}: still not quiet after {timeout_s:.0f} s; logs in {self.settings.home}/var/log"
        )

    def _backfills(self) -> list[Any]:
        return list(self.instance.get_backfills())

    def launch_backfill(self, assets: tuple[str, ...], partitions: list[str]) -> None:
        """Asks for a backfill in the words of Dagster's page."""
        params = {
            "assetSelection": [{"path": [name]} for name in assets],
            "partitionNames": partitions,
            "fromFailure": False,
        }
        body = json.dumps({"query": _LAUNCH, "variables": {"params": params}}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.dagster}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            data = json.load(answer)
        if data["data"]["launchPartitionBackfill"]["__typename"] != "LaunchBackfillSuccess":
            raise SystemExit(f"Dagster refused the backfill: {data}")

    def move_champion(self) -> None:
        """Another version of the bundle becomes champion: the alias is moved in MLflow's server, as its page does."""
        from mlflow import MlflowClient

        from paeplatform.resources.registry import ModelRegistry

        registry = ModelRegistry.from_settings(self.settings).client()
        first = registry.get_model_version_by_alias(PAE, CHAMPION)
        new = registry.create_model_version(PAE, source=first.source, run_id=first.run_id)
        MlflowClient(f"http://127.0.0.1:{self.mlflow}").set_registered_model_alias(PAE, CHAMPION, new.version)


def play(stage: Stage) -> None:
    """The scenario."""
    cells, mock, (first, second) = stage.cells, stage.mock, stage.cells[:2]
    index = {key: int(key.split("-")[1]) for key in cells}
    report = [name.format(mock=mock) for name in REPORT]
    every = [f"{name}|{cell}" for name in (mock, "rel-a") for cell in cells] + [
        f"rel-b|{c}" for c in cells[1:]
    ]

    def catalog(release: str, cell: str) -> pl.DataFrame:
        return stage.table(f"redshift_catalog/{release}/{cell}")

    stage.play("nothing happened", lambda: None, [])
    stage.play(
        "release A arrives, good",
        lambda: stage.deliver("rel-a", 11),
        ["release_exposures[rel-a]", *(f"rel-a|{cell}" for cell in cells)],
        ("a cell of A has no catalogue", lambda: all(catalog("rel-a", cell).height > 0 for cell in cells)),
    )
    defects = (
        DefectSpec("missing_detector", (index[first],)),
        DefectSpec("nan_flux", (index[second],)),
        DefectSpec("bad_position", (index[second],)),
    )

    def held() -> bool:
        records = latest_records(stage.instance, dg.AssetKey("release_photometry"))
        marks = {key for key, one in records.items() if (one.tags or {}).get(GATE_TAG) == HELD}
        return marks == {str(cell_partition("rel-b", first))}

    def accounted() -> bool:
        listing, lost = stage.table("release_exposures/rel-b"), stage.table("unplaced_rows/rel-b")
        delivered = (
            pl.scan_parquet(sorted((stage.settings.landing / "rel-b").glob("*.parquet")), glob=False)
            .select(pl.len())
            .collect()
            .item()
        )
        sums = 0
        for cell in cells:
            counts = stage.table(f"release_photometry/rel-b/{cell}").select(
                pl.sum("n_used", "n_masked", "n_set_aside")
            )
            sums += int(counts.sum_horizontal()[0])
        return bool(lost.height >= 3 and sums == listing["n_rows"].sum() and sums + lost.height == delivered)

    stage.play(
        "release B arrives, one cell bad, rows bad",
        lambda: stage.deliver("rel-b", 12, defects=defects),
        ["release_exposures[rel-b]", *(f"rel-b|{cell}" for cell in cells)],
        ("others than the bad cell are held, or it is not", held),
        ("rows are lost", accounted),
        (
            "the held cell was inferred",
            lambda: not (stage.settings.store / "pae_posteriors/rel-b" / f"{first}.parquet").exists(),
        ),
        (
            "no row was set aside with its reason",
            lambda: (
                stage.table(f"quarantined_sources/rel-b/{second}")["reason"]
                .str.contains("flux_not_finite")
                .sum()
                >= 3
            ),
        ),
    )
    posteriors = stage.made("pae_posteriors")
    prior = stage.settings.preset.prior

    def other_prior() -> None:
        path = stage.settings.prior_file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"z,density\n{prior.z_min},1.0\n{0.5 * prior.z_max},1.3\n{prior.z_max},1.0\n")

    stage.play(
        "the prior changes",
        other_prior,
        ["inference_prior", *every, *report],
        ("posteriors were sampled again", lambda: stage.made("pae_posteriors") == posteriors),
        (
            "catalogues do not have the new prior",
            lambda: all(
                catalog(*name.split("|"))["prior_id"].str.starts_with("tabulated-").all() for name in every
            ),
        ),
    )
    before = stage.made("pae_posteriors")
    stage.play(
        "the champion is moved in MLflow",
        stage.move_champion,
        ["pae_champion", f"missing_band_stress[{mock}]", *every, *report],
        (
            "posteriors were left as they were",
            lambda: all(stage.made("pae_posteriors")[key] > event for key, event in before.items()),
        ),
        (
            "catalogues do not name the new version",
            lambda: (
                len({v for name in every for v in catalog(*name.split("|"))["bundle_version"].unique()}) == 1
            ),
        ),
    )
    catalogs = stage.made("redshift_catalog")

    def changed() -> set[str]:
        return {key for key, event in stage.made("redshift_catalog").items() if catalogs.get(key) != event}

    stage.play(
        "A is delivered again, one cell changed",
        lambda: stage.deliver("rel-a", 11, cell_seeds={index[second]: 99}),
        ["release_exposures[rel-a]", f"rel-a|{second}"],
        (
            "others than the changed cell were made",
            lambda: changed() == {str(cell_partition("rel-a", second))},
        ),
    )
    stage.play(
        "a backfill of A is asked for in the page",
        lambda: stage.launch_backfill(OF_A_CELL, [str(cell_partition("rel-a", cell)) for cell in cells]),
        ["backfill"],
    )
    stage.play(
        "`dg launch` of one cell", lambda: _dg_launch(stage, str(cell_partition("rel-a", first))), ["by hand"]
    )


def _holds(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except FileNotFoundError:  # a table that should be there
        return False


def _to_be_retried(run: dg.DagsterRun) -> bool:
    return run.tags.get("dagster/will_retry") == "true"


def _about(run: dg.DagsterRun) -> str:
    if TARGET_TAG in run.tags:
        return run.tags[TARGET_TAG]
    return "backfill" if "dagster/backfill" in run.tags or BACKFILL_TAG in run.tags else "by hand"


def _dg_launch(stage: Stage, partition: str) -> None:
    command = [str(Path(sys.executable).parent / "dg"), "launch", "--assets", ",".join(OF_A_CELL)]
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(stage.settings.dagster_home),
        "VIRTUAL_ENV": str(Path(sys.executable).parents[1]),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    ended = subprocess.run(
        [*command, "--partition", partition],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise SystemExit(f"dg launch ended with {ended.returncode}:\n{ended.stderr[-2000:]}")


def _free_ports() -> tuple[int, int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(2)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        one, two = (probe.getsockname()[1] for probe in probes)
    return one, two


@contextmanager
def serving(environment: Mapping[str, str], ports: tuple[int, int], log: Path) -> Iterator[None]:
    """`paeplatform ui --automation` until the end of the block; nothing of it is left after that."""
    command = [sys.executable, "-c", "from paeplatform.cli import main; main()", "ui", "--automation"]
    options = ["--dagster-port", str(ports[0]), "--mlflow-port", str(ports[1]), "--timeout", "600"]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*command, *options],
            cwd=ROOT,
            env=dict(environment),
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
        try:
            while "Ctrl-C ends both" not in log.read_text():
                if process.poll() is not None:
                    raise SystemExit(f"`paeplatform ui` ended:\n{log.read_text()[-3000:]}")
                time.sleep(1.0)
            yield
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _shown(steps: list[Step]) -> Table:
    table = Table("step", "runs asked for", "of which held or failed", "seconds", "as wanted")
    for step in steps:
        table.add_row(
            step.name,
            str(sum(step.asked.values())),
            ", ".join(step.failed) or "none",
            f"{step.seconds:.0f}",
            "yes" if step.ok else f"NO: {', '.join(step.faults) or 'other runs'}",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, help="kept; default: a temporary one, removed at the end")
    parser.add_argument("--preset", default=str(ROOT / "tests" / "platform" / "tiny.yaml"))
    parser.add_argument("--json", type=Path, help="write the figures here")
    chosen = parser.parse_args()
    home = (chosen.home or Path(tempfile.mkdtemp(prefix="play-"))).resolve()
    if (home / "var" / "landing" / "rel-a").exists():
        parser.error(f"releases were already played in {home}: choose another --home")
    environment = {
        **os.environ,
        "PAEPLATFORM_HOME": str(home),
        "PAEPLATFORM_PRESET": chosen.preset,
        "PAEPLATFORM_TICK_SECONDS": str(TICK_SECONDS),
        "PYTHONPATH": str(ROOT),
    }
    os.environ.update(environment)
    settings = replace(PlatformSettings(home, load_preset(chosen.preset)), tick_seconds=TICK_SECONDS)
    ports = _free_ports()
    try:
        began = time.monotonic()
        command = [sys.executable, "-c", "from paeplatform.cli import main; main()", "run"]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
        print(f"models, mock release and report made in {time.monotonic() - began:.0f} s", flush=True)
        with (
            serving(environment, ports, home / "var" / "log" / "ui.log"),
            dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance,
        ):
            stage = Stage(settings, instance, ports)
            play(stage)
        Console(width=140).print(_shown(stage.steps))
        if chosen.json:
            rows = [
                {**vars(step), "wanted": dict(step.wanted), "asked": dict(step.asked)} for step in stage.steps
            ]
            chosen.json.write_text(json.dumps(rows, indent=1) + "\n")
    finally:
        if chosen.home is None:
            shutil.rmtree(home, ignore_errors=True)
    if not all(step.ok for step in stage.steps):
        raise SystemExit("the platform did other than wanted")


if __name__ == "__main__":
    main()
