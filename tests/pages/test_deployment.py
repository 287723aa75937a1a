"""The manifests start both pages behind the guard, with arguments that the entries take."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml

from paeplatform.pages import webserver
from paeplatform.pages.hosts import hosts_from_environment
from paeplatform.pages.tracking import APP_NAME, create_app


def arguments_of(project_root: Path, name: str) -> list[str]:
    manifests = yaml.safe_load_all((project_root / "deploy/k8s/base" / f"{name}.yaml").read_text())
    deployment: dict[str, Any] = next(one for one in manifests if one["kind"] == "Deployment")
    return deployment["spec"]["template"]["spec"]["containers"][0]["args"]


def test_dagsters_page_is_guarded_in_a_cluster(
    project_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter, flag, module, *arguments = arguments_of(project_root, "webserver")
    assert (interpreter, flag, module) == ("python", "-m", webserver.__name__)
    served: dict[str, Any] = {}
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text("load_from: []\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setattr(
        webserver.uvicorn, "run", lambda app, **settings: served.update(settings, kind=type(app).__name__)
    )
    monkeypatch.setattr(webserver, "setup_interrupt_handlers", lambda: None)
    monkeypatch.setattr(webserver, "configure_loggers", lambda **_: None)
    webserver.main([str(workspace) if word.endswith("workspace.yaml") else word for word in arguments])
    assert served == {"kind": "Guard", "host": "0.0.0.0", "port": 3000, "log_level": "warning"}


def test_mlflows_page_is_guarded_in_a_cluster(project_root: Path) -> None:
    arguments = arguments_of(project_root, "mlflow")
    assert arguments[arguments.index("--app-name") + 1] == APP_NAME
    assert entry_points(group="mlflow.app")[APP_NAME].load() is create_app


@pytest.mark.parametrize(
    "settings", sorted(Path(__file__).parents[2].glob("deploy/k8s/**/platform.env"), key=str)
)
def test_names_in_the_settings_of_a_cluster_can_be_read(settings: Path) -> None:
    variables = dict(line.split("=", 1) for line in settings.read_text().splitlines() if "=" in line)
    hosts_from_environment(variables)


def test_every_name_of_the_ingress_is_a_name_of_the_pages(project_root: Path) -> None:
    overlay = project_root / "deploy/k8s/overlays/prod"
    ingress = next(yaml.safe_load_all((overlay / "ingress.yaml").read_text()))
    variables = dict(
        line.split("=", 1) for line in (overlay / "platform.env").read_text().splitlines() if "=" in line
    )
    assert {rule["host"] for rule in ingress["spec"]["rules"]} <= set(hosts_from_environment(variables))
