"""An SBI model on disk: weights as safetensors, all else as JSON with checksums. Loading runs no code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from paeplatform.config import SbiConfig
from paeplatform.errors import CheckpointError, ConfigError
from paeplatform.files import write_whole
from paeplatform.model_files import one_line, read_checked, read_record, sha256, write_record
from paeplatform.sbi.checkpoint import tensor_bytes, tensors_from
from paeplatform.sbi.model import SbiModel, TrainedRange, build_model

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
    domain = (torch.from_numpy(known.centre.copy()), torch.from_numpy(known.whitening.copy()))
    payload = tensor_bytes(model.state_dict() | dict(zip(_DOMAIN, domain, strict=True)))
    write_whole(folder / WEIGHTS, payload)
    record = {
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
        "weights_sha256": sha256(payload),
    }
    return write_record(folder / RECORD, KIND, record)


def load_sbi(folder: Path) -> tuple[SbiModel, str]:
    """(model, band hash) that `save_sbi` wrote, on the CPU.

    Raises:
        CheckpointError: a file is missing, truncated, altered, or does not fit the other; one line.
    """
    path = Path(folder) / RECORD
    record = read_record(path, KIND)
    weights = Path(folder) / WEIGHTS
    tensors = tensors_from(read_checked(weights, record.get("weights_sha256")), weights)
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
        raise CheckpointError(f"{path}: {one_line(error)}") from error
    width = cfg.encoder.width
    if centre.shape != (width,) or whitening.shape != (width, width):
        raise CheckpointError(f"{weights}: the domain does not have the encoder's width {width}")
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"{weights}: does not fit the hyperparameters in {RECORD} ({one_line(error)})"
        ) from error
    everything = [*tensors.values(), torch.from_numpy(centre), torch.from_numpy(whitening)]
    if not all(bool(torch.isfinite(tensor).all()) for tensor in everything):
        raise CheckpointError(f"{weights}: holds weights that are not finite")
    return model.eval(), band_hash


def _pair(values: Any) -> tuple[float, float]:
    low, high = (float(value) for value in values)
    return low, high
