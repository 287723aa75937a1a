"""The unmodified launcher and executor, Dagster's daemon and this project's assets on the overlay `gpu`.

The cluster is `fake_cluster.py`; what of the configuration had to be changed for it stands in `stage.py`. Tests share
one deployment and run in order.
"""

from collections.abc import Iterator

import dagster as dg
import pytest

from tests.k8s.fake_cluster import GPU
from tests.k8s.stage import ENDED, GPU_NODE, SIZES, Stage, stage

pytestmark = pytest.mark.slow

NOWHERE = '{"pod_spec_config": {"node_selector": {"disk": "none"}}}'
Status = dg.DagsterRunStatus


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture(scope="module")
def lost_run(cluster: Stage) -> str:
    """A run whose pod no node takes; it has its time to fail while other tests are at work."""
    return cluster.launch("spherex_bands", {"dagster-k8s/config": NOWHERE, "dagster/max_retries": "0"})


def test_a_backfill_makes_a_job_a_run_and_a_step_and_shares_out_the_gpu(
    cluster: Stage, lost_run: str
) -> None:
    cluster.backfill(*SIZES)

    def waits() -> bool:
        with cluster.cluster.lock:
            short = any(f"Insufficient {GPU}" in pod.waits_for for pod in cluster.cluster.pods.values())
        return short and cluster.slots() == 2

    cluster.until(waits, "a second pod waiting for the GPU, in its slot")
    runs = cluster.until(lambda: _ended(cluster, SIZES), "the end of the backfill")
    for size, run in runs.items():
        assert run.status is Status.SUCCESS, cluster.said(run.run_id, dg.DagsterEventType.STEP_FAILURE)
        coordinator, step = cluster.pods(run.run_id, "run_worker"), cluster.pods(run.run_id, "step_worker")
        assert [pod.gpus for pod in coordinator] == [0]
        assert coordinator[0].node == "cpu-node"
        assert {(pod.gpus, pod.node) for pod in step} == {(1, GPU_NODE)}
        assert step[0].spec["serviceAccountName"] == "paeplatform-step"
        assert step[0].container["image"].endswith("-cuda12")
        assert coordinator[0].container["image"].endswith("-cpu")
        assert (cluster.settings.store / "models" / "autoencoder" / size).is_dir()
    assert cluster.cluster.most_gpus == 1
    assert cluster.slots() == 0


def test_a_killed_pod_is_tried_again_and_gives_the_same_weights(cluster: Stage) -> None:
    undisturbed, before = cluster.data_version("4"), cluster.runs_of("4")
    cluster.backfill("4")
    checkpoints = cluster.settings.checkpoints
    cluster.until(lambda: list(checkpoints.glob("autoencoder-4-*/*.ckpt")), "a checkpoint of the training")
    run = _new(cluster, "4", before)
    (victim,) = cluster.pods(run.run_id, "step_worker")
    cluster.cluster.kill_pod(victim.name)
    assert cluster.until(lambda: cluster.ended(run.run_id), "the end of the run") is Status.SUCCESS
    first, second = cluster.pods(run.run_id, "step_worker")
    cluster.until(lambda: second.phase == "Succeeded", "the end of the second pod")
    assert (first.phase, first.exit_code) == ("Failed", 137)
    assert f"failed Kubernetes job {victim.job}" in cluster.said(
        run.run_id, dg.DagsterEventType.STEP_UP_FOR_RETRY
    )
    for pod in (first, second):
        assert cluster.cluster.jobs[pod.job].body["spec"]["backoffLimit"] == 0
    assert cluster.data_version("4") == undisturbed


def test_a_step_that_finds_no_node_fails_in_its_time_and_frees_its_slot(cluster: Stage) -> None:
    before = cluster.runs_of("3")
    cluster.deadline(20)
    cluster.cluster.cordon(GPU_NODE)
    cluster.backfill("3")
    run = cluster.until(lambda: _new(cluster, "3", before), "the run")
    cluster.until(lambda: cluster.slots() == 1, "the slot of the waiting step")
    assert cluster.until(lambda: cluster.ended(run.run_id), "the end of the run") is Status.FAILURE
    pods = cluster.pods(run.run_id, "step_worker")
    assert [pod.process for pod in pods] == [None, None], "nothing ran"
    failure = cluster.said(run.run_id, dg.DagsterEventType.STEP_FAILURE)
    assert f"failed Kubernetes job {pods[-1].job}" in failure
    assert cluster.cluster.job(pods[-1].job)["status"]["conditions"][0]["reason"] == "DeadlineExceeded"
    cluster.until(lambda: cluster.slots() == 0, "the slot's return")
    cluster.cluster.cordon(GPU_NODE, on=False)
    cluster.deadline(None)


def test_a_run_whose_own_pod_is_lost_goes_on_with_the_step_that_ran_meanwhile(cluster: Stage) -> None:
    undisturbed, before = cluster.data_version("2"), cluster.runs_of("2")
    cluster.backfill("2")
    run = cluster.until(lambda: _new(cluster, "2", before), "the run")
    cluster.until(
        lambda: any(pod.phase == "Running" for pod in cluster.pods(run.run_id, "step_worker")), "its step"
    )
    (coordinator,) = cluster.pods(run.run_id, "run_worker")
    cluster.cluster.kill_pod(coordinator.name)
    assert cluster.until(lambda: cluster.ended(run.run_id), "the end of the run") is Status.SUCCESS
    first, second = cluster.pods(run.run_id, "run_worker")
    (step,) = cluster.pods(run.run_id, "step_worker")
    assert first.phase == "Failed"
    cluster.until(lambda: (second.phase, step.phase) == ("Succeeded", "Succeeded"), "the end of both pods")
    assert cluster.data_version("2") == undisturbed


def test_a_run_that_finds_no_node_fails_in_its_time_and_says_why(cluster: Stage, lost_run: str) -> None:
    assert cluster.until(lambda: cluster.ended(lost_run), "the end of the run") is Status.FAILURE
    said = cluster.said(lost_run, dg.DagsterEventType.RUN_FAILURE)
    assert "taking longer than" in said
    assert "FailedScheduling: 0/2 nodes are available" in said


def test_the_api_server_refused_nothing_and_heard_from_the_launcher_and_from_runs_only(
    cluster: Stage,
) -> None:
    assert not cluster.cluster.refusals
    used = cluster.cluster.requests
    assert {account for account, _, _ in used} == {"paeplatform-launcher", "paeplatform-run"}
    assert {(verb, kind) for account, verb, kind in used if account == "paeplatform-run"} >= {
        ("create", "jobs"),
        ("get", "jobs/status"),
    }


def _ended(cluster: Stage, sizes: tuple[str, ...]) -> dict[str, dg.DagsterRun] | None:
    runs = {size: found[0] for size in sizes if (found := cluster.runs_of(size))}
    return runs if len(runs) == len(sizes) and all(run.status in ENDED for run in runs.values()) else None


def _new(cluster: Stage, size: str, before: list[dg.DagsterRun]) -> dg.DagsterRun | None:
    known = {run.run_id for run in before}
    return next((run for run in cluster.runs_of(size) if run.run_id not in known), None)
