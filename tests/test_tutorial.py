"""The tutorial: the notebook runs and shows what its text says, and the page of the documentation is made from it."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from tests.scripts import load_script

RENEW = "out of date: run .venv/bin/python scripts/make_tutorial.py"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
REDSHIFT = r"Redshift: z = (\d+\.\d+), 68 % interval (\d+\.\d+) to (\d+\.\d+)"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("make_tutorial")


@pytest.fixture(scope="module")
def stored(script: ModuleType) -> NotebookNode:
    return nbformat.read(script.NOTEBOOK, as_version=4)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: sockets lie in it, whose paths may have some hundred letters."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def printed(notebook: NotebookNode) -> list[str]:
    """What each code cell prints."""
    return [
        "".join(output.text for output in cell.outputs if output.output_type == "stream")
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def printed_with(notebook: NotebookNode, words: str) -> str:
    (found,) = [text for text in printed(notebook) if words in text]
    return found


def numbers(pattern: str, text: str) -> list[float]:
    """The groups of a pattern's first place in a text."""
    found = re.search(pattern, text)
    assert found is not None, f"{pattern} is not in {text}"
    return [float(group) for group in found.groups()]


def test_the_page_and_its_figures_are_those_of_the_notebook(script: ModuleType, stored: NotebookNode) -> None:
    text, figures = script.page(stored)
    assert script.PAGE.read_text(encoding="utf-8") == text, RENEW
    assert figures
    for name, content in figures.items():
        path = script.FIGURES / f"{name}.png"
        assert path.is_file() and path.read_bytes() == content, f"{path.name} is {RENEW}"


def test_the_stored_outputs_are_those_of_one_run(stored: NotebookNode) -> None:
    counts = [cell.execution_count for cell in stored.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), RENEW


def test_the_notebook_runs_and_shows_what_its_text_says(
    script: ModuleType, stored: NotebookNode, folder: Path
) -> None:
    made = script.executed(stored, folder)

    assert set(script.page(made)[1]) == set(script.page(stored)[1])
    # what no model has a part in is what the page shows
    for words in ("lambda_width, flux, flux_err", "measurements of 6 sources were read"):
        assert printed_with(made, words) == printed_with(stored, words), RENEW
    first = printed_with(made, "The true redshift is")
    z, low, high = numbers(REDSHIFT, first)
    (z_true,) = numbers(r"The true redshift is (\d+\.\d+)", first)
    assert low < z < high
    assert abs(z - z_true) / (1.0 + z_true) < 0.1
    assert "NO USABLE REDSHIFT for dwarf_snr300" in printed_with(made, "with errors")
    classes = printed_with(made, "class_best")
    assert re.search(r"dwarf_snr300 +┆ misfit .*┆ brown_dwarf", classes)
    assert re.search(r"star_snr3000 +┆ .*┆ star ", classes) and re.search(
        r"star_snr100 +┆ .*┆ star ", classes
    )
    corrected, _, _ = numbers(REDSHIFT, printed_with(made, "dust corrected").split("dust corrected")[1])
    assert corrected == pytest.approx(z, abs=0.5 * (high - low))
    chi2 = [float(number) for number in re.findall(r"chi\^2 ([\d.]+)", printed_with(made, "error floor 5"))]
    assert len(chi2) == 3 and chi2 == sorted(chi2, reverse=True)


def test_a_cell_that_fails_fails_the_run(script: ModuleType, folder: Path) -> None:
    notebook = new_notebook(cells=[new_code_cell("1 / 0")])
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        script.executed(notebook, folder)


def test_a_run_keeps_what_is_printed_in_one_piece_and_leaves_out_stderr(
    script: ModuleType, folder: Path
) -> None:
    code = "import sys\nprint('one')\nprint('not this', file=sys.stderr)\nprint('two')"
    made = script.executed(new_notebook(cells=[new_code_cell(code)]), folder)
    (output,) = made.cells[0].outputs
    assert (output.name, output.text) == ("stdout", "one\ntwo\n")
    assert made.cells[0].metadata == {}


def test_the_page_holds_texts_code_and_outputs_in_their_order(script: ModuleType) -> None:
    drawn = new_output("display_data", data={"image/png": PNG, "text/plain": "<Figure>"})
    cells = [
        new_markdown_cell("# Heading\n\nA sentence."),
        new_code_cell(
            "print(1)", execution_count=1, outputs=[new_output("stream", name="stdout", text="1\n")]
        ),
        new_code_cell(
            "draw()", execution_count=2, outputs=[drawn], metadata={"figure": {"name": "f", "alt": "A dot"}}
        ),
        new_code_cell(
            "x", execution_count=3, outputs=[new_output("execute_result", data={"text/plain": "2"})]
        ),
    ]
    text, figures = script.page(new_notebook(cells=cells))
    assert text == (
        f"# Heading\n\n{script.NOTE}\nA sentence.\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n\n"
        "```python\ndraw()\n```\n\n![A dot](img/f.png)\n\n```python\nx\n```\n\n```text\n2\n```\n"
    )
    assert list(figures) == ["f"]
    assert Image.open(io.BytesIO(figures["f"])).size == (1, 1)


def test_the_page_refuses_a_notebook_that_was_not_run_or_failed(script: ModuleType) -> None:
    heading = new_markdown_cell("# H\n\nText.")
    with pytest.raises(ValueError, match="cell 2 was not run"):
        script.page(new_notebook(cells=[heading, new_code_cell("1")]))
    failed = new_output("error", ename="KeyError", evalue="'z'", traceback=[])
    with pytest.raises(ValueError, match="cell 2 failed: KeyError: 'z'"):
        script.page(new_notebook(cells=[heading, new_code_cell("1", execution_count=1, outputs=[failed])]))
    nameless = new_output("display_data", data={"image/png": PNG})
    with pytest.raises(ValueError, match="cell 2 draws"):
        script.page(new_notebook(cells=[heading, new_code_cell("1", execution_count=1, outputs=[nameless])]))
