"""Running the command in this process, as the console script does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from paeplatform.cli import main


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
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), shown.out, shown.err)

    return run
