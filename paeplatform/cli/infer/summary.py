"""What the command says of many sources, for people and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from paeplatform.cli.printing import print_text

if TYPE_CHECKING:
    import polars as pl

_HEADINGS = {"status": "status", "paths": "made by", "flags": "flag", "input_faults": "input"}


def summary_of(table: pl.DataFrame) -> dict[str, Any]:
    """Counts and widths of a table of posteriors, ready for JSON."""
    import polars as pl

    from paeplatform.inference.results.summaries import ZFlag

    sigma = table.select((pl.col("pae_z_std") / (1.0 + pl.col("pae_z_median"))).median()).item()
    counts = table.group_by("pae_status").len().sort("len", "pae_status", descending=[True, False])
    faults = table.drop_nulls("input_fault").group_by("input_fault").len().sort("input_fault")
    flagged = {str(flag.name): int((table["z_flags"] & int(flag) != 0).sum()) for flag in ZFlag}
    return {
        "sources": table.height,
        "status": dict(counts.iter_rows()),
        "paths": dict(table.group_by("pae_path").len().sort("pae_path").iter_rows()),
        "flags": {name: n for name, n in flagged.items() if n},
        "input_faults": dict(faults.iter_rows()),
        "median_sigma": None if sigma is None else round(float(sigma), 6),
    }


def print_summary(summary: dict[str, Any]) -> None:
    """Prints a summary as a table, with what made it, the notes and where it was written."""
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    shown.add_column("")
    shown.add_column("galaxies", justify="right")
    shown.add_column("%", justify="right")
    shown.add_row("all", f"{summary['sources']:,}", "100.0")
    for heading in _HEADINGS:
        for name, n in summary[heading].items():
            shown.add_row(
                escape(f"{_HEADINGS[heading]} {name}"), f"{n:,}", f"{100.0 * n / summary['sources']:.1f}"
            )
    Console().print(shown)
    if summary["median_sigma"] is not None:
        print_text(f"median sigma_z/(1+z) {summary['median_sigma']:.4f}")
    print_text(f"{summary['method']} with model {summary['model']}, prior {summary['prior']}")
    for warning in summary["warnings"]:
        print_text(f"note: {warning}")
    print_text(f"written to {summary['output']}")
