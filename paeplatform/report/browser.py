"""The report's browser of single sources: SED with its posterior predictive and p(z) by method, in plain inline
JavaScript that draws SVG. Nothing is fetched; without JavaScript a line says what would be here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.paper.sample_scores import FIDUCIAL, of_methods
from paeplatform.report.scripts import javascript, json_element
from paeplatform.report.tables import ReportSection

SCRIPTS = (("paeplatform.report", "draw.js"), ("paeplatform.report", "browser.js"))
METHODS = (FIDUCIAL, "tf", "sbi")
_SHOWN = ("z_hat", "sigma_z", "z_score")


def browser_section(examples: pl.DataFrame, scores: pl.LazyFrame, wave: Sequence[float]) -> ReportSection:
    """The section.

    Args:
        examples: of `example_table`; rows with masked bands are left out.
        scores: the score table, for p(z) of each method.
        wave: band centres [um].
    """
    data = browser_data(examples, scores, wave)
    html = (
        "<h2 id='browser'>Sources, one by one</h2>"
        "<p class='soft'>Bright, good, outlying, flagged (σ of the PAE over twice that of template fitting) and "
        "uncertain sources of the validation sample. Left: photometry with the median, 68 % and 95 % of the posterior "
        "predictive. Right: p(z) by method with the truth. Choose a source, or use the arrow keys.</p>"
        "<noscript><p class='soft'>The browser needs JavaScript.</p></noscript>"
        "<div id='sources-browser'><p><select id='browser-why' aria-label='kind of source'></select> "
        "<select id='browser-source' aria-label='source'></select> "
        "<button id='browser-back' type='button'>‹ back</button> "
        "<button id='browser-next' type='button'>next ›</button>"
        "</p><div class='browser'><svg id='browser-sed' viewBox='0 0 640 320' role='img' aria-label='SED'></svg>"
        "<svg id='browser-pz' viewBox='0 0 400 320' role='img' aria-label='p(z)'></svg></div>"
        "<div id='browser-facts'></div></div>"
        f"{json_element('browser-data', data)}{javascript(*SCRIPTS)}"
    )
    return ReportSection("browser", "browser", html)


def browser_data(examples: pl.DataFrame, scores: pl.LazyFrame, wave: Sequence[float]) -> dict[str, Any]:
    """What the script draws, plain JSON: wavelengths, quantile levels, and the sources."""
    rows = examples.filter(pl.col("fraction") == 0.0)
    by_source: dict[int, dict[str, dict[str, Any]]] = {}
    known = (
        of_methods(scores, *METHODS).filter(pl.col("object_id").is_in(rows["object_id"].to_list())).collect()
    )
    for row in known.iter_rows(named=True):
        if row["usable"] > 0.5:
            entry = {name: _number(row[name]) for name in _SHOWN} | {"q": _numbers(row["quantiles"], 5)}
            by_source.setdefault(row["object_id"], {})[row["method"]] = entry
    sources = [
        {
            "id": str(row["object_id"]),  # beyond what a JavaScript number holds
            "why": row["why"],
            "z_true": _number(row["z_true"]),
            "mag_z": _number(row["mag_z"]),
            "snr": _number(row["snr"]),
            "type": row["galaxy_type"],
            "template": row["template"],
            "chi2": _number(row["chi2"]),
            "status": row["pae_status"],
            **{
                key: _numbers(row[name], 4)
                for key, name in (
                    ("f", "flux"),
                    ("e", "flux_err"),
                    ("m", "model"),
                    ("l1", "model_low_68"),
                    ("h1", "model_high_68"),
                    ("l2", "model_low_95"),
                    ("h2", "model_high_95"),
                )
            },
            "methods": by_source.get(row["object_id"], {}),
        }
        for row in rows.iter_rows(named=True)
    ]
    return {"wave": _numbers(wave, 5), "levels": _numbers(QUANTILE_LEVELS, 4), "sources": sources}


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def _numbers(values: Sequence[float] | np.ndarray, digits: int) -> list[float | None]:
    return [
        None if value is None or not math.isfinite(value) else float(f"{value:.{digits}g}")
        for value in values
    ]
