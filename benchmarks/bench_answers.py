"""How long a person waits: `paeplatform infer` from the command to the answer, as processes of their own.

Each size is one export of simulated galaxies, three visits of each channel: CSV up to 100 sources, Parquet beyond. The
single source is a bright one, which is searched over all redshifts as well. Cold is the first run with an empty home
and an empty cache of compiled programs; warm is the next. Python's own files are in memory in both. Beside the single
source's answer stands the one with its card (`--plot`).

Where the time goes is measured in two more runs, since to log it costs some: `JAX_LOG_COMPILES` says how long each
program was traced, lowered and compiled (or, warm, read from the cache), `python -X importtime` how long modules took.
The rest of such a run is "run": mostly the inference, and some reading, writing and Python's start. Both are left out
above 1,000 sources, which compile the programs of 100.

Set PAEPLATFORM_BENCH_ANSWERS to other numbers of sources, such as "1,20", for a trial.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.timing import less_is_better
from paeplatform.config import load_preset
from paeplatform.instrument.bands import load_bands
from paeplatform.release.schema import EXPOSURE_SCHEMA
from paeplatform.release.simulated.delivery import SOURCES_AT_A_TIME, DeliverySpec, exposures
from paeplatform.release.simulated.sky import TemplateSky
from paeplatform.scores.evaluate import draw_bright_sources
from paeplatform.sed.library import load_library

SIZES = tuple(int(n) for n in os.environ.get("PAEPLATFORM_BENCH_ANSWERS", "1,100,10000").split(","))
LARGEST_CSV = 100  # sources
LARGEST_LOGGED = 1000
BRIGHT = 40.0  # total SNR of a single source
TARGETS = {"cold_1": 45.0, "cold_100": 60.0, "warm_1": 8.0, "warm_100": 15.0}  # [s]
COMMAND = ("-c", "from paeplatform.cli import main; main()", "infer")
LARGEST_SHOWN = 5  # programs, of those that take longest to compile
# The environment of a person who has set nothing.
UNSET = (
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
    "PAEPLATFORM_PRESET",
    "JAX_PLATFORMS",
)

_TRACED = re.compile(r"Finished tracing (\S+) for \S+ in ([\d.e+-]+) sec")
_BEGUN = re.compile(r"Compiling jit\((\S+)\) ")
_LOWERED = re.compile(r"Finished jaxpr to MLIR module conversion jit\((\S+)\) in ([\d.e+-]+) sec")
_COMPILED = re.compile(r"Finished XLA compilation of jit\((\S+)\) in ([\d.e+-]+) sec")
_IMPORTED = re.compile(r"import time:\s+(\d+) \|\s+\d+ \| ")


@dataclass(frozen=True)
class Spent:
    """Seconds of one process.

    Attributes:
        imports: of modules.
        traced: Python functions to programs.
        lowered: programs to what the compiler takes.
        compiled: by the compiler, or read from the cache; by program.
    """

    imports: float
    traced: float
    lowered: float
    compiled: dict[str, float]

    @classmethod
    def from_log(cls, log: str) -> Spent:
        """Reads what JAX and Python wrote. A function traced within another is part of that one's time."""
        imports = traced = lowered = 0.0
        compiled: dict[str, float] = {}
        last = 0.0
        for line in log.splitlines():
            if found := _IMPORTED.match(line):
                imports += 1e-6 * float(found[1])
            elif found := _TRACED.search(line):
                last = float(found[2])
            elif _BEGUN.search(line):
                traced += last
                last = 0.0
            elif found := _LOWERED.search(line):
                lowered += float(found[2])
            elif found := _COMPILED.search(line):
                compiled[found[1]] = compiled.get(found[1], 0.0) + float(found[2])
        return cls(imports, traced, lowered, compiled)


def write_exports(folder: Path) -> dict[int, Path]:
    """The exports by their number of sources."""
    preset = load_preset("standard")
    preset = preset.model_copy(update={"seed": preset.promotion.test_seed})
    library, bands = load_library(), load_bands()
    truth = draw_bright_sources(preset, library, bands, max(*SIZES, 200), 0.0, progress=False)
    bright = truth.filter(pl.col("snr") > BRIGHT)
    spec, sky = DeliverySpec("answers", n_visits=3, seed=preset.seed), TemplateSky(library)
    found = {}
    for n in SIZES:
        some = bright.head(1) if n == 1 else truth.head(n)
        rows = pl.concat(
            exposures(some[first : first + SOURCES_AT_A_TIME], bands, spec, sky)
            for first in range(0, some.height, SOURCES_AT_A_TIME)
        ).select(list(EXPOSURE_SCHEMA))
        found[n] = folder / f"export_{n}.{'csv' if n <= LARGEST_CSV else 'parquet'}"
        rows.write_csv(found[n]) if n <= LARGEST_CSV else rows.write_parquet(found[n])
    return found


def infer(export: Path, place: Path, *options: str, log: bool = False) -> tuple[float, str]:
    """(seconds of one process, what it wrote to stderr).

    Args:
        export: to be inferred.
        place: of the home and the caches; a new one is cold.
        options: of the command.
        log: whether JAX and Python log what they do.

    Raises:
        RuntimeError: the command failed.
    """
    home, cache = place / "home", place / "cache"
    for folder in (home, cache):
        folder.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name not in UNSET}
    environment |= {"PAEPLATFORM_HOME": str(home), "XDG_CACHE_HOME": str(cache)}
    if log:
        environment["JAX_LOG_COMPILES"] = "1"
    command = [sys.executable, *(("-X", "importtime") if log else ()), *COMMAND, str(export)]
    command += [*options, "-o", str(place / "answer.parquet"), "--overwrite"]
    began = time.perf_counter()
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    seconds = time.perf_counter() - began
    if ended.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {ended.returncode}: {ended.stderr[-2000:]}")
    return seconds, ended.stderr


def run() -> list[dict[str, Any]]:
    """Some five minutes for 1 and 100 sources; 10,000 take an hour more."""
    figures: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="paeplatform-answers-") as temporary:
        folder = Path(temporary)
        for n, export in write_exports(folder).items():
            for state in ("cold", "warm"):
                total, _ = infer(export, folder / f"{n}")
                target = TARGETS.get(f"{state}_{n}")
                figures.append(less_is_better(f"{state}_{n}_total", total, "s", target, None))
            if n == 1:
                for state in ("cold", "warm"):
                    drawn, _ = infer(export, folder / "drawn", "--plot")
                    figures.append(
                        less_is_better(f"{state}_1_with_card", drawn, "s", TARGETS.get(f"{state}_1"), None)
                    )
            if n > LARGEST_LOGGED:
                continue
            for state in ("cold", "warm"):
                logged, log = infer(export, folder / f"{n}_logged", log=True)
                figures += _parts(f"{state}_{n}", logged, Spent.from_log(log))
    return figures


def _parts(name: str, total: float, spent: Spent) -> list[dict[str, Any]]:
    """Where the `total` seconds of one run went, and the programs that take longest to compile."""
    compiled = sum(spent.compiled.values())
    rest = total - spent.imports - spent.traced - spent.lowered - compiled
    parts = {
        "import": spent.imports,
        "trace": spent.traced,
        "lower": spent.lowered,
        "compile": compiled,
        "run": rest,
    }
    figures = [less_is_better(f"{name}_{part}", seconds, "s", None, None) for part, seconds in parts.items()]
    figures.append(less_is_better(f"{name}_programs", len(spent.compiled), "", None, None))
    longest = sorted(spent.compiled.items(), key=lambda item: -item[1])[:LARGEST_SHOWN]
    return figures + [
        less_is_better(f"{name}_compile_{program}", s, "s", None, None) for program, s in longest
    ]


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
