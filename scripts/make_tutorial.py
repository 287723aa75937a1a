"""Runs the tutorial notebook `docs/tutorial.ipynb` and makes the page `docs/tutorial.md` and its figures from it.

    .venv/bin/python scripts/make_tutorial.py              # after a change of the notebook, or of the model that ships
    .venv/bin/python scripts/make_tutorial.py --no-run     # the page again from the outputs that the notebook holds

The notebook is the source: its texts and code become the page, word for word. A cell that draws has the metadata
`figure` with the name of its file in `docs/img` and the words that stand for it where it cannot be seen.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK, PAGE, FIGURES = ROOT / "docs/tutorial.ipynb", ROOT / "docs/tutorial.md", ROOT / "docs/img"
NOTE = "<!-- Made by scripts/make_tutorial.py from docs/tutorial.ipynb: change that. -->\n"
COLOURS, MOST_PIXELS = (
    48,
    950,
)  # of a stored figure: its colours and its width, which make it a third as large
SECONDS = 600  # of one cell
_TERMINAL = re.compile(r"\x1b\[[0-9;]*m")


def executed(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """A copy of the notebook with the outputs of a run, in a process of its own.

    What is written to stderr, such as a library's hint at a widget that is not installed, is left out: it differs from
    machine to machine.

    Args:
        notebook: its outputs are not read.
        folder: where it runs, and where Jupyter keeps its files.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    made = nbformat.reads(nbformat.writes(notebook), as_version=4)
    # Figures go into the notebook, whatever draws elsewhere, and nothing is written to the user's home.
    environment = {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "IPYTHONDIR": str(folder / "ipython"),
    }
    client = NotebookClient(
        made,
        timeout=SECONDS,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
        # sockets in the folder, not ports that others on the machine could talk to
        config=Config(KernelManager={"transport": "ipc", "connection_file": str(folder / "kernel.json")}),
    )
    with patch.dict(os.environ, environment):
        client.execute()
    made.metadata = notebook.metadata  # without the version of Python
    for cell in made.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    output.data["image/png"] = _smaller(output.data["image/png"])
    return made


def page(notebook: NotebookNode) -> tuple[str, dict[str, bytes]]:
    """(text of the page, figures by their names without .png) of a notebook with its outputs.

    Raises:
        ValueError: a code cell has no outputs of a run, has failed, or draws without saying what.
    """
    blocks, figures = [], {}
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "markdown":
            blocks.append(cell.source)
            continue
        if cell.execution_count is None:
            raise ValueError(f"cell {number} was not run")
        blocks.append(f"```python\n{cell.source}\n```")
        blocks += [_shown(output, cell, number, figures) for output in cell.outputs]
    text = "\n\n".join(blocks)
    first, rest = text.split("\n", 1)  # the heading stays the first line
    return f"{first}\n\n{NOTE}{rest.rstrip()}\n", figures


def _shown(output: NotebookNode, cell: NotebookNode, number: int, figures: dict[str, bytes]) -> str:
    if output.output_type == "error":
        raise ValueError(f"cell {number} failed: {output.ename}: {output.evalue}")
    if output.output_type == "stream":
        return f"```text\n{_TERMINAL.sub('', output.text).rstrip()}\n```"
    if "image/png" not in output.data:
        return f"```text\n{output.data['text/plain'].rstrip()}\n```"
    if "figure" not in cell.metadata:
        raise ValueError(f"cell {number} draws, but its metadata have no figure with name and alt")
    name = cell.metadata.figure.name
    figures[name] = base64.b64decode(output.data["image/png"])
    return f"![{cell.metadata.figure.alt}](img/{name}.png)"


def _smaller(png: str) -> str:
    """A picture of few colours and no great width, as base64."""
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        flat = Image.new("RGB", picture.size, "white")
        flat.paste(picture, mask=picture.getchannel("A") if picture.mode == "RGBA" else None)
    if flat.width > MOST_PIXELS:
        height = round(flat.height * MOST_PIXELS / flat.width)
        flat = flat.resize((MOST_PIXELS, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    flat.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Make docs/tutorial.md from docs/tutorial.ipynb.")
    parser.add_argument("--no-run", action="store_true", help="take the outputs that the notebook holds")
    options = parser.parse_args(arguments)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    if not options.no_run:
        with tempfile.TemporaryDirectory() as folder:
            notebook = executed(notebook, Path(folder))
        nbformat.write(notebook, NOTEBOOK)
    text, figures = page(notebook)
    for name, content in figures.items():
        (FIGURES / f"{name}.png").write_bytes(content)
    PAGE.write_text(text, encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)} and {len(figures)} figures", file=sys.stderr)


if __name__ == "__main__":
    main()
