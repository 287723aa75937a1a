"""The gate: Great Expectations judges the statistics of a cell against the rules.

A statistic is turned into a score that is 0 in the middle of its accepted range and 1 at its ends, so that one suite
with one expectation a rule serves all cells, whatever their size. What people read are the numbers themselves.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from paeplatform.release.calibration import WHY_TOGETHER, collections_beside, releases_of
from paeplatform.release.landing import landing_of, regular_file
from paeplatform.release.manifest import Manifest
from paeplatform.release.outcomes import RuleOutcome
from paeplatform.release.quality_rules import Rule, Rules, load_rules
from paeplatform.release.reading import read_batches
from paeplatform.release.schema import COLLECTIONS, PIPELINE_VERSIONS
from paeplatform.release.splitting import SplitResult
from paeplatform.release.statistics import share_and_error

SCORE_LIMIT = 1.0
_SEVERITY = {"error": "critical", "warn": "warning"}


def judge_cell(
    statistics: pl.DataFrame, rules: Rules, baseline: pl.DataFrame | None, *, same_sources: bool = False
) -> list[RuleOutcome]:
    """Every cell rule on the statistics of a cell.

    Args:
        statistics: of `cell_statistics`.
        rules: ranges and severities.
        baseline: the statistics of the release before; None where there is none.
        same_sources: the baseline is of the same cell; else the scatter between cells is allowed for.

    Returns:
        An outcome for each rule and group, in the order of the rules.
    """
    scored = _scored(statistics, rules, baseline, same_sources)
    frame = _frame(scored, rules)
    results = {} if frame is None else _validated(frame, rules)
    outcomes = []
    for rule in rules.of_level("cell"):
        here = scored.filter(pl.col("rule") == rule.name)
        if here.is_empty():
            outcomes.append(rule.outcome(True, "", "nothing", "", "no rows to judge"))
            continue
        fine = results.get(rule.name, set())
        for place, row in enumerate(here.iter_rows(named=True)):
            outcomes.append(_outcome(rule, row, place not in fine))
    return outcomes


def judge_release(folder: Path, manifest: Manifest, rules: Rules | None = None) -> list[RuleOutcome]:
    """The rules on the label of a delivery: known, of its pipeline, not mixed with rows of another calibration.

    Args:
        folder: of the delivery; files that cannot be read are left to `verify_files`.
        manifest: its claims.
        rules: None takes the packaged ones.
    """
    rules = rules or load_rules()
    release = COLLECTIONS.get(manifest.data_collection)
    known = rules.named("label.known").outcome(
        release is not None, "data_collection", manifest.data_collection, ", ".join(COLLECTIONS)
    )
    low, high = PIPELINE_VERSIONS.get(release or "", (np.nan, np.nan))
    version = rules.named("label.pipeline_version").outcome(
        bool(low <= _version(manifest.pipeline_version) < high),
        "pipeline_version",
        manifest.pipeline_version,
        f"{low:g} <= version < {high:g}" if release else "that of a known collection",
    )
    return [known, version, _mixing(folder, manifest, rules.named("label.no_mixing"))]


def judge_contents(
    manifest: Manifest, split: SplitResult | None, rules: Rules | None = None
) -> list[RuleOutcome]:
    """The rules on what the files of a delivery hold: rows, positions, and as many sources as the manifest counts.

    Args:
        manifest: of the delivery.
        split: of the same delivery; None where its files are at fault already, so that nothing was counted.
        rules: None takes the packaged ones.
    """
    rules = rules or load_rules()
    columns = {"manifest.source_count": "n_sources", "rows.present": "rows", "positions.usable": "ra, dec"}
    if split is None:
        return [
            rules.named(name).outcome(True, column, "nothing", "", "files are at fault")
            for name, column in columns.items()
        ]
    placed, lost = int(split.cells["n_rows"].sum()), split.unplaced.height
    judged = (
        _sources(manifest, int(split.cells["n_sources"].sum()), lost),
        _present(placed + lost, rules.named("rows.present")),
        _usable(split.unplaced, placed + lost, rules.named("positions.usable")),
    )
    return [
        rules.named(name).outcome(passed, column, *said)
        for (name, column), (passed, *said) in zip(columns.items(), judged, strict=True)
    ]


def suite_of(rules: Rules) -> Any:
    """The Great Expectations suite of the cell rules."""
    import great_expectations as gx

    return gx.ExpectationSuite(
        name="cell_quality",
        expectations=[
            gx.expectations.ExpectColumnValuesToBeBetween(
                column=rule.name,
                min_value=-SCORE_LIMIT,
                max_value=SCORE_LIMIT,
                severity=_SEVERITY[rule.severity],  # type: ignore[arg-type]
                meta={"rule": rule.name, "what": rule.what, "why": rule.why},
            )
            for rule in rules.of_level("cell")
        ],
    )


def _scored(
    statistics: pl.DataFrame, rules: Rules, baseline: pl.DataFrame | None, same_sources: bool
) -> pl.DataFrame:
    """The statistics with their accepted range (low, high), what they are compared with, and their score."""
    known = {}
    if baseline is not None:
        before = baseline.select("rule", "group", "value", "error")
        known = {(rule, group): (value, error) for rule, group, value, error in before.iter_rows()}
    rows = []
    for row in statistics.iter_rows(named=True):
        rule = rules.named(row["rule"])
        before = known.get((rule.name, row["group"])) if rule.drift is not None else None
        low, high = _range(rule, row, before, same_sources)
        judged = row["n"] > 0 and (low > -np.inf or high < np.inf)
        score = _score(row["value"], low, high) if judged else 0.0
        earlier = None if before is None else before[0]
        rows.append({**row, "low": low, "high": high, "before": earlier, "score": score})
    added = dict.fromkeys(("low", "high", "before", "score"), pl.Float64)
    return pl.DataFrame(rows, schema={**statistics.schema, **added})


def _range(
    rule: Rule, row: dict[str, Any], before: tuple[float, float] | None, same_sources: bool
) -> tuple[float, float]:
    low, high = (-np.inf if rule.low is None else rule.low), (np.inf if rule.high is None else rule.high)
    slack = rule.sigmas * row["error"]
    if before is not None:
        spread = 0.0 if same_sources or rule.name != "colours.locus" else 1.5 / np.sqrt(max(row["n"], 1))
        slack = rule.sigmas * float(np.hypot(row["error"], before[1])) + spread
        return before[0] - (rule.drift or 0.0) - slack, before[0] + (rule.drift or 0.0) + slack
    return low - slack, high + slack


def _score(value: float, low: float, high: float) -> float:
    """0 in the middle, 1 at an end; for an open range 1 at its one end, less inside."""
    if not np.isfinite(value):
        return 1e6
    if np.isfinite(low) and np.isfinite(high):
        half = max(0.5 * (high - low), 1e-12)
        return float(np.clip((value - 0.5 * (low + high)) / half, -1e6, 1e6))
    beyond = value - high if np.isfinite(high) else low - value
    scale = max(abs(high if np.isfinite(high) else low), 1e-3)
    return float(np.clip(1.0 + beyond / scale, -1.0, 1e6))


def _frame(scored: pl.DataFrame, rules: Rules) -> Any:
    """A pandas frame with a column a rule; null where a rule has fewer groups than another."""
    if scored.is_empty():
        return None
    columns = {
        rule.name: scored.filter(pl.col("rule") == rule.name)["score"].to_list()
        for rule in rules.of_level("cell")
    }
    longest = max(map(len, columns.values()))
    import pandas as pd

    return pd.DataFrame(
        {
            name: pd.Series(values + [np.nan] * (longest - len(values)), dtype=float)
            for name, values in columns.items()
        }
    )


def _validated(frame: Any, rules: Rules) -> dict[str, set[int]]:
    """The places of the scores beyond the limit, by rule, as Great Expectations found them."""
    batch_definition, suite = _context(rules)
    batch = batch_definition.get_batch({"dataframe": frame})
    result = batch.validate(suite, result_format={"result_format": "COMPLETE"})
    found: dict[str, set[int]] = {}
    for one in result.results:
        name = one.expectation_config.kwargs["column"]
        if one.exception_info.get("raised_exception") if "raised_exception" in one.exception_info else False:
            raise RuntimeError(f"quality rule {name}: {one.exception_info}")
        found[name] = set() if one.success else set(one.result["unexpected_index_list"])
    return found


@lru_cache(maxsize=4)
def _context(rules: Rules) -> tuple[Any, Any]:
    """(batch definition, suite) of an ephemeral context; made once a process, as it takes seconds."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    source = context.data_sources.add_pandas("cells")
    asset = source.add_dataframe_asset("statistics")
    return asset.add_batch_definition_whole_dataframe("cell"), context.suites.add(suite_of(rules))


def _outcome(rule: Rule, row: dict[str, Any], passed: bool) -> RuleOutcome:
    detail = row["group"] if row["group"] != "all" else ""
    column, value = row["column"], f"{row['value']:.3g}"
    if row["n"] == 0:
        return rule.outcome(True, column, "nothing", "", f"{detail}: too little data")
    if rule.drift is not None and row["before"] is None and rule.low is None and rule.high is None:
        return rule.outcome(True, column, value, "", f"{detail}: no earlier release")
    if row["before"] is not None:
        detail = f"{detail}, before: {row['before']:.3g}".removeprefix(", ")
    return rule.outcome(passed, column, value, _text(row["low"], row["high"]), detail)


def _text(low: float, high: float) -> str:
    if np.isfinite(low) and np.isfinite(high):
        return f"{low:.3g} to {high:.3g}"
    return f"at most {high:.3g}" if np.isfinite(high) else f"at least {low:.3g}"


def _version(text: str) -> float:
    """6.5.6 is 6.5; NaN for what is no version."""
    try:
        return float(".".join(text.split(".")[:2]))
    except ValueError:
        return float("nan")


def _sources(manifest: Manifest, found: int, lost: int) -> tuple[bool, str, str, str]:
    """A source is known by its position: each row without one may, at most, be of a source that nothing else shows."""
    expected = str(found) if lost == 0 else f"{found} to {found + lost}"
    detail = f"{found} sources in the files" + (f", and {lost} rows without a position" if lost else "")
    passed = found <= manifest.n_sources <= found + lost
    return passed, str(manifest.n_sources), expected, detail


def _present(n_rows: int, rule: Rule) -> tuple[bool, str, str, str]:
    least = 1.0 if rule.low is None else rule.low
    detail = "" if n_rows else "a delivery without exposures"
    return n_rows >= least, str(n_rows), _text(least, np.inf), detail


def _usable(unplaced: pl.DataFrame, n_rows: int, rule: Rule) -> tuple[bool, str, str, str]:
    share, error = share_and_error(unplaced.height, n_rows)
    # In a delivery of a few rows the error is so large that all of them could be lost: one position has to be there.
    most = min((rule.high or 0.0) + rule.sigmas * error, 1.0 - 1.0 / max(n_rows, 1))
    detail = f"{unplaced.height} of {n_rows} rows have no usable position"
    ra, dec = pl.col("ra"), pl.col("dec")
    swapped = ra.is_between(-90.0, 90.0) & dec.is_between(-360.0, 360.0)
    turned = unplaced.filter(swapped).height
    if turned:
        detail += f"; {turned} of them would, were ra and dec swapped"
    return share <= most, f"{share:.3g}", _text(-np.inf, most), detail


def _mixing(folder: Path, manifest: Manifest, rule: Rule) -> RuleOutcome:
    """Rows of another calibration break the rule; rows of another release on the same one are noted."""
    counts: dict[str | None, int] = {}
    for name, rows in _collections(folder, manifest):
        counts[name] = counts.get(name, 0) + rows
    beside = collections_beside(manifest.data_collection)
    other = sum(n for name, n in counts.items() if name not in beside)
    share = other / max(sum(counts.values()), 1)
    listed = ", ".join(f"{name}: {n}" for name, n in sorted(counts.items(), key=str))
    releases = releases_of([name for name in counts if name in beside])
    note = f"rows of {' and '.join(releases)} together: {WHY_TOGETHER}" if len(releases) > 1 else ""
    accepted = " or ".join(releases_of(list(beside))) or manifest.data_collection
    observed, expected = (
        f"{share:.3g} of the rows are of another calibration ({listed})",
        f"all of {accepted}",
    )
    return rule.outcome(share <= (rule.high or 0.0), "data_collection", observed, expected, note)


def _collections(folder: Path, manifest: Manifest) -> Sequence[tuple[str | None, int]]:
    found: list[tuple[str | None, int]] = []
    for file in manifest.files:
        try:
            if file.format == "parquet":
                path = regular_file(Path(folder) / file.name, landing_of(folder))
                lazy = pl.scan_parquet(path, glob=False).select(pl.col("data_collection").cast(pl.String))
                counts = lazy.group_by("data_collection").len().collect(engine="streaming")
                found += list(counts.iter_rows())
            else:
                for table in read_batches(folder, file):
                    found += list(table["data_collection"].cast(pl.String).value_counts().iter_rows())
        except Exception:  # said by file.readable or schema.columns
            continue
    return found
