"""Speed of the mock catalogue, the training set on disk and mock photometry.

`run()` returns dicts {name, value, unit, target, bound, meets}: `target` is what the specification asks for
(None where it asks for nothing), `bound` what the same machine does on the part of the work that cannot be
avoided.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl

from paeplatform.catalog.mock import draw_mock_catalog
from paeplatform.catalog.photometry import mock_photometry
from paeplatform.catalog.training_set import augment_sources, read_spectra, write_training_set
from paeplatform.config import Preset, load_preset
from paeplatform.instrument.bands import load_bands
from paeplatform.sed.grid import library_on_grid, rest_grid
from paeplatform.sed.library import TemplateLibrary, load_library
from paeplatform.sed.spectra import attenuated_spectra

Result = TypeVar("Result")

N_SPECTRA = 200_000
N_PHOTOMETRY = 4_000
TARGET_SPECTRA_PER_S = 20_000.0  # issue, item 4: per core, writing included
TARGET_MEMORY = 2.0  # of the file's size: peak memory must stay below
TARGET_CATALOG_S = 60.0


def run() -> list[dict]:
    """Times catalogue, training set and photometry; about a quarter of a minute."""
    library, paper = load_library(), load_preset("paper")
    preset = paper.model_copy(
        update={"training_set": paper.training_set.model_copy(update={"n_spectra": N_SPECTRA})}
    )
    catalog_s, _, catalog = _timed(lambda: draw_mock_catalog(preset, library))
    results = [
        _result(
            "mock_catalog",
            catalog_s,
            "s for 166,014 sources",
            TARGET_CATALOG_S,
            None,
            catalog_s < TARGET_CATALOG_S,
        )
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "training.parquet"
        _forget_peak()
        before = _resident("VmRSS")
        _, cpu_s, summary = _timed(lambda: write_training_set(preset, library, catalog, path, progress=False))
        peak = _resident("VmHWM") - before
        read_s, _, spectra = _timed(lambda: read_spectra(path))
        # Bounds: the spectra alone, without writing them; and the plain write of as many bytes.
        made_cpu_s = _spectra_alone(preset, library, catalog)
        raw_write_s, _, _ = _timed(lambda: (Path(folder) / "raw").write_bytes(spectra.data))
    rate = N_SPECTRA / cpu_s
    results += [
        _result(
            "training_set_write",
            rate,
            "spectra/s/core",
            TARGET_SPECTRA_PER_S,
            N_SPECTRA / made_cpu_s,
            rate > TARGET_SPECTRA_PER_S,
        ),
        _result(
            "training_set_write_memory",
            peak / spectra.nbytes,
            "of the spectra's size",
            TARGET_MEMORY,
            None,
            peak < TARGET_MEMORY * spectra.nbytes,
        ),
        _result(
            "training_set_read",
            spectra.nbytes / read_s / 1e6,
            "MB/s of spectra (bound: plain write of the same bytes)",
            None,
            spectra.nbytes / raw_write_s / 1e6,
            None,
        ),
        _result(
            "training_set_compression", summary["bytes"] / spectra.nbytes, "of raw size", None, 1.0, None
        ),
    ]
    rows = catalog.filter(pl.col("mag_z") < preset.release.mag_z_max).head(N_PHOTOMETRY)
    _, phot_cpu_s, _ = _timed(lambda: mock_photometry(preset, library, load_bands(), rows, seed=1))
    phot_rate = len(rows) / phot_cpu_s
    results.append(_result("mock_photometry", phot_rate, "sources/s/core", 2000.0, None, phot_rate > 2000.0))
    return results


def _spectra_alone(preset: Preset, library: TemplateLibrary, catalog: pl.DataFrame) -> float:
    copies = augment_sources(preset, catalog)
    wave = rest_grid(preset.rest_grid)
    flux = library_on_grid(library, wave)
    step = preset.training_set.chunk_size

    def work() -> None:
        for low in range(0, N_SPECTRA, step):
            rows = slice(low, low + step)
            attenuated_spectra(
                flux, wave, copies.template_index[rows], copies.dust_law[rows], copies.ebv[rows]
            )

    return _timed(work)[1]


def _timed(work: Callable[[], Result]) -> tuple[float, float, Result]:
    """(wall s, CPU s of all threads, result)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def _forget_peak() -> None:
    """Sets Linux's record of this process's peak memory back to the present value; elsewhere does nothing."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def _resident(key: str) -> float:
    """Resident memory [bytes] now (VmRSS) or at its peak (VmHWM); NaN where /proc is missing."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return float("nan")
    lines = status.read_text().splitlines()
    return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith(key))


def _result(
    name: str, value: float, unit: str, target: float | None, bound: float | None, meets: bool | None
) -> dict:
    return {
        "name": name,
        "value": float(np.round(value, 4)),
        "unit": unit,
        "target": target,
        "bound": None if bound is None else float(np.round(bound, 4)),
        "meets": None if meets is None else bool(meets),
    }


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
