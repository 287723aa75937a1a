"""Files of models and of unfinished trainings, whatever library made the weights; nothing is ever pickled.

A model is a file of weights and a record beside it: JSON with the kind of model, its hyperparameters and checksums. The
state of a training is one file, written whole or not at all: a line of JSON (identity of the run, history, checksum),
then the state's bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paeplatform.errors import CheckpointError
from paeplatform.files import write_whole

FORMAT = 1  # of records


def sha256(content: bytes) -> str:
    """The checksum that records and states hold."""
    return hashlib.sha256(content).hexdigest()


def array_digest(*arrays: np.ndarray) -> str:
    """Sixteen hex digits over shapes, types and bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        contiguous = np.ascontiguousarray(array)
        digest.update(f"{contiguous.shape}{contiguous.dtype}".encode())
        digest.update(contiguous.view(np.uint8).data)
    return digest.hexdigest()[:16]


def one_line(error: BaseException) -> str:
    """What an error says, short and in one line."""
    return " ".join(str(error).split())[:160] or type(error).__name__


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        CheckpointError: it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or 'cannot be read'}") from error


def read_checked(path: Path, recorded: object) -> bytes:
    """The content of a file whose checksum a record holds.

    Raises:
        CheckpointError: it cannot be read, or has another checksum.
    """
    content = read_bytes(path)
    if sha256(content) != recorded:
        raise CheckpointError(f"{path}: truncated or altered (sha256 differs from the recorded one)")
    return content


def write_record(path: Path, kind: str, content: Mapping[str, Any]) -> Path:
    """Writes the record of a model; returns its path."""
    return write_whole(path, json.dumps({"format": FORMAT, "kind": kind, **content}, indent=1) + "\n")


def read_record(path: Path, kind: str) -> dict[str, Any]:
    """Reads what `write_record` wrote.

    Raises:
        CheckpointError: it cannot be read, or is of another kind or format.
    """
    try:
        record = json.loads(read_bytes(path))
    except ValueError as error:
        raise CheckpointError(f"{path}: not valid JSON ({one_line(error)})") from error
    if not isinstance(record, dict) or record.get("kind") != kind:
        raise CheckpointError(f"{path}: does not describe a model of kind {kind!r}")
    if record.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format {record.get('format')!r}, this version reads {FORMAT}")
    return record


def write_state_bytes(path: Path, header: Mapping[str, Any], payload: bytes) -> None:
    """Writes the state of a training.

    Args:
        path: the checkpoint file.
        header: what JSON holds; the checksum is added.
        payload: the state.
    """
    line = json.dumps({**header, "sha256": sha256(payload)}).encode() + b"\n"
    write_whole(path, line + payload, sync=True)


def read_state_bytes(path: Path) -> tuple[dict[str, Any], bytes]:
    """Reads (header, payload) that `write_state_bytes` wrote.

    Raises:
        CheckpointError: truncated, altered, or not such a file.
    """
    line, _, payload = path.read_bytes().partition(b"\n")
    try:
        header = json.loads(line)
        recorded = header["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: the header line is not readable") from error
    if sha256(payload) != recorded:
        raise CheckpointError(f"{path}: truncated or altered (checksum differs)")
    return header, payload
