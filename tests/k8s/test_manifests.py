"""Every rendered overlay against the API's schemas and against the rules a cluster's owner would ask for."""

import copy
import json
import re
from functools import cache
from pathlib import Path

import dagster as dg
import kubernetes_validate
import pytest
import yaml
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import UserDefinedDagsterK8sConfig, construct_dagster_k8s_job
from kubernetes.client import ApiClient
from kubernetes.config import ConfigException

import paeplatform
from paeplatform.config import preset_names
from paeplatform.resources.kubernetes import load_cluster
from paeplatform.resources.settings import PlatformSettings
from paeplatform.resources.storage import load_storage
from tests.k8s.fake_cluster import GPU, VERSION
from tests.k8s.manifests import DEPLOY, OVERLAYS, Manifest, config, named, pod_templates, rendered

SECRET_NAMES = re.compile(r"PASSWORD|SECRET|TOKEN|_KEY_ID$|STORE_URI$|PG_URL$")


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def objects(overlay: str) -> list[Manifest]:
    return rendered(overlay)


def worker(overlay: str, cluster: Manifest, pod: Manifest, image: str) -> Manifest:
    """The Job that dagster-k8s makes of a run (`pod` empty) or of a step, from the overlay's own configuration."""
    launcher = config(rendered(overlay), "dagster-instance", "dagster.yaml")["run_launcher"]["config"]
    context = K8sContainerContext(
        service_account_name=launcher["service_account_name"],
        env_config_maps=launcher["env_config_maps"],
        env_secrets=launcher["env_secrets"],
        image_pull_policy=launcher["image_pull_policy"],
        run_k8s_config=UserDefinedDagsterK8sConfig.from_dict(launcher["run_k8s_config"]),
        namespace="paeplatform",
    )
    for more in (cluster, pod):
        context = context.merge(
            K8sContainerContext(run_k8s_config=UserDefinedDagsterK8sConfig.from_dict(more))
        )
    job = construct_dagster_k8s_job(
        job_config=context.get_k8s_job_config(image, _Launcher(launcher)),
        args=["dagster", "api", "execute_step"],
        job_name="dagster-step-0",
        component="step_worker",
        user_defined_k8s_config=context.run_k8s_config,
    )
    return ApiClient().sanitize_for_serialization(job)


class _Launcher:
    """The three settings that a step's configuration takes from the launcher beside its pod."""

    def __init__(self, launcher: Manifest):
        self.dagster_home, self.instance_config_map = (
            launcher["dagster_home"],
            launcher["instance_config_map"],
        )
        self.postgres_password_secret = self.job_image = None
        self.image_pull_policy = launcher["image_pull_policy"]


@cache
def workers(overlay: str) -> dict[str, Manifest]:
    """Jobs of a run, of a step that computes and of one that does not."""
    steps = config(rendered(overlay), "paeplatform-settings", "cluster.yaml")
    image = named(rendered(overlay), "Deployment", "code-location")["spec"]["template"]["spec"]["containers"][
        0
    ]["image"]
    light = steps["executor"]["step_k8s_config"]
    return {
        "run": worker(overlay, {}, {}, image),
        "light step": worker(overlay, light, {}, image),
        "compute step": worker(overlay, light, steps["compute_pod"], image),
    }


def all_pods(overlay: str) -> dict[str, Manifest]:
    made = {name: job["spec"]["template"] for name, job in workers(overlay).items()}
    return dict(pod_templates(rendered(overlay))) | made


def test_every_object_passes_the_schema(objects: list[Manifest], overlay: str) -> None:
    for each in [*objects, *workers(overlay).values()]:
        kubernetes_validate.validate(each, VERSION, strict=True)


def test_the_schema_is_strict(objects: list[Manifest]) -> None:
    faulty = copy.deepcopy(named(objects, "Deployment", "webserver"))
    faulty["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenesProbe"):
        kubernetes_validate.validate(faulty, VERSION, strict=True)


def test_no_pod_is_root_or_may_become_it(overlay: str) -> None:
    for name, template in all_pods(overlay).items():
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] >= 10000, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not any(pod.get(host) for host in ("hostNetwork", "hostPID", "hostIPC")), name
        assert not any("hostPath" in volume for volume in pod.get("volumes", [])), name
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, name
            assert own["readOnlyRootFilesystem"] is True, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
            assert not own.get("privileged"), name


def test_every_container_says_what_it_needs_and_may_use(overlay: str) -> None:
    for name, template in all_pods(overlay).items():
        for container in template["spec"]["containers"]:
            for kind in ("requests", "limits"):
                assert {"cpu", "memory"} <= container["resources"][kind].keys(), (name, kind)


def test_images_are_pinned(overlay: str) -> None:
    for name, template in all_pods(overlay).items():
        for container in template["spec"]["containers"]:
            _, _, tag = container["image"].rpartition("/")[2].partition(":")
            assert tag, f"{name}: {container['image']} has no tag"
            assert "latest" not in tag, name
            assert re.search(r"\d", tag), name
            if "paeplatform" in container["image"]:
                assert tag.split("-")[0] == paeplatform.__version__, name


def test_pods_of_runs_are_made_of_the_code_locations_image(objects: list[Manifest]) -> None:
    container = named(objects, "Deployment", "code-location")["spec"]["template"]["spec"]["containers"][0]
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert variables["DAGSTER_CURRENT_IMAGE"] == container["image"]


def test_every_service_has_probes_and_a_budget(objects: list[Manifest]) -> None:
    budgets = [each["spec"] for each in objects if each["kind"] == "PodDisruptionBudget"]
    for each in objects:
        if each["kind"] not in ("Deployment", "StatefulSet"):
            continue
        container = each["spec"]["template"]["spec"]["containers"][0]
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys(), each["metadata"][
            "name"
        ]
        if each["kind"] == "Deployment":
            labels, selector = (
                each["spec"]["template"]["metadata"]["labels"],
                each["spec"]["selector"]["matchLabels"],
            )
            budget = next(one for one in budgets if one["selector"]["matchLabels"] == selector)
            assert selector.items() <= labels.items()
            replicas = each["spec"]["replicas"]
            assert replicas - budget.get("minAvailable", replicas - budget.get("maxUnavailable", 0)) >= 1, (
                "no drain"
            )


def test_secrets_are_references_only(objects: list[Manifest], overlay: str) -> None:
    assert not [each for each in objects if each["kind"] == "Secret"]
    for each in objects:
        if each["kind"] == "ConfigMap":
            assert not [key for key in each["data"] if SECRET_NAMES.search(key)], each["metadata"]["name"]
    for name, template in all_pods(overlay).items():
        for variable in template["spec"]["containers"][0].get("env", []):
            if SECRET_NAMES.search(variable["name"]):
                assert "secretKeyRef" in variable.get("valueFrom", {}), (name, variable["name"])


def test_what_pods_refer_to_exists(objects: list[Manifest], overlay: str) -> None:
    there = {(each["kind"], each["metadata"]["name"]) for each in objects}
    for name, template in all_pods(overlay).items():
        pod = template["spec"]
        wanted = {("ServiceAccount", pod["serviceAccountName"])} if "serviceAccountName" in pod else set()
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        for volume in volumes.values():
            if "configMap" in volume:
                wanted.add(("ConfigMap", volume["configMap"]["name"]))
            if "persistentVolumeClaim" in volume:
                wanted.add(("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]))
        for container in pod["containers"]:
            for source in container.get("envFrom", []):
                if "configMapRef" in source:
                    wanted.add(("ConfigMap", source["configMapRef"]["name"]))
            claims = {"data"} if name.startswith("StatefulSet/") else set()
            assert {
                mount["name"] for mount in container.get("volumeMounts", [])
            } <= volumes.keys() | claims, name
        assert wanted <= there, (name, wanted - there)
    for each in objects:
        assert each["kind"] == "Namespace" or each["metadata"]["namespace"] == "paeplatform"


def test_rights_are_few_and_only_those_who_need_them_have_a_token(
    objects: list[Manifest], overlay: str
) -> None:
    assert not [each for each in objects if each["kind"].startswith("Cluster")]
    for each in objects:
        if each["kind"] == "Role":
            for rule in each["rules"]:
                assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"]
                assert not {"secrets", "pods/exec", "roles"} & set(rule["resources"])
    tokens = {
        name: template["spec"].get("serviceAccountName", "default")
        for name, template in all_pods(overlay).items()
        if template["spec"].get("automountServiceAccountToken", True)
    }
    # Dagster reads the token wherever it opens its instance (`DagsterInstance._initialize_run_monitoring`)
    opens_instance = {
        "Deployment/webserver",
        "Deployment/daemon",
        "Deployment/code-location",
        "Job/migrate-dagster",
    }
    assert tokens.keys() == opens_instance | workers(overlay).keys()
    for name in opens_instance | workers(overlay).keys():
        container = all_pods(overlay)[name]["spec"]["containers"][0]
        assert {"secretRef": {"name": "paeplatform-secrets"}} in container["envFrom"], name
        assert "PAEPLATFORM_NAMESPACE" in {variable["name"] for variable in container["env"]}, name
    bound = {
        subject["name"] for each in objects if each["kind"] == "RoleBinding" for subject in each["subjects"]
    }
    assert {name for name, account in tokens.items() if account in bound} == {
        "Deployment/webserver",
        "Deployment/daemon",
        "run",
    }


def test_dagster_wants_the_token_wherever_it_opens_its_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why accounts without rights have one; a Dagster that no longer wants it would let us take it away."""
    tree = config(rendered("prod"), "dagster-instance", "dagster.yaml")
    del tree["storage"]
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.setenv("PAEPLATFORM_NAMESPACE", "paeplatform")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigException, match="Service host"):
        dg.DagsterInstance.from_config(str(tmp_path))


def test_the_network_lets_nothing_in_that_is_not_named(objects: list[Manifest], overlay: str) -> None:
    policies = [each["spec"] for each in objects if each["kind"] == "NetworkPolicy"]
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in policies
    for policy in policies:
        for rule in policy.get("ingress", []):
            assert rule["from"], "open to everyone"
            assert rule["ports"]
    roles = {
        template["metadata"]["labels"].get("paeplatform.io/role") for template in all_pods(overlay).values()
    } - {None}
    assert roles == {"code-location", "webserver", "daemon", "mlflow", "migration", "worker"}
    api = {
        name
        for name, template in all_pods(overlay).items()
        if template["metadata"]["labels"].get("paeplatform.io/kube-api") == "true"
    }
    assert api == {"Deployment/webserver", "Deployment/daemon", "run"}


def test_only_compute_steps_of_the_gpu_overlay_take_a_gpu() -> None:
    for overlay in OVERLAYS:
        for name, template in all_pods(overlay).items():
            spec = template["spec"]
            takes = GPU in spec["containers"][0]["resources"]["limits"]
            assert takes == (overlay == "gpu" and name == "compute step"), (overlay, name)
            tolerates = any(each["key"] == GPU for each in spec.get("tolerations", []))
            assert tolerates == takes
            assert ("nodeSelector" in spec) == takes
            if overlay == "gpu" and name in ("run", "compute step"):
                assert spec["containers"][0]["image"].endswith("-cuda12" if takes else "-cpu")


def test_a_lost_pod_is_dagsters_business(overlay: str) -> None:
    for name, job in workers(overlay).items():
        assert job["spec"]["backoffLimit"] == 0, name
        assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never", name
    assert workers(overlay)["compute step"]["spec"]["activeDeadlineSeconds"] > 3600


def test_the_clusters_file_is_one_the_platform_takes(
    objects: list[Manifest], overlay: str, tmp_path: Path
) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(named(objects, "ConfigMap", "paeplatform-settings")["data"]["cluster.yaml"])
    cluster = load_cluster(path)
    assert cluster.retry_policy() is not None
    assert cluster.executor_def().name == "k8s"


def test_the_instances_file_is_one_that_dagster_takes(
    objects: list[Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = config(objects, "dagster-instance", "dagster.yaml")
    assert tree.pop("storage") == {"postgres": {"postgres_url": {"env": "DAGSTER_PG_URL"}}}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "current-context": "a",
                "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
                "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}],
                "users": [{"name": "a", "user": {"token": "a"}}],
            }
        )
    )
    tree["run_launcher"]["config"] |= {"load_incluster_config": False, "kubeconfig_file": str(kubeconfig)}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.setenv("PAEPLATFORM_NAMESPACE", "paeplatform")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.run_launcher, K8sRunLauncher)
        assert instance.run_launcher.job_namespace == "paeplatform"
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        assert instance.run_monitoring_max_resume_run_attempts > 0


def test_the_platforms_variables_are_ones_it_takes(
    objects: list[Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = named(objects, "ConfigMap", "paeplatform-env")["data"]
    assert variables["PAEPLATFORM_PRESET"] in preset_names()
    for name, value in variables.items():
        if name not in ("PAEPLATFORM_HOME", "PAEPLATFORM_STORAGE"):
            monkeypatch.setenv(name, value)
    PlatformSettings.from_env()
    home = variables["PAEPLATFORM_HOME"]
    assert variables["JAX_COMPILATION_CACHE_DIR"].startswith(f"{home}/"), "pods share what they compiled"
    mounts = workers("prod")["run"]["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    places = {mount["mountPath"] for mount in mounts}
    assert home in places
    assert {
        str(Path(variables[name]).parent) for name in ("PAEPLATFORM_CLUSTER", "PAEPLATFORM_STORAGE")
    } <= places


def test_storage_is_of_one_mind_with_the_instance_and_mlflow(objects: list[Manifest], tmp_path: Path) -> None:
    path = tmp_path / "storage.yaml"
    path.write_text(named(objects, "ConfigMap", "paeplatform-settings")["data"]["storage.yaml"])
    storage = load_storage(path)
    assert storage.mode == "postgres"
    instance = config(objects, "dagster-instance", "dagster.yaml")
    assert storage.dagster is not None
    assert instance["storage"]["postgres"]["postgres_url"]["env"] == storage.dagster.database.env
    variables = named(objects, "ConfigMap", "paeplatform-env")["data"]
    assert storage.mlflow is not None
    assert storage.mlflow.database.env == "MLFLOW_BACKEND_STORE_URI"
    assert variables["MLFLOW_DEFAULT_ARTIFACT_ROOT"] == storage.mlflow.artifacts
    assert storage.environment.items() >= {
        (name, value) for name, value in variables.items() if name in storage.environment
    }


def test_the_helm_values_are_of_the_same_mind() -> None:
    values = yaml.safe_load((DEPLOY / "k8s" / "helm" / "values.yaml").read_text())
    shipped = yaml.safe_load((DEPLOY / "k8s" / "base" / "dagster.yaml").read_text())
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    ours = copy.deepcopy(shipped["run_launcher"]["config"]["run_k8s_config"])
    theirs = launcher["runK8sConfig"]
    assert theirs["jobSpecConfig"] == ours["job_spec_config"]
    for key, own in (("podSpecConfig", "pod_spec_config"), ("containerConfig", "container_config")):
        assert theirs[key]["securityContext"] == ours[own]["securityContext"]
    (location,) = values["dagster-user-deployments"]["deployments"]
    assert str(location["image"]["tag"]).startswith(paeplatform.__version__)
    for part in (values["dagsterWebserver"], values["dagsterDaemon"], location):
        assert part["resources"].keys() == {"requests", "limits"}
        assert part["securityContext"]["readOnlyRootFilesystem"] is True
        assert part["podSecurityContext"]["runAsNonRoot"] is True
    assert values["postgresql"]["enabled"] is False
    assert (
        values["dagsterDaemon"]["runMonitoring"]["maxResumeRunAttempts"]
        == (shipped["run_monitoring"]["max_resume_run_attempts"])
    )
    assert values["dagsterDaemon"]["runRetries"] == {
        "enabled": True,
        "maxRetries": shipped["run_retries"]["max_retries"],
        "retryOnAssetOrOpFailure": False,
    }
    concurrency = values["concurrency"]
    assert concurrency["pools"]["defaultLimit"] == shipped["concurrency"]["pools"]["default_limit"]
    assert concurrency["runs"]["maxConcurrentRuns"] == shipped["concurrency"]["runs"]["max_concurrent_runs"]
    assert "postgresqlPassword" not in values["postgresql"]
