"""Tables for the terminal and for scripts: metrics, and what the quality gate holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from paeplatform.cli.printing import print_text
from paeplatform.resources.objects import names_in
from paeplatform.scores.metrics import METRICS, Metric

if TYPE_CHECKING:
    import polars as pl
    from upath import UPath

    from paeplatform.sensors.staleness import HeldPart

# Column of `metric_table` -> a heading for a terminal: short, in ASCII. Fractions are shown in per cent.
_HEADINGS = {
    "nmad_paper": "NMAD",
    "nmad_usual": "NMAD 1.48",
    "mean_bias": "bias",
    "eta_3sigma": "eta_3s%",
    "eta_015": "eta_.15%",
    "median_sigma": "width",
    "z_score_median": "med. Z",
    "z_score_std": "std Z",
}
_SIGNED = {"mean_bias", "z_score_median"}
# left out of a terminal of 80 columns; `--json` has everything
_ONLY_WIDE = {"nmad_usual", "z_score_median", "z_score_std"}
FULL = 100  # terminal columns from which every metric fits
WIDE = 150  # and from which the bootstrap errors fit beside the values


def stored_tables(folder: UPath) -> dict[str, UPath]:
    """The tables in a folder of the store by their partition, in order."""
    names = sorted(name for name in names_in(folder) if name.endswith(".parquet") and name[0] != ".")
    return {name.removesuffix(".parquet"): folder / name for name in names}


def metric_rich_table(table: pl.DataFrame, title: str, width: int) -> Table:
    """A metric table for a terminal of `width` columns: values, in a wide one bootstrap errors, a dash where empty."""
    with_errors = width >= WIDE
    shown = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1))
    shown.add_column("selection", no_wrap=True)
    shown.add_column("N", justify="right")
    hidden = _ONLY_WIDE if width < FULL else ()
    columns = [name for name in _HEADINGS if name in table.columns and name not in hidden]
    for name in columns:
        shown.add_column(_HEADINGS[name], justify="right")
    for row in table.iter_rows(named=True):
        cells = [
            _cell(METRICS[name], row[name], row.get(f"{name}_err") if with_errors else None)
            for name in columns
        ]
        shown.add_row(row["selection"], f"{row['n']:,}", *cells)
    return shown


def _cell(metric: Metric, value: float | None, error: float | None) -> str:
    if value is None:
        return "-"
    factor, fmt = 100.0 if metric.fraction else 1.0, f".{metric.decimals}f"
    text = format(value * factor, f"+{fmt}" if metric.name in _SIGNED else fmt)
    return text if error is None else f"{text} ± {format(error * factor, fmt)}"


def target_line(target: Mapping[str, Any]) -> str:
    """A target in words, with rich's markup: what was wanted, what came out."""
    verdict = {True: "[green]met   [/]", False: "[red]missed[/]", None: "open  "}[target["meets"]]
    value = "-" if target["value"] is None else f"{target['value']:.3g}"
    sign = "<=" if target["bound"] == "max" else ">="
    wanted = "-" if target["target"] is None else f"{target['target']:.3g}"
    return f"  {verdict} {target['name']}: {value} (wanted {sign} {wanted})"


def print_held(held: Sequence[HeldPart]) -> None:
    """One line for each delivery and cell that the quality gate holds, and what to do about them."""
    for part in held:
        print_text(f"held: {part.line}", style="yellow")
    if held:
        print_text(
            "What is held waits for a new delivery, or for a changed rule and `paeplatform backfill --only-failed`; "
            "`paeplatform quality` writes all of it on one page.",
        )


def held_json(held: Sequence[HeldPart]) -> list[dict[str, Any]]:
    """The same for scripts: target, and its faults in one sentence each."""
    return [{"target": part.label, "faults": list(part.faults)} for part in held]
