"""The report's sections on how posteriors were made, and on the stress test of missing bands."""

from __future__ import annotations

import polars as pl

from paeplatform.config import DEFAULT_TRUST, TrustConfig
from paeplatform.inference.results.status import POSTERIOR_STATUSES
from paeplatform.report.html import labelled_table, number
from paeplatform.scores.calibration import path_counts
from paeplatform.scores.metrics import METRICS, STRESS_METRICS, require_columns

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
            *(
                number(row[name], form)
                for name, form in (("khat", ",.2f"), ("ess", ",.0f"), ("rhat", ",.3f"))
            ),
        ]
        for row in path_counts(posteriors).iter_rows(named=True)
    ]
    heads = ["made by", "N", *POSTERIOR_STATUSES, "median k̂", "median ESS", "median R̂"]
    return (
        "<h2 id='paths'>How the posteriors were made</h2>"
        + labelled_table(heads, rows)
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
    require_columns(
        summary, ("fraction", "n_failed", "n", "n_bands", *STRESS_METRICS), "stress test summary lacks"
    )
    metrics = [METRICS[name] for name in STRESS_METRICS]
    rows = [
        [
            f"{row['fraction']:.0%}",
            *(number(row[name], ",.0f") for name in ("n", "n_bands")),
            *(metric.text(row[metric.name]) for metric in metrics),
        ]
        for row in summary.iter_rows(named=True)
    ]
    heads = ["bands missing", "N", "bands left", *(metric.title for metric in metrics)]
    return "<h2 id='stress'>Stress test: missing bands</h2>" + labelled_table(heads, rows) + figure
