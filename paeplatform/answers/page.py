"""One self-contained HTML page to leaf through the answers about many sources.

Styles, data and scripts are inline, and a policy in the page forbids the browser to fetch anything. The table is plain
HTML, so that it can be read without JavaScript; sorting, filters and drawings need it. Every text from outside is
escaped, by `html.escape` in the table and as JSON for the script, which sets it as text only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import polars as pl

from paeplatform.answers.drawings import Drawings, drawings
from paeplatform.answers.facts import SourceFacts
from paeplatform.answers.sentences import chi2_texts, peaks
from paeplatform.config import DEFAULT_TRUST, TrustConfig
from paeplatform.errors import InputError
from paeplatform.outputs.words import STATUS_WORDS, WITH_REDSHIFT, flag_texts, printable, redshift_texts
from paeplatform.report import html
from paeplatform.report.css import CSS
from paeplatform.report.scripts import javascript, json_element
from paeplatform.targets import creator

if TYPE_CHECKING:
    from paeplatform.instrument.bands import BandSet
    from paeplatform.instrument.measurements import Measurements
    from paeplatform.outputs.seen import Seen

SOURCES_DRAWN = 500
ROWS_SHOWN = 20_000  # a longer table is too slow to scroll and sort
NO_VALUE = "–"
_SCRIPTS = (("paeplatform.report", "draw.js"), ("paeplatform.answers", "answers.js"))
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
_LIGHTS = {
    "converged": "met",
    "unconverged": "unknown",
}  # classes of the report's style sheet; others are "missed"
# Columns of the table: heading, whether it is a text, its meaning.
_COLUMNS = (
    ("source", True, "name in the file"),
    ("z", False, "median of p(z); of its heaviest peak where there are several; none where it is not usable"),
    ("68 % interval", True, "central interval of the same"),
    ("second z", True, "the next peak of p(z), with its share of the probability"),
    ("status", True, "how far to trust the redshift"),
    ("class", True, "the most probable of galaxy, quasar, star and brown dwarf, with its probability"),
    ("χ²/dof", False, "chi^2 of the best model over its degrees of freedom"),
    ("SNR", False, "total signal-to-noise"),
    ("N", False, "measurements used"),
    ("flags", True, "what else to look at"),
)
_PAGE_CSS = """
body { max-width: 1280px; padding: 1rem 1.5rem; }
h1 { font-size: 1.4rem; }
.tiles { display: flex; flex-wrap: wrap; margin: .5rem 0; gap: .5rem; } .tile { padding: .2rem .7rem; }
.tile b { display: inline; font-size: 1.1rem; margin-right: .35rem; }
.browser { grid-template-columns: minmax(0, 1.35fr) minmax(0, 1fr); }
#controls { display: flex; flex-wrap: wrap; gap: .6rem; align-items: center; margin: .6rem 0; }
#controls[hidden], #chosen[hidden] { display: none; }
#controls input, #controls select, #chosen button { font: inherit; padding: .15rem .45rem; }
#rows { max-height: 14rem; overflow: auto; border: 1px solid var(--line); border-radius: 6px; background: var(--card); }
#rows thead th { position: sticky; top: 0; background: var(--card); box-shadow: 0 1px 0 var(--line); }
#rows th[role=button] { cursor: pointer; } #rows tbody tr { cursor: default; }
.ready #rows tbody tr { cursor: pointer; } .ready #rows tbody tr:hover { background: var(--bg); }
#rows tr.chosen { background: color-mix(in srgb, var(--accent) 16%, transparent) !important; }
#rows td { padding: .2rem .5rem; } #rows td.wrap { white-space: normal; min-width: 11rem; }
#rows td:first-child { max-width: 17rem; overflow: hidden; text-overflow: ellipsis; }
th[aria-sort=ascending]::after { content: " ▲"; } th[aria-sort=descending]::after { content: " ▼"; }
#chosen { margin-top: .8rem; } #chosen h2 { margin: 0 .8rem 0 0; display: inline-block; overflow-wrap: anywhere; }
#sed-side svg + svg { margin-top: .4rem; }
#says p { margin: .15rem 0; font-size: .9rem; max-width: none; }
#says p:first-child { font-weight: 600; } #says.bad p:first-child { color: var(--missed); }
"""


def answers_page(
    table: pl.DataFrame,
    seen: Sequence[Seen | None],
    facts: Sequence[SourceFacts],
    measurements: Measurements,
    bands: BandSet,
    *,
    trust: TrustConfig = DEFAULT_TRUST,
    notes: Sequence[str] = (),
    title: str = "Redshifts",
) -> str:
    """The page.

    Args:
        table: of `Estimator.estimate_measured`, a row a source; columns tf_z_quantiles and sbi_z_quantiles, where there
            are any, are drawn beside.
        seen: what the model predicts of each source, as of `outputs.seen.predictions`; it may end early, since only
            the first `SOURCES_DRAWN` sources are drawn.
        facts: of each source.
        measurements: of all sources, as they were fitted.
        bands: the channels, which say which detector a wavelength belongs to.
        trust: the limits that the rows were judged by.
        notes: of the whole job, shown above the table.
        title: of the page.

    Raises:
        InputError: the table, the facts and the measurements are not of the same number of sources.
    """
    if not table.height == len(facts) == len(measurements):
        raise InputError(
            f"table of {table.height} sources, facts of {len(facts)} and measurements of {len(measurements)}: "
            "the numbers must agree"
        )
    drawn = drawings(table, seen, facts, measurements, bands, trust, SOURCES_DRAWN)
    name = escape(printable(title))
    said = [*notes, *_left_out(table.height, drawn)]
    sections = [
        f"<h1>{name}</h1>",
        html.tiles(_tiles(table)),
        *(f"<p class='soft'>{escape(printable(text))}</p>" for text in said),
        "<noscript><p class='soft'>Sorting, filters and drawings need JavaScript; the table does not.</p></noscript>",
        _controls(),
        _table(table, facts),
        _chosen(),
        json_element("answers-data", drawn.data),
        javascript(*_SCRIPTS),
    ]
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        f"<meta name='generator' content='{creator()}'>"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<meta name='color-scheme' content='light dark'>"
        f"<title>{name}</title><style>{CSS}{_PAGE_CSS}</style></head>\n"
        "<body>\n" + "\n".join(sections) + "\n</body></html>\n"
    )


def _left_out(n_source: int, drawn: Drawings) -> list[str]:
    said = []
    if drawn.n_source < n_source:
        said.append(
            f"The first {drawn.n_source:,} of {n_source:,} sources are drawn; the others are in the table only. "
            "Give the others in a file of their own to see them."
        )
    if n_source > ROWS_SHOWN:
        said.append(
            f"The table shows the first {ROWS_SHOWN:,} sources; the file of the posteriors holds all."
        )
    return said


def _tiles(table: pl.DataFrame) -> list[tuple[str, str]]:
    counts = dict(table.group_by("pae_status").len().iter_rows())
    known = [status for status in STATUS_WORDS if status in counts]
    trusted = table.filter(pl.col("pae_status") == "converged")
    sigma = trusted.select((pl.col("pae_z_std") / (1.0 + pl.col("pae_z_median"))).median()).item()
    return [
        ("sources", f"{table.height:,}"),
        *((STATUS_WORDS[status], f"{counts[status]:,}") for status in known),
        *((str(status), f"{n:,}") for status, n in sorted(counts.items()) if status not in STATUS_WORDS),
        ("median σ/(1+z), converged", html.number(sigma, ".4f")),
    ]


def _controls() -> str:
    options = "".join(
        f"<option value='{status}'>{escape(words)}</option>" for status, words in STATUS_WORDS.items()
    )
    return (
        "<div id='controls' hidden><select id='by-status' aria-label='status'><option value=''>every status</option>"
        f"{options}</select> <input id='by-text' type='search' placeholder='name or flag' aria-label='filter by text'> "
        "<span class='soft' id='count' role='status'></span>"
        "<span class='soft'>Click a row, or leaf with ← and →.</span></div>"
    )


def _table(table: pl.DataFrame, facts: Sequence[SourceFacts]) -> str:
    heads = "".join(
        f"<th{_class('text' if text else '')} title='{escape(meaning)}'>{escape(heading)}</th>"
        for heading, text, meaning in _COLUMNS
    )
    shown = table.head(ROWS_SHOWN).iter_rows(named=True)
    rows = "".join(_row(number, row, facts[number]) for number, row in enumerate(shown))
    return f"<div id='rows' tabindex='0'><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"


def _row(number: int, row: Mapping[str, Any], facts: SourceFacts) -> str:
    status = str(row["pae_status"])
    # (text, what it is sorted by; None for the text itself)
    z: tuple[tuple[str, float | None], ...] = ((NO_VALUE, None),) * 3
    if status in WITH_REDSHIFT:
        z = _redshift_cells(row)
    texts = chi2_texts(row, facts)
    chi2 = (NO_VALUE, None)
    if texts is not None:
        n = facts.degrees_of_freedom(int(row["pae_n_measurements"]))
        chi2 = (" / ".join(texts), float(row["pae_chi2_best"]) / n)
    light = f"<span class='light {_LIGHTS.get(status, 'missed')}'>{escape(STATUS_WORDS.get(status, status))}</span>"
    cells = (
        _cell(printable(facts.name), style="text"),
        _cell(*z[0]),
        _cell(*z[1], style="text"),
        _cell(*z[2], style="text"),
        f"<td class='text'>{light}</td>",
        _cell(*_class_cell(row), style="text"),
        _cell(*chi2),
        _cell(f"{facts.snr:.0f}", facts.snr),
        _cell(f"{row['pae_n_measurements']:,}", float(row["pae_n_measurements"])),
        _cell("; ".join(_short_flags(row)) or NO_VALUE, style="text wrap"),
    )
    return f"<tr data-i='{number}' data-status='{escape(status)}'>{''.join(cells)}</tr>"


def _class_cell(row: Mapping[str, Any]) -> tuple[str, float | None]:
    """The class with its probability; rows of before have none."""
    best = row.get("class_best")
    p = row.get(f"class_p_{best}")
    if best is None or p is None:
        return (NO_VALUE if best is None else str(best)), None
    text = f"{best.replace('_', ' ')} {p:.0%}"
    if best == "quasar" and row.get("class_z_quasar") is not None:
        text += f", z = {row['class_z_quasar']:.2f}"
    return text, None


def _redshift_cells(row: Mapping[str, Any]) -> tuple[tuple[str, float | None], ...]:
    """Redshift, its interval and the second one."""
    found = peaks(row)
    if found:
        first, second = found[:2]
        value, interval = redshift_texts(first.z, first.low, first.high)
        other, _ = redshift_texts(second.z, second.low, second.high)
        return (
            (value, first.z),
            (interval, first.high - first.low),
            (f"{other} ({second.weight:.0%})", second.weight),
        )
    numbers = [row[f"pae_z_{name}"] for name in ("median", "err68_low", "err68_high")]
    value, interval = redshift_texts(*numbers)
    return (value, numbers[0]), (interval, numbers[2] - numbers[1]), (NO_VALUE, None)


def _short_flags(row: Mapping[str, Any]) -> list[str]:
    """The flags in words without their explanations."""
    return [text.split(":")[0] for text in flag_texts(row.get("z_flags"))]


def _cell(text: str, value: float | None = None, *, style: str = "") -> str:
    by = "" if value is None else f" data-v='{value:.6g}'"
    return f"<td{_class(style)}{by}>{escape(text)}</td>"


def _class(name: str) -> str:
    return f" class='{name}'" if name else ""


def _chosen() -> str:
    return (
        "<section id='chosen' hidden><div><h2 id='name'></h2> <button id='back' type='button'>‹ back</button> "
        "<button id='next' type='button'>next ›</button></div>"
        "<div class='browser'><div id='sed-side'>"
        "<svg id='sed' viewBox='0 0 640 270' role='img' aria-label='measurements and model'></svg>"
        "<svg id='residuals' viewBox='0 0 640 104' role='img' aria-label='residuals'></svg></div>"
        "<div><svg id='pz' viewBox='0 0 400 215' role='img' aria-label='p(z)'></svg>"
        "<div id='says'></div></div></div></section>"
    )
