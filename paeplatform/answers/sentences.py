"""What a person reads of one source: a few lines, the first of which says whether there is a redshift at all.

A misfit and a source without a posterior never read like a usable redshift: their first line says so, and no interval
is quoted. Where the least bad models lie is said last, and as what it is: a person who knows the object may want it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import chdtr, chdtrc

from paeplatform.answers.facts import SourceFacts
from paeplatform.config import DEFAULT_TRUST, TrustConfig
from paeplatform.inference.results.binning import UNSAFE
from paeplatform.inference.results.solutions import LEAST_WEIGHT, Solution, solutions
from paeplatform.outputs.words import (
    PATH_WORDS,
    STATUS_VERDICTS,
    WITH_REDSHIFT,
    fault_texts,
    flag_texts,
    printable,
    probability_text,
    redshift_texts,
)

CLASS_WORDS = {"galaxy": "a galaxy", "quasar": "a quasar", "star": "a star", "brown_dwarf": "a brown dwarf"}
OTHERS = frozenset(CLASS_WORDS) - {"galaxy"}
POSSIBLE = 0.01  # probability from which another class is named
_REASONS_SHOWN = 4  # of rows that were set aside


def sentences(row: Mapping[str, Any], facts: SourceFacts, trust: TrustConfig = DEFAULT_TRUST) -> list[str]:
    """The lines about one source.

    Args:
        row: of the table of `Estimator.estimate_measured`, as a dict.
        facts: what is known of the source beside.
        trust: the limits that the row was judged by.

    Returns:
        Lines of plain text without line breaks.
    """
    status = str(row["pae_status"])
    if status in WITH_REDSHIFT:
        middle = [*redshift_lines(row, status), _fit(row, facts, trust), _trust(row, status)]
    elif status == "misfit":
        middle = [_fit(row, facts, trust), _least_bad(row)]
    else:
        middle = [_why_failed(row)]
    below = [_data(row, facts), _corrections(facts), _made_by(row, facts)]
    # of a galaxy the redshift is what matters; of anything else, that it is none
    what = _what_it_is(row)
    middle = [*middle, *what] if row.get("class_best") == "galaxy" else [*what, *middle]
    return [_head(row, status, facts), *middle, *below]


def _head(row: Mapping[str, Any], status: str, facts: SourceFacts) -> str:
    who = printable(facts.name)
    if math.isfinite(facts.ra) and math.isfinite(facts.dec):
        who += f" (ra {facts.ra:.5f}, dec {facts.dec:+.5f})"
    if status in WITH_REDSHIFT and row.get("class_best") in OTHERS:
        who = f"NO GALAXY, probably: {who}"
    if status == "converged":
        return who
    if status not in STATUS_VERDICTS or status == "failed":
        return f"NO REDSHIFT for {who}."
    return f"{'NO USABLE REDSHIFT for ' if status == 'misfit' else ''}{who}: {STATUS_VERDICTS[status]}"


def _what_it_is(row: Mapping[str, Any]) -> list[str]:
    """The class with its probability, and what follows for the redshift; nothing for a row without classes."""
    best = row.get("class_best")
    if best is None:
        return []
    if best == "none":
        return ["What it is: no model of a galaxy, a quasar, a star or a brown dwarf describes the data."]
    text = f"What it is: {CLASS_WORDS[best]}, probability {probability_text(row[f'class_p_{best}'])}"
    likely = [name for name in CLASS_WORDS if name != best and (row[f"class_p_{name}"] or 0.0) >= POSSIBLE]
    if likely:
        others = (f"{CLASS_WORDS[name]} {probability_text(row[f'class_p_{name}'])}" for name in likely)
        text += f" ({', '.join(others)})"
    if best == "quasar":
        value, interval = redshift_texts(
            *(row[f"class_z_quasar{end}"] for end in ("", "_low", "_high"))  # type: ignore[arg-type]
        )
        below = _below(row, "Redshifts below are those of galaxies.")
        return [f"{text}; as a quasar z = {value}, 68 % interval {interval}.{below}"]
    if best == "galaxy":
        return [f"{text}."]
    return [
        f"{text}; nearest spectrum {row[f'class_{best}']}."
        f"{_below(row, 'A redshift below is that of a galaxy, which it is not.')}"
    ]


def _below(row: Mapping[str, Any], words: str) -> str:
    """A remark on the redshifts that follow, where any do."""
    return f" {words}" if row.get("pae_status") in WITH_REDSHIFT else ""


def redshift_lines(row: Mapping[str, Any], status: str) -> list[str]:
    """The redshift with its interval, and the other peaks of p(z) with their weights."""
    found = peaks(row)
    lead = "Redshift" if status == "converged" else "Redshift, not to be relied on"
    value, interval = redshift_texts(
        *(row[f"pae_z_{name}"] for name in ("median", "err68_low", "err68_high"))
    )
    if not found:
        return [f"{lead}: z = {value}, 68 % interval {interval}."]
    first, second, *further = found
    own, own_interval = redshift_texts(first.z, first.low, first.high)
    left = 1.0 - sum(one.weight for one in found)
    rest = f"; further ones together {_per_cent(left)}" if left >= LEAST_WEIGHT else ""
    return [
        f"{lead}: z = {own}, 68 % interval {own_interval} of this solution, which has {_per_cent(first.weight)} of "
        "the probability.",
        f"Other solutions: {'; '.join([_other(second) + _gap(row), *map(_other, further)])}{rest}.",
        f"All of p(z) together: median {value}, 68 % interval {interval}.",
    ]


def peaks(row: Mapping[str, Any]) -> list[Solution]:
    """The separate peaks of a row's p(z), heaviest first, where there are several; else none: the row says it all.

    They are those of the columns `pae_z2` and `pae_z3`, which have no intervals.
    """
    draws = np.asarray([] if row.get("pae_z_draws") is None else row["pae_z_draws"], dtype=np.float32)
    found = solutions(draws)
    return found if len(found) > 1 else []


def _other(one: Solution) -> str:
    value, interval = redshift_texts(one.z, one.low, one.high)
    return f"z = {value} ({interval}) with {_per_cent(one.weight)}"


def _gap(row: Mapping[str, Any]) -> str:
    """How much better or worse the second solution fits; nothing for a row that does not know."""
    gap = row.get("pae_chi2_gap")
    if gap is None or not math.isfinite(gap):
        return ""
    return f", chi^2 {'lower' if gap < 0.0 else 'higher'} by {abs(gap):.1f}"


def _per_cent(share: float) -> str:
    return f"{100.0 * share:.0f} %"


def chi2_texts(row: Mapping[str, Any], facts: SourceFacts) -> tuple[str, str] | None:
    """chi^2 of the best model and its degrees of freedom as texts; None for a row without."""
    chi2 = row.get("pae_chi2_best")
    if chi2 is None or not math.isfinite(chi2):
        return None
    return f"{chi2:,.0f}", f"{facts.degrees_of_freedom(int(row['pae_n_measurements'])):,}"


def _fit(row: Mapping[str, Any], facts: SourceFacts, trust: TrustConfig) -> str:
    texts = chi2_texts(row, facts)
    if texts is None:
        return "Fit: chi^2 is not known."
    return f"Fit: chi^2 of the best model {texts[0]} for {texts[1]} degrees of freedom: {_verdict(row, facts, trust)}."


def _verdict(row: Mapping[str, Any], facts: SourceFacts, trust: TrustConfig) -> str:
    """What chi^2 says; the probabilities count the degrees of freedom that are kindest to the model."""
    chi2, n = float(row["pae_chi2_best"]), int(row["pae_n_measurements"])
    if row["pae_status"] == "misfit":
        scale = row.get("pae_error_scale") or 1.0
        wider = f" (with errors {scale:.3g} times as large it would)" if scale > 1.0 else ""
        return f"the model does not describe the data{wider}"
    if n <= facts.n_latent + 2:
        return "with no more measurements than parameters this says nothing"
    if chdtrc(n, chi2) < trust.tail_probability_min:
        return "the model describes the data roughly, worse than noise explains, so that the interval may be too narrow"
    if chdtr(facts.degrees_of_freedom(n), chi2) < trust.tail_probability_min:
        return "the model describes the data better than noise allows: the errors are probably too large"
    return "the model describes the data"


def _least_bad(row: Mapping[str, Any]) -> str:
    place = row.get("pae_z_mode")  # the median is partly that of the prior
    # two decimals: its interval says nothing, so that no more digits have a meaning
    where = (
        ""
        if place is None
        else f" The least bad models lie near z = {place:.2f}, which is no measurement of a redshift."
    )
    why = (
        "Such data are often those of a star, a brown dwarf, a quasar or two objects together, or their errors are far "
        "too small."
    )
    return f"{'' if row.get('class_best') in OTHERS else why}{where}".strip()


def _why_failed(row: Mapping[str, Any]) -> str:
    faults = fault_texts(row.get("input_fault"))
    if faults:
        return f"Reason: {'; '.join(faults)}."
    return "Reason: the sampler found no model of finite probability."


def _trust(row: Mapping[str, Any], status: str) -> str:
    doubts = flag_texts(row.get("z_flags"))
    if (row.get("pae_binning_chi2") or 0.0) > UNSAFE:
        doubts.append("fits to averages in channels would be misled, since lines fall between the visits")
    draws = row.get("pae_ess")
    how = "" if draws is None else f" with {draws:,.0f} effective draws"
    lead = f"the sampler converged{how}" if status == "converged" else f"not converged{how}"
    quiet, joint = (", and no flag is set", ", but ") if status == "converged" else ("", "; ")
    return f"Trust: {lead}{joint + '; '.join(doubts) if doubts else quiet}."


def _data(row: Mapping[str, Any], facts: SourceFacts) -> str:
    used, aside = int(row["pae_n_measurements"]), sum(facts.set_aside.values())
    sound, faults = facts.n_read - aside, fault_texts(row.get("input_fault"))
    text = f"Data: {used:,} of {facts.n_read:,} measurements used"
    if used < sound and not faults:
        text = f"Data: {sound:,} of {facts.n_read:,} measurements used, merged into {used:,}"
    if aside:
        reasons = sorted(facts.set_aside.items(), key=lambda item: (-item[1], item[0]))
        shown = [f"{n:,} {printable(reason.replace('_', ' '))}" for reason, n in reasons[:_REASONS_SHOWN]]
        more = sum(n for _, n in reasons[_REASONS_SHOWN:])
        text += f" ({aside:,} set aside: {', '.join([*shown, *([f'{more:,} for other reasons'] if more else [])])})"
    text += f", in {row['pae_n_bands']} channels, total SNR {facts.snr:.0f}."
    if faults and row["pae_status"] != "failed":
        text += f" Left out: {'; '.join(faults)}."
    return text


def _corrections(facts: SourceFacts) -> str:
    done = []
    if math.isfinite(facts.ebv_mw) and facts.ebv_mw > 0.0:
        done.append(f"Milky Way extinction of E(B-V) = {facts.ebv_mw:.3g} removed")
    if facts.error_floor > 0.0:
        done.append(f"{facts.error_floor:g} % of the flux added to the errors")
    if facts.confusion_ujy > 0.0:
        done.append(f"{facts.confusion_ujy:g} uJy of confusion noise added to the errors")
    return f"Corrections: {'; '.join(done) if done else 'none'}."


def _made_by(row: Mapping[str, Any], facts: SourceFacts) -> str:
    path = str(row.get("pae_path"))
    by = f", by {PATH_WORDS[path]}" if path in PATH_WORDS else ""
    return f"Model {printable(facts.model)}, prior {printable(facts.prior_id)}{by}."
