"""What a cluster changes in the code location: executor, pods and tries, and nothing else."""

import json
from pathlib import Path

import dagster as dg
import pytest

from paeplatform.assets.recording.partitions import COMPUTE
from paeplatform.config import load_preset
from paeplatform.definitions import build_definitions
from paeplatform.errors import ConfigError
from paeplatform.resources.kubernetes import POD_TAG, ClusterSettings, load_cluster
from paeplatform.resources.settings import PlatformSettings

GPU = {"container_config": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}
CLUSTER = ClusterSettings.model_validate(
    {
        "executor": {"max_concurrent": 4},
        "lost_pods": {"max_retries": 2, "delay_seconds": 7.0},
        "compute_pod": GPU,
    }
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> PlatformSettings:
    return PlatformSettings(tmp_path_factory.mktemp("home"), load_preset("demo"))


@pytest.fixture(scope="module")
def placed(settings: PlatformSettings) -> dg.Definitions:
    return build_definitions(settings, CLUSTER)


def steps(defs: dg.Definitions) -> dict[str, dg.OpDefinition]:
    made = (asset for asset in defs.assets or [] if isinstance(asset, dg.AssetsDefinition))
    return {asset.op.name: asset.op for asset in made if asset.is_executable}


def test_on_one_machine_no_step_knows_of_pods(settings: PlatformSettings) -> None:
    local = build_definitions(settings)
    assert local.executor is dg.in_process_executor
    assert not any(POD_TAG in step.tags or step.retry_policy for step in steps(local).values())


def test_only_steps_that_compute_ask_for_a_gpu(placed: dg.Definitions) -> None:
    with_gpu = {name for name, step in steps(placed).items() if POD_TAG in step.tags}
    assert with_gpu == {name for name, step in steps(placed).items() if step.pool == COMPUTE}
    assert {"autoencoder", "latent_flow", "posterior_proposal", "sbi_model"} <= with_gpu
    assert {"pae_posteriors", "sbi_posteriors", "template_fits", "reweighted_posteriors"} <= with_gpu
    assert not {"sed_templates", "mock_catalog", "ingest_release", "redshift_catalog"} & with_gpu
    for name in with_gpu:
        assert json.loads(steps(placed)[name].tags[POD_TAG]) == GPU


def test_every_step_is_tried_again_when_its_pod_is_lost(placed: dg.Definitions) -> None:
    for step in steps(placed).values():
        assert step.retry_policy is not None, step.name
        assert (step.retry_policy.max_retries, step.retry_policy.delay) == (2, 7.0)


def test_assets_are_the_same_on_a_cluster(settings: PlatformSettings, placed: dg.Definitions) -> None:
    local = build_definitions(settings)
    assert {spec.key: spec for spec in local.resolve_all_asset_specs()} == {
        spec.key: spec for spec in placed.resolve_all_asset_specs()
    }
    before, after = local.resolve_asset_graph(), placed.resolve_asset_graph()
    assert before.asset_check_keys == after.asset_check_keys
    for key in before.executable_asset_keys:
        assert before.get(key).partitions_def == after.get(key).partitions_def
        assert before.get(key).parent_keys == after.get(key).parent_keys
        assert before.get(key).backfill_policy == after.get(key).backfill_policy
    for name, step in steps(local).items():
        other = steps(placed)[name]
        assert (step.pool, step.required_resource_keys, step.ins.keys(), step.outs.keys()) == (
            other.pool,
            other.required_resource_keys,
            other.ins.keys(),
            other.outs.keys(),
        )
    dg.Definitions.validate_loadable(placed)
    assert placed.resolve_implicit_global_asset_job_def().executor_def.name == "k8s"


def test_a_lost_pod_may_be_final() -> None:
    assert ClusterSettings.model_validate({"lost_pods": {"max_retries": 0}}).retry_policy() is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("executor: {max_concurrnt: 3}", "executor: .*max_concurrnt"),
        ("compute_pod: {container: {}}", "compute_pod: .*unknown \\['container'\\]"),
        ("compute_pod: {container_config: {resource: {}}}", "compute_pod: .*resource"),
        ("lost_pods: {max_retries: -1}", "lost_pods.max_retries"),
        ("gpus: 2", "gpus: "),
        ("- 1", "expected a mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_faulty_file_is_refused_in_a_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        load_cluster(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read"):
        load_cluster(tmp_path / "none.yaml")
