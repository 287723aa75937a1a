"""A small reference model for tests: real parts with random weights, and a card with made-up figures."""

from __future__ import annotations

from pathlib import Path

import jax.random as jr
import numpy as np

from paeplatform.config import load_preset
from paeplatform.instrument.bands import load_bands
from paeplatform.pae.autoencoder import build_autoencoder
from paeplatform.pae.bundle import PaeBundle, save_bundle
from paeplatform.pae.flow import build_flow
from paeplatform.pae.proposal import build_proposal
from paeplatform.reference import shipped
from paeplatform.reference.card import Figures, Interval, LeftOut, ReferenceCard, must_not_be_used_for
from paeplatform.reference.making import write_reference
from paeplatform.sbi.bundle import save_sbi
from paeplatform.sbi.model import SbiModel, TrainedRange, build_model
from paeplatform.sed.grid import rest_grid
from paeplatform.sed.library import load_library
from tests.sbi.small import small_config

TINY = Path(__file__).parent / "platform" / "tiny.yaml"
PRIOR = {"alpha": 1.5, "beta": 0.4, "gamma": 1.2}


def small_bundle(seed: int) -> PaeBundle:
    """A bundle of the sizes of `tiny.yaml`, with every part that a bundle may have."""
    preset = load_preset(TINY)
    cfg, keys, wave = preset.pae, jr.split(jr.key(seed), 4), rest_grid(preset.rest_grid)
    prior = preset.prior
    return PaeBundle(
        autoencoder=build_autoencoder(cfg.autoencoder, cfg.n_latent, len(wave), key=keys[0]),
        flow=build_flow(cfg.flow, jr.normal(keys[2], (64, cfg.n_latent)), key=keys[1]),
        pae=cfg,
        n_latent=cfg.n_latent,
        wave=wave,
        band_hash=load_bands().content_hash(),
        library_hash=load_library().content_hash(),
        landmarks=np.zeros((3, cfg.n_latent), dtype=np.float32),
        proposal=build_proposal(preset.proposal, cfg.n_latent, 102, (prior.z_min, prior.z_max), key=keys[3]),
        proposal_config=preset.proposal,
    )


def small_network(seed: int) -> SbiModel:
    """A network for the 102 channels that takes every source for one like its training set."""
    cfg, prior = small_config(), load_preset(TINY).prior
    model = build_model(cfg, load_bands().depth("mev"), (prior.z_min, prior.z_max), seed=seed)
    width = cfg.encoder.width
    model.trained_range = TrainedRange(
        snr=(0.0, 1e6),
        depth=(0.0, 1e6),
        fewest_bands=1,
        centre=np.zeros(width, dtype=np.float32),
        whitening=np.eye(width, dtype=np.float32),
        farthest=1e6,
    )
    return model.eval()


def made_up_card(files: dict[str, str]) -> ReferenceCard:
    preset = load_preset(TINY)
    shown = {
        "nmad_paper": Interval(value=0.05, low=0.04, high=0.06),
        "usable": Interval(value=1, low=1, high=1),
    }
    methods = {"pae": shown} | ({"sbi": shown} if shipped.SBI_RECORD in files else {})
    settings = preset.model_dump(mode="json")
    return ReferenceCard(
        made_at="2026-11-29T00:00:00+00:00",
        git_commit="0123456789abcdef-dirty",
        evaluated_at="fedcba9876543210",
        preset=settings,
        preset_digest=preset.digest(),
        not_as_preset={"proposal.fit.epochs": "3; reference: 50"},
        seeds={"trainings": preset.seed},
        files=files,
        templates=160,
        library_hash=load_library().content_hash(),
        band_hash=load_bands().content_hash(),
        training_seconds={"autoencoder": 60.0},
        library_versions={"jax": "0.10.2"},
        hardware="a test",
        figures={"known": Figures(what="made up", sources=12, methods=methods)},
        left_out=LeftOut(
            what="a model of the test",
            source="docs/nowhere.csv",
            rows={"template seen": {"n": 10.0, "crps": 0.1}},
        ),
        must_not=must_not_be_used_for(settings, 160),
    )


def save_parts(folder: Path, seed: int) -> Path:
    """Saves a bundle whose weights follow from a seed, and an SBI network in `network` below it."""
    save_bundle(small_bundle(seed), folder)
    save_sbi(small_network(seed), load_bands().content_hash(), folder / "network")
    return folder


def write_small(target: Path, parts: Path, *, sbi: bool) -> Path:
    """Writes the reference model of some parts."""
    network = parts / "network" if sbi else None
    return write_reference(target, bundle=parts, sbi=network, prior=PRIOR, card=made_up_card)
