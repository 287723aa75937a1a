"""What the modules of validation's tables share: the bootstrap's settings and how a row and a table are laid out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from paeplatform.paper.sample_scores import label_of, methods_in, of_methods
from paeplatform.scores.statistics import selection_statistics


@dataclass(frozen=True)
class Resampling:
    """Of the bootstrap.

    Attributes:
        n: resamples.
        seed: of them.
    """

    n: int = 200
    seed: int = 0


def statistics_of(
    rows: pl.LazyFrame, selections: Mapping[str, pl.Expr], names: Sequence[str], resampling: Resampling
) -> list[dict[str, Any]]:
    """n and the statistics with errors, for each selection."""
    found = selection_statistics(rows, selections, names, n_bootstrap=resampling.n, seed=resampling.seed)
    columns = ["n", *(key for name in names for key in (name, f"{name}_err"))]
    return found.select(columns).to_dicts()


def statistics_row(
    scores: pl.LazyFrame, method: str, chosen: pl.Expr, names: Sequence[str], resampling: Resampling
) -> dict[str, float | int | None]:
    """One selection of one method: n, n_total (of the method), share, and the statistics."""
    rows = of_methods(scores, method)
    found = statistics_of(rows, {method: chosen}, names, resampling)[0]
    total = rows.select(pl.len()).collect().item()
    share = found["n"] / total if total else None
    return {"n": found.pop("n"), "n_total": total, "share": share} | found


def named(method: str) -> dict[str, str]:
    """A method's key, and itself in words."""
    return {"method": method, "label": label_of(method)}


def present(scores: pl.LazyFrame, *methods: str) -> list[str]:
    """Those of some methods that a score table holds, in the order given."""
    known = methods_in(scores)
    return [method for method in methods if method in known]


def small_table(rows: Sequence[dict]) -> pl.DataFrame:
    """Numbers as float64 even where all are null, counts as int64; without rows a column n and no row."""
    if not rows:
        return pl.DataFrame(schema={"n": pl.Int64})
    kinds = {"method", "label", "bin", "sources", "selection", "property", "value"}
    counts = {"n", "n_total", "n_outliers", "n_latent", "paper_n"}
    schema: dict[str, pl.DataType] = {
        key: pl.String()
        if key in kinds
        else pl.Int64()
        if key in counts
        else pl.Boolean()
        if key == "nf_prior"
        else pl.Float64()
        for key in rows[0]
    }
    return pl.DataFrame([tuple(row.values()) for row in rows], schema=schema, orient="row")
