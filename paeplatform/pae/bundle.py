"""Models on disk: a weights file and a JSON of hyperparameters and checksums beside it, without pickle.

A bundle is what inference loads: autoencoder, flow, amortised proposal, configuration, rest-frame grid, and the hashes
of the band set and template library it was trained for. Bundles from before there was a proposal load without one.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from pydantic import ValidationError

from paeplatform.config import AutoencoderConfig, FlowConfig, PaeConfig, ProposalConfig
from paeplatform.errors import CheckpointError
from paeplatform.files import write_whole
from paeplatform.pae.autoencoder import Autoencoder, CompactAutoencoder, build_autoencoder
from paeplatform.pae.flow import LatentFlow, build_flow
from paeplatform.pae.proposal import Proposal, build_proposal

FORMAT = 1
AUTOENCODER = "autoencoder"
FLOW = "flow"
PROPOSAL = "proposal"
BUNDLE = "bundle"
_NEEDED = (AUTOENCODER, FLOW)
_PARTS = (*_NEEDED, PROPOSAL)
LANDMARKS = "landmarks.npy"


@dataclass(frozen=True)
class PaeBundle:
    """One trained PAE.

    Attributes:
        autoencoder: trained network.
        flow: trained on its latents.
        pae: configuration both were trained with.
        n_latent: latent size.
        wave: (n_wave,) rest-frame grid [um], float64.
        band_hash: `BandSet.content_hash()` of the bands it is meant for.
        library_hash: `TemplateLibrary.content_hash()` of the templates behind the training set.
        landmarks: (n_landmark, n_latent) base variables of those templates, where the search for starts also looks
            (`pae.landmarks`); None for a bundle without them.
        proposal: what importance sampling draws from (`pae.proposal`), trained on this autoencoder and flow; None
            for a bundle without one, which MCLMC alone can sample.
        proposal_config: configuration the proposal was trained with; None without a proposal.
    """

    autoencoder: Autoencoder
    flow: LatentFlow
    pae: PaeConfig
    n_latent: int
    wave: np.ndarray
    band_hash: str
    library_hash: str
    landmarks: np.ndarray | None = None
    proposal: Proposal | None = None
    proposal_config: ProposalConfig | None = None

    def decoder_head(self) -> np.ndarray | None:
        """(n_component + 1, n_wave) float64 basis of the linear head; None for an architecture that has none."""
        if isinstance(self.autoencoder, CompactAutoencoder):
            return np.asarray(self.autoencoder.basis(), dtype=np.float64)
        return None


def save_autoencoder(
    model: Autoencoder, cfg: AutoencoderConfig, n_latent: int, n_wave: int, folder: Path
) -> Path:
    """Writes `autoencoder.eqx` and `autoencoder.json`; returns the JSON's path."""
    hparams = {"config": cfg.model_dump(mode="json"), "n_latent": n_latent, "n_wave": n_wave}
    return _save(model, AUTOENCODER, hparams, Path(folder))


def load_autoencoder(folder: Path) -> Autoencoder:
    """Reads what `save_autoencoder` wrote.

    Raises:
        CheckpointError: missing, truncated, altered, or not matching its hyperparameters.
    """
    folder = Path(folder)
    record = _read_record(folder / f"{AUTOENCODER}.json", AUTOENCODER)
    cfg = _parse(AutoencoderConfig, record, folder / f"{AUTOENCODER}.json")
    n_latent, n_wave = (
        _size(record, name, folder / f"{AUTOENCODER}.json") for name in ("n_latent", "n_wave")
    )

    def skeleton() -> Autoencoder:
        return build_autoencoder(cfg, n_latent, n_wave, key=jr.key(0))

    return _load(folder, AUTOENCODER, record, skeleton)


def save_flow(model: LatentFlow, cfg: FlowConfig, n_latent: int, folder: Path) -> Path:
    """Writes `flow.eqx` and `flow.json`; returns the JSON's path."""
    return _save(model, FLOW, {"config": cfg.model_dump(mode="json"), "n_latent": n_latent}, Path(folder))


def load_flow(folder: Path) -> LatentFlow:
    """Reads what `save_flow` wrote.

    Raises:
        CheckpointError: missing, truncated, altered, or not matching its hyperparameters.
    """
    folder = Path(folder)
    record = _read_record(folder / f"{FLOW}.json", FLOW)
    if isinstance(record.get("config"), dict):
        record["config"].setdefault("tails", "linear")  # flows before the warp do not name it
    cfg = _parse(FlowConfig, record, folder / f"{FLOW}.json")
    n_latent = _size(record, "n_latent", folder / f"{FLOW}.json")

    def skeleton() -> LatentFlow:
        return build_flow(cfg, jnp.zeros((2, n_latent)), key=jr.key(0))

    return _load(folder, FLOW, record, skeleton)


def save_proposal(
    model: Proposal,
    cfg: ProposalConfig,
    n_latent: int,
    n_band: int,
    z_limits: tuple[float, float],
    folder: Path,
) -> Path:
    """Writes `proposal.eqx` and `proposal.json`; returns the JSON's path."""
    hparams = {
        "config": cfg.model_dump(mode="json"),
        "n_latent": n_latent,
        "n_band": n_band,
        "z_limits": [float(z) for z in z_limits],
    }
    return _save(model, PROPOSAL, hparams, Path(folder))


def load_proposal(folder: Path) -> Proposal:
    """Reads what `save_proposal` wrote.

    Raises:
        CheckpointError: missing, truncated, altered, or not matching its hyperparameters.
    """
    return _load_proposal(Path(folder))[0]


def _load_proposal(folder: Path) -> tuple[Proposal, ProposalConfig]:
    path = folder / f"{PROPOSAL}.json"
    record = _read_record(path, PROPOSAL)
    cfg = _parse(ProposalConfig, record, path)
    n_latent, n_band = (_size(record, name, path) for name in ("n_latent", "n_band"))
    z_limits = _limits(record, path)

    def skeleton() -> Proposal:
        return build_proposal(cfg, n_latent, n_band, z_limits, key=jr.key(0))

    return _load(folder, PROPOSAL, record, skeleton), cfg


def save_bundle(bundle: PaeBundle, folder: Path) -> Path:
    """Writes the models, then `bundle.json`, without which there is no bundle; returns the JSON's path.

    Raises:
        CheckpointError: a proposal without its configuration, or of another latent size than the bundle's.
    """
    folder = Path(folder)
    parts = [
        save_autoencoder(
            bundle.autoencoder, bundle.pae.autoencoder, bundle.n_latent, len(bundle.wave), folder
        ),
        save_flow(bundle.flow, bundle.pae.flow, bundle.n_latent, folder),
        *_save_proposal_of(bundle, folder),
    ]
    landmarks = None if bundle.landmarks is None else _save_landmarks(bundle.landmarks, folder)
    record = {
        "format": FORMAT,
        "kind": BUNDLE,
        "landmarks_sha256": landmarks,
        "pae": bundle.pae.model_dump(mode="json"),
        "n_latent": bundle.n_latent,
        "wave_um": [float(w) for w in bundle.wave],
        "band_hash": bundle.band_hash,
        "library_hash": bundle.library_hash,
        "parts": {part.name: _sha256(part.read_bytes()) for part in parts},
    }
    return _write_json(folder / f"{BUNDLE}.json", record)


def load_bundle(folder: Path) -> PaeBundle:
    """Reads what `save_bundle` wrote.

    Raises:
        CheckpointError: a file is missing, truncated or altered, or the parts do not belong together; one line.
    """
    folder = Path(folder)
    path = folder / f"{BUNDLE}.json"
    record = _read_record(path, BUNDLE)
    parts = record.get("parts")
    needed, known = ({f"{name}.json" for name in names} for names in (_NEEDED, _PARTS))
    if not isinstance(parts, dict) or not needed <= set(parts) <= known:
        raise CheckpointError(f"{path}: must list the parts {AUTOENCODER}.json and {FLOW}.json")
    for name, recorded in parts.items():
        _check_sum(folder / name, _read(folder / name), recorded)
    try:
        pae = PaeConfig.model_validate(record["pae"])
        wave = np.asarray(record["wave_um"], dtype=np.float64)
        hashes = str(record["band_hash"]), str(record["library_hash"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {_one_line(error)}") from error
    n_latent = _size(record, "n_latent", path)
    for part in (name.removesuffix(".json") for name in parts):
        found = _size(_read_record(folder / f"{part}.json", part), "n_latent", folder / f"{part}.json")
        if found != n_latent:
            raise CheckpointError(
                f"{folder / part}.json: n_latent {found} differs from the bundle's {n_latent}"
            )
    n_wave = _size(
        _read_record(folder / f"{AUTOENCODER}.json", AUTOENCODER), "n_wave", folder / f"{AUTOENCODER}.json"
    )
    if wave.shape != (n_wave,) or not np.all(np.isfinite(wave)) or not np.all(np.diff(wave) > 0):
        raise CheckpointError(f"{path}: wave_um must hold {n_wave} ascending wavelengths, found {wave.size}")
    landmarks = _load_landmarks(folder / LANDMARKS, record.get("landmarks_sha256"), n_latent)
    proposal = _load_proposal(folder) if f"{PROPOSAL}.json" in parts else (None, None)
    return PaeBundle(
        load_autoencoder(folder), load_flow(folder), pae, n_latent, wave, *hashes, landmarks, *proposal
    )


def _save_proposal_of(bundle: PaeBundle, folder: Path) -> list[Path]:
    """The proposal's part of a bundle, if it has one."""
    if bundle.proposal is None:
        return []
    if bundle.proposal_config is None or bundle.proposal.dim != bundle.n_latent + 1:
        raise CheckpointError(
            f"{folder}: a bundle's proposal needs its configuration and the bundle's n_latent {bundle.n_latent}, "
            f"found {bundle.proposal.dim - 1}"
        )
    proposal = bundle.proposal
    return [
        save_proposal(
            proposal, bundle.proposal_config, bundle.n_latent, proposal.n_band, proposal.z_limits, folder
        )
    ]


def _save_landmarks(landmarks: np.ndarray, folder: Path) -> str:
    """Writes the landmarks; returns their file's sha256."""
    content = io.BytesIO()
    np.save(content, np.asarray(landmarks, dtype=np.float32), allow_pickle=False)
    write_whole(folder / LANDMARKS, content.getvalue())
    return _sha256(content.getvalue())


def _load_landmarks(path: Path, recorded: Any, n_latent: int) -> np.ndarray | None:
    if recorded is None:
        return None
    _check_sum(path, _read(path), recorded)
    try:
        landmarks = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise CheckpointError(f"{path}: no array of numbers ({_one_line(error)})") from error
    if landmarks.ndim != 2 or landmarks.shape[1] != n_latent or not np.isfinite(landmarks).all():
        raise CheckpointError(f"{path}: must hold finite rows of {n_latent} numbers, found {landmarks.shape}")
    return landmarks


def _save(model: Any, kind: str, hparams: dict[str, Any], folder: Path) -> Path:
    content = io.BytesIO()
    eqx.tree_serialise_leaves(content, model)
    write_whole(folder / f"{kind}.eqx", content.getvalue())
    digest = _sha256(content.getvalue())
    return _write_json(
        folder / f"{kind}.json", {"format": FORMAT, "kind": kind, **hparams, "weights_sha256": digest}
    )


def _load(folder: Path, kind: str, record: dict[str, Any], skeleton: Any) -> Any:
    path = folder / f"{kind}.eqx"
    _check_sum(path, _read(path), record.get("weights_sha256"))
    try:
        # Models are float32, also in a process that has switched JAX to 64 bits.
        with jax.enable_x64(False), path.open("rb") as file:
            like = eqx.filter_eval_shape(skeleton)
            model = eqx.tree_deserialise_leaves(file, like)
            trailing = file.read(1)
    except Exception as error:  # equinox raises several types for a leaf that does not fit
        raise CheckpointError(
            f"{path}: does not fit the hyperparameters in {kind}.json ({_one_line(error)})"
        ) from error
    if trailing:
        raise CheckpointError(f"{path}: holds more weights than the hyperparameters in {kind}.json describe")
    leaves = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
    if not all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in leaves):
        raise CheckpointError(f"{path}: holds weights that are not finite")
    return model


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or 'cannot be read'}") from error


def _read_record(path: Path, kind: str) -> dict[str, Any]:
    try:
        record = json.loads(_read(path))
    except ValueError as error:
        raise CheckpointError(f"{path}: not valid JSON ({_one_line(error)})") from error
    if not isinstance(record, dict) or record.get("kind") != kind:
        raise CheckpointError(f"{path}: does not describe a model of kind {kind!r}")
    if record.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format {record.get('format')!r}, this version reads {FORMAT}")
    return record


def _parse(model: Any, record: dict[str, Any], path: Path) -> Any:
    try:
        return model.model_validate(record.get("config"))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "config"
        raise CheckpointError(f"{path}: {where}: {fault['msg']}") from error


def _size(record: dict[str, Any], name: str, path: Path) -> int:
    value = record.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"{path}: {name} must be a positive integer, found {value!r}")
    return value


def _limits(record: dict[str, Any], path: Path) -> tuple[float, float]:
    value = record.get("z_limits")
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(isinstance(z, int | float) and np.isfinite(z) for z in value)
        or not 0.0 < value[0] < value[1]
    ):
        raise CheckpointError(f"{path}: z_limits must be two ascending positive numbers, found {value!r}")
    return float(value[0]), float(value[1])


def _check_sum(path: Path, content: bytes, recorded: Any) -> None:
    if _sha256(content) != recorded:
        raise CheckpointError(f"{path}: truncated or altered (sha256 differs from the recorded one)")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write_json(path: Path, record: dict[str, Any]) -> Path:
    return write_whole(path, json.dumps(record, indent=1) + "\n")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
