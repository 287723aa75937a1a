"""The page to leaf through answers: what it holds, that it fetches nothing, and in Chromium that it works."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paeplatform.answers import drawings, page
from paeplatform.answers.page import _class_cell, answers_page
from paeplatform.errors import InputError
from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.inference.results.summaries import ZFlag
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.measurements import Measurements
from paeplatform.targets import written_by_platform
from tests.answers.rows import facts_of_one, measured, row_of, seen_of, table_of

BANDS = load_bands()
EVIL = "</script><script>alert('x')</script>"
STATUSES = ("converged", "converged", "unconverged", "misfit", "failed")
NAMES = ("alpha", EVIL, "gamma & delta", "beta", "none")


def two_peaks() -> np.ndarray:
    rng = np.random.default_rng(5)
    return np.concatenate([rng.normal(1.4, 0.01, 350), rng.normal(0.4, 0.01, 150)])


def rows() -> list[dict[str, Any]]:
    chi2 = (88.0, 90.0, 95.0, 217_000.0, None)
    found = [row_of(status, seed, pae_chi2_best=chi2[seed]) for seed, status in enumerate(STATUSES)]
    found[1] = row_of("converged", 1, pae_z_draws=two_peaks(), z_flags=int(ZFlag.MULTIMODAL))
    found[4] |= {"pae_n_measurements": 0, "input_fault": "no_usable_band"}
    return found


def made(some: list[dict[str, Any]] | None = None, **options: Any) -> str:
    some = rows() if some is None else some
    names = [NAMES[number] if number < len(NAMES) else f"source {number}" for number in range(len(some))]
    measurements = options.pop("measurements", measured(len(some)))
    seen = [None if row["pae_status"] == "failed" else seen_of(measurements, n) for n, row in enumerate(some)]
    facts = [facts_of_one(name, snr=10.0 * (n + 1)) for n, name in enumerate(names)]
    return answers_page(table_of(some), seen, facts, measurements, BANDS, **options)


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r"<script type='application/json' id='answers-data'>(.*?)</script>", text, re.S)
    assert found is not None
    return json.loads(found.group(1))


def cells_of(text: str) -> list[list[str]]:
    """The table as a browser without JavaScript shows it."""
    body = re.search(r"<tbody>(.*?)</tbody>", text, re.S)
    assert body is not None
    return [
        [html.unescape(re.sub("<.*?>", "", cell)) for cell in re.findall(r"<td.*?>(.*?)</td>", row, re.S)]
        for row in re.findall(r"<tr.*?>(.*?)</tr>", body.group(1), re.S)
    ]


def test_the_table_says_each_source_without_javascript() -> None:
    table = cells_of(made())
    assert [row[0] for row in table] == list(NAMES)
    assert re.fullmatch(r"0\.51\d", table[0][1]) and re.fullmatch(r"0\.49\d to 0\.52\d", table[0][2])
    assert table[0][3:] == ["–", "converged", "–", "88 / 86", "10", "98", "–"]
    assert re.fullmatch(r"1\.(39|40)\d*", table[1][1]) and re.fullmatch(r"0\.4\d* \(30%\)", table[1][3])
    assert table[1][9] == "p(z) has several peaks"
    assert table[2][4] == "not converged" and table[2][1].startswith("0.51")


def test_a_misfit_and_a_failure_have_no_redshift_in_the_table() -> None:
    table = cells_of(made())
    assert table[3][1:7] == ["–", "–", "–", "misfit, no redshift", "–", "217,000 / 86"]
    assert table[4][1:7] == ["–", "–", "–", "no redshift", "–", "–"]


def test_the_class_stands_beside_the_status() -> None:
    said = _class_cell({"class_best": "quasar", "class_p_quasar": 0.97, "class_z_quasar": 2.551})
    assert said == ("quasar 97%, z = 2.55", None)
    assert _class_cell({"class_best": "brown_dwarf", "class_p_brown_dwarf": 1.0}) == (
        "brown dwarf 100%",
        None,
    )
    assert _class_cell({"class_best": "none"}) == ("none", None)
    assert _class_cell({"class_best": None}) == _class_cell({}) == ("–", None)


def test_tiles_count_what_the_table_holds() -> None:
    tiles = {label: value for value, label in re.findall(r"<b>(.*?)</b><span>(.*?)</span></div>", made())}
    assert (tiles["sources"], tiles["converged"], tiles["misfit, no redshift"]) == ("5", "2", "1")
    z = [row for row in rows() if row["pae_status"] == "converged"]
    sigma = np.median([row["pae_z_std"] / (1.0 + row["pae_z_median"]) for row in z])
    assert float(tiles["median σ/(1+z), converged"]) == pytest.approx(sigma, abs=6e-5)


def test_nothing_is_fetched_and_names_are_only_texts() -> None:
    text = made(title=EVIL, notes=[f"note {EVIL}"])
    assert EVIL not in text and text.count("<script") == text.count("</script>") == 2
    assert data_of(text)["sources"][1]["name"] == EVIL
    assert "default-src 'none'" in text
    assert not re.findall(r"\b(?:src|href|action|srcset|poster)\s*=|url\(|@import", text)
    assert not re.findall(r"fetch\(|XMLHttpRequest|import\(|WebSocket|innerHTML|document\.write|eval\(", text)
    assert text.count("note &lt;/script&gt;") == 1


def test_drawings_hold_the_measurements_and_the_model() -> None:
    measurements = measured(5)
    sources = data_of(made(measurements=measurements))["sources"]
    one, order = sources[0], np.argsort(measurements.wave_um[:102])
    assert one["w"] == pytest.approx(measurements.wave_um[:102][order], rel=1e-4)
    assert one["f"] == pytest.approx(measurements.flux[:102][order], rel=1e-3)
    model = 30.0 + 8.0 * np.asarray(one["w"])
    assert one["m"] == pytest.approx(model, rel=1e-3)
    assert np.subtract(one["h1"], one["l1"]) == pytest.approx(2.0, abs=0.02)
    assert np.subtract(one["h2"], one["l2"]) == pytest.approx(4.0, abs=0.02)
    pull = (measurements.flux[:102] - 30.0 - 8.0 * measurements.wave_um[:102]) / 2.0
    assert one["r"] == pytest.approx(pull[order], abs=0.01)
    assert np.unique(one["d"]).tolist() == np.unique(BANDS.detector).tolist()
    assert one["says"][0].startswith("alpha (ra") and not one["bad"]


def test_p_of_z_has_a_curve_and_its_peaks() -> None:
    sources = data_of(made())["sources"]
    z, p = np.asarray(sources[1]["z"]), np.asarray(sources[1]["p"])
    assert p.max() == 1.0 and z[p.argmax()] == pytest.approx(1.4, abs=0.02)
    assert p[np.abs(z - 0.4).argmin()] == pytest.approx(150 / 350, abs=0.15)
    assert [round(peak[2], 2) for peak in sources[1]["peaks"]] == [0.7, 0.3]
    assert sources[1]["range"][0] < 0.41 and sources[1]["range"][1] > 1.41
    assert sources[3]["bad"] and sources[3]["peaks"] == [] and sources[3]["z"], "drawn, but not quoted"
    assert sources[4]["z"] == [] and "m" not in sources[4] and len(sources[4]["w"]) == 102


def test_other_methods_are_drawn_where_the_table_has_them() -> None:
    quantiles = np.interp(QUANTILE_LEVELS, [0, 1], [0.4, 0.7]).tolist()
    some = [
        row_of("converged", 0) | {"tf_z_quantiles": quantiles},
        row_of("converged", 1) | {"tf_z_quantiles": None},
    ]
    first, second = data_of(made(some))["sources"]
    assert first["others"]["tf"] == pytest.approx(quantiles, rel=1e-4) and second["others"] == {}


def test_sources_beyond_the_limit_keep_their_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "SOURCES_DRAWN", 2)
    text = made()
    assert len(cells_of(text)) == 5 and len(data_of(text)["sources"]) == 2
    assert "The first 2 of 5 sources are drawn; the others are in the table only." in text
    assert "sources are drawn" not in made(rows()[:2])


def test_sources_with_very_many_measurements_count_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawings, "MEASUREMENTS_DRAWN", 310)
    assert len(data_of(made())["sources"]) == 3


def test_rows_beyond_the_limit_are_said_to_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "ROWS_SHOWN", 3)
    text = made()
    assert len(cells_of(text)) == 3 and "The table shows the first 3 sources" in text


def test_numbers_that_are_none_do_not_break_the_data() -> None:
    """A source without any measurement, and one whose numbers are all faulty."""
    bad = Measurements(
        np.array([np.nan, 1.0, 1e300]),
        np.array([1.0, np.nan, 1.0]),
        np.array([1.0, np.inf, 2.0]),
        np.array([0.02, 0.02, np.nan]),
        np.array([0, 0, 3]),
    )
    some = [row_of("failed", n, pae_n_measurements=0, pae_n_bands=0) for n in range(2)]
    sources = data_of(made(some, measurements=bad))["sources"]
    assert [one["w"] for one in sources] == [[], []]


def test_an_empty_table_has_a_page_too() -> None:
    empty = table_of(rows()).head(0)
    text = answers_page(empty, [], [], measured(0), BANDS)
    assert cells_of(text) == [] and data_of(text)["sources"] == []


def test_tables_of_other_sources_are_refused() -> None:
    with pytest.raises(InputError, match="table of 5 sources, facts of 0 and measurements of 5"):
        answers_page(table_of(rows()), [], [], measured(5), BANDS)


ACTIONS = """<script>(function () {
function mark(name, value) { document.body.setAttribute('data-' + name, value); }
function key(name, target) {
  var event = new KeyboardEvent('keydown', {key: name, bubbles: true});
  (target || document.body).dispatchEvent(event); }
function shown() { return [].slice.call(document.querySelectorAll('#rows tbody tr')).filter(function (row) {
  return row.style.display !== 'none'; }).map(function (row) { return row.getAttribute('data-i'); }).join(','); }
var says = document.getElementById('says');
mark('first', says.textContent);
mark('residuals', document.querySelectorAll('.residual').length);
key('ArrowRight'); mark('next', document.getElementById('name').textContent);
mark('spans', document.querySelectorAll('.span').length);
key('ArrowLeft'); key('ArrowLeft'); mark('back', says.textContent);
key('ArrowRight', document.getElementById('by-text')); mark('typing', document.getElementById('name').textContent);
var heads = document.querySelectorAll('#rows th');
heads[1].click(); mark('up', shown()); heads[1].click(); mark('down', shown());
heads[0].click(); mark('names', shown());
var status = document.getElementById('by-status');
status.value = 'misfit'; status.dispatchEvent(new Event('change'));
mark('misfit', shown()); mark('bad', says.className + ': ' + says.textContent);
status.value = ''; status.dispatchEvent(new Event('change'));
var text = document.getElementById('by-text');
text.value = 'Several PEAKS'; text.dispatchEvent(new Event('input'));
mark('text', shown()); mark('count', document.getElementById('count').textContent);
})();</script>"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_chromium_draws_leafs_sorts_and_filters(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(made().replace("</body>", f"{ACTIONS}</body>"), encoding="utf-8")
    dom = dom_of(path, tmp_path)
    got = {name: html.unescape(value) for name, value in re.findall(r' data-([a-z]+)="([^"]*)"', dom)}
    assert got["answers"] == "ready"
    assert got["first"].startswith("alpha (ra") and got["residuals"] == "102"
    assert got["next"] == EVIL and got["spans"] == "2"
    assert got["back"].startswith("NO REDSHIFT for none") and got["typing"] == "none"
    assert got["up"] in ("0,2,1,3,4", "2,0,1,3,4") and got["down"].startswith("1,")
    assert got["down"].endswith("3,4"), "sources without a redshift come last in both directions"
    assert got["names"].split(",")[-4:] == ["0", "3", "2", "4"]
    assert got["misfit"] == "3" and got["bad"].startswith("bad: NO USABLE REDSHIFT for beta")
    assert got["text"] == "1" and got["count"] == "1 of 5 sources"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_chromium_says_of_a_source_without_a_drawing_that_it_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "SOURCES_DRAWN", 2)
    path = tmp_path / "page.html"
    clicks = "<script>document.querySelectorAll('#rows tbody tr')[3].click();</script>"
    path.write_text(made().replace("</body>", f"{clicks}</body>"), encoding="utf-8")
    assert "the page draws the first 2" in dom_of(path, tmp_path)


def dom_of(path: Path, folder: Path) -> str:
    """The page's DOM after its scripts ran, without a network; an error of a script or of the policy is a failure."""
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND")
    command = ["chromium", *options, f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr"]
    done = subprocess.run(
        [*command, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert "Uncaught" not in done.stderr and "Content Security Policy" not in done.stderr, done.stderr
    return done.stdout


def test_a_page_on_disk_is_known_as_the_platforms_own(tmp_path):
    path = tmp_path / "a_photoz.html"
    path.write_text(answers_page(table_of(rows()).head(0), [], [], measured(0), BANDS))
    assert written_by_platform(path)
