"""What is known of a source beside its posterior: where it came from, what was read, and what was done to its data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from paeplatform.errors import InputError
from paeplatform.instrument.measurements import Measurements
from paeplatform.instrument.noise import usable_bands

if TYPE_CHECKING:
    from paeplatform.intake.sources import UserSources
    from paeplatform.outputs.card import Galaxy


@dataclass(frozen=True)
class SourceFacts:
    """Of one source.

    Attributes:
        name: as the user calls it.
        ra, dec: [deg]; NaN where it has no position.
        n_read: rows of the user's files that are measurements of this source, those set aside included.
        snr: total signal-to-noise of the measurements, sqrt(sum (flux / error)^2).
        model: what the model is called.
        prior_id: of the p(z) in force.
        n_latent: latent variables of the model, which chi^2 loses degrees of freedom to.
        set_aside: how many of the rows were set aside, by reason.
        ebv_mw: E(B-V) that the data were corrected for; NaN or 0 for none.
        error_floor: [per cent of the flux] that was added to the errors in quadrature.
        confusion_ujy: [uJy] that was added to the errors in quadrature.
    """

    name: str
    ra: float
    dec: float
    n_read: int
    snr: float
    model: str
    prior_id: str
    n_latent: int
    set_aside: Mapping[str, int] = field(default_factory=dict)
    ebv_mw: float = 0.0
    error_floor: float = 0.0
    confusion_ujy: float = 0.0

    def degrees_of_freedom(self, n_measurements: int) -> int:
        """Of the best model: measurements less redshift, amplitude and latent variables; 1 at least."""
        return max(n_measurements - self.n_latent - 2, 1)


def facts_of(
    sources: UserSources,
    *,
    model: str,
    prior_id: str,
    n_latent: int,
    error_floor: float = 0.0,
    confusion_ujy: float = 0.0,
) -> list[SourceFacts]:
    """The facts of each source of a user's files, in their order.

    Args:
        sources: as they were read.
        model: see `SourceFacts`, as the others.
        prior_id: see there.
        n_latent: see there.
        error_floor: see there.
        confusion_ujy: see there.
    """
    measurements, aside = sources.measurements, sources.set_aside
    by_source: dict[int, dict[str, int]] = {}
    counts = aside.drop_nulls("source_row").group_by("source_row", "reason", maintain_order=True).len()
    for place, reason, n in counts.iter_rows():
        by_source.setdefault(place, {})[reason] = n
    snr, count = total_snr(measurements), measurements.count
    found = []
    for row, name in enumerate(sources.name):
        reasons = by_source.get(row, {})
        found.append(
            SourceFacts(
                name=name,
                ra=float(sources.ra[row]),
                dec=float(sources.dec[row]),
                n_read=int(count[row]) + sum(reasons.values()),
                snr=float(snr[row]),
                model=model,
                prior_id=prior_id,
                n_latent=n_latent,
                set_aside=reasons,
                ebv_mw=float(sources.ebv_mw[row]),
                error_floor=error_floor,
                confusion_ujy=confusion_ujy,
            )
        )
    return found


def total_snr(measurements: Measurements) -> np.ndarray:
    """Total signal-to-noise (source,) of the measurements whose errors are usable."""
    use = usable_bands(measurements.flux_err) & np.isfinite(measurements.flux)
    ratio = np.divide(measurements.flux, measurements.flux_err, out=np.zeros(len(use)), where=use)
    return np.sqrt(np.bincount(measurements.source, weights=ratio**2, minlength=len(measurements)))


def galaxy_of(row: Mapping[str, Any], facts: SourceFacts, measurements: Measurements) -> Galaxy:
    """The source as `outputs.card` draws it.

    Args:
        row: of the table of `Estimator.estimate_measured`.
        facts: of the source.
        measurements: of the source alone.

    Raises:
        InputError: the measurements are not those of one source.
    """
    from paeplatform.outputs.card import Galaxy

    if len(measurements) != 1:
        raise InputError(f"measurements of {len(measurements)} sources: a card is of one")
    known = {
        "ra": facts.ra,
        "dec": facts.dec,
        "snr": facts.snr,
        "model": facts.model,
        "prior_id": facts.prior_id,
    }
    draws = row.get("pae_z_draws")
    return Galaxy(
        {**row, **known},
        measurements.flux,
        measurements.flux_err,
        measurements.wave_um,
        measurements.width_um,
        np.asarray([] if draws is None else draws, dtype=np.float64),
        name=facts.name,
    )
