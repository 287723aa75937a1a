"""What a backfill costs beside its work: 200 trivial cells through Dagster on SQLite, with the platform's settings.

The assets have the shape of the platform's (a gated one, four behind it, tables kept as Parquet), and no work in them.
Two ways: a run a cell in one process, as `paeplatform backfill` does, and runs over eight cells, as a backfill of the
inference assets in Dagster's page does (without the seconds that the daemon takes to start each run's process).
"""

import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from benchmarks.timing import figure
from paeplatform.assets.recording.partitions import CELL, RELEASE, SHARED_RUN, cell_partition, release_cells
from paeplatform.config import load_preset
from paeplatform.resources.instance import open_instance
from paeplatform.resources.settings import PlatformSettings
from paeplatform.resources.store import ParquetStore
from paeplatform.sensors.run import materialize

N_CELLS = 200
BEHIND = ("posteriors", "fits", "reweighted", "catalog")
TARGET_S = 1.0


def run() -> list[dict[str, Any]]:
    """Seconds a cell, both ways."""
    with tempfile.TemporaryDirectory() as folder:
        settings = PlatformSettings(Path(folder), load_preset("demo"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            defs = _definitions(settings)
        cells = [f"hp6-{cell}" for cell in range(N_CELLS)]
        with open_instance(settings) as instance:
            instance.add_dynamic_partitions(RELEASE, ["r1"])
            instance.add_dynamic_partitions(CELL, cells)
            keys = [dg.AssetKey(name) for name in ("gated", *BEHIND)]
            materialize(defs, instance, keys, cell_partition("r1", cells[0]), "warm")
            began = time.perf_counter()
            for cell in cells:
                fault = materialize(defs, instance, keys, cell_partition("r1", cell), "benchmark")
                assert fault is None, fault
            one_each = (time.perf_counter() - began) / N_CELLS
            began = time.perf_counter()
            job = defs.resolve_implicit_global_asset_job_def()
            ordered = sorted(cells, key=cells.index)
            for first in range(0, N_CELLS, SHARED_RUN):
                part = ordered[first : first + SHARED_RUN]
                job.execute_in_process(
                    asset_selection=keys[1:],
                    instance=instance,
                    run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                    tags={
                        "dagster/asset_partition_range_start": str(cell_partition("r1", part[0])),
                        "dagster/asset_partition_range_end": str(cell_partition("r1", part[-1])),
                    },
                )
            shared = (time.perf_counter() - began) / N_CELLS
    return [
        figure("cells", N_CELLS, "", None, None),
        figure("seconds_per_cell_run_a_cell", one_each, "s", TARGET_S, None),
        figure("seconds_per_cell_shared_runs", shared, "s", TARGET_S, None),
        figure("shared_over_single", one_each / shared, "", None, None, more=True),
    ]


def _definitions(settings: PlatformSettings) -> dg.Definitions:
    table = pl.DataFrame({"object_id": [1], "z": [0.5]})

    @dg.asset(
        partitions_def=release_cells,
        backfill_policy=dg.BackfillPolicy.multi_run(1),
        check_specs=[dg.AssetCheckSpec("gate", asset="gated", blocking=True, partitions_def=release_cells)],
    )
    def gated() -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        yield dg.MaterializeResult(value=table)
        yield dg.AssetCheckResult(passed=True, check_name="gate")

    def behind(name: str, parent: str) -> dg.AssetsDefinition:
        @dg.asset(
            name=name,
            partitions_def=release_cells,
            ins={"source": dg.AssetIn(parent)},
            backfill_policy=dg.BackfillPolicy.multi_run(SHARED_RUN),
        )
        def made(
            context: dg.AssetExecutionContext, source: dict[str, pl.DataFrame]
        ) -> dg.MaterializeResult[dict[str, pl.DataFrame]]:
            for partition in source:
                context.add_asset_metadata({"rows": 1}, partition_key=partition)
            return dg.MaterializeResult(value=source)

        return made

    chain = [behind(name, parent) for name, parent in zip(BEHIND, ("gated", *BEHIND[:-1]), strict=True)]
    return dg.Definitions(
        assets=[gated, *chain],
        resources={"io_manager": ParquetStore(base=str(settings.store))},
        executor=dg.in_process_executor,
    )
