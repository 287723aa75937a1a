"""Tensors on disk: the state of a training in one file, written whole or not at all, never pickled.

The first line is JSON (identity of the run, history, checksum), the rest is safetensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from paeplatform.errors import CheckpointError
from paeplatform.files import write_whole


def array_digest(*arrays: np.ndarray) -> str:
    """Sixteen hex digits over shapes, types and bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def write_state(path: Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Writes header and tensors under a temporary name, then renames."""
    payload = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    line = json.dumps({**header, "sha256": hashlib.sha256(payload).hexdigest()}).encode() + b"\n"
    write_whole(path, line + payload, sync=True)


def read_state(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Reads what `write_state` wrote.

    Raises:
        CheckpointError: truncated, altered, or not such a file.
    """
    line, _, payload = path.read_bytes().partition(b"\n")
    try:
        header = json.loads(line)
        recorded = header["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: the header line is not readable") from error
    if hashlib.sha256(payload).hexdigest() != recorded:
        raise CheckpointError(f"{path}: truncated or altered (checksum differs)")
    return header, tensors_of(payload, path)


def tensors_of(payload: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors of safetensors bytes; `path` is named in the error.

    Raises:
        CheckpointError: not safetensors.
    """
    try:
        return load(payload)
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: not safetensors ({' '.join(str(error).split())[:120]})") from error
