"""What a run asks of a Kubernetes cluster: one YAML file, named by PAEPLATFORM_CLUSTER, says it.

Without the variable every step runs in the process of its run. With it the same assets run as pods: Dagster's own
K8sRunLauncher (named in dagster.yaml) makes a Job of each run and its k8s_job_executor one of each step. Nothing
here talks to a cluster; dagster-k8s, of the extra `k8s`, does.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from paeplatform.errors import ConfigError

CLUSTER_VARIABLE = "PAEPLATFORM_CLUSTER"
POD_TAG = "dagster-k8s/config"  # Dagster's tag for what the pod of a step asks for


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LostPods(_Section):
    """Tries after a step whose pod was lost: preempted, evicted, out of memory, never scheduled in its time.

    Dagster makes them, since a Job's `backoffLimit` is 0. What a user has to put right fails at once all the same; any
    other error of a step counts as a lost pod does.
    """

    max_retries: int = Field(default=3, ge=0, le=20)
    delay_seconds: float = Field(default=30.0, ge=0.0, le=3600.0)


class ClusterSettings(_Section):
    """How steps become pods.

    Attributes:
        executor: configuration of dagster-k8s' `k8s_job_executor`, e.g. `max_concurrent`, `step_k8s_config`.
        lost_pods: tries after a lost pod.
        compute_pod: `dagster-k8s/config` of the steps in the pool `compute`, trainings, posteriors and fits: the GPU,
            its node selector and tolerations. Other steps take what `executor` and dagster.yaml give.
    """

    executor: dict[str, Any] = {}
    lost_pods: LostPods = LostPods()
    compute_pod: dict[str, Any] = {}

    @field_validator("executor")
    @classmethod
    def _is_the_executors(cls, config: dict[str, Any]) -> dict[str, Any]:
        from dagster._config import validate_config
        from dagster_k8s import k8s_job_executor

        found = validate_config(k8s_job_executor.config_schema.as_field().config_type, config)
        if not found.success:
            raise ValueError(
                " ".join(str(next(iter(found.errors or [])).message).split(" Expected:")[0].split())
            )
        return config

    @field_validator("compute_pod")
    @classmethod
    def _is_a_pods(cls, config: dict[str, Any]) -> dict[str, Any]:
        from dagster_k8s.job import UserDefinedDagsterK8sConfig

        known = set(UserDefinedDagsterK8sConfig().to_dict())
        if unknown := sorted(set(config) - known):
            raise ValueError(f"unknown {unknown}; may have {sorted(known)}")
        try:
            UserDefinedDagsterK8sConfig.from_dict(config)
        except Exception as error:  # dagster-k8s raises bare ones, of several kinds
            raise ValueError(" ".join(str(error).split())) from error
        return config

    @classmethod
    def from_env(cls) -> ClusterSettings | None:
        """The file that PAEPLATFORM_CLUSTER names; None without it.

        Raises:
            ConfigError: see `load_cluster`.
        """
        path = os.environ.get(CLUSTER_VARIABLE)
        return load_cluster(Path(path)) if path else None

    def executor_def(self) -> dg.ExecutorDefinition:
        """Dagster's executor that makes a Job of each step, with `executor` as its configuration."""
        from dagster_k8s import k8s_job_executor

        return k8s_job_executor.configured(self.executor, name="k8s")

    def retry_policy(self) -> dg.RetryPolicy | None:
        """Tries after a lost pod, each waiting twice as long as the one before."""
        lost = self.lost_pods
        if not lost.max_retries:
            return None
        return dg.RetryPolicy(lost.max_retries, delay=lost.delay_seconds, backoff=dg.Backoff.EXPONENTIAL)


def load_cluster(path: Path) -> ClusterSettings:
    """Reads and checks a cluster's file.

    Raises:
        ConfigError: no such file, no YAML mapping, an unknown key or a value that dagster-k8s does not take, or
            the extra `k8s` is not installed.
    """
    try:
        tree = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{CLUSTER_VARIABLE}={path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping, got {type(tree).__name__}")
    try:
        return ClusterSettings.model_validate(tree)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path}: {'; '.join(faults)}") from error
    except ModuleNotFoundError as error:
        raise ConfigError(f"{path} asks for Kubernetes: install the extra `k8s` ({error})") from error
