"""Models on disk: a weights file and a JSON of hyperparameters and checksums beside it, without pickle.

A bundle is what inference loads: autoencoder, flow, amortised proposal, configuration, rest-frame grid, and the hashes
of the band set and template library it was trained for. Bundles from before there was a proposal load without one.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from pydantic import ValidationError

from paeplatform.config import AutoencoderConfig, FlowConfig, PaeConfig, ProposalConfig
from paeplatform.errors import BandSetError, CheckpointError
from paeplatform.files import write_whole
from paeplatform.instrument.slots import (
    SPHEREX_PASSBANDS,
    PassbandFamily,
    passbands_from_record,
    passbands_to_record,
)
from paeplatform.model_files import one_line, read_checked, read_record, sha256, write_record
from paeplatform.pae.autoencoder import Autoencoder, CompactAutoencoder, build_autoencoder
from paeplatform.pae.checkpoint import tree_bytes
from paeplatform.pae.flow import LatentFlow, build_flow
from paeplatform.pae.proposal import Proposal, build_proposal

AUTOENCODER = "autoencoder"
FLOW = "flow"
PROPOSAL = "proposal"
BUNDLE = "bundle"
_NEEDED = (AUTOENCODER, FLOW)
_PARTS = (*_NEEDED, PROPOSAL)
LANDMARKS = "landmarks.npy"


class RelativeErrors(NamedTuple):
    """How wrong the model's fluxes are, by rest wavelength (`inference.folds` measures it).

    Attributes:
        rest_wave_um: (node,) increasing, by one factor from each to the next [um].
        relative: (node,) 1 sigma, of the model's flux.
    """

    rest_wave_um: np.ndarray
    relative: np.ndarray


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
        passbands: those in which the model predicts measurements at their own wavelengths. A bundle from before they
            were recorded has the instrument's.
        model_error: how wrong the model is on galaxies that it has not seen; None for a bundle that does not say.
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
    passbands: tuple[PassbandFamily, ...] = SPHEREX_PASSBANDS
    model_error: RelativeErrors | None = None

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
    part = _Part(Path(folder), AUTOENCODER)
    cfg, n_latent, n_wave = part.config(AutoencoderConfig), part.size("n_latent"), part.size("n_wave")
    return part.load(lambda: build_autoencoder(cfg, n_latent, n_wave, key=jr.key(0)))


def save_flow(model: LatentFlow, cfg: FlowConfig, n_latent: int, folder: Path) -> Path:
    """Writes `flow.eqx` and `flow.json`; returns the JSON's path."""
    return _save(model, FLOW, {"config": cfg.model_dump(mode="json"), "n_latent": n_latent}, Path(folder))


def load_flow(folder: Path) -> LatentFlow:
    """Reads what `save_flow` wrote.

    Raises:
        CheckpointError: missing, truncated, altered, or not matching its hyperparameters.
    """
    part = _Part(Path(folder), FLOW)
    if isinstance(part.record.get("config"), dict):
        part.record["config"].setdefault("tails", "linear")  # flows before the warp do not name it
    cfg, n_latent = part.config(FlowConfig), part.size("n_latent")
    return part.load(lambda: build_flow(cfg, jnp.zeros((2, n_latent)), jnp.zeros(2), key=jr.key(0)))


def save_proposal(model: Proposal, cfg: ProposalConfig, folder: Path) -> Path:
    """Writes `proposal.eqx` and `proposal.json`; returns the JSON's path."""
    hparams = {
        "config": cfg.model_dump(mode="json"),
        "n_latent": model.dim - 1,
        "n_band": model.n_band,
        "z_limits": list(model.z_limits),
    }
    return _save(model, PROPOSAL, hparams, Path(folder))


def load_proposal(folder: Path) -> Proposal:
    """Reads what `save_proposal` wrote.

    Raises:
        CheckpointError: missing, truncated, altered, or not matching its hyperparameters.
    """
    return _load_proposal(Path(folder))[0]


def _load_proposal(folder: Path) -> tuple[Proposal, ProposalConfig]:
    part = _Part(folder, PROPOSAL)
    cfg, sizes = part.config(ProposalConfig), (part.size("n_latent"), part.size("n_band"))
    z_limits = part.z_limits()
    return part.load(lambda: build_proposal(cfg, *sizes, z_limits, key=jr.key(0))), cfg


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
        "landmarks_sha256": landmarks,
        "pae": bundle.pae.model_dump(mode="json"),
        "n_latent": bundle.n_latent,
        "wave_um": [float(w) for w in bundle.wave],
        "band_hash": bundle.band_hash,
        "library_hash": bundle.library_hash,
        "passbands": passbands_to_record(bundle.passbands),
        "model_error": None if bundle.model_error is None else _errors_to_record(bundle.model_error),
        "parts": {part.name: sha256(part.read_bytes()) for part in parts},
    }
    return write_record(folder / f"{BUNDLE}.json", BUNDLE, record)


def load_bundle(folder: Path) -> PaeBundle:
    """Reads what `save_bundle` wrote.

    Raises:
        CheckpointError: a file is missing, truncated or altered, or the parts do not belong together; one line.
    """
    folder = Path(folder)
    bundle = _Part(folder, BUNDLE)
    path, record = bundle.path, bundle.record
    parts = record.get("parts")
    needed, known = ({f"{name}.json" for name in names} for names in (_NEEDED, _PARTS))
    if not isinstance(parts, dict) or not needed <= set(parts) <= known:
        raise CheckpointError(f"{path}: must list the parts {AUTOENCODER}.json and {FLOW}.json")
    for name, recorded in parts.items():
        read_checked(folder / name, recorded)
    try:
        pae = PaeConfig.model_validate(record["pae"])
        wave = np.asarray(record["wave_um"], dtype=np.float64)
        hashes = str(record["band_hash"]), str(record["library_hash"])
        passbands = passbands_from_record(record["passbands"]) if "passbands" in record else SPHEREX_PASSBANDS
        errors = record.get("model_error")
        model_error = None if errors is None else _errors_from_record(errors)
    except (BandSetError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {one_line(error)}") from error
    n_latent = bundle.size("n_latent")
    for part in (_Part(folder, name.removesuffix(".json")) for name in parts):
        found = part.size("n_latent")
        if found != n_latent:
            raise CheckpointError(f"{part.path}: n_latent {found} differs from the bundle's {n_latent}")
    n_wave = _Part(folder, AUTOENCODER).size("n_wave")
    if wave.shape != (n_wave,) or not np.all(np.isfinite(wave)) or not np.all(np.diff(wave) > 0):
        raise CheckpointError(f"{path}: wave_um must hold {n_wave} ascending wavelengths, found {wave.size}")
    landmarks = _load_landmarks(folder / LANDMARKS, record.get("landmarks_sha256"), n_latent)
    proposal = _load_proposal(folder) if f"{PROPOSAL}.json" in parts else (None, None)
    return PaeBundle(
        load_autoencoder(folder),
        load_flow(folder),
        pae,
        n_latent,
        wave,
        *hashes,
        landmarks,
        *proposal,
        passbands,
        model_error,
    )


def _errors_to_record(errors: RelativeErrors) -> dict[str, list[float]]:
    return {name: np.asarray(values, np.float64).tolist() for name, values in errors._asdict().items()}


def _errors_from_record(record: Any) -> RelativeErrors:
    """As `_errors_to_record` wrote them.

    Raises:
        ValueError: not two lists of numbers of one length, wavelengths that do not increase, or a negative error.
    """
    if not isinstance(record, dict) or set(record) != set(RelativeErrors._fields):
        raise ValueError(f"model_error must hold {' and '.join(RelativeErrors._fields)}")
    errors = RelativeErrors(*(np.asarray(record[name], np.float64) for name in RelativeErrors._fields))
    wave, relative = errors
    sound = wave.ndim == 1 and wave.shape == relative.shape and wave.size >= 2
    if not sound or not np.isfinite(wave).all() or not wave[0] > 0.0 or not (np.diff(wave) > 0.0).all():
        raise ValueError("model_error.rest_wave_um must be two or more increasing positive numbers [um]")
    if not (np.isfinite(relative) & (relative >= 0.0)).all():
        raise ValueError("model_error.relative must be finite numbers, none negative")
    return errors


def _save_proposal_of(bundle: PaeBundle, folder: Path) -> list[Path]:
    """The proposal's part of a bundle, if it has one."""
    if bundle.proposal is None:
        return []
    if bundle.proposal_config is None or bundle.proposal.dim != bundle.n_latent + 1:
        raise CheckpointError(
            f"{folder}: a bundle's proposal needs its configuration and the bundle's n_latent {bundle.n_latent}, "
            f"found {bundle.proposal.dim - 1}"
        )
    return [save_proposal(bundle.proposal, bundle.proposal_config, folder)]


def _save_landmarks(landmarks: np.ndarray, folder: Path) -> str:
    """Writes the landmarks; returns their file's sha256."""
    content = io.BytesIO()
    np.save(content, np.asarray(landmarks, dtype=np.float32), allow_pickle=False)
    write_whole(folder / LANDMARKS, content.getvalue())
    return sha256(content.getvalue())


def _load_landmarks(path: Path, recorded: Any, n_latent: int) -> np.ndarray | None:
    if recorded is None:
        return None
    read_checked(path, recorded)
    try:
        landmarks = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise CheckpointError(f"{path}: no array of numbers ({one_line(error)})") from error
    if landmarks.ndim != 2 or landmarks.shape[1] != n_latent or not np.isfinite(landmarks).all():
        raise CheckpointError(f"{path}: must hold finite rows of {n_latent} numbers, found {landmarks.shape}")
    return landmarks


def _save(model: Any, kind: str, hparams: dict[str, Any], folder: Path) -> Path:
    weights = tree_bytes(model)
    write_whole(folder / f"{kind}.eqx", weights)
    return write_record(folder / f"{kind}.json", kind, {**hparams, "weights_sha256": sha256(weights)})


class _Part:
    """A model on disk: its record, whose values are checked as they are read, and its weights."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.path, self._weights, self._kind = folder / f"{kind}.json", folder / f"{kind}.eqx", kind
        self.record = read_record(self.path, kind)

    def config(self, model: Any) -> Any:
        try:
            return model.model_validate(self.record.get("config"))
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(str(part) for part in fault["loc"]) or "config"
            raise CheckpointError(f"{self.path}: {where}: {fault['msg']}") from error

    def size(self, name: str) -> int:
        value = self.record.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise CheckpointError(f"{self.path}: {name} must be a positive integer, found {value!r}")
        return value

    def z_limits(self) -> tuple[float, float]:
        value = self.record.get("z_limits")
        if (
            not isinstance(value, list)
            or len(value) != 2
            or not all(isinstance(z, int | float) and np.isfinite(z) for z in value)
            or not 0.0 < value[0] < value[1]
        ):
            raise CheckpointError(
                f"{self.path}: z_limits must be two ascending positive numbers, found {value!r}"
            )
        return float(value[0]), float(value[1])

    def load(self, build: Callable[[], Any]) -> Any:
        """The model of the weights, in the structure that `build` gives."""
        path, record = self._weights, f"{self._kind}.json"
        read_checked(path, self.record.get("weights_sha256"))
        try:
            # Models are float32, also in a process that has switched JAX to 64 bits.
            with jax.enable_x64(False), path.open("rb") as file:
                model = eqx.tree_deserialise_leaves(file, eqx.filter_eval_shape(build))
                trailing = file.read(1)
        except Exception as error:  # equinox raises several types for a leaf that does not fit
            raise CheckpointError(
                f"{path}: does not fit the hyperparameters in {record} ({one_line(error)})"
            ) from error
        if trailing:
            raise CheckpointError(f"{path}: holds more weights than the hyperparameters in {record} describe")
        leaves = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
        if not all(np.isfinite(np.asarray(leaf)).all() for leaf in leaves):
            raise CheckpointError(f"{path}: holds weights that are not finite")
        return model
