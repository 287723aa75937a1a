"""Runs the benchmarks beside this file and keeps their figures: `make bench`.

A benchmark is a module `bench_<name>.py` with a function `run()` that returns a list of dicts {name, value,
unit, target, bound, meets}. Each runs in a process of its own, so that one's compiled programs and threads do
not weigh on the next. Results go to `benchmarks/results/<name>.json`. A missed target is reported, not an
error: figures depend on the machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from paeplatform.files import write_whole

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))  # the benchmarks import `benchmarks.timing`
RESULTS = FOLDER / "results"
FIELDS = ("name", "value", "unit", "target", "bound", "meets")


def discover() -> list[str]:
    """The names of the benchmarks, sorted: `bench_forward.py` is "forward"."""
    return sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))


def run_one(name: str, results: Path) -> list[dict[str, Any]]:
    """Runs one benchmark in this process and writes its figures.

    Raises:
        ValueError: a figure lacks a field.
    """
    spec = importlib.util.spec_from_file_location(f"bench_{name}", FOLDER / f"bench_{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    figures = module.run()
    for figure in figures:
        missing = [field for field in FIELDS if field not in figure]
        if missing:
            raise ValueError(f"benchmark {name}: figure {figure.get('name')!r} lacks {', '.join(missing)}")
    write_json(results / f"{name}.json", [{field: figure[field] for field in FIELDS} for figure in figures])
    return figures


def write_json(path: Path, tree: Any) -> None:
    """Writes JSON under a temporary name and renames it, so that a reader never meets half a file."""
    write_whole(path, json.dumps(tree, indent=1, default=_plain) + "\n")


def table(name: str, figures: list[dict[str, Any]]) -> Table:
    """The figures of one benchmark as a table for the terminal."""
    shown = Table(title=name, title_justify="left")
    shown.add_column("figure", overflow="fold")
    shown.add_column("value", justify="right")
    shown.add_column("unit")
    shown.add_column("target", justify="right")
    shown.add_column("bound", justify="right")
    shown.add_column("meets")
    for figure in figures:
        meets = {True: "[green]yes", False: "[red]no", None: ""}[figure["meets"]]
        target, bound = ("" if figure[key] is None else f"{figure[key]:.4g}" for key in ("target", "bound"))
        shown.add_row(figure["name"], f"{figure['value']:.4g}", figure["unit"], target, bound, meets)
    return shown


def main(argv: list[str] | None = None) -> int:
    """Runs the chosen benchmarks one after the other; returns 1 when one of them failed to run."""
    parser = argparse.ArgumentParser(
        prog="make bench ARGS=...", description="Times what the design promises."
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="run this one (may be given again)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--list", action="store_true", help="list the benchmarks")
    parser.add_argument("--in-process", metavar="NAME", help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    known = discover()
    if chosen.in_process:
        run_one(chosen.in_process, chosen.results)
        return 0
    if chosen.list:
        print("\n".join(known))
        return 0
    unknown = sorted(set(chosen.only or ()) - set(known))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}: there are {', '.join(known)}")

    console, failed = Console(), []
    for name in chosen.only or known:
        console.print(f"[bold]{name}[/bold] ...")
        began = time.perf_counter()
        command = [sys.executable, __file__, "--in-process", name, "--results", str(chosen.results)]
        if subprocess.run(command, check=False).returncode != 0:
            failed.append(name)
            continue
        console.print(table(name, json.loads((chosen.results / f"{name}.json").read_text())))
        console.print(f"{time.perf_counter() - began:.0f} s, {chosen.results / f'{name}.json'}\n")
    if failed:
        console.print(f"[red]failed to run: {', '.join(failed)}")
    return 1 if failed else 0


def _plain(value: Any) -> Any:
    """NumPy scalars as Python's."""
    return value.item()


if __name__ == "__main__":
    sys.exit(main())
