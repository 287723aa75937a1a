"""What an all-sky release costs: cells, runs, hours, bytes, and what a new model or a new prior asks for again.

The model (docs/capacity.md): every step takes time in proportion to its sources. Posteriors of the PAE and of SBI, and
template fits, run on GPUs when there are some, everything else on workers of two CPU cores; a cell's steps follow one
another, different cells do not wait for each other, so a release takes as long as the busier of the two kinds. Each run
of a few cells starts anew and takes some seconds for it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import PositiveFloat

from paeplatform.config import Section, validated, yaml_mapping
from paeplatform.errors import ConfigError

ON_GPU = ("pae_posteriors", "sbi_posteriors", "template_fits")
STEPS = (
    "photometry",
    "pae_posteriors",
    "sbi_posteriors",
    "template_fits",
    "reweighted_posteriors",
    "redshift_catalog",
)
NEW_CHAMPION = ("pae_posteriors", "reweighted_posteriors", "redshift_catalog")
NEW_PRIOR = ("reweighted_posteriors", "redshift_catalog")
CELLS_PER_RUN = 8  # of a backfill (paeplatform.assets.recording.partitions.SHARED_RUN)


class Rate(Section):
    """A figure with where it comes from.

    Attributes:
        value: in `unit`.
        basis: `measured` by a benchmark, `assumed` by us, or `given` on the command line.
        source: "<results file>: <figure>" for a measured one, else why.
    """

    value: PositiveFloat
    unit: str
    basis: Literal["measured", "assumed", "given"]
    source: str


class Rates(Section):
    """The figures of the model; `capacity_rates.yaml` holds those that ship.

    Attributes:
        rates: sources an hour of each step, by a worker of two cores.
        gpu_speedup: of a GPU over such a worker, for the steps that run on GPUs.
        inferred_again: share of sources that a new prior asks to infer again.
        run_start: seconds that a run takes before it works.
        bytes_per_source: of each table.
        bytes_per_cell: of Dagster's event log, all steps of a cell.
    """

    rates: Mapping[str, Rate]
    gpu_speedup: Rate
    inferred_again: Rate
    run_start: Rate
    bytes_per_source: Mapping[str, Rate]
    bytes_per_cell: Rate


@dataclass(frozen=True)
class Work:
    """Hours of a piece of work.

    Attributes:
        gpu_hours: of all GPUs together.
        worker_hours: of all workers together.
        hours: wall time.
    """

    gpu_hours: float
    worker_hours: float
    hours: float


@dataclass(frozen=True)
class Plan:
    """What a release costs.

    Attributes:
        sources: in all.
        cells: partitions of the release.
        sources_per_cell: on average.
        runs: of the first processing: photometry a cell, and the rest in backfills of several cells.
        minutes_per_cell: of the longest step, posteriors of the PAE.
        first: the whole processing.
        new_champion: posteriors of the PAE again, by another model.
        new_prior: the same draws under another prior.
        terabytes: of each table, and in all under `total`.
        objects: files of the store.
        event_log_gigabytes: of Dagster's database.
        assumed: names of the figures that nobody measured.
    """

    sources: float
    cells: int
    sources_per_cell: float
    runs: int
    minutes_per_cell: float
    first: Work
    new_champion: Work
    new_prior: Work
    terabytes: Mapping[str, float]
    objects: int
    event_log_gigabytes: float
    assumed: tuple[str, ...]


def load_rates(
    path: Path | None = None, results: Path | None = None, given: Mapping[str, float] | None = None
) -> Rates:
    """The figures of the model.

    Args:
        path: a file like `capacity_rates.yaml`; None takes that one.
        results: folder of benchmark results, whose figures go before measured ones of the file.
        given: sources an hour by step, of a GPU where the step runs on GPUs; goes before everything.

    Raises:
        ConfigError: the file is missing or not of this form, or a step is unknown.
    """
    origin = str(path) if path is not None else "capacity_rates.yaml"
    try:
        text = (resources.files("paeplatform") / origin if path is None else path).read_text()
    except OSError as error:
        raise ConfigError(f"rates {origin} cannot be read: {error.strerror}") from error
    rates = validated(Rates, yaml_mapping(text, origin), origin)
    missing = sorted(set(STEPS) - set(rates.rates))
    if missing:
        raise ConfigError(f"{origin}: no rate of {', '.join(missing)}")
    if results is not None:
        rates = _measured(rates, results)
    return _given(rates, given or {})


def plan(
    sources: float,
    *,
    gpus: int,
    workers: int,
    rates: Rates,
    healpix_order: int = 5,
    cells: int | None = None,
) -> Plan:
    """What a release costs.

    Args:
        sources: number of them.
        gpus: that infer at the same time; 0 leaves all to the workers.
        workers: of two CPU cores each.
        rates: figures of the model.
        healpix_order: of the cells.
        cells: that hold sources; None: the whole sky.

    Raises:
        ConfigError: a number is out of its range.
    """
    sky = 12 * 4**healpix_order
    if not 0 <= healpix_order <= 12:
        raise ConfigError(f"HEALPix order {healpix_order} must lie in [0, 12]")
    if not 1 <= sources <= 1e12:
        raise ConfigError(f"sources {sources:g} must lie in [1, 1e12]")
    if gpus < 0 or workers < 1:
        raise ConfigError(f"gpus {gpus} must be 0 or more, workers {workers} 1 or more")
    if cells is not None and not 1 <= cells <= sky:
        raise ConfigError(f"cells {cells} must lie in [1, {sky}], the sky at order {healpix_order}")
    count = cells if cells is not None else sky
    runs = math.ceil(count / CELLS_PER_RUN)

    run_start = rates.run_start.value / 3600

    def work(*steps: str, again: float = 1.0, more_runs: int = 0) -> Work:
        """Hours of some steps; `again` is the share of sources that the PAE infers, `more_runs` are of workers."""
        gpu_hours, worker_hours = 0.0, more_runs * run_start
        for step in steps:
            share = again if step == "pae_posteriors" else 1.0
            hours = sources * share / _rate(rates, step, gpus)
            if gpus and step in ON_GPU:
                gpu_hours += hours
            else:
                worker_hours += hours
        if gpus and not set(steps).isdisjoint(ON_GPU):
            gpu_hours += runs * run_start
        else:
            worker_hours += runs * run_start
        return Work(gpu_hours, worker_hours, max(gpu_hours / gpus if gpus else 0.0, worker_hours / workers))

    terabytes = {name: sources * rate.value / 1e12 for name, rate in rates.bytes_per_source.items()}
    return Plan(
        sources=sources,
        cells=count,
        sources_per_cell=sources / count,
        runs=count + runs,
        minutes_per_cell=60 * sources / count / _rate(rates, "pae_posteriors", gpus),
        first=work(*STEPS, more_runs=count),  # the gate takes one cell a run
        new_champion=work(*NEW_CHAMPION),
        new_prior=work("pae_posteriors", *NEW_PRIOR, again=rates.inferred_again.value),
        terabytes={**terabytes, "total": sum(terabytes.values())},
        objects=count * (len(rates.bytes_per_source) + 2),  # and what is set aside, and statistics
        event_log_gigabytes=count * rates.bytes_per_cell.value / 1e9,
        assumed=tuple(_assumed(rates, gpus)),
    )


def _rate(rates: Rates, step: str, gpus: int) -> float:
    rate = rates.rates[step]
    if not gpus or step not in ON_GPU or rate.basis == "given":
        return rate.value
    return rate.value * rates.gpu_speedup.value


def _assumed(rates: Rates, gpus: int) -> list[str]:
    named = {**rates.rates, "inferred_again": rates.inferred_again, "run_start": rates.run_start}
    if gpus and any(rates.rates[step].basis != "given" for step in ON_GPU):
        named["gpu_speedup"] = rates.gpu_speedup
    return [name for name, rate in named.items() if rate.basis == "assumed"]


def _measured(rates: Rates, folder: Path) -> Rates:
    """Figures of benchmark results in the place of those of the file that name them."""

    def renewed(rate: Rate) -> Rate:
        file, _, name = rate.source.partition(": ")
        path = folder / f"{file}.json"
        if rate.basis != "measured" or not path.is_file():
            return rate
        found = [one["value"] for one in json.loads(path.read_text()) if one["name"] == name]
        return rate.model_copy(update={"value": float(found[0])}) if found else rate

    if not folder.is_dir():
        raise ConfigError(f"results {folder} is not a folder; `make bench` makes one")
    return rates.model_copy(
        update={
            "rates": {name: renewed(rate) for name, rate in rates.rates.items()},
            "bytes_per_source": {name: renewed(rate) for name, rate in rates.bytes_per_source.items()},
            "bytes_per_cell": renewed(rates.bytes_per_cell),
        }
    )


def _given(rates: Rates, given: Mapping[str, float]) -> Rates:
    unknown = sorted(set(given) - set(STEPS))
    if unknown:
        raise ConfigError(f"unknown step {', '.join(unknown)}: rates are of {', '.join(STEPS)}")
    for step, value in given.items():
        if not value > 0:
            raise ConfigError(f"rate of {step}: {value:g} must be above 0 sources an hour")
    new = {
        step: Rate(value=value, unit="1/h", basis="given", source="command line")
        for step, value in given.items()
    }
    return rates.model_copy(update={"rates": {**rates.rates, **new}})
