"""The validation report: one self-contained HTML page and the metric tables as CSV, JSON and Markdown.

The page fetches nothing: styles are inline, figures are data URIs, p(z) curves are SVG. Every text that comes
from outside is escaped. All files are written under a temporary name and renamed, the page last.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from paeplatform.config import Preset
from paeplatform.errors import InputError
from paeplatform.figures.captions import CAPTIONS
from paeplatform.figures.style import figure_png
from paeplatform.files import write_whole
from paeplatform.paper.table_files import markdown_row
from paeplatform.report import html
from paeplatform.report.css import CSS
from paeplatform.report.html import cell
from paeplatform.report.inference import path_section, stress_section
from paeplatform.report.sources import source_table
from paeplatform.report.tables import ReportSection
from paeplatform.scores.calibration import posterior_summary
from paeplatform.scores.metrics import METRICS, NO_NUMBER, RELEASE_METRICS, require_columns

STRESS_FIGURE = "missing_bands"
_STRESS_LINK = "<a href='#stress'>missing bands</a>"


@dataclass(frozen=True)
class Report:
    """What is reported.

    Attributes:
        preset: the run's configuration; its name, seed and digest are shown.
        metrics: tables of `metric_table` by the name of their sample.
        posteriors: rows of `summarise` joined with `z_true` (and `snr`, when there is one).
        figures: figures or PNG bytes by name, in the order shown; the names in `captions.CAPTIONS` get a
            title and a caption, another name stands for itself.
        provenance: what made this, for instance model versions, prior, release, commit, seeds; values are
            shown as text.
        targets: lines {name, value, target, meets} as `targets.judge` makes them, optionally with unit and
            bound; `meets` may be None for not measured.
        stress: summary of the stress test of missing bands (`missing_bands.stress_summary`); its figure is the one
            named "missing_bands".
        sections: further ones, shown between how posteriors were made and the figures, in this order.
        title: heading of the page.
    """

    preset: Preset
    metrics: Mapping[str, pl.DataFrame]
    posteriors: pl.DataFrame
    figures: Mapping[str, Figure | bytes]
    provenance: Mapping[str, Any]
    targets: Sequence[Mapping[str, Any]] = ()
    stress: pl.DataFrame | None = None
    sections: Sequence[ReportSection] = ()
    title: str = "Validation report"

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The provenance behind the preset's own facts."""
        preset = self.preset
        return {
            "preset": preset.name,
            "preset digest": preset.digest(),
            "seed": preset.seed,
            **self.provenance,
        }

    @cached_property
    def summary(self) -> dict[str, Any]:
        """`posterior_summary` of the posteriors."""
        return posterior_summary(self.posteriors, self.preset.pae.n_latent)


def write_report(folder: str | Path, report: Report) -> Path:
    """Writes `index.html`, `metrics.csv`, `metrics.json` and `metrics.md`.

    Args:
        folder: made when missing; earlier files of these names are replaced.
        report: what they say.

    Returns:
        The path of index.html.

    Raises:
        InputError: a metric table lacks a column, a target lacks a key, a figure is not PNG, or the
            posteriors lack a column; before anything is written.
    """
    _check(report)
    page = _page(report)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    long = [table.select(pl.lit(name).alias("sample"), pl.all()) for name, table in report.metrics.items()]
    write_whole(folder / "metrics.csv", pl.concat(long).write_csv() if long else "")
    write_whole(folder / "metrics.json", _json(report))
    write_whole(folder / "metrics.md", metrics_markdown(report.metrics, report.targets))
    return write_whole(folder / "index.html", page)


def metrics_markdown(tables: Mapping[str, pl.DataFrame], targets: Sequence[Mapping[str, Any]] = ()) -> str:
    """The metric tables and the targets as Markdown; an empty selection shows dashes."""
    lines = []
    for name, table in tables.items():
        heads = ["selection", "N", *(METRICS[key].title for key in RELEASE_METRICS)]
        lines += [f"## {name}", "", "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
        for row in table.iter_rows(named=True):
            numbers = (" ± ".join(_with_error(row, key)) for key in RELEASE_METRICS)
            lines.append(markdown_row((row["selection"], f"{row['n']:,}", *numbers)))
        lines.append("")
    if targets:
        lines += ["## targets", "", "| target | value | wanted | |", "|---|---|---|---|"]
        for line in targets:
            value = _number(line["value"], line)
            lines.append(markdown_row((str(line["name"]), value, _wanted(line), _verdict(line["meets"])[1])))
    return "\n".join(lines).rstrip() + "\n"


def _check(report: Report) -> None:
    needed = ["selection", "cut", "n", *(key for m in RELEASE_METRICS for key in (m, f"{m}_err"))]
    for name, table in report.metrics.items():
        require_columns(table, needed, f"metric table {name!r} lacks")
    for position, line in enumerate(report.targets):
        missing = [key for key in ("name", "value", "target", "meets") if key not in line]
        if missing:
            raise InputError(f"target {position} ({line.get('name', 'unnamed')}) lacks {missing}")


def _png(name: str, figure: Figure | bytes) -> bytes:
    data = figure_png(figure) if isinstance(figure, Figure) else bytes(figure)
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        raise InputError(f"figure {name!r} is neither a matplotlib Figure nor PNG bytes")
    return data


def _json(report: Report) -> str:
    content = {
        "tables": {name: table.to_dicts() for name, table in report.metrics.items()},
        "posteriors": report.summary,
        "targets": report.targets,
        "provenance": report.facts,
    }
    return json.dumps(_jsonable(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _jsonable(value: Any) -> Any:
    """Plain JSON types; a number that is not finite becomes null, anything unknown its text."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def _with_error(row: Mapping[str, Any], key: str) -> list[str]:
    """[value] or [value, error] of a metric as text; a dash for null."""
    value, error = (METRICS[key].text(row[name]) for name in (key, f"{key}_err"))
    return [value] if NO_NUMBER in (value, error) else [value, error]


def _number(value: Any, line: Mapping[str, Any]) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    unit = str(line.get("unit") or "")
    text = f"{value:.4g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
    return f"{text} {unit}".strip()


def _wanted(line: Mapping[str, Any]) -> str:
    sign = {"max": "≤ ", "min": "≥ "}.get(str(line.get("bound")), "")
    return sign + _number(line["target"], line)


def _verdict(meets: bool | None) -> tuple[str, str]:
    """(CSS class, word): the word carries the meaning, the colour only repeats it."""
    return ("unknown", "not measured") if meets is None else ("met", "met") if meets else ("missed", "missed")


def _page(report: Report) -> str:
    figures = {name: _figure(name, figure) for name, figure in report.figures.items()}
    of_stress = "" if report.stress is None else figures.pop(STRESS_FIGURE, "")
    title, facts = escape(report.title), report.facts
    release = f" · {facts['release']}" if "release" in facts else ""
    sections = [
        f"<h1>{title}</h1><p class='soft'>preset {escape(str(facts['preset']))}{escape(release)}</p>",
        "<nav><a href='#targets'>targets</a><a href='#metrics'>metrics</a><a href='#paths'>posteriors</a>"
        f"{_STRESS_LINK if report.stress is not None else ''}"
        + "".join(f"<a href='#{escape(one.anchor)}'>{escape(one.title)}</a>" for one in report.sections)
        + "<a href='#figures'>figures</a>"
        "<a href='#sources'>sources</a><a href='#provenance'>provenance</a></nav>",
        _tiles(report),
        _target_section(report.targets),
        _metric_section(report.metrics),
        path_section(report.posteriors, report.preset.trust),
        stress_section(report.stress, of_stress),
        *(one.html for one in report.sections),
        f"<h2 id='figures'>Figures</h2>{''.join(figures.values())}",
        source_table(report.posteriors),
        _provenance(facts),
    ]
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<meta name='color-scheme' content='light "
        f"dark'><title>{title}</title><style>{CSS}</style></head>\n"
        "<body>\n" + "\n".join(sections) + "\n</body></html>\n"
    )


def _tiles(report: Report) -> str:
    summary = report.summary
    shown: list[tuple[str, str]] = [("sources with posteriors", f"{summary['n_sources']:,}")]
    if summary["f_trusted"] is not None:
        shown.append(("of them trusted", f"{summary['f_trusted']:.1%}"))
    for sample, table in report.metrics.items():
        whole = table.filter(pl.col("cut").is_null()).to_dicts()
        if whole and whole[0]["n"]:
            row = whole[0]
            shown += [
                (f"NMAD (paper), {sample}", f"{row['nmad_paper']:.4f}"),
                (f"η₃σ, {sample}", f"{row['eta_3sigma']:.1%}"),
            ]
    named = {
        "chi2_reduced_median": ("median reduced χ²", ".2f"),
        "ess_median": ("median effective samples", ",.0f"),
        "acl_median": ("median autocorrelation [steps]", ".1f"),
        "n_misfit": ("misfits", ",d"),
        "n_failed": ("failed sources", ",d"),
    }
    shown += [
        (label, format(summary[key], fmt)) for key, (label, fmt) in named.items() if summary[key] is not None
    ]
    return html.tiles(shown)


def _target_section(targets: Sequence[Mapping[str, Any]]) -> str:
    if not targets:
        return "<h2 id='targets'>Targets</h2><p class='soft'>No targets were given for this run.</p>"
    rows = []
    for line in targets:
        style, word = _verdict(line["meets"])
        cells = (
            cell(str(line["name"]), "text wrap"),
            cell(_number(line["value"], line)),
            cell(_wanted(line)),
        )
        rows.append(html.row((*cells, f"<td class='text'><span class='light {style}'>{word}</span></td>")))
    styles = {"target": "text", "value": "", "wanted": "", "verdict": "text"}
    heads = (cell(name, style, "th") for name, style in styles.items())
    return f"<h2 id='targets'>Targets</h2>{html.table(heads, rows)}"


def _metric_section(tables: Mapping[str, pl.DataFrame]) -> str:
    metrics = [METRICS[name] for name in RELEASE_METRICS]
    heads = [cell("selection", "text", "th"), cell("N", tag="th")]
    heads += [f"<th title='{escape(m.definition)}'>{escape(m.title)}</th>" for m in metrics]
    parts = ["<h2 id='metrics'>Redshift metrics</h2>"]
    for name, table in tables.items():
        rows = []
        for row in table.iter_rows(named=True):
            cells = [cell(row["selection"], "text"), cell(f"{row['n']:,}")]
            for key in RELEASE_METRICS:
                value, *error = _with_error(row, key)
                cells.append(
                    f"<td>{value}" + (f"<br><span class='err'>± {error[0]}</span>" if error else "") + "</td>"
                )
            rows.append(html.row(cells))
        parts.append(f"<h3>{escape(name)}</h3>{html.table(heads, rows)}")
    meaning = "; ".join(f"{metric.title}: {metric.definition}" for metric in metrics)
    parts.append(
        f"<p class='soft'>{escape(meaning)}. ẑ is the estimate, z the truth, σ the quoted standard "
        "deviation. Errors are "
        "bootstrap standard errors; a dash marks an empty selection. The tables are also in "
        "<a href='metrics.csv'>metrics.csv</a>, <a href='metrics.json'>metrics.json</a> and "
        "<a href='metrics.md'>metrics.md</a>.</p>"
    )
    return "".join(parts)


def _figure(name: str, figure: Figure | bytes) -> str:
    heading, caption = CAPTIONS.get(name, (name.replace("_", " "), ""))
    data = base64.b64encode(_png(name, figure)).decode("ascii")
    return (
        f"<figure><img alt='{escape(heading)}' src='data:image/png;base64,{data}'>"
        f"<figcaption><b>{escape(heading)}.</b> {escape(caption)}</figcaption></figure>"
    )


def _provenance(facts: Mapping[str, Any]) -> str:
    items = "".join(
        f"<dt>{escape(str(key))}</dt><dd>{escape(_fact(value))}</dd>" for key, value in facts.items()
    )
    return f"<h2 id='provenance'>Provenance</h2><dl>{items}</dl>"


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {item}" for key, item in value.items())
    return ", ".join(str(item) for item in value) if isinstance(value, list | tuple) else str(value)
