"""Pytrees as bytes: weights of a model, or the state of its training (`paeplatform.model_files`)."""

from __future__ import annotations

import io
from typing import Any

import equinox as eqx

from paeplatform.errors import CheckpointError
from paeplatform.model_files import one_line


def tree_bytes(tree: Any) -> bytes:
    """The array leaves of a pytree, as equinox lays them out."""
    buffer = io.BytesIO()
    eqx.tree_serialise_leaves(buffer, tree)
    return buffer.getvalue()


def tree_from(content: bytes, like: Any) -> Any:
    """Reads what `tree_bytes` wrote into a pytree of the structure of `like`.

    Raises:
        CheckpointError: of another layout.
    """
    try:
        return eqx.tree_deserialise_leaves(io.BytesIO(content), like)
    except Exception as error:  # equinox raises several types for a leaf that does not fit
        raise CheckpointError(f"layout differs from the model ({one_line(error)})") from error
