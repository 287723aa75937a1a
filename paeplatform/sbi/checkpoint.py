"""Tensors as bytes: weights of the network, or the state of its training (`paeplatform.model_files`)."""

from __future__ import annotations

from collections.abc import Mapping

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from paeplatform.errors import CheckpointError
from paeplatform.model_files import one_line


def tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors as safetensors, from whatever device they are on."""
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def tensors_from(content: bytes, name: object) -> dict[str, Tensor]:
    """Reads what `tensor_bytes` wrote; `name` stands in the message.

    Raises:
        CheckpointError: not safetensors.
    """
    try:
        return load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{name}: not safetensors ({one_line(error)})") from error
