"""The report's further sections: the paper's tables, quality, and the browser, which Chromium runs in the slow set."""

import importlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from paeplatform.config import load_preset
from paeplatform.paper.examples import choose_examples
from paeplatform.paper.table_files import cell_text, table_markdown, write_table
from paeplatform.paper.table_list import TABLES
from paeplatform.paper.table_rows import Resampling
from paeplatform.report.browser import browser_data, browser_section
from paeplatform.report.page import Report, write_report
from paeplatform.report.tables import paper_section, quality_section
from paeplatform.scores.statistics import metric_table
from paeplatform.scores.targets import paper_targets
from tests.validation.conftest import made_up_posteriors
from tests.validation.score_tables import score_table

TABLE = score_table(200)
SCORES = TABLE.lazy()
FAST = Resampling(10, 0)
WAVE = np.linspace(0.75, 5.0, 102)
EVIL = "</script><script>alert('x')</script>"


def tables() -> dict[str, pl.DataFrame]:
    found = {}
    for table in TABLES:
        module, _, function = table.function.rpartition(".")
        found[table.name] = getattr(importlib.import_module(module), function)(SCORES, FAST)
    return found


ALL = tables()


def examples(template: str = "t1") -> pl.DataFrame:
    rng = np.random.default_rng(0)
    chosen = choose_examples(SCORES, 6)
    model = 10 + np.sin(WAVE)
    lists = {
        "flux": model + rng.normal(size=102),
        "flux_err": np.where(np.arange(102) == 3, np.inf, 1.0),
        "model": model,
    }
    for end, sign in (("low", -1), ("high", 1)):
        lists |= {f"model_{end}_{level}": model + sign * level / 68 for level in (68, 95)}
    rows = chosen.with_columns(
        fraction=pl.lit(0.0),
        z_true=pl.lit(0.5),
        mag_z=pl.lit(21.0),
        snr=pl.lit(30.0),
        galaxy_type=pl.lit("spiral"),
        template=pl.lit(template),
        chi2=pl.lit(101.0),
        pae_status=pl.lit("converged"),
        **{name: pl.lit(pl.Series([values.tolist()])).first() for name, values in lists.items()},
    )
    return pl.concat([rows, rows.head(1).with_columns(fraction=pl.lit(0.5))])


def test_every_listed_table_exists_and_shows_columns_it_has():
    for table in TABLES:
        made = ALL[table.name]
        missing = [name for name in table.shown.split() if name not in made.columns]
        assert made.height and not missing, (table.name, missing)


def test_the_papers_number_stands_beside_ours():
    html = paper_section(ALL).html
    assert html.count("<h3") == len(TABLES)
    row = ALL["table_priors"].filter((pl.col("method") == "tf") & (pl.col("cut") == 0.2)).row(0, named=True)
    line = next(part for part in html.split("<tr>") if "TF, uniform" in part and "13,914" in part)
    assert cell_text(row, "eta_3sigma") in line and "0.055" in line
    assert "paper: η₃σ" in html
    assert "Table 2" not in paper_section({"table_priors": ALL["table_priors"]}).html


def test_a_cell_has_the_digits_its_error_allows():
    assert cell_text({"x": 0.012345, "x_err": 0.0021}, "x") == "0.0123 ± 0.0021"
    assert cell_text({"x": 13914, "x_err": None}, "x") == "13,914"
    assert cell_text({"x": None}, "x") == cell_text({"x": float("nan")}, "x") == ""
    assert cell_text({"x": 0.5}, "x") == "0.5"


def test_files_hold_every_digit_and_a_readable_copy(tmp_path: Path):
    csv, markdown = write_table(tmp_path / "new", "table_priors", ALL["table_priors"], "Table 1")
    again = pl.read_csv(csv, infer_schema_length=None)
    assert again["eta_3sigma"].to_list() == ALL["table_priors"]["eta_3sigma"].to_list()
    assert markdown.read_text().startswith("# Table 1\n\n| method | label |")
    assert "_err" not in markdown.read_text()
    assert not [path for path in (tmp_path / "new").iterdir() if path.name.startswith(".")]
    assert table_markdown(pl.DataFrame({"a|b": ["x|y"]}), ["a|b"]).splitlines()[-1] == "| x\\|y |"


def test_quality_is_counts_and_reasons():
    html = quality_section(
        {"cells delivered": 2, "exposures delivered": 14542}, [("flux not <finite>", 3)]
    ).html
    assert "14,542" in html and "flux not &lt;finite&gt;" in html
    assert "No row was set aside" in quality_section({}, []).html


def test_targets_compare_with_template_fitting_and_say_when_nothing_was_measured():
    chi2 = pl.DataFrame({"chi2_reduced": [1.0, 1.04, float("nan")]})
    lines = {line["name"]: line for line in paper_targets(ALL | {"chi2": chi2})}
    eta = dict(
        ALL["table_sigma_cuts"].filter(pl.col("cut") == 0.2).select("method", "eta_3sigma").iter_rows()
    )
    line = lines["PAE outliers beyond 3 sigma, sigma_z/(1+z) < 0.2: no more than TF's"]
    assert (line["value"], line["target"]) == (eta["nf_bpz"], eta["tf"]) and line["meets"] is True
    assert lines["reduced chi^2 of reconstructions, median: at least"]["meets"] is True
    assert lines["chains with R-hat < 1.1, largest n_latent"]["meets"] is False
    assert {line["meets"] for line in paper_targets({})} == {None}


def test_the_browsers_data_are_plain_and_leave_out_what_is_masked():
    data = browser_data(examples(), SCORES, WAVE)
    chosen = examples().filter(pl.col("fraction") == 0)["object_id"].to_list()
    assert [source["id"] for source in data["sources"]] == [str(one) for one in chosen]
    source = data["sources"][0]
    assert source["e"][3] is None and len(source["f"]) == 102
    assert set(source["methods"]) == {"nf_bpz", "tf", "sbi"}
    stored = TABLE.filter((pl.col("method") == "tf") & (pl.col("object_id") == int(source["id"])))
    assert source["methods"]["tf"]["z_hat"] == pytest.approx(stored["z_hat"][0], rel=1e-5)
    assert len(source["methods"]["tf"]["q"]) == len(data["levels"]) == 51


def test_a_name_cannot_end_the_script():
    html = browser_section(examples(EVIL), SCORES, WAVE).html
    assert EVIL not in html
    text = re.search(r"id='browser-data'>(.*?)</script>", html, re.S).group(1)
    assert json.loads(text)["sources"][0]["template"] == EVIL


def page(folder: Path) -> Path:
    posteriors = made_up_posteriors()
    columns = (posteriors[name].to_numpy() for name in ("pae_z_mean", "pae_z_std", "z_true"))
    report = Report(
        preset=load_preset("demo"),
        metrics={"release": metric_table(*columns, (0.03, 0.2), n_bootstrap=10)},
        posteriors=posteriors,
        figures={},
        provenance={"release": "mock-r1"},
        targets=paper_targets(ALL),
        sections=[
            quality_section({"cells": 1}, []),
            paper_section(ALL),
            browser_section(examples(), SCORES, WAVE),
        ],
    )
    return write_report(folder, report)


def test_sections_are_linked_and_nothing_is_fetched(tmp_path: Path):
    text = page(tmp_path).read_text(encoding="utf-8")
    for anchor in ("quality", "paper", "browser"):
        assert f"<a href='#{anchor}'>" in text and f"id='{anchor}'" in text
    assert not re.findall(r"(?:src|href)='(?!data:|#|metrics\.)", text)
    assert "fetch(" not in text and "XMLHttpRequest" not in text and "import(" not in text


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_chromium_draws_the_browser_and_answers_clicks(tmp_path: Path):
    path = page(tmp_path)
    first = _dom(path, tmp_path)
    assert 'data-browser="ready"' in first
    assert first.count('class="flux"') == 101, "one band is masked"
    assert first.count('class="pz-') == 3
    clicks = (
        "<script>document.getElementById('browser-next').click();"
        "document.body.setAttribute('data-next', document.getElementById('browser-facts').textContent);"
        "var why = document.getElementById('browser-why'); why.value = 'outlier';"
        "why.dispatchEvent(new Event('change'));"
        "document.body.setAttribute('data-kind', document.getElementById('browser-facts').textContent);</script>"
    )
    path.write_text(path.read_text(encoding="utf-8").replace("</body>", f"{clicks}</body>"), encoding="utf-8")
    after = _dom(path, tmp_path)
    sources = browser_data(examples(), SCORES, WAVE)["sources"]
    assert f'data-next="source {sources[1]["id"]} ' in after
    outlier = next(source for source in sources if source["why"] == "outlier")
    assert f'data-kind="source {outlier["id"]} · outlier' in after


def _dom(path: Path, folder: Path) -> str:
    """The page's DOM after its scripts ran, without a network; a script's error is a failure."""
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ]
    command += [
        f"--user-data-dir={folder / 'profile'}",
        "--enable-logging=stderr",
        "--dump-dom",
        path.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "Uncaught" not in done.stderr, done.stderr
    return done.stdout
