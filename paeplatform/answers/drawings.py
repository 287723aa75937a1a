"""What the page of answers draws of each source, as plain JSON for its script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from paeplatform.answers.facts import SourceFacts
from paeplatform.answers.sentences import peaks, sentences
from paeplatform.config import TrustConfig
from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.inference.results.solutions import Solution, pz_curve
from paeplatform.inference.results.status import NOT_USABLE
from paeplatform.inference.screening import screen_measurements
from paeplatform.instrument.measurements import Measurements, channel_of, merged
from paeplatform.outputs.words import WITH_REDSHIFT, printable

if TYPE_CHECKING:
    from paeplatform.instrument.bands import BandSet
    from paeplatform.outputs.seen import Seen

# Numbers of all drawings together, some 60 bytes each: what browsers load at once without being noticed.
MEASUREMENTS_DRAWN = 200_000
# Of a source of which the model says nothing; more are merged, as for the fit.
_MEASUREMENTS_OF_ONE = 1280
_METHODS = ("tf", "sbi")  # beside the PAE, by the prefix of their columns


@dataclass(frozen=True)
class Drawings:
    """What the script reads.

    Attributes:
        data: plain JSON: quantile levels, and the sources in the order of the table.
        n_source: how many sources have a drawing.
    """

    data: dict[str, Any]
    n_source: int


def drawings(
    table: pl.DataFrame,
    seen: Sequence[Seen | None],
    facts: Sequence[SourceFacts],
    measurements: Measurements,
    bands: BandSet,
    trust: TrustConfig,
    most: int,
) -> Drawings:
    """The drawings of the first sources: at most `most`, and as many as `MEASUREMENTS_DRAWN` allows.

    Args:
        table: a row a source.
        seen: what the model predicts, as far as it goes.
        facts: of each source.
        measurements: of all sources.
        bands: the channels.
        trust: limits that the rows were judged by.
        most: sources.
    """
    sources, budget = [], MEASUREMENTS_DRAWN
    for number, row in enumerate(table.head(most).iter_rows(named=True)):
        predicted = seen[number] if number < len(seen) else None
        sed = (
            _measured(measurements.rows(np.array([number])), bands)
            if predicted is None
            else _predicted(predicted, bands)
        )
        budget -= len(sed["w"])
        if budget < 0:
            break
        sources.append(
            {
                "name": printable(facts[number].name),
                "bad": row["pae_status"] not in WITH_REDSHIFT,
                "says": sentences(row, facts[number], trust),
                "unusable": [name for name in _METHODS if row.get(f"{name}_status") in NOT_USABLE],
                **sed,
                **_redshift(row),
            }
        )
    return Drawings({"levels": _numbers(QUANTILE_LEVELS, 4), "sources": sources}, len(sources))


def _predicted(seen: Seen, bands: BandSet) -> dict[str, Any]:
    """Measurements with the model's intervals, in order of wavelength."""
    there = np.isfinite(seen.measured.flux_err[0])
    parts = {
        "w": seen.measured.wave_um[0],
        "width": seen.measured.width_um[0],
        "f": seen.measured.flux[0],
        "e": seen.measured.flux_err[0],
        "m": seen.predictive.flux[0],
        "l1": seen.predictive.flux_low[0, 0],
        "h1": seen.predictive.flux_high[0, 0],
        "l2": seen.predictive.flux_low[0, 1],
        "h2": seen.predictive.flux_high[0, 1],
        "r": seen.pull,
    }
    order = np.argsort(seen.measured.wave_um[0][there], kind="stable")
    return _series({name: values[there][order] for name, values in parts.items()}, bands)


def _measured(measurements: Measurements, bands: BandSet) -> dict[str, Any]:
    """Measurements of a source without a posterior; those that no drawing can show are left out."""
    sound = merged(screen_measurements(measurements).measurements, _MEASUREMENTS_OF_ONE)
    order = np.argsort(sound.wave_um, kind="stable")
    parts = {"w": sound.wave_um, "width": sound.width_um, "f": sound.flux, "e": sound.flux_err}
    return _series({name: values[order] for name, values in parts.items()}, bands)


def _series(parts: dict[str, np.ndarray], bands: BandSet) -> dict[str, Any]:
    n = len(parts["w"])
    own = Measurements(parts["f"], parts["e"], parts["w"], parts.pop("width"), np.array([0, n]))
    detector = bands.detector[channel_of(own, bands)] if n else np.zeros(0, int)
    digits = {"w": 5, "r": 3}
    return {"d": detector.tolist()} | {
        name: _numbers(values, digits.get(name, 4)) for name, values in parts.items()
    }


def _redshift(row: Mapping[str, Any]) -> dict[str, Any]:
    """The curve of the PAE's p(z), its peaks, and the quantiles of the other methods."""
    others = {
        prefix: _numbers(row[f"{prefix}_z_quantiles"], 5)
        for prefix in _METHODS
        if row.get(f"{prefix}_z_quantiles") is not None
    }
    draws = row.get("pae_z_draws")
    if draws is None:
        return {"z": [], "p": [], "peaks": [], "others": others}
    z, density = pz_curve(np.asarray(draws, dtype=np.float64))
    quoted = row["pae_status"] in WITH_REDSHIFT
    whole = Solution(row["pae_z_median"], row["pae_z_err68_low"], row["pae_z_err68_high"], 1.0)
    found = (peaks(row) or [whole]) if quoted else []
    low, high = np.quantile(draws, (0.002, 0.998))
    return {
        "z": _numbers(z, 6),
        "p": _numbers(density / density.max(), 3),
        "range": _numbers((low, high), 6),
        "peaks": [_numbers((one.low, one.high, one.weight), 6) for one in found],
        "others": others,
    }


def _numbers(values: Sequence[float] | np.ndarray, digits: int) -> list[float | None]:
    return [
        None if value is None or not math.isfinite(value) else float(f"{value:.{digits}g}")
        for value in values
    ]
