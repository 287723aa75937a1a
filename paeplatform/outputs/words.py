"""What statuses, flags, faults and redshifts are called where a person reads them: cards, pages and the terminal."""

from __future__ import annotations

import math

from paeplatform.inference.results.summaries import ZFlag
from paeplatform.inference.screening import InputFault

# By pae_status: the word of a table, and what it means for the redshift.
STATUS_WORDS = {
    "converged": "converged",
    "unconverged": "not converged",
    "misfit": "misfit, no redshift",
    "failed": "no redshift",
}
STATUS_VERDICTS = {
    "converged": "The sampler converged.",
    "unconverged": "The sampler did not converge: do not rely on this redshift or its interval.",
    "misfit": "No galaxy of the model describes these data: do not use this redshift.",
    "failed": "No redshift: no model was found for these data.",
}
WITH_REDSHIFT = ("converged", "unconverged")  # statuses whose redshift is quoted
# By pae_path; "none" has no words.
PATH_WORDS = {
    "proposal": "importance sampling",
    "adapted": "adaptive importance sampling",
    "mclmc": "Markov chains (MCLMC)",
    "pocomc": "pocoMC",
}

# What flags say beside the status; those that only repeat a status have no words.
FLAG_WORDS = {
    ZFlag.FEW_BANDS: "few channels have data",
    ZFlag.LOW_ESS: "few effective draws: the interval is rough",
    ZFlag.AT_PRIOR_EDGE: "p(z) piles up at an end of the prior's range: the redshift may lie outside it",
    ZFlag.MULTIMODAL: "p(z) has several peaks",
    ZFlag.BAD_INPUT: "some measurements were left out because of their numbers",
}
FAULT_WORDS = {
    InputFault.FLUX_NOT_FINITE: "a flux is not a finite number",
    InputFault.ERROR_NOT_POSITIVE: "an error is zero or negative",
    InputFault.OUT_OF_RANGE: "a flux or error is absurdly large or small, as in a wrong unit",
    InputFault.NO_USABLE_BAND: "no usable measurement is left",
    InputFault.WAVELENGTH_OUT_OF_RANGE: "a wavelength is outside what SPHEREx sees",
    InputFault.WIDTH_NOT_POSITIVE: "a bandwidth is not a positive number",
    InputFault.RESOLVING_POWER_OUT_OF_RANGE: "a bandwidth is none that SPHEREx has at its wavelength",
    InputFault.SENTINEL: "a flux repeats exactly far below zero, as a number that stands for none (like -99)",
}

_MOST_DIGITS = 5  # redshifts are kept in float32


def redshift_digits(low: float, high: float) -> int:
    """Decimals of a redshift with this interval: two digits of half its width, between 1 and 5 in all."""
    half = 0.5 * (high - low)
    if not (half > 0.0 and math.isfinite(half)):
        return _MOST_DIGITS
    return min(max(1 - math.floor(math.log10(half)), 1), _MOST_DIGITS)


def redshift_texts(median: float, low: float, high: float) -> tuple[str, str]:
    """A redshift and its interval as texts, for instance "0.512" and "0.498 to 0.527"."""
    digits = redshift_digits(low, high)
    return f"{median:.{digits}f}", f"{low:.{digits}f} to {high:.{digits}f}"


def flag_texts(z_flags: int | None) -> list[str]:
    """What a mask of `z_flags` says beside the status; empty for none."""
    return [text for flag, text in FLAG_WORDS.items() if (z_flags or 0) & int(flag)]


def fault_texts(input_fault: str | None) -> list[str]:
    """The faults of the column `input_fault` in words; empty for none."""
    names = {str(fault.name).lower(): text for fault, text in FAULT_WORDS.items()}
    return [names.get(name, name) for name in (input_fault or "").split(",") if name]


def printable(text: str) -> str:
    """A name without line breaks and control characters, which would break a line or the terminal."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def probability_text(p: float) -> str:
    """A probability in per cent; nobody can tell those next to one apart."""
    return "above 99.9 %" if p > 0.999 else f"{100.0 * p:.1f} %"
