"""As much of Kubernetes as Dagster's launcher and executor meet, on loopback: an API server for Jobs and their pods.

What a cluster would refuse is refused here: a Job that the API's schema does not take (kubernetes-validate, strict),
a request that the caller's Role does not allow, a pod that refers to a ConfigMap or Secret there is not. A pod waits
while no node that it may run on has the GPUs it asks for. One that finds its node runs its container's arguments as a
process of this machine, with the pod's environment and nothing of the tests' own; its Job follows.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import kubernetes_validate

from tests.k8s.fake_api import Refused, api_handler, selects

GPU = "nvidia.com/gpu"
VERSION = "1.33"
NAMESPACE = "paeplatform"
TICK_SECONDS = 0.1


@dataclass
class Node:
    name: str
    labels: dict[str, str] = field(default_factory=dict)
    taint: str | None = None  # key of a NoSchedule taint
    gpus: int = 0
    cordoned: bool = False


@dataclass
class Pod:
    name: str
    job: str
    labels: dict[str, str]
    spec: dict[str, Any]
    created: float
    log: Path
    phase: str = "Pending"
    node: str | None = None
    waits_for: str = ""  # why no node took it
    process: subprocess.Popen | None = None
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None

    @property
    def container(self) -> dict[str, Any]:
        return self.spec["containers"][0]

    @property
    def gpus(self) -> int:
        return int(self.container.get("resources", {}).get("limits", {}).get(GPU, 0))


@dataclass
class Job:
    body: dict[str, Any]
    created: float
    deadline: float | None
    failed_for: str | None = None


class FakeCluster:
    """Use as a context manager.

    Args:
        folder: for pods' logs.
        nodes: where pods may run.
        image: what an image would bring: the environment of every container before the pod's own.
        objects: rendered manifests; Roles, RoleBindings, ConfigMaps are taken from them.
        secrets: data of each Secret.
    """

    def __init__(
        self,
        folder: Path,
        nodes: list[Node],
        image: Mapping[str, str],
        objects: list[dict[str, Any]],
        secrets: Mapping[str, Mapping[str, str]],
    ):
        self.folder, self.nodes, self.image, self.secrets = folder, nodes, dict(image), secrets
        named = {(thing["kind"], thing["metadata"]["name"]): thing for thing in objects}
        self.config_maps = {
            name: thing["data"] for (kind, name), thing in named.items() if kind == "ConfigMap"
        }
        self.rules = {
            subject["name"]: named["Role", binding["roleRef"]["name"]]["rules"]
            for (kind, _), binding in named.items()
            if kind == "RoleBinding"
            for subject in binding["subjects"]
        }
        self.accounts = {name for kind, name in named if kind == "ServiceAccount"}
        self.lock = threading.RLock()
        self.jobs: dict[str, Job] = {}
        self.pods: dict[str, Pod] = {}
        self.history: list[Pod] = []  # all pods that ever were
        self.requests: set[tuple[str, str, str]] = set()  # account, verb, resource
        self.refusals: list[str] = []
        self.most_gpus = 0  # in use at one time
        self.broken: Exception | None = None  # what ended the control loop
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), api_handler(self))
        self._stop = threading.Event()

    def __enter__(self) -> FakeCluster:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._threads = [
            threading.Thread(target=self._server.serve_forever, daemon=True),
            threading.Thread(target=self._control, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()
        for pod in self.history:
            if pod.process is not None and pod.process.poll() is None:
                os.killpg(pod.process.pid, signal.SIGKILL)
                pod.process.wait()

    def kubeconfig(self, account: str) -> Path:
        """A file that lets its reader in as a service account."""
        host, port = self._server.server_address[:2]
        path = self.folder / f"{account}.kubeconfig"
        tree = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": f"http://{host}:{port}"}}],
            "users": [{"name": account, "user": {"token": account}}],
            "contexts": [
                {"name": "fake", "context": {"cluster": "fake", "user": account, "namespace": NAMESPACE}}
            ],
        }
        path.write_text(json.dumps(tree))
        return path

    # ------------------------------------------------------------------ what happens to pods from outside
    def kill_pod(self, name: str) -> None:
        """As a lost node or the kernel does: no word before."""
        with self.lock:
            process = self.pods[name].process
            assert process is not None and process.poll() is None, f"{name} does not run"
            os.killpg(process.pid, signal.SIGKILL)

    def cordon(self, node: str, on: bool = True) -> None:
        next(each for each in self.nodes if each.name == node).cordoned = on

    # ------------------------------------------------------------------ the API
    def allow(self, account: str, verb: str, resource: str) -> None:
        self.requests.add((account, verb, resource))
        group, name = ("batch", resource) if resource.startswith("jobs") else ("", resource)
        for rule in self.rules.get(account, []):
            if group in rule["apiGroups"] and name in rule["resources"] and verb in rule["verbs"]:
                return
        self.refuse(403, f"serviceaccount {account!r} cannot {verb} resource {resource!r}")

    def refuse(self, status: int, message: str) -> None:
        self.refusals.append(message)
        raise Refused(status, message)

    def create_job(self, body: dict[str, Any]) -> dict[str, Any]:
        try:
            kubernetes_validate.validate(body, VERSION, strict=True)
        except kubernetes_validate.ValidationError as error:
            self.refuse(422, f"Job {body['metadata'].get('name')}: {list(error.path)}: {error.message}")
        name, spec = body["metadata"]["name"], body["spec"]
        template = spec["template"]
        if template["spec"].get("serviceAccountName") not in self.accounts:
            self.refuse(403, f"Job {name}: no service account {template['spec'].get('serviceAccountName')!r}")
        with self.lock:
            if name in self.jobs:
                raise Refused(409, f"jobs.batch {name!r} already exists")
            now = time.monotonic()
            limit = spec.get("activeDeadlineSeconds")
            self.jobs[name] = Job(body, now, now + limit if limit else None)
            pod = Pod(
                name=f"{name}-{uuid.uuid4().hex[:5]}",
                job=name,
                labels={**template["metadata"].get("labels", {}), "job-name": name},
                spec=template["spec"],
                created=now,
                log=self.folder / f"{name}.log",
            )
            self.pods[pod.name] = pod
            self.history.append(pod)
            return self.job(name)

    def job(self, name: str) -> dict[str, Any]:
        with self.lock:
            if name not in self.jobs:
                raise Refused(404, f"jobs.batch {name!r} not found")
            job = self.jobs[name]
            pods = [pod for pod in self.pods.values() if pod.job == name]
            count = {phase: sum(pod.phase == phase for pod in pods) for phase in ("Succeeded", "Failed")}
            failed = count["Failed"] + bool(job.failed_for and not count["Failed"])
            active = len(pods) - sum(count.values())
            status: dict[str, Any] = {"startTime": _when(job.created), "conditions": []}
            status |= {"active": active} if active else {}
            status |= {"failed": failed} if failed else {}
            status |= {"succeeded": count["Succeeded"]} if count["Succeeded"] else {}
            if failed:
                reason = job.failed_for or "BackoffLimitExceeded"
                status["conditions"] = [{"type": "Failed", "status": "True", "reason": reason}]
            elif count["Succeeded"]:
                status["conditions"] = [{"type": "Complete", "status": "True"}]
            return {**job.body, "status": status}

    def delete_job(self, name: str) -> dict[str, Any]:
        with self.lock:
            body = self.job(name)
            del self.jobs[name]
            return body

    def delete_pod(self, name: str) -> dict[str, Any]:
        with self.lock:
            body = self.pod(name)
            self._remove(self.pods[name])
            return body

    def pod(self, name: str) -> dict[str, Any]:
        with self.lock:
            if name not in self.pods:
                raise Refused(404, f"pods {name!r} not found")
            return _pod_body(self.pods[name])

    def list_pods(self, query: dict[str, str]) -> list[dict[str, Any]]:
        with self.lock:
            names = [
                name
                for name, pod in self.pods.items()
                if selects(query.get("labelSelector"), pod.labels)
                and selects(query.get("fieldSelector"), {"metadata.name": name})
            ]
            return [self.pod(name) for name in names]

    def list_events(self, query: dict[str, str]) -> list[dict[str, Any]]:
        with self.lock:
            found = []
            for pod in self.pods.values():
                about = {"involvedObject.name": pod.name}
                if pod.waits_for and selects(query.get("fieldSelector"), about):
                    found.append(
                        {
                            "metadata": {"name": f"{pod.name}.scheduling"},
                            "involvedObject": {"kind": "Pod", "name": pod.name},
                            "type": "Warning",
                            "reason": "FailedScheduling",
                            "message": pod.waits_for,
                        }
                    )
            return found

    # ------------------------------------------------------------------ scheduler, kubelet, Job controller
    def _control(self) -> None:
        try:
            while not self._stop.wait(TICK_SECONDS):
                with self.lock:
                    self._look_at_all()
        except Exception as error:
            self.broken = error
            raise

    def _look_at_all(self) -> None:
        for pod in list(self.pods.values()):
            if pod.phase == "Pending":
                self._schedule(pod)
            elif pod.phase == "Running":
                self._watch(pod)
        for name, job in self.jobs.items():
            self._enforce_deadline(name, job)

    def _schedule(self, pod: Pod) -> None:
        refusals = []
        for node in self.nodes:
            why = self._unfit(pod, node)
            if why is None:
                pod.node, pod.waits_for = node.name, ""
                self._start(pod)
                return
            refusals.append(why)
        reasons = ", ".join(f"{refusals.count(why)} {why}" for why in sorted(set(refusals)))
        pod.waits_for = f"0/{len(self.nodes)} nodes are available: {reasons}."

    def _unfit(self, pod: Pod, node: Node) -> str | None:
        if node.cordoned:
            return "node(s) were unschedulable"
        wanted = pod.spec.get("nodeSelector", {})
        if any(node.labels.get(key) != value for key, value in wanted.items()):
            return "node(s) didn't match Pod's node affinity/selector"
        tolerated = {each.get("key") for each in pod.spec.get("tolerations", [])}
        if node.taint and node.taint not in tolerated:
            return f"node(s) had untolerated taint {{{node.taint}}}"
        if pod.gpus > node.gpus - self._gpus_in_use(node):
            return f"Insufficient {GPU}"
        return None

    def _gpus_in_use(self, node: Node) -> int:
        return sum(pod.gpus for pod in self.pods.values() if pod.phase == "Running" and pod.node == node.name)

    def _start(self, pod: Pod) -> None:
        with pod.log.open("ab") as log:
            pod.process = subprocess.Popen(
                [*pod.container.get("command", []), *pod.container.get("args", [])],
                env=self.image | self._environment(pod),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        pod.phase, pod.started = "Running", time.monotonic()
        self.most_gpus = max(self.most_gpus, sum(self._gpus_in_use(node) for node in self.nodes))

    def _environment(self, pod: Pod) -> dict[str, str]:
        found: dict[str, str] = {}
        for source in pod.container.get("envFrom", []):
            if "configMapRef" in source:
                found |= self.config_maps[source["configMapRef"]["name"]]
            else:
                found |= self.secrets[source["secretRef"]["name"]]
        for variable in pod.container.get("env", []):
            origin = variable.get("valueFrom", {})
            if "resourceFieldRef" in origin:
                kind, resource = origin["resourceFieldRef"]["resource"].split(".")
                found[variable["name"]] = str(_whole(pod.container["resources"][kind][resource]))
            elif "fieldRef" in origin:
                fields = {"metadata.name": pod.name, "metadata.namespace": NAMESPACE}
                found[variable["name"]] = fields[origin["fieldRef"]["fieldPath"]]
            elif "secretKeyRef" in origin:
                reference = origin["secretKeyRef"]
                found[variable["name"]] = self.secrets[reference["name"]][reference["key"]]
            else:
                found[variable["name"]] = variable.get("value", "")
        return found

    def _watch(self, pod: Pod) -> None:
        assert pod.process is not None
        code = pod.process.poll()
        if code is None:
            return
        pod.exit_code = code if code >= 0 else 128 - code
        pod.phase, pod.ended = ("Succeeded" if code == 0 else "Failed"), time.monotonic()

    def _enforce_deadline(self, name: str, job: Job) -> None:
        late = job.deadline is not None and time.monotonic() > job.deadline
        if not late or job.failed_for or self.job(name)["status"].get("active") is None:
            return
        job.failed_for = "DeadlineExceeded"
        for pod in [pod for pod in self.pods.values() if pod.job == name]:
            self._remove(pod)

    def _remove(self, pod: Pod) -> None:
        if pod.process is not None and pod.process.poll() is None:
            os.killpg(pod.process.pid, signal.SIGTERM)
        del self.pods[pod.name]


def _pod_body(pod: Pod) -> dict[str, Any]:
    state: dict[str, Any] = {"waiting": {"reason": "ContainerCreating"}}
    if pod.phase == "Running":
        state = {"running": {"startedAt": _when(pod.started)}}
    elif pod.exit_code is not None:
        reason = "Completed" if pod.exit_code == 0 else "OOMKilled" if pod.exit_code == 137 else "Error"
        state = {"terminated": {"exitCode": pod.exit_code, "reason": reason}}
    status = {
        "name": pod.container["name"],
        "image": pod.container["image"],
        "imageID": pod.container["image"],
        "ready": pod.phase == "Running",
        "restartCount": 0,
        "state": state,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod.name, "uid": pod.name, "labels": pod.labels},
        "spec": pod.spec,
        "status": {"phase": pod.phase, "containerStatuses": [status] if pod.node else []},
    }


def _whole(cpu: str | int) -> int:
    text = str(cpu)
    return math.ceil(int(text[:-1]) / 1000 if text.endswith("m") else float(text))


def _when(monotonic: float | None) -> str:
    moment = time.time() - (time.monotonic() - (monotonic or 0.0))
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
