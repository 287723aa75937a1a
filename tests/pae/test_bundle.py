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

from paeplatform.config import CompactNetConfig, FlowConfig, PaeConfig, ProposalConfig, load_preset
from paeplatform.errors import CheckpointError
from paeplatform.instrument.slots import SPHEREX_PASSBANDS, passbands_from_record
from paeplatform.pae.autoencoder import build_autoencoder
from paeplatform.pae.bundle import (
    PaeBundle,
    RelativeErrors,
    load_autoencoder,
    load_bundle,
    load_flow,
    load_proposal,
    save_bundle,
    save_flow,
    save_proposal,
)
from paeplatform.pae.flow import build_flow
from paeplatform.pae.proposal import Proposal, build_proposal

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


def test_a_bundle_records_the_passbands_it_predicts_and_an_older_one_has_the_instruments(folder: Path):
    path = folder / "bundle.json"
    record = json.loads(path.read_text())
    assert passbands_from_record(record["passbands"]) == load_bundle(folder).passbands == SPHEREX_PASSBANDS
    record["passbands"][0]["resolving_power"] = [20.0, 60.0]
    path.write_text(json.dumps(record))
    assert load_bundle(folder).passbands[0].resolving_power == (20.0, 60.0)
    del record["passbands"]
    path.write_text(json.dumps(record))
    assert load_bundle(folder).passbands == SPHEREX_PASSBANDS


@pytest.mark.parametrize(
    "damage",
    [
        {"step": "wide"},
        {"wave_um": [0.7]},
        {"offset": [0.0, 1.0]},
        {"colour": 1.0},
    ],
)
def test_passbands_that_are_none_are_refused(folder: Path, damage: dict):
    path = folder / "bundle.json"
    record = json.loads(path.read_text())
    record["passbands"][0] |= damage
    path.write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="passbands of the model"):
        load_bundle(folder)


def test_the_models_error_travels_with_the_bundle_and_an_older_one_has_none(folder: Path, tmp_path: Path):
    assert load_bundle(folder).model_error is None
    record = json.loads((folder / "bundle.json").read_text())
    del record["model_error"]
    (folder / "bundle.json").write_text(json.dumps(record))
    assert load_bundle(folder).model_error is None
    errors = RelativeErrors(np.geomspace(0.1, 5.0, 7), np.linspace(0.0, 0.06, 7))
    save_bundle(dataclasses.replace(small_bundle(), model_error=errors), tmp_path / "other")
    loaded = load_bundle(tmp_path / "other").model_error
    np.testing.assert_array_equal(loaded.rest_wave_um, errors.rest_wave_um)
    np.testing.assert_array_equal(loaded.relative, errors.relative)


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        ([1.0], "must hold rest_wave_um and relative"),
        ({"rest_wave_um": [1.0, 2.0]}, "must hold rest_wave_um and relative"),
        ({"rest_wave_um": [1.0, 0.5], "relative": [0.1, 0.1]}, "increasing positive numbers"),
        ({"rest_wave_um": [1.0, 2.0], "relative": [0.1]}, "increasing positive numbers"),
        ({"rest_wave_um": [1.0, 2.0], "relative": [0.1, -0.1]}, "none negative"),
        ({"rest_wave_um": [1.0, "a"], "relative": [0.1, 0.1]}, "could not convert"),
    ],
)
def test_errors_of_the_model_that_are_none_are_refused(folder: Path, errors: object, message: str):
    edit(folder / "bundle.json", model_error=errors)
    with pytest.raises(CheckpointError, match=message):
        load_bundle(folder)


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


def test_a_flow_of_before_the_warp_is_read_without_one(folder: Path):
    record = json.loads((folder / "flow.json").read_text())
    cfg = FlowConfig.model_validate(record["config"]).model_copy(update={"tails": "linear"})
    rows = np.random.default_rng(0).normal(size=(50, record["n_latent"])).astype(np.float32)
    old = build_flow(cfg, rows, key=jr.key(0))
    save_flow(old, cfg, record["n_latent"], folder)
    record = json.loads((folder / "flow.json").read_text())
    del record["config"]["tails"]
    (folder / "flow.json").write_text(json.dumps(record))
    read = load_flow(folder)
    assert read.warp is None
    np.testing.assert_array_equal(read.to_base(rows[0]), old.to_base(rows[0]))


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


N_BAND, Z_LIMITS = 6, (0.003, 3.0)


def proposal_config() -> ProposalConfig:
    fit = load_preset("demo").proposal.fit
    return ProposalConfig(encoder_widths=(12, 8), n_layers=3, width=8, n_knots=4, fit=fit)


@functools.cache
def small_proposal(n_latent: int = N_LATENT) -> Proposal:
    """Its moments, limits and permutations are not those of the skeleton that loading builds."""
    built = build_proposal(
        proposal_config(), n_latent, N_BAND, Z_LIMITS, key=jr.key(11), t_moments=(0.7, 1.9)
    )
    return jax.tree.map(lambda leaf: leaf + 0.1 if eqx.is_inexact_array(leaf) else leaf, built)


def with_proposal() -> PaeBundle:
    return dataclasses.replace(small_bundle(), proposal=small_proposal(), proposal_config=proposal_config())


@eqx.filter_jit
def drawn(proposal: Proposal, signal, weight, eps):
    context = jax.vmap(proposal.context)(signal, weight)
    u, log_z, log_q = jax.vmap(proposal.sample)(context, eps)
    return u, log_z, log_q, jax.vmap(proposal.log_prob)(context, u, log_z)


def test_a_loaded_proposal_draws_the_same_numbers(tmp_path: Path):
    proposal = small_proposal()
    assert (proposal.n_band, proposal.dim) == (N_BAND, N_LATENT + 1)
    save_proposal(proposal, proposal_config(), tmp_path)
    loaded = load_proposal(tmp_path)
    signal, eps = 5.0 * jr.normal(jr.key(1), (7, N_BAND)), jr.normal(jr.key(2), (7, N_LATENT + 1))
    for first, second in zip(
        drawn(proposal, signal, signal * 0 + 1.0, eps),
        drawn(loaded, signal, signal * 0 + 1.0, eps),
        strict=True,
    ):
        np.testing.assert_array_equal(first, second)
    for first, second in zip(jax.tree.leaves(proposal), jax.tree.leaves(loaded), strict=True):
        np.testing.assert_array_equal(first, second)


def test_the_proposal_travels_with_the_bundle(tmp_path: Path):
    save_bundle(with_proposal(), tmp_path)
    loaded = load_bundle(tmp_path)
    assert loaded.proposal_config == proposal_config()
    for first, second in zip(
        jax.tree.leaves(small_proposal()), jax.tree.leaves(loaded.proposal), strict=True
    ):
        np.testing.assert_array_equal(first, second)


def test_a_bundle_without_a_proposal_loads_with_none(original: Path):
    loaded = load_bundle(original)
    assert loaded.proposal is None
    assert loaded.proposal_config is None


@pytest.mark.parametrize("name", ["proposal.eqx", "proposal.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_a_damaged_proposal_is_refused_in_one_line(tmp_path: Path, name: str, damage: str):
    save_bundle(with_proposal(), tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        at = len(content) // 2
        path.write_bytes(
            content[:at] + (b"" if damage == "truncated" else bytes([content[at] ^ 1]) + content[at + 1 :])
        )
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")) as caught:
        load_bundle(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_band": 0}, r"proposal\.json: n_band must be a positive integer"),
        ({"n_band": N_BAND + 1}, r"proposal\.eqx: does not fit"),
        ({"n_latent": N_LATENT + 1}, r"proposal\.eqx: does not fit"),
        ({"z_limits": [3.0, 0.003]}, r"proposal\.json: z_limits must be two ascending positive numbers"),
        ({"z_limits": "0-3"}, "z_limits must be"),
        ({"config": {"n_layers": 3, "dropout": 0.1}}, r"proposal\.json: (dropout|fit)"),
    ],
)
def test_an_edited_proposal_is_refused(tmp_path: Path, changes: dict, message: str):
    save_proposal(small_proposal(), proposal_config(), tmp_path)
    edit(tmp_path / "proposal.json", **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_proposal(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_proposal_that_does_not_belong_to_the_bundle_is_not_saved(tmp_path: Path):
    other = dataclasses.replace(
        small_bundle(), proposal=small_proposal(N_LATENT + 1), proposal_config=proposal_config()
    )
    with pytest.raises(CheckpointError, match="n_latent 3, found 4"):
        save_bundle(other, tmp_path)
    with pytest.raises(CheckpointError, match="needs its configuration"):
        save_bundle(dataclasses.replace(with_proposal(), proposal_config=None), tmp_path)
