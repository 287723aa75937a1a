"""Saving and loading models: the same numbers back, and one clear line for everything that can be wrong on disk."""

import dataclasses
import functools
import json
from pathlib import Path

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import pytest

from paeplatform.config import CompactNetConfig, FlowConfig, PaeConfig, load_preset
from paeplatform.errors import CheckpointError
from paeplatform.pae.autoencoder import build_autoencoder
from paeplatform.pae.bundle import PaeBundle, load_autoencoder, load_bundle, load_flow, save_bundle
from paeplatform.pae.flow import build_flow

N_WAVE, N_LATENT = 40, 3


def small_config(architecture: str = "coupling", conv: bool = False) -> PaeConfig:
    demo = load_preset("demo").pae
    net = CompactNetConfig(encoder_widths=(8,), decoder_widths=(8,), n_components=5)
    autoencoder = demo.autoencoder.model_copy(
        update={"compact": net, "architecture": "conv" if conv else "compact"}
    )
    flow = FlowConfig(architecture=architecture, n_layers=2, n_knots=4, width=8, fit=demo.flow.fit)
    return demo.model_copy(
        update={"n_latent": 3, "n_latents": (3,), "autoencoder": autoencoder, "flow": flow}
    )


@functools.cache
def small_bundle(architecture: str = "coupling", conv: bool = False) -> PaeBundle:
    cfg = small_config(architecture, conv)
    autoencoder = build_autoencoder(cfg.autoencoder, N_LATENT, N_WAVE, key=jr.key(3))
    flow = build_flow(cfg.flow, 2.0 * jr.normal(jr.key(4), (300, N_LATENT)) + 1.0, key=jr.key(5))
    return PaeBundle(autoencoder, flow, cfg, N_LATENT, np.linspace(0.1, 5.0, N_WAVE), "bands", "library")


@eqx.filter_jit
def _apply(flow, autoencoder, u):
    latents = jax.vmap(flow.to_latent)(u)
    spectra = jax.vmap(autoencoder.decode)(latents)
    return latents, jax.vmap(flow.log_prob)(latents), spectra, jax.vmap(autoencoder.encode)(spectra)


def applied(bundle: PaeBundle, u: jax.Array) -> tuple[jax.Array, ...]:
    """Every function of both models."""
    return _apply(bundle.flow, bundle.autoencoder, u)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    save_bundle(small_bundle(), folder)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    for file in original.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


@pytest.mark.parametrize(("architecture", "conv"), [("coupling", False), ("iaf", True)])
def test_loaded_bundle_gives_the_same_numbers(tmp_path: Path, architecture: str, conv: bool):
    bundle = small_bundle(architecture, conv)
    save_bundle(bundle, tmp_path)
    assert (bundle.decoder_head() is None) == conv
    loaded = load_bundle(tmp_path)
    u = jr.normal(jr.key(0), (6, N_LATENT))
    for first, second in zip(applied(bundle, u), applied(loaded, u), strict=True):
        np.testing.assert_array_equal(first, second)
    assert loaded.pae == bundle.pae
    assert (loaded.band_hash, loaded.library_hash, loaded.n_latent) == ("bands", "library", N_LATENT)
    np.testing.assert_array_equal(loaded.wave, bundle.wave)
    assert {p.name for p in tmp_path.iterdir()} == {
        "autoencoder.eqx", "autoencoder.json", "flow.eqx", "flow.json", "bundle.json",
    }  # fmt: skip


def test_decoder_head_reproduces_the_decoder():
    bundle = small_bundle()
    latent = jr.normal(jr.key(1), (N_LATENT,))
    head = bundle.decoder_head()
    assert head.dtype == np.float64
    spectrum = eqx.filter_jit(bundle.autoencoder.decode)(latent)
    np.testing.assert_allclose(
        eqx.filter_jit(bundle.autoencoder.coefficients)(latent) @ head, spectrum, atol=1e-5
    )


@pytest.mark.parametrize(
    "name", ["autoencoder.eqx", "autoencoder.json", "flow.eqx", "flow.json", "bundle.json"]
)
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "flipped"])
def test_damaged_files_are_named_in_one_line(folder: Path, name: str, damage: str):
    path = folder / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:  # a bit of the middle; in bundle.json, which nothing vouches for, of a checksum
        at = content.rindex(b'"') - 5 if name == "bundle.json" else len(content) // 2
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with pytest.raises(
        CheckpointError, match=name.replace(".", r"\.") if damage != "flipped" else r"\.json|\.eqx"
    ) as caught:
        load_bundle(folder)
    assert "\n" not in str(caught.value)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_edited_part_is_refused_by_the_bundle(folder: Path):
    edit(folder / "flow.json", n_latent=4)
    with pytest.raises(CheckpointError, match=r"flow\.json: truncated or altered"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_latent": 4}, "n_latent 3 differs from the bundle's 4"),
        ({"n_latent": "three"}, "n_latent must be a positive integer"),
        ({"format": 99}, "format 99"),
        ({"kind": "flow"}, "kind 'bundle'"),
        ({"wave_um": [0.1, 0.2]}, "40 ascending wavelengths, found 2"),
        ({"wave_um": None}, "bundle.json"),
        ({"pae": {}}, "bundle.json"),
        ({"parts": {}}, "must list the parts"),
    ],
)
def test_edited_bundle_is_refused(folder: Path, changes: dict, message: str):
    edit(folder / "bundle.json", **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_bundle(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("n_latent", [2, 4])
def test_wrong_n_latent_of_a_single_model_is_refused(folder: Path, n_latent: int):
    edit(folder / "flow.json", n_latent=n_latent)
    edit(folder / "autoencoder.json", n_latent=n_latent)
    with pytest.raises(CheckpointError, match=r"flow\.eqx: does not fit"):
        load_flow(folder)
    with pytest.raises(CheckpointError, match=r"autoencoder\.eqx: does not fit"):
        load_autoencoder(folder)


def test_fewer_layers_than_saved_and_unknown_settings_are_refused(folder: Path):
    record = json.loads((folder / "autoencoder.json").read_text())
    record["config"]["compact"]["decoder_widths"] = []
    edit(folder / "autoencoder.json", config=record["config"])
    with pytest.raises(CheckpointError, match=r"autoencoder\.eqx"):
        load_autoencoder(folder)
    record["config"]["activation"] = "relu"
    edit(folder / "autoencoder.json", config=record["config"])
    with pytest.raises(CheckpointError, match="activation"):
        load_autoencoder(folder)


def test_landmarks_travel_with_the_bundle_and_are_checked(tmp_path: Path):
    landmarks = np.random.default_rng(0).normal(size=(7, N_LATENT)).astype(np.float32)
    save_bundle(dataclasses.replace(small_bundle(), landmarks=landmarks), tmp_path)
    assert np.array_equal(load_bundle(tmp_path).landmarks, landmarks)
    content = bytearray((tmp_path / "landmarks.npy").read_bytes())
    content[-1] ^= 1
    (tmp_path / "landmarks.npy").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"landmarks\.npy: truncated or altered"):
        load_bundle(tmp_path)


def test_landmarks_of_another_latent_size_are_refused(tmp_path: Path):
    save_bundle(dataclasses.replace(small_bundle(), landmarks=np.zeros((4, N_LATENT + 1))), tmp_path)
    with pytest.raises(
        CheckpointError, match=rf"finite rows of {N_LATENT} numbers, found \(4, {N_LATENT + 1}\)"
    ):
        load_bundle(tmp_path)
