"""Inline JavaScript and data of pages that fetch nothing."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any


def javascript(*files: tuple[str, str]) -> str:
    """A script element with some files' content, one after the other.

    Args:
        files: (package, name) of each.
    """
    texts = [(resources.files(package) / name).read_text(encoding="utf-8").strip() for package, name in files]
    return "<script>{}</script>".format("\n".join(texts))


def json_element(identity: str, data: Any) -> str:
    """Data that a script reads, as an element that no content can end early.

    Args:
        identity: of the element.
        data: plain JSON types; numbers must be finite.
    """
    # "<" cannot end the script element early, whatever a source or a template is called
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f"<script type='application/json' id='{identity}'>{text}</script>"
