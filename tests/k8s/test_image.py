"""The image as far as it can be looked at without a builder: its file, its requirements, what it is given."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from paeplatform.resources.models.tracking import git_commit
from tests.k8s.manifests import DEPLOY

ROOT = DEPLOY.parent
LINES = [
    line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")
]


def test_the_image_is_pinned_and_is_not_root() -> None:
    bases = [line.split()[1] for line in LINES if line.startswith("FROM ")]
    stages = {line.split()[-1] for line in LINES if line.startswith("FROM ")}
    assert {"cpu", "cuda12"} <= stages
    for base in bases:
        assert base in stages or re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base), base
    assert "USER 10001:10001" in LINES
    assert any(line.startswith("HEALTHCHECK ") for line in LINES)


def test_requirements_are_the_pinned_ones_from_no_index_in_particular_and_with_no_secret() -> None:
    text = "\n".join(LINES)
    installs = re.findall(r"pip install ([^&\n]*)", text)
    assert installs
    for install in installs:
        assert "-c constraints.txt" in install or "--no-deps" in install
    assert not re.search(r"index-url|https?://|(ARG|ENV) .*(TOKEN|PASSWORD|SECRET)", text)


def test_what_is_copied_is_there_and_goes_to_the_builder() -> None:
    copied = [
        word
        for line in LINES
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    ]
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert "*" in (ROOT / ".dockerignore").read_text().splitlines(), "nothing else goes there"
    for name in copied:
        assert (ROOT / name).exists(), name
        assert name in let_in, name


def test_the_requirements_script_says_what_pyproject_says() -> None:
    script = DEPLOY / "requirements.py"
    done = subprocess.run(
        [sys.executable, str(script), "k8s", "cuda12"], capture_output=True, text=True, check=True
    )
    names = {Requirement(line).name for line in done.stdout.splitlines()}
    assert {"dagster", "mlflow", "jax", "torch", "dagster-k8s"} <= names
    assert "dagster-postgres" not in names
    assert any(Requirement(line).extras == {"cuda12"} for line in done.stdout.splitlines())
    with pytest.raises(SystemExit, match="no extra cuda11"):
        runpy.run_path(str(script))["requirements"](ROOT / "pyproject.toml", ["cuda11"])


def test_a_model_made_in_an_image_says_of_which_commit(tmp_path: Path) -> None:
    assert git_commit(tmp_path) == "unknown"
    (tmp_path / "COMMIT").write_text("0123abc\n")
    assert git_commit(tmp_path) == "0123abc"
