"""The registry on a real MLflow with SQLite; the models are real too, only untrained and small."""

import logging
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pandas as pd
import polars as pl
import pytest

from paeplatform.assets.models.model_records import write_setting
from paeplatform.assets.recording.tables import bands_table
from paeplatform.assets.recording.versions import file_digest
from paeplatform.errors import RegistryError
from paeplatform.instrument.bands import load_bands
from paeplatform.pae.autoencoder import build_autoencoder
from paeplatform.pae.bundle import (
    PaeBundle,
    load_autoencoder,
    load_bundle,
    save_autoencoder,
    save_bundle,
    save_flow,
    save_proposal,
)
from paeplatform.pae.flow import build_flow
from paeplatform.pae.proposal import build_proposal
from paeplatform.resources.models.signatures import (
    PAE_SUMMARIES,
    PROPOSAL_SUMMARIES,
    photometry_signature,
    row_signature,
)
from paeplatform.resources.registry import (
    AUTOENCODER,
    CHALLENGER,
    CHAMPION,
    FLOW,
    PAE,
    PROPOSAL,
    ModelRegistry,
    ModelVersion,
)
from paeplatform.resources.settings import PlatformSettings
from paeplatform.sed.grid import rest_grid

PRIOR = pl.DataFrame({"alpha": [1.5], "beta": [0.4], "gamma": [1.2], "n_sources": [100], "ks": [0.01]})


def bundle(settings: PlatformSettings, seed: int) -> PaeBundle:
    cfg, keys = settings.preset.pae, jr.split(jr.key(seed), 3)
    latents = jr.normal(keys[2], (64, cfg.n_latent))
    wave = rest_grid(settings.preset.rest_grid)
    return PaeBundle(
        autoencoder=build_autoencoder(cfg.autoencoder, cfg.n_latent, len(wave), key=keys[0]),
        flow=build_flow(cfg.flow, latents, key=keys[1]),
        pae=cfg,
        n_latent=cfg.n_latent,
        wave=wave,
        band_hash=load_bands().content_hash(),
        library_hash="0" * 16,
    )


def register_pae(
    registry: ModelRegistry, settings: PlatformSettings, folder: Path, seed: int
) -> ModelVersion:
    save_bundle(bundle(settings, seed), folder / "bundle")
    setting = write_setting(folder / "setting", settings.preset, PRIOR, bands_table(load_bands()))
    with registry.training_run("test", settings.preset, data_version="d1", dagster_run_id="r1"):
        return registry.register(
            PAE,
            {"bundle": folder / "bundle", "setting": setting},
            signature=photometry_signature(PAE_SUMMARIES),
            input_example=pd.DataFrame({"flux": [[20.0] * 102], "flux_err": [[2.0] * 102]}),
            tags={"content": file_digest(folder / "bundle"), "flow_version": 1},
        )


@pytest.fixture
def registry(settings: PlatformSettings) -> ModelRegistry:
    return ModelRegistry.from_settings(settings)


def test_a_registry_that_was_never_used_answers_without_being_made(
    tmp_path: Path, settings: PlatformSettings
) -> None:
    unused = ModelRegistry.from_settings(PlatformSettings(tmp_path / "other", settings.preset))
    assert unused.versions() == []
    assert unused.find_alias() is None
    with pytest.raises(
        RegistryError, match=r"no model pae@champion in sqlite.*: train and register one first"
    ):
        unused.by_alias()
    assert not (tmp_path / "other").exists()


def test_the_life_of_the_aliases(registry: ModelRegistry, settings: PlatformSettings, tmp_path: Path) -> None:
    first = register_pae(registry, settings, tmp_path / "1", seed=1)
    assert (first.version, registry.aliases(first)) == (1, [CHALLENGER]), (
        "the gate has to judge the first one too"
    )
    registry.set_alias(PAE, CHAMPION, 1)
    second = register_pae(registry, settings, tmp_path / "2", seed=2)
    assert (second.version, registry.aliases(second)) == (2, [CHALLENGER])
    assert registry.by_alias(PAE).version == 1

    registry.set_alias(PAE, CHAMPION, 2)
    assert registry.by_alias(PAE).version == 2
    assert registry.aliases(first) == []
    with pytest.raises(RegistryError, match=r"no version 7 of model pae: there are \[1, 2\]"):
        registry.set_alias(PAE, CHAMPION, 7)

    registry.client().delete_registered_model_alias(PAE, CHAMPION)
    with pytest.raises(
        RegistryError, match=r"no model pae@champion .* MLflow UI \(Models > pae > one of versions 1, 2"
    ):
        registry.by_alias(PAE)
    third = register_pae(registry, settings, tmp_path / "3", seed=3)
    assert registry.aliases(third) == [CHALLENGER], "a champion taken down by hand is not replaced unasked"


def test_the_same_bytes_are_registered_once(
    registry: ModelRegistry, settings: PlatformSettings, tmp_path: Path
) -> None:
    first = register_pae(registry, settings, tmp_path / "1", seed=1)
    again = register_pae(registry, settings, tmp_path / "2", seed=1)
    assert again == first
    assert registry.versions() == [1]
    assert registry.by_content(PAE, first.tags["content"]) == first
    with pytest.raises(RegistryError, match="no version of model pae with content feed"):
        registry.by_content(PAE, "feed")


def test_a_registered_bundle_comes_back_as_it_was(
    registry: ModelRegistry, settings: PlatformSettings, tmp_path: Path
) -> None:
    register_pae(registry, settings, tmp_path / "1", seed=1)
    made, loaded = bundle(settings, 1), load_bundle(registry.artifact(registry.by_version(PAE, 1), "bundle"))
    for part in ("autoencoder", "flow"):
        ours, theirs = (eqx.filter(getattr(one, part), eqx.is_array) for one in (made, loaded))
        assert eqx.tree_equal(ours, theirs)
    u = jnp.linspace(-1.0, 1.0, made.n_latent)
    np.testing.assert_allclose(loaded.flow.to_latent(u), made.flow.to_latent(u), rtol=1e-6)
    with pytest.raises(RegistryError, match="pae v1: no artifact 'weights'"):
        registry.artifact(registry.by_version(PAE, 1), "weights")


def test_a_second_try_closes_what_the_first_left_running_and_nothing_else(
    registry: ModelRegistry, settings: PlatformSettings
) -> None:
    client = registry.client()
    with registry.training_run("flow-4", settings.preset, data_version="d", dagster_run_id="r1") as run:
        experiment = client.get_run(run.run_id).info.experiment_id
    left = {
        (name, origin): client.create_run(
            experiment, run_name=name, tags={"dagster_run_id": origin}
        ).info.run_id
        for name, origin in (("flow-4", "r2"), ("flow-8", "r2"), ("flow-4", "r3"))
    }
    with registry.training_run("flow-4", settings.preset, data_version="d", dagster_run_id="r2"):
        states = {key: client.get_run(run_id).info.status for key, run_id in left.items()}
    assert states == {
        ("flow-4", "r2"): "KILLED",
        ("flow-8", "r2"): "RUNNING",
        ("flow-4", "r3"): "RUNNING",
    }


def test_a_run_keeps_preset_curves_state_and_failure(
    registry: ModelRegistry, settings: PlatformSettings
) -> None:
    with registry.training_run("ok", settings.preset, data_version="d7", dagster_run_id="r7") as run:
        for epoch in (1, 2, 3):
            run.log_metrics({"train_loss": 1.0 / epoch, "validation_loss": float("nan")}, step=epoch)
    found = registry.client().get_run(run.run_id)
    assert found.data.params["pae.flow.width"] == "16"
    assert found.data.tags["data_version"] == "d7"
    assert found.data.tags["preset_digest"] == settings.preset.digest()
    assert len(found.data.tags["git_commit"]) >= 7
    curve = registry.client().get_metric_history(run.run_id, "train_loss")
    assert [(point.step, point.value) for point in curve] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert "validation_loss" not in found.data.metrics

    with (
        pytest.raises(ZeroDivisionError),
        registry.training_run("broken", settings.preset, data_version="d", dagster_run_id="r") as run,
    ):
        _ = 1 / 0
    assert registry.client().get_run(run.run_id).info.status == "FAILED"


def test_parts_load_in_mlflow_with_pickle_switched_off(
    registry: ModelRegistry, settings: PlatformSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    made = bundle(settings, 4)
    cfg, n_wave = settings.preset.pae, len(made.wave)
    save_autoencoder(made.autoencoder, cfg.autoencoder, made.n_latent, n_wave, tmp_path / "autoencoder")
    save_flow(made.flow, cfg.flow, made.n_latent, tmp_path / "flow")
    proposal = build_proposal(settings.preset.proposal, made.n_latent, 102, (0.01, 3.0), key=jr.key(5))
    save_proposal(proposal, settings.preset.proposal, tmp_path / "proposal")
    spectra = np.random.default_rng(0).random((3, n_wave), dtype=np.float32)
    latents = np.random.default_rng(1).random((3, made.n_latent), dtype=np.float32)
    photometry = pd.DataFrame({"flux": [[20.0] * 102] * 3, "flux_err": [[2.0] * 102] * 3})
    cases = (
        (AUTOENCODER, "autoencoder", spectra, row_signature(n_wave, n_wave)),
        (FLOW, "flow", latents, row_signature(made.n_latent, made.n_latent)),
        (PROPOSAL, "proposal", photometry, photometry_signature(PROPOSAL_SUMMARIES)),
    )
    with registry.training_run("parts", settings.preset, data_version="d", dagster_run_id="r"):
        for name, artifact, rows, signature in cases:
            registry.register(
                name,
                {artifact: tmp_path / artifact},
                signature=signature,
                input_example=rows[:1],
                tags={"content": name},
            )
    import mlflow

    *answers, redshifts = [
        mlflow.pyfunc.load_model(f"models:/{name}/1").predict(rows) for name, _, rows, _ in cases
    ]
    assert redshifts["proposal_z_mean"].between(0.01, 3.0).all()
    assert redshifts["proposal_z_mean"].nunique() == 1, "equal photometry, equal answer"
    assert (redshifts["proposal_z_std"] > 0.0).all()
    model = load_autoencoder(tmp_path / "autoencoder")
    expected = [
        model.decode(model.encode(jnp.asarray(spectra[0]))),
        made.flow.to_base(jnp.asarray(latents[0])),
    ]
    for answer, one in zip(answers, expected, strict=True):
        np.testing.assert_allclose(answer[0], one, rtol=1e-5, atol=1e-5)


def test_nothing_chatters_while_a_model_is_registered(
    registry: ModelRegistry,
    settings: PlatformSettings,
    tmp_path: Path,
    capfd: pytest.CaptureFixture,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        register_pae(registry, settings, tmp_path / "1", seed=1)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert [record.message for record in caplog.records if record.name.startswith("mlflow")] == []
