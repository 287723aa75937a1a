"""The overlays as `kubectl apply -k` would send them, and the pods in them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
OVERLAYS = ("local", "gpu", "prod")

Manifest = dict[str, Any]


def need_kubectl() -> None:
    """kubectl has kustomize in it; on a machine without it nothing can be rendered. CI has to have it."""
    if shutil.which("kubectl") is None:
        assert not os.environ.get("CI"), "kubectl, which renders deploy/k8s, is missing in CI"
        pytest.skip("kubectl, which renders deploy/k8s, is not installed")


@cache
def rendered(overlay: str) -> list[Manifest]:
    """Every object of an overlay; shared, so not to be changed."""
    need_kubectl()
    command = ["kubectl", "kustomize", str(DEPLOY / "k8s" / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def named(objects: list[Manifest], kind: str, name: str) -> Manifest:
    """One of them."""
    return next(each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name))


def config(objects: list[Manifest], config_map: str, key: str) -> Manifest:
    """A YAML file in a ConfigMap, read."""
    return yaml.safe_load(named(objects, "ConfigMap", config_map)["data"][key])


def pod_templates(objects: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Name and template of all that makes pods."""
    for each in objects:
        if each["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield f"{each['kind']}/{each['metadata']['name']}", each["spec"]["template"]
