"""The overlay `gpu` on the fake cluster: its own daemon and code location, its own dagster.yaml and cluster.yaml.

What is changed, because this is one machine without containers: the instance keeps its state in SQLite, paths in
containers become paths of a temporary folder, the API server is found by a kubeconfig, time-outs are short, and no
step is told to use CUDA.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_graphql.cli import execute_query

from paeplatform.config import load_preset
from paeplatform.definitions import build_definitions
from paeplatform.resources.registry import ModelRegistry
from paeplatform.resources.settings import PlatformSettings
from tests.k8s.fake_cluster import NAMESPACE, FakeCluster, Node
from tests.k8s.manifests import Manifest, config, named, rendered

SIZES = ("2", "3", "4")
GPU_NODE = "gpu-node"
ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
PATIENCE_SECONDS = 1800.0
START_SECONDS = 300  # until a run's pod has to have started
_TINY = Path(__file__).resolve().parents[1] / "platform" / "tiny.yaml"
_BACKFILL = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) { __typename ... on PythonError { message } }
}
"""
_RUN = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""


class Stage:
    """A running deployment, as its tests see it."""

    def __init__(self, folder: Path, cluster: FakeCluster, settings: PlatformSettings, workspace: Path):
        self.folder, self.cluster, self.settings = folder, cluster, settings
        self.instance = dg.DagsterInstance.from_config(str(folder / "dagster_home"))
        self._workspace = workspace

    def backfill(self, *sizes: str) -> None:
        """Asks for trainings of the autoencoder, a run each, as Dagster's page does."""
        params = {
            "assetSelection": [{"path": ["autoencoder"]}],
            "partitionNames": list(sizes),
            "fromFailure": False,
        }
        self._ask(_BACKFILL, {"params": params}, "launchPartitionBackfill", "LaunchBackfillSuccess")

    def launch(self, asset: str, tags: dict[str, str]) -> str:
        """Asks for a run of one asset without partitions; its id."""
        params = {
            "selector": {
                "repositoryLocationName": "paeplatform",
                "repositoryName": "__repository__",
                "pipelineName": "__ASSET_JOB",
                "assetSelection": [{"path": [asset]}],
            },
            "mode": "default",
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }
        return self._ask(_RUN, {"params": params}, "launchRun", "LaunchRunSuccess")["run"]["runId"]

    def _ask(self, query: str, variables: dict[str, Any], name: str, wanted: str) -> dict[str, Any]:
        target = WorkspaceFileTarget([str(self._workspace)])
        with WorkspaceProcessContext(self.instance, target) as context:
            answer = execute_query(context, query, variables)
        said = answer.get("data", {}).get(name, answer)
        assert said.get("__typename") == wanted, answer
        return said

    def runs_of(self, size: str) -> list[dg.DagsterRun]:
        """Of a partition, the newest first."""
        return list(self.instance.get_runs(dg.RunsFilter(tags={"dagster/partition": size})))

    def ended(self, run_id: str) -> dg.DagsterRunStatus | None:
        run = self.instance.get_run_by_id(run_id)
        return run.status if run is not None and run.status in ENDED else None

    def data_version(self, size: str) -> str:
        """Of the newest training of a size: a hash of its weights and settings."""
        found = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=dg.AssetKey("autoencoder"), asset_partitions=[size]), limit=1
        )
        materialization = found.records[0].asset_materialization
        assert materialization is not None and materialization.tags is not None
        return materialization.tags["dagster/data_version"]

    def slots(self) -> int:
        """Slots of the pool `compute` that are taken."""
        return self.instance.event_log_storage.get_concurrency_info("compute").active_slot_count

    def deadline(self, seconds: int | None) -> None:
        """Changes how long a compute step of the next runs may wait and work; None: as shipped."""
        path = self.folder / "cluster.yaml"
        tree = yaml.safe_load(path.read_text())
        shipped = config(rendered("gpu"), "paeplatform-settings", "cluster.yaml")["compute_pod"][
            "job_spec_config"
        ]
        tree["compute_pod"]["job_spec_config"] = {"activeDeadlineSeconds": seconds} if seconds else shipped
        path.write_text(yaml.safe_dump(tree))

    def pods(self, run_id: str, component: str) -> list[Any]:
        """All pods there ever were of a run: `run_worker` or `step_worker`."""
        with self.cluster.lock:
            return [
                pod
                for pod in self.cluster.history
                if pod.labels["dagster/run-id"] == run_id
                and pod.labels["app.kubernetes.io/component"] == component
            ]

    def said(self, run_id: str, *types: dg.DagsterEventType) -> str:
        """What the events of a run say."""
        found = self.instance.all_logs(run_id, of_type=set(types))
        lines = []
        for entry in found:
            event = entry.get_dagster_event()
            lines.append(event.message or "")
            error = getattr(event.event_specific_data, "error", None)
            lines.append(error.to_string() if error else "")
        return "\n".join(lines)

    def until(self, true: Callable[[], Any], what: str) -> Any:
        """Waits for something; shows what the daemon and the pods said when it does not come."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            if found := true():
                return found
            assert self.cluster.broken is None, f"the fake cluster ended: {self.cluster.broken!r}"
            time.sleep(0.2)
        logs = sorted(self.folder.rglob("*.log"), key=lambda path: path.stat().st_mtime)
        tails = (f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in logs[-6:])
        raise AssertionError(f"{what} did not happen\n" + "\n".join(tails))


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Everything up, with templates, catalogue and training set made in this process, as on one machine."""
    objects = rendered("gpu")
    settings = _settings(folder)
    image = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    image |= {
        "PATH": f"{Path(sys.executable).parent}:{image['PATH']}",
        "HOME": str(folder),
        "JAX_PLATFORMS": "cpu",
    }
    nodes = [
        Node("cpu-node"),
        Node(GPU_NODE, labels={"nvidia.com/gpu.present": "true"}, taint="nvidia.com/gpu", gpus=1),
    ]
    secrets = {"paeplatform-secrets": {"AWS_ACCESS_KEY_ID": "unused"}}
    with ExitStack() as stack:
        cluster = stack.enter_context(FakeCluster(folder / "pods", nodes, image, objects, secrets))
        cluster.config_maps["paeplatform-env"] = _environment(folder, objects)
        _write_configuration(folder, objects, cluster)
        port = _free_port()
        workspace = folder / "workspace.yaml"
        server = {"host": "127.0.0.1", "port": port, "location_name": "paeplatform"}
        workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
        environment = image | cluster.config_maps["paeplatform-env"] | {"PAEPLATFORM_NAMESPACE": NAMESPACE}
        replaced = {"0.0.0.0": "127.0.0.1", "4000": str(port), "/etc/dagster/workspace.yaml": str(workspace)}
        made = Stage(folder, cluster, settings, workspace)
        _make_inputs(made)
        for service in ("code-location", "daemon"):
            container = named(objects, "Deployment", service)["spec"]["template"]["spec"]["containers"][0]
            given = {each["name"]: each["value"] for each in container.get("env", []) if "value" in each}
            command = [replaced.get(word, word) for word in container["args"]]
            stack.enter_context(_service(command, environment | given, folder / f"{service}.log"))
        made.until(lambda: _listens(port), "the code location's answer")
        with made.instance:
            yield made


def _settings(folder: Path) -> PlatformSettings:
    """The tiny preset with three sizes of autoencoder, each trained long enough to be met in the middle."""
    tree = yaml.safe_load(_TINY.read_text())
    tree["pae"]["n_latents"] = [int(size) for size in SIZES]
    tree["pae"]["autoencoder"]["fit"] |= {"epochs": 150, "patience": 150}
    tree["promotion"].pop("rules")
    preset = folder / "preset.yaml"
    preset.write_text(yaml.safe_dump(tree))
    return PlatformSettings(folder / "home", load_preset(preset))


def _environment(folder: Path, objects: list[Manifest]) -> dict[str, str]:
    shipped = named(objects, "ConfigMap", "paeplatform-env")["data"]
    kept = {
        name: value
        for name, value in shipped.items()
        if not name.startswith(("MLFLOW_", "AWS_", "PAEPLATFORM_STORAGE"))
    }
    return kept | {
        "PAEPLATFORM_HOME": str(folder / "home"),
        "PAEPLATFORM_PRESET": str(folder / "preset.yaml"),
        "PAEPLATFORM_CLUSTER": str(folder / "cluster.yaml"),
        "PAEPLATFORM_AUTOMATION": "off",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "jax"),
        "DAGSTER_HOME": str(folder / "dagster_home"),
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }


def _write_configuration(folder: Path, objects: list[Manifest], cluster: FakeCluster) -> None:
    home = folder / "dagster_home"
    home.mkdir()
    dagster = config(objects, "dagster-instance", "dagster.yaml")
    del dagster["storage"]
    dagster["compute_logs"]["config"]["base_dir"] = str(folder / "compute_logs")
    dagster["local_artifact_storage"]["config"]["base_dir"] = str(home)
    dagster["run_launcher"]["config"] |= {
        "load_incluster_config": False,
        "kubeconfig_file": str(cluster.kubeconfig("paeplatform-launcher")),
        "job_namespace": NAMESPACE,
        "dagster_home": str(home),
    }
    dagster["run_monitoring"] |= {"poll_interval_seconds": 5, "start_timeout_seconds": START_SECONDS}
    dagster["concurrency"]["pools"]["default_limit"] = 2
    (home / "dagster.yaml").write_text(yaml.safe_dump(dagster))

    steps = config(objects, "paeplatform-settings", "cluster.yaml")
    steps["executor"] |= {
        "load_incluster_config": False,
        "kubeconfig_file": str(cluster.kubeconfig("paeplatform-run")),
    }
    steps["lost_pods"] = {"max_retries": 1, "delay_seconds": 1.0}
    del steps["compute_pod"]["container_config"]["env"]
    (folder / "cluster.yaml").write_text(yaml.safe_dump(steps))


def _make_inputs(made: Stage) -> None:
    ModelRegistry.from_settings(made.settings).client().search_experiments()  # MLflow makes its database
    job = build_definitions(made.settings).resolve_implicit_global_asset_job_def()
    inputs = [dg.AssetKey(name) for name in ("sed_templates", "mock_catalog", "training_spectra")]
    assert job.execute_in_process(asset_selection=inputs, instance=made.instance).success


@contextmanager
def _service(command: list[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
