"""An SBI model on disk: weights as safetensors, all else as JSON with checksums. Loading runs no code."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors.torch import save

from paeplatform.config import SbiConfig
from paeplatform.errors import CheckpointError, ConfigError
from paeplatform.files import write_whole
from paeplatform.sbi.checkpoint import tensors_of
from paeplatform.sbi.model import SbiModel, TrainedRange, build_model

FORMAT = 1
KIND = "sbi"
WEIGHTS, RECORD = "sbi.safetensors", "sbi.json"
_DOMAIN = ("domain.centre", "domain.whitening")


def save_sbi(model: SbiModel, band_hash: str, folder: Path) -> Path:
    """Writes `sbi.safetensors` and `sbi.json`, without which there is no model; returns the JSON's path.

    Args:
        model: trained.
        band_hash: `BandSet.content_hash()` of the bands it is meant for.
        folder: made when it is not there.

    Raises:
        CheckpointError: the model was not trained.
    """
    known = model.trained_range
    if known is None:
        raise CheckpointError(f"{folder}: an SBI model without its trained range is not saved")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    domain = (torch.from_numpy(known.centre.copy()), torch.from_numpy(known.whitening.copy()))
    payload = save(tensors | dict(zip(_DOMAIN, domain, strict=True)))
    write_whole(folder / WEIGHTS, payload)
    record = {
        "format": FORMAT,
        "kind": KIND,
        "config": model.cfg.model_dump(mode="json"),
        "z_limits": list(model.z_limits),
        "depth_ujy": [float(value) for value in model.depth.cpu()],
        "trained_range": {
            "snr": list(known.snr),
            "depth": list(known.depth),
            "fewest_bands": known.fewest_bands,
            "farthest": known.farthest,
        },
        "band_hash": band_hash,
        "weights_sha256": _sha256(payload),
    }
    write_whole(folder / RECORD, (json.dumps(record, indent=1) + "\n").encode())
    return folder / RECORD


def load_sbi(folder: Path) -> tuple[SbiModel, str]:
    """(model, band hash) that `save_sbi` wrote, on the CPU.

    Raises:
        CheckpointError: a file is missing, truncated, altered, or does not fit the other; one line.
    """
    path = Path(folder) / RECORD
    record = _record(path)
    weights = Path(folder) / WEIGHTS
    payload = _read(weights)
    if _sha256(payload) != record.get("weights_sha256"):
        raise CheckpointError(f"{weights}: truncated or altered (sha256 differs from the recorded one)")
    tensors = tensors_of(payload, weights)
    try:
        cfg = SbiConfig.model_validate(record["config"])
        low, high = (float(z) for z in record["z_limits"])
        depth = np.asarray(record["depth_ujy"], dtype=np.float64)
        model = build_model(cfg, depth, (low, high), seed=0)
        known = record["trained_range"]
        centre, whitening = (tensors.pop(name).numpy() for name in _DOMAIN)
        model.trained_range = TrainedRange(
            snr=_pair(known["snr"]),
            depth=_pair(known["depth"]),
            fewest_bands=int(known["fewest_bands"]),
            centre=centre,
            whitening=whitening,
            farthest=float(known["farthest"]),
        )
        band_hash = str(record["band_hash"])
    except (KeyError, TypeError, ValueError, ValidationError, ConfigError) as error:
        raise CheckpointError(f"{path}: {_one_line(error)}") from error
    width = cfg.encoder.width
    if centre.shape != (width,) or whitening.shape != (width, width):
        raise CheckpointError(f"{weights}: the domain does not have the encoder's width {width}")
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"{weights}: does not fit the hyperparameters in {RECORD} ({_one_line(error)})"
        ) from error
    everything = [*tensors.values(), torch.from_numpy(centre), torch.from_numpy(whitening)]
    if not all(bool(torch.isfinite(tensor).all()) for tensor in everything):
        raise CheckpointError(f"{weights}: holds weights that are not finite")
    return model.eval(), band_hash


def _pair(values: Any) -> tuple[float, float]:
    low, high = (float(value) for value in values)
    return low, high


def _record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(_read(path))
    except ValueError as error:
        raise CheckpointError(f"{path}: not valid JSON ({_one_line(error)})") from error
    if not isinstance(record, dict) or record.get("kind") != KIND:
        raise CheckpointError(f"{path}: does not describe a model of kind {KIND!r}")
    if record.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format {record.get('format')!r}, this version reads {FORMAT}")
    return record


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or 'cannot be read'}") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
