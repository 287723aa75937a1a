"""The report page: valid and self-contained HTML, honest about what is missing, safe against markup,
atomic.
"""

import json
import re
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from paeplatform.config import load_preset
from paeplatform.errors import InputError
from paeplatform.figures import redshift
from paeplatform.report.page import Report, metrics_markdown, write_report
from paeplatform.report.sources import choose_sources, flag_names, sparkline
from paeplatform.scores.statistics import metric_table
from paeplatform.scores.targets import against_target

VOID = {"meta", "img", "br", "link", "hr", "input"}
EVIL = "<script>alert('x')</script>\"&"


class Page(HTMLParser):
    """Checks that tags nest, and collects tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def metrics(posteriors) -> pl.DataFrame:
    columns = (posteriors[name].to_numpy() for name in ("pae_z_mean", "pae_z_std", "z_true"))
    return metric_table(*columns, (1e-6, 0.03, 0.2), n_bootstrap=30)


@pytest.fixture
def write(tmp_path, posteriors, metrics):
    """Writes a report and returns (folder, parsed page); keyword arguments replace the defaults."""

    def writer(**changes):
        arguments = {
            "preset": load_preset("demo"),
            "metrics": {"release": metrics},
            "posteriors": posteriors,
            "figures": {"chi2": redshift.chi2_distribution(posteriors["pae_chi2"].to_numpy() / 91)},
            "provenance": {
                "release": "mock-r1",
                "pae version": 3,
                "cells": ["hp6-1", "hp6-2"],
                "seeds": {"a": 1},
            },
            "targets": [
                against_target("first", 0.97, 0.95, "min"),
                against_target("second", 0.02, 0.012, "max"),
                against_target("third", None, 1.0, "max"),
            ],
        }
        path = write_report(tmp_path / "report", Report(**(arguments | changes)))
        assert path == tmp_path / "report" / "index.html"
        return path.parent, Page(path.read_text(encoding="utf-8"))

    return writer


def test_page_holds_the_numbers(write, metrics, posteriors):
    _, page = write()
    row = metrics.filter(pl.col("cut") == 0.2).row(0, named=True)
    assert f"{row['nmad_paper']:.4f}" in page.text
    assert f"{row['nmad_usual']:.4f}" in page.text
    assert f"{row['eta_3sigma'] * 100:.1f}" in page.text
    assert f"{(posteriors['pae_status'] == 'converged').mean():.1%}" in page.text
    for word in ("demo", load_preset("demo").digest(), "mock-r1", "hp6-1, hp6-2", "a: 1"):
        assert word in page.text


def test_paths_and_the_stress_test_have_sections(write):
    _, page = write()
    assert "importance sampling from the amortised proposal" in page.text
    assert "Stress test" not in page.text
    summary = pl.DataFrame(
        {"fraction": [0.0, 0.75], "n": [20, 19], "n_failed": [0, 1], "n_bands": [102.0, 26.0]}
        | {name: [0.0123, None] for name in ("median_sigma", "nmad_paper", "mean_bias", "pit_ks")}
        | {name: [0.6543, 0.25] for name in ("eta_3sigma", "coverage_1sigma", "coverage_2sigma")}
    )
    drawn = redshift.chi2_distribution([1.0, 1.1])
    _, page = write(stress=summary, figures={"missing_bands": drawn, "chi2": drawn})
    assert page.text.count("Stress test: missing bands") == 1
    assert "75%" in page.text
    assert "65.4" in page.text
    images = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert images == ["Missing bands", "Goodness of fit"]
    with pytest.raises(InputError, match="coverage_1sigma"):
        write(stress=summary.drop("coverage_1sigma"))


def test_an_empty_selection_shows_dashes_and_no_zero_metric(write):
    folder, _ = write()
    html = (folder / "index.html").read_text()
    row = re.search(r"<tr><td class='text'>sigma_z/\(1\+z\) &lt; 1e-06</td>(.*?)</tr>", html).group(1)
    assert re.findall(r"<td>(.*?)</td>", row) == ["0"] + ["–"] * 8


def test_verdicts_are_words_and_unmeasured_is_not_a_pass(write):
    _, page = write()
    lights = [attributes["class"] for tag, attributes in page.tags if "light" in attributes.get("class", "")]
    assert lights == ["light met", "light missed", "light unknown"]
    assert "not measured" in page.text


def test_nothing_is_fetched_from_elsewhere(write):
    folder, page = write()
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "base"}
        for name in ("src", "href", "action", "data", "srcset"):
            value = attributes.get(name)
            if value is None or value.startswith(("data:image/png;base64,", "#")):
                continue
            assert (folder / value).is_file(), f"{tag} {name}={value[:60]}"
    css = re.search(r"<style>(.*?)</style>", (folder / "index.html").read_text(), re.DOTALL).group(1)
    assert "url(" not in css
    assert "@import" not in css
    assert "prefers-color-scheme: dark" in css


def test_every_image_has_a_text_alternative_and_a_caption(write):
    _, page = write(
        figures={"chi2": redshift.chi2_distribution([1.0, 1.1]), "my_plot": redshift.chi2_distribution([1.0])}
    )
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert [image["alt"] for image in images] == ["Goodness of fit", "my plot"]
    assert page.text.count("Reduced χ² of the posterior mean") == 1


def test_markup_from_outside_is_escaped(write, metrics, posteriors):
    hostile = posteriors.with_columns(pae_status=pl.lit(EVIL), object_id=pl.lit(EVIL))
    _, page = write(
        posteriors=hostile,
        metrics={EVIL: metrics.with_columns(selection=pl.lit(EVIL))},
        figures={EVIL: redshift.chi2_distribution([1.0, 1.2])},
        provenance={EVIL: EVIL, "release": EVIL},
        targets=[against_target(EVIL, 1.0, 2.0, "max", unit=EVIL)],
        title=EVIL,
    )
    assert not any(tag == "script" for tag, _ in page.tags)
    assert page.text.count(EVIL) > 20


def test_tables_beside_the_page(write, metrics):
    folder, _ = write(metrics={"release": metrics, "SNR > 50": metrics}, provenance={"loss": float("nan")})
    csv = pl.read_csv(folder / "metrics.csv")
    assert csv["sample"].to_list() == ["release"] * 4 + ["SNR > 50"] * 4
    assert csv["nmad_paper"].to_list()[1:4] == pytest.approx(metrics["nmad_paper"].to_list()[1:])
    content = json.loads((folder / "metrics.json").read_text())
    assert content["tables"]["release"] == metrics.to_dicts()
    assert content["tables"]["release"][0]["nmad_paper"] is None
    assert content["provenance"]["loss"] is None
    assert [line["meets"] for line in content["targets"]] == [True, False, None]
    markdown = (folder / "metrics.md").read_text()
    assert "## SNR > 50" in markdown
    assert (
        len(
            {
                line.replace("\\|", "").count("|")
                for line in markdown.splitlines()
                if line.startswith("| sigma")
            }
        )
        == 1
    )


def test_markdown_escapes_the_column_separator(metrics):
    text = metrics_markdown({"x": metrics.with_columns(selection=pl.lit("a|b"))})
    assert "a\\|b" in text


def test_a_second_report_replaces_the_first_and_leaves_no_temporary_file(write):
    write(title="first-title")
    folder, page = write(title="second-title")
    assert "second-title" in page.text
    assert "first-title" not in page.text
    assert sorted(path.name for path in folder.iterdir()) == [
        "index.html",
        "metrics.csv",
        "metrics.json",
        "metrics.md",
    ]


def test_bad_input_is_named_before_anything_is_written(write, tmp_path, metrics, posteriors):
    for changes, words in (
        ({"metrics": {"release": metrics.drop("nmad_usual")}}, "nmad_usual"),
        ({"targets": [{"name": "t", "value": 1}]}, "target 0"),
        ({"figures": {"photo": b"JFIF"}}, "photo"),
        ({"posteriors": posteriors.drop("pae_rhat")}, "pae_rhat"),
        ({"posteriors": posteriors.drop("z_true")}, "z_true"),
    ):
        with pytest.raises(InputError, match=words):
            write(**changes)
    assert not (tmp_path / "report").exists()


def test_no_sources_at_all(write, posteriors):
    _, page = write(
        posteriors=posteriors.head(0), metrics={"release": metric_table([], [], [], (0.1,))}, targets=[]
    )
    assert "No sources." in page.text
    assert "No targets" in page.text


def test_choice_of_sources(posteriors):
    chosen = choose_sources(posteriors)
    error = ((posteriors["pae_z_mean"] - posteriors["z_true"]) / (1 + posteriors["z_true"])).abs()
    finite = error.is_finite()
    worst = chosen.filter(pl.col("why") == "worst")["object_id"].to_list()
    assert worst[0] == posteriors.filter(error == error.filter(finite).max())["object_id"].item()
    assert chosen["object_id"].is_unique().all()
    assert chosen.filter(pl.col("why") == "flagged")["pae_status"].is_in(["unconverged", "failed"]).all()
    assert 8 <= chosen.height <= 11
    assert "failed" in chosen["pae_status"].to_list()  # the source without a posterior is shown, not hidden


def test_flags_are_named(write):
    assert flag_names(0) == "–"
    assert flag_names(1 | 16) == "unconverged, multimodal"
    _, page = write()
    assert "no posterior" in page.text


def test_sparkline_peaks_where_the_posterior_does():
    levels = np.linspace(0.01, 0.99, 51)
    from scipy.stats import norm

    svg = sparkline(norm.ppf(levels, 1.0, 0.1), levels, 1.0, 0.4)
    path = re.search(r"<path d='M0 \S+ ?(.*?)Z'", svg).group(1)
    points = np.array([[float(v) for v in p.split()] for p in re.findall(r"L([\d.]+ [\d.]+)", path)])
    peak = points[points[:, 1].argmin(), 0]
    hat = float(re.search(r"class='hat'.*?x1='([\d.]+)'", svg).group(1))
    truth = float(re.search(r"class='truth' x1='([\d.]+)'", svg).group(1))
    assert peak == pytest.approx(hat, abs=12)
    assert truth < 20 < 100 < hat
    assert "no posterior" in sparkline(None, levels, None, 1.0)
    assert "no posterior" in sparkline([np.nan] * 51, levels, np.nan, 1.0)
