"""The report's sections on how posteriors were made, and on the stress test of missing bands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import polars as pl

from paeplatform.config import DEFAULT_TRUST, TrustConfig
from paeplatform.errors import InputError
from paeplatform.inference.results.status import POSTERIOR_STATUSES
from paeplatform.scores.calibration import path_counts
from paeplatform.scores.metrics import METRICS, STRESS_METRICS

# Path -> what it is, as `paeplatform.inference.results.summaries` describes them.
PATHS = {
    "proposal": "importance sampling from the amortised proposal",
    "adapted": "importance sampling with rounds of adaptation",
    "mclmc": "Markov chains (MCLMC)",
    "pocomc": "preconditioned Monte Carlo (pocoMC)",
    "none": "no posterior",
}


def path_section(posteriors: pl.DataFrame, trust: TrustConfig = DEFAULT_TRUST) -> str:
    """A table of sources by the method that made their posterior.

    Args:
        posteriors: rows of `summarise`.
        trust: the limits that their statuses were made with.
    """
    rows = [
        [
            PATHS.get(row["path"], row["path"]),
            f"{row['n']:,}",
            *(f"{row[status]:,}" for status in POSTERIOR_STATUSES),
            _text(row["khat"], 2),
            _text(row["ess"], 0),
            _text(row["rhat"], 3),
        ]
        for row in path_counts(posteriors).iter_rows(named=True)
    ]
    heads = ["made by", "N", *POSTERIOR_STATUSES, "median k̂", "median ESS", "median R̂"]
    return (
        "<h2 id='paths'>How the posteriors were made</h2>"
        + _table(heads, rows)
        + f"<p class='soft'>Converged: k̂ &lt; {trust.khat_max:g} and at least {trust.ess_min:g} effective draws for "
        f"importance sampling, R̂ &lt; {trust.rhat_max:g} for chains. Misfit: even the best draw misses the data "
        f"(reduced χ² above {trust.reduced_chi2_max:g}, and not by chance), so that the redshift means nothing. "
        "Every source takes the cheapest path that can be trusted.</p>"
    )


def stress_section(summary: pl.DataFrame | None, figure: str) -> str:
    """The stress test of missing bands; nothing when there was none.

    Args:
        summary: of `missing_bands.stress_summary`.
        figure: HTML of its figure.

    Raises:
        InputError: a column is missing.
    """
    if summary is None:
        return ""
    missing = [
        name
        for name in ("fraction", "n_failed", "n", "n_bands", *STRESS_METRICS)
        if name not in summary.columns
    ]
    if missing:
        raise InputError(f"stress test summary lacks columns {missing}")
    metrics = [METRICS[name] for name in STRESS_METRICS]
    rows = [
        [
            f"{row['fraction']:.0%}",
            *(_text(row[name], 0) for name in ("n", "n_bands")),
            *(_text(row[metric.name], metric.decimals, metric.fraction) for metric in metrics),
        ]
        for row in summary.iter_rows(named=True)
    ]
    heads = ["bands missing", "N", "bands left", *(metric.title for metric in metrics)]
    return "<h2 id='stress'>Stress test: missing bands</h2>" + _table(heads, rows) + figure


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        first, *others = (escape(cell) for cell in cells)
        return (
            f"<tr><{tag} class='text'>{first}</{tag}>"
            + "".join(f"<{tag}>{cell}</{tag}>" for cell in others)
            + "</tr>"
        )

    body = "".join(line(row, "td") for row in rows)
    return f"<div class='scroll'><table>{line(heads, 'th')}{body}</table></div>"


def _text(value: Any, decimals: int, percent: bool = False) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value * (100.0 if percent else 1.0):,.{decimals}f}"
