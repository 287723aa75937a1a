"""How commands print: text as it is, and JSON for scripts."""

from __future__ import annotations

import json
from typing import Any

import typer
from rich.console import Console


def print_text(text: str, style: str | None = None) -> None:
    """Prints text as it is: what stands in brackets is no markup, and a long path keeps its line."""
    Console().print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def print_json(tree: Any) -> None:
    """Prints a tree of plain values as JSON."""
    typer.echo(json.dumps(tree, indent=1))
