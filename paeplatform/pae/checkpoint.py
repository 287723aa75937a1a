"""Training state on disk: one file, written whole or not at all, never pickled.

The first line is JSON (identity of the run, epoch, history, checksum), the rest the leaves of the state pytree.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np

from paeplatform.errors import CheckpointError
from paeplatform.files import write_whole


def array_digest(*arrays: np.ndarray) -> str:
    """Sixteen hex digits over shapes, types and bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        contiguous = np.ascontiguousarray(array)
        digest.update(f"{contiguous.shape}{contiguous.dtype}".encode())
        digest.update(contiguous.view(np.uint8).data)
    return digest.hexdigest()[:16]


def write_state(path: Path, header: dict[str, Any], state: Any) -> None:
    """Writes header and state under a temporary name, then renames.

    Args:
        path: the checkpoint file.
        header: what JSON holds.
        state: pytree whose array leaves are stored.
    """
    buffer = io.BytesIO()
    eqx.tree_serialise_leaves(buffer, state)
    payload = buffer.getvalue()
    line = json.dumps({**header, "sha256": hashlib.sha256(payload).hexdigest()}).encode() + b"\n"
    write_whole(path, line + payload, sync=True)


def read_state(path: Path, like: Any) -> tuple[dict[str, Any], Any]:
    """Reads what `write_state` wrote.

    Args:
        path: the checkpoint file.
        like: pytree of the same structure.

    Raises:
        CheckpointError: truncated, altered, or of another layout.
    """
    line, _, payload = path.read_bytes().partition(b"\n")
    try:
        header = json.loads(line)
        recorded = header["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: the header line is not readable") from error
    if hashlib.sha256(payload).hexdigest() != recorded:
        raise CheckpointError(f"{path}: truncated or altered (checksum differs)")
    try:
        return header, eqx.tree_deserialise_leaves(io.BytesIO(payload), like)
    except Exception as error:  # equinox raises several types for a leaf that does not fit
        raise CheckpointError(f"{path}: layout differs from the model ({_first_line(error)})") from error


def read_header(path: Path) -> dict[str, Any]:
    """The JSON line alone; empty when there is none."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.readline())
    except (OSError, ValueError):
        return {}
    return header if isinstance(header, dict) else {}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
