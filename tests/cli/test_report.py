"""`paeplatform report` and `tables`: what is there, where it goes, and what is said when there is nothing."""

from collections.abc import Callable
from pathlib import Path


def test_report_names_the_page_and_says_which_there_are(command: Callable, home: Path) -> None:
    none = command("report", "--no-open", "--home", home)
    assert none.code == 2 and "there are none yet" in none.err
    page = home / "var" / "report" / "mock-r1" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<html></html>")
    assert command("report", "--no-open", "--home", home).out.strip() == str(page)
    other = command("report", "--no-open", "--release", "r9", "--home", home)
    assert other.code == 2 and "there are mock-r1" in other.err


def test_report_opens_the_page(command: Callable, home: Path, monkeypatch) -> None:
    page = home / "var" / "report" / "mock-r1" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<html></html>")
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or False)
    shown = command("report", "--home", home)
    assert opened == [page.resolve().as_uri()]
    assert "open the file by hand" in shown.out


def test_tables_are_printed_or_copied_with_what_made_them(
    command: Callable, home: Path, tmp_path: Path
) -> None:
    none = command("tables", "--home", home)
    assert none.code == 2 and "--select paper_figures" in none.err
    results = home / "var" / "results"
    results.mkdir(parents=True)
    (results / "table_priors.md").write_text("# Table 1\n\n| n |\n|---|\n| 7 |\n")
    (results / "table_priors.csv").write_text("n\n7\n")
    assert "| 7 |" in command("tables", "--home", home).out
    to = tmp_path / "docs" / "results"
    assert command("tables", "--home", home, "--to", to).code == 0
    assert (to / "table_priors.csv").read_text() == "n\n7\n"
    readme = (to / "README.md").read_text()
    for words in (
        "--preset demo",
        "preset digest",
        "771000001",
        "[table_priors](table_priors.md)",
        "polars ",
    ):
        assert words in readme
