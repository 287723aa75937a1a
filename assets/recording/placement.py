"""Which pod a step runs in on a cluster: the one place that says which steps take a GPU.

Steps in the pool `compute` do; the pool's limit is then the number of GPUs. On one machine, assets stay as they are.
"""

from collections.abc import Iterable

import dagster as dg

from paeplatform.assets.recording.partitions import COMPUTE
from paeplatform.resources.kubernetes import POD_TAG, ClusterSettings

Asset = dg.AssetsDefinition | dg.AssetSpec


def place_steps(assets: Iterable[Asset], cluster: ClusterSettings | None) -> list[Asset]:
    """Gives every step its tries after a lost pod, and those in the pool `compute` their pod's specification.

    External assets have no step and stay as they are; on one machine, without a cluster, all do.
    """
    if cluster is None:
        return list(assets)
    return [
        _placed(asset, cluster)
        if isinstance(asset, dg.AssetsDefinition)
        and asset.is_executable
        and isinstance(asset.node_def, dg.OpDefinition)
        else asset
        for asset in assets
    ]


def _placed(asset: dg.AssetsDefinition, cluster: ClusterSettings) -> dg.AssetsDefinition:
    """Dagster has no call to change an op's tags once an asset is made, so the op is made again from its parts."""
    step = asset.op
    pod = {POD_TAG: cluster.compute_pod} if step.pool == COMPUTE and cluster.compute_pod else {}
    placed = dg.OpDefinition(
        compute_fn=step.compute_fn,
        name=step.name,
        ins=dict(step.ins),
        outs=dict(step.outs),
        description=step.description,
        config_schema=step.config_schema,
        required_resource_keys=set(step.required_resource_keys),
        tags={**step.tags, **pod},
        retry_policy=step.retry_policy or cluster.retry_policy(),
        pool=step.pool,
    )
    return dg.AssetsDefinition(**{**asset.get_attributes_dict(), "node_def": placed})
