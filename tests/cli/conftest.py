"""Running the command as the console script does: in this process, or in its own where it starts Dagster."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from paeplatform.cli import main

RUNS = {"run", "demo"}


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Calls `paeplatform ARGS...`; options of one call do not leak into the environment of the next test."""
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("PAEPLATFORM_HOME", "PAEPLATFORM_PRESET"):
        # set and taken back, so that what the command sets is undone at the end as well
        monkeypatch.setenv(name, "")

    def run(*arguments: object) -> Outcome:
        if arguments[0] in RUNS:
            return _in_own_process(arguments)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), shown.out, shown.err)

    return run


def _in_own_process(arguments: tuple[object, ...]) -> Outcome:
    """Dagster redirects file descriptors 1 and 2 while a step runs, which ends pytest's capture in this process."""
    program = [sys.executable, "-c", "from paeplatform.cli import main; main()"]
    command = [*program, *(str(argument) for argument in arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    return Outcome(ended.returncode, ended.stdout, ended.stderr)
