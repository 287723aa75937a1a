"""Registers the model that ships with the package: a version like any other, which the gate judges."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from paeplatform.assets.models.model_records import example_photometry, write_setting
from paeplatform.assets.models.training import model_tags
from paeplatform.assets.recording.tables import bands_table
from paeplatform.assets.recording.versions import file_digest
from paeplatform.config import Preset, validated
from paeplatform.errors import RegistryError
from paeplatform.reference.card import CARD
from paeplatform.reference.shipped import (
    REFERENCE,
    SBI_FOLDER,
    bundle_files,
    check_files,
    reference_card,
    reference_folder,
    reference_prior,
    ships_sbi,
)
from paeplatform.resources.models.signatures import PAE_SUMMARIES, SBI_SUMMARIES, photometry_signature
from paeplatform.resources.registry import PAE, SBI, ModelRegistry, ModelVersion
from paeplatform.resources.workspace import Workspace

# Tags of a version that came with the package: where it is from, the code that trained it, when it was made.
ORIGIN, TRAINED_AT, MADE_AT = "origin", "reference_git_commit", "reference_made_at"
ASKED_BY = "command line"  # in the place of a Dagster run


def shipped_models() -> tuple[str, ...]:
    """The registered models of which one ships.

    Raises:
        CheckpointError: the card is missing or damaged.
    """
    return (PAE, SBI) if ships_sbi() else (PAE,)


def register_reference(name: str, registry: ModelRegistry, workspace: Workspace) -> tuple[ModelVersion, bool]:
    """(the version that holds the model that ships, whether it was registered now); a new one is @challenger.

    Its run holds the settings of the training, and its tags the commit. The same bytes are not registered twice, also
    where they were trained in this very home.

    Args:
        name: of the registered model, one of `shipped_models`.
        registry: where it goes.
        workspace: for scratch space.

    Raises:
        CheckpointError: a file that ships is missing or damaged.
        ConfigError: the settings on the card are not valid for this version of the package.
    """
    check_files(needs_sbi=name == SBI)
    card = reference_card()
    preset = validated(Preset, card["preset"], str(reference_folder() / CARD))
    folder = _files(name, workspace)
    try:
        content = file_digest(folder)
        try:
            return registry.by_content(name, content), False
        except RegistryError:
            pass
        tags = {
            **model_tags(preset, content, preset.pae.n_latent if name == PAE else None),
            **{tag: card[tag] for tag in ("preset_digest", "library_hash", "band_hash")},
            ORIGIN: REFERENCE,
            TRAINED_AT: card["git_commit"],
            MADE_AT: card["made_at"],
        }
        return _registered(name, folder, preset, tags, registry, workspace), True
    finally:
        workspace.discard(folder)


def _registered(
    name: str,
    folder: Path,
    preset: Preset,
    tags: Mapping[str, object],
    registry: ModelRegistry,
    workspace: Workspace,
) -> ModelVersion:
    from paeplatform.instrument.bands import load_bands

    bands = load_bands()
    with registry.training_run(
        f"{name}-{REFERENCE}", preset, data_version=str(tags["content"]), dagster_run_id=ASKED_BY
    ):
        artifacts, summaries = {"sbi": folder}, SBI_SUMMARIES
        if name == PAE:
            setting = workspace.scratch_path("setting")
            write_setting(setting, preset, pl.DataFrame([reference_prior()]), bands_table(bands))
            artifacts, summaries = {"bundle": folder, "setting": setting}, PAE_SUMMARIES
        version = registry.register(
            name,
            artifacts,
            signature=photometry_signature(summaries),
            input_example=example_photometry(len(bands)),
            tags=tags,
        )
        if name == PAE:
            workspace.discard(artifacts["setting"])
        return version


def _files(name: str, workspace: Workspace) -> Path:
    """A copy of the files of one model alone, as a training would have left them."""
    folder = workspace.scratch_path("sbi" if name == SBI else "bundle")
    if name == SBI:
        shutil.copytree(reference_folder() / SBI_FOLDER, folder)
        return folder
    folder.mkdir()
    for file in bundle_files(reference_folder()):
        shutil.copyfile(file, folder / file.name)
    return folder
