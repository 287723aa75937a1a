"""The script that plays releases through a real instance with its daemon."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "play_releases.py"


@pytest.mark.slow
def test_releases_played_with_the_daemon_ask_for_just_the_runs_they_must(tmp_path: Path):
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(SCRIPT), "--home", str(tmp_path / "home"), "--json", str(figures)]
    ended = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    steps = json.loads(figures.read_text())
    assert len(steps) == 8 and all(step["asked"] == step["wanted"] and not step["faults"] for step in steps)


def test_a_home_in_which_releases_were_played_is_refused(tmp_path: Path):
    (tmp_path / "var" / "landing" / "rel-a").mkdir(parents=True)
    command = [sys.executable, str(SCRIPT), "--home", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and "choose another --home" in ended.stderr
