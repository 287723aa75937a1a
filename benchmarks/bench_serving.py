"""How fast the API answers on this machine: requests a second and waiting times, over loopback, with a bounded load.

The champions are those of the benchmark home (`benchmarks/standard.py`: PAEPLATFORM_BENCH_HOME, or runs/standard); a
method without a champion is left out. The service runs in this process, the clients are threads with one connection
each.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import uvicorn

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.timing import figure, less_is_better
from paeplatform.catalog.mock import draw_mock_catalog
from paeplatform.catalog.photometry import mock_photometry
from paeplatform.cli.options import settings_for
from paeplatform.instrument.bands import load_bands
from paeplatform.resources.settings import PlatformSettings
from paeplatform.sed.library import load_library
from paeplatform.serving.app import create_app
from paeplatform.serving.champion import ServedChampion

HOST = "127.0.0.1"
HOME = Path(os.environ.get("PAEPLATFORM_BENCH_HOME", Path(__file__).parents[1] / "runs" / "standard"))
PRESET = os.environ.get("PAEPLATFORM_BENCH_PRESET", "standard")
CLIENTS = 8
MAX_SECONDS = 60.0  # of each load
READY_SECONDS = 900.0  # loading and compiling
SEED = 31415
# method -> (requests of one source, sources of one large request)
LOAD = {"sbi": (1000, 1000), "pae": (160, 96)}


def run() -> list[dict[str, Any]]:
    """Figures of every method that has a champion."""
    from paeplatform.assets.promotion.gated import GATED
    from paeplatform.resources.registry import ModelRegistry

    settings = settings_for(HOME, PRESET)
    registry = ModelRegistry.from_settings(settings)
    kinds = [kind for kind in GATED.values() if registry.find_alias(kind.name) is not None]
    if not kinds:
        raise SystemExit(f"no champion under {HOME}: `paeplatform run --preset {PRESET} --home {HOME}` first")
    bodies = _sources(settings)
    figures = []
    champions = [ServedChampion(kind, settings, n_bands=len(load_bands())) for kind in kinds]
    with serving(champions) as port:
        for kind in kinds:
            n_requests, n_large = LOAD[kind.short]
            waits, took = _load(port, kind.short, bodies, n_requests)
            figures += [
                figure(f"{kind.short}_requests_per_second", len(waits) / took, "1/s", None, None, more=True),
                *(
                    less_is_better(f"{kind.short}_wait_p{q}", float(np.percentile(waits, q)), "s", None, None)
                    for q in (50, 95, 99)
                ),
            ]
            began = time.perf_counter()
            _ask(http.client.HTTPConnection(HOST, port, timeout=600), kind.short, bodies[:n_large])
            rate = min(n_large, len(bodies)) / (time.perf_counter() - began) * 3600.0
            figures.append(
                figure(f"{kind.short}_galaxies_per_hour_in_one_request", rate, "1/h", None, None, more=True)
            )
    return figures


@contextmanager
def serving(champions: list[ServedChampion]) -> Iterator[int]:
    """The API on a free port, until the end of the block; entered when every model is loaded and warm."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        port = taken.getsockname()[1]
    app = create_app(champions, len(load_bands()))
    server = uvicorn.Server(uvicorn.Config(app, host=HOST, port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not (server.started and all(one.loaded for one in champions)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready: {[one.fault for one in champions]}")
            time.sleep(0.1)
        yield port
    finally:
        server.should_exit = True
        thread.join(timeout=60)


def _load(port: int, method: str, bodies: list[dict], n_requests: int) -> tuple[np.ndarray, float]:
    """(waiting times [s], wall time [s]) of requests of one source each, from `CLIENTS` threads."""
    waits: list[float] = []
    places = iter(range(n_requests))
    lock = threading.Lock()
    began = time.perf_counter()

    def client() -> None:
        connection = http.client.HTTPConnection(HOST, port, timeout=300)
        while time.perf_counter() - began < MAX_SECONDS:
            with lock:
                place = next(places, None)
            if place is None:
                return
            start = time.perf_counter()
            _ask(connection, method, [bodies[place % len(bodies)]])
            wait = time.perf_counter() - start
            with lock:
                waits.append(wait)

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return np.array(waits), time.perf_counter() - began


def _ask(connection: http.client.HTTPConnection, method: str, sources: list[dict]) -> None:
    content = json.dumps({"method": method, "sources": sources})
    connection.request("POST", "/v1/photoz", content, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {body[:300]!r}")


def _sources(settings: PlatformSettings) -> list[dict]:
    """1,000 galaxies as a release has them, from a catalogue that nothing was trained on."""
    preset = settings.preset.model_copy(update={"seed": SEED})
    library = load_library(preset.templates.folder) if preset.templates.folder else load_library()
    catalog = draw_mock_catalog(preset, library).filter(pl.col("mag_z") < preset.release.mag_z_max)
    rows = mock_photometry(preset, library, load_bands(), catalog.head(1000), SEED)
    flux, flux_err = (rows[name].to_numpy() for name in ("flux", "flux_err"))
    return [
        {"object_id": identity, "flux": f.tolist(), "flux_err": e.tolist()}
        for identity, f, e in zip(rows["object_id"].to_list(), flux, flux_err, strict=True)
    ]


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
