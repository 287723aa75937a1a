"""The model card of the reference model: what it was made from, what it showed, and what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from paeplatform.config import Section
from paeplatform.errors import CheckpointError
from paeplatform.model_files import read_record, write_record

CARD = "card.json"
KIND = "reference-card"


class Interval(Section):
    """A metric on a test set, with the ends of the central 95 % of its resamples."""

    value: float
    low: float
    high: float


class Figures(Section):
    """What the methods showed on one part of the test set.

    Attributes:
        what: the sources, in words.
        sources: how many.
        methods: of each method ("pae", "sbi") the metrics by name (`scores.metrics`).
    """

    what: str
    sources: int
    methods: dict[str, dict[str, Interval]]


class LeftOut(Section):
    """A model that was trained without some templates, on galaxies with and without these templates.

    Attributes:
        what: which model, in words.
        source: file that the figures are from.
        rows: by group of sources the number of them, `n`, and metrics with their bootstrap errors `<name>_err`.
    """

    what: str
    source: str
    rows: dict[str, dict[str, float]]


class ReferenceCard(Section):
    """The card.

    Attributes:
        made_at: UTC, ISO 8601: when the folder was written.
        git_commit: of the code that trained the bundle; `evaluated_at` is that of the code that measured it.
        preset: the whole settings of the training.
        preset_digest: of these.
        not_as_preset: settings by name that differ from those of the preset `reference`, as "25; reference: 50".
        seeds: of the trainings, of the known and of the unseen galaxies of the frozen test set.
        files: sha256 of the records and of the prior, by path in the folder.
        templates: how many galaxy spectra the training draws from.
        library_hash: of these templates.
        band_hash: of the channels.
        training_seconds: of each part.
        library_versions: of the packages that trained it.
        hardware: that the figures were measured on.
        figures: by part of the test set, "known" and "unseen"; cards of before decision 28 have "templates" and
            "mixtures".
        left_out: None where there are none.
        must_not: one sentence each.
    """

    made_at: str
    git_commit: str
    evaluated_at: str
    preset: dict[str, Any]
    preset_digest: str
    not_as_preset: dict[str, str]
    seeds: dict[str, int]
    files: dict[str, str]
    templates: int
    library_hash: str
    band_hash: str
    training_seconds: dict[str, float]
    library_versions: dict[str, str]
    hardware: str
    figures: dict[str, Figures]
    left_out: LeftOut | None
    must_not: tuple[str, ...]


def write_card(card: ReferenceCard, path: Path) -> Path:
    """Writes the card; returns its path."""
    return write_record(path, KIND, card.model_dump(mode="json"))


def read_card(path: Path) -> ReferenceCard:
    """Reads what `write_card` wrote.

    Raises:
        CheckpointError: it is missing, or an entry is missing, unknown or of the wrong type; one line.
    """
    record = read_record(path, KIND)
    content = {name: value for name, value in record.items() if name not in ("format", "kind")}
    try:
        return ReferenceCard.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "card"
        raise CheckpointError(f"{path}: {where}: {fault['msg']}") from error


def must_not_be_used_for(preset: Mapping[str, Any], templates: int) -> tuple[str, ...]:
    """What answers of the reference model do not hold for, one sentence each; the limits are those of its settings.

    Args:
        preset: the whole settings of the training, as plain values.
        templates: how many galaxy spectra it was trained on.
    """
    prior, catalog, mag_z = preset["prior"], preset["catalog"], preset["release"]["mag_z_max"]
    return (
        "Redshifts of stars, brown dwarfs, quasars and solar-system objects: the model knows galaxies only and answers "
        "with a redshift all the same. The columns `class_*` say what else a source may be, and the status `misfit` "
        "that no galaxy fits; where the data are faint, neither does.",
        "Galaxies that an active nucleus outshines: the templates are galaxies of stars, gas and dust.",
        f"Galaxies whose spectrum is unlike the {templates} templates, such as extreme emission-line "
        "galaxies, heavily obscured galaxies, or blends of two sources. The likelihood counts an error of the model, "
        "learnt from observed galaxies that trainings left out; it holds for galaxies that differ from the templates "
        "as these do. For bright galaxies of a library of population synthesis, which are smoother and differ more, "
        "68 % intervals held 57 to 63 % (docs/decisions/0029).",
        "Galaxies whose light from 2 um on is hot dust behind more dust, such as IRAS 08572+3915: one template has it, "
        "and the training varies it as the light of a single blackbody.",
        f"Redshifts above {prior['z_max']:g} or below {prior['z_min']:g}: the prior excludes them, so such a galaxy "
        "gets a wrong redshift within these limits.",
        f"Galaxies behind more dust than E(B-V) = {catalog['ebv_max']:g} beyond what their template holds.",
        f"Sources fainter than z_AB = {mag_z:g}: the figures of this card are for brighter ones.",
        "Photometry of another instrument or in other bands than SPHEREx's.",
        "The statistics of a sample, such as N(z), without a prior that fits its selection: the prior of this model is "
        "that of a mock catalogue.",
    )
