"""A home that does not exist yet: two commands at once create it once, and a command that reads creates nothing."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from paeplatform.cli import app

ROUNDS, AT_ONCE = 3, 3

_OPEN = """
import sys
from pathlib import Path
import dagster as dg
import mlflow.tracking
from paeplatform.config import load_preset
from paeplatform.resources.instance import open_instance
from paeplatform.resources.registry import ModelRegistry
from paeplatform.resources.settings import PlatformSettings
print("ready", flush=True)
for line in sys.stdin:  # a home a line
    settings = PlatformSettings(Path(line.strip()), load_preset("demo"))
    with open_instance(settings) as instance:
        instance.add_dynamic_partitions("release", ["r1"])
    ModelRegistry.from_settings(settings).client().search_experiments()
    print("opened", flush=True)
"""


def revisions(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return [row[0] for row in connection.execute("select version_num from alembic_version")]


def test_processes_that_open_a_fresh_home_at_once_leave_sound_databases(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _OPEN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )
        for _ in range(AT_ONCE)
    ]
    try:
        for process in processes:
            assert process.stdout is not None and process.stdout.readline().strip() == "ready"
        for number in range(ROUNDS):
            home = tmp_path / str(number)
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(f"{home}\n")
                process.stdin.flush()
            for process in processes:
                assert process.stdout is not None
                said = process.stdout.readline().strip()
                assert said == "opened", process.communicate()[1]
            folder = home / "var" / "dagster_home"
            for name in ("schedules/schedules.db", "history/runs.db", "history/runs/index.db"):
                assert len(revisions(folder / name)) == 1, name
            assert len(revisions(home / "mlruns" / "mlflow.db")) == 1
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["plan"],
        ["models"],
        ["metrics"],
        ["quality"],
        ["tables"],
        ["export", "--release", "mock-r1"],
        ["show", "1"],
        ["rollback"],
    ],
    ids=lambda command: command[0],
)
def test_a_command_that_reads_or_is_refused_creates_nothing(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAEPLATFORM_HOME", "")
    result = CliRunner().invoke(app, [*command, "--home", str(tmp_path / "typo")])
    if command[0] in ("status", "plan"):
        assert result.exit_code == 0, result.output
        assert "sed_templates" in result.output
    assert list(tmp_path.iterdir()) == []
