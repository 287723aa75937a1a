"""Makes the model that ships with the package, and says how it compares with the one that ships now.

    python scripts/make_reference.py                        # trains preset `reference` in runs/reference, then compares
    python scripts/make_reference.py --from-home HOME       # takes the champion of a home that is trained already
    python scripts/make_reference.py --from-home runs/reference --replace      # and puts it in the place of the old one
    python scripts/make_reference.py --page                 # writes docs/reference_model.md anew from the card

`make reference ARGS="..."` does the same. Training takes some two hours on two cores and continues where it was
interrupted. Then both models infer the frozen test set, its known and its unseen galaxies; each takes some minutes. The
program prints, part by part and metric by metric, what the gate says of the new model against the one that ships, by
the rules of paeplatform/scores/promotion_rules.yaml.

Nothing is overwritten without --replace. With it the folder paeplatform/reference/model is written whole, under a
temporary name that is then renamed, and docs/reference_model.md with it. Without --replace these are written only where
no model ships yet.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from paeplatform.config import Preset, load_preset, validated  # noqa: E402
from paeplatform.errors import InputError  # noqa: E402
from paeplatform.files import write_whole  # noqa: E402
from paeplatform.reference.card import (  # noqa: E402
    CARD,
    Figures,
    LeftOut,
    ReferenceCard,
    must_not_be_used_for,
)
from paeplatform.reference.shipped import (  # noqa: E402
    REFERENCE,
    card_in,
    reference_bundle,
    reference_folder,
    reference_prior,
    reference_sbi,
    ships_sbi,
)

if TYPE_CHECKING:
    from paeplatform.reference.evaluation import TrainedModel
    from paeplatform.resources.registry import ModelRegistry, ModelVersion
    from paeplatform.scores.promotion import Evidence, Verdict

PAGE = ROOT / "docs" / "reference_model.md"
HOME = ROOT / "runs" / "reference"
LEFT_OUT = ROOT / "docs" / "results" / "outside" / "table_calibration.csv"
TRAINED = ("pae_promotion", "sbi_promotion")  # assets: both models, their evaluations and the gate's verdicts
# Sections of a preset that a trained model depends on.
DECIDING = (
    "seed",
    "templates",
    "rest_grid",
    "instrument",
    "catalog",
    "training_set",
    "model_error",
    "pae",
    "proposal",
    "sbi",
    "prior",
)
PARTS = {"autoencoder": "sed-autoencoder", "flow": "latent-flow", "proposal": "posterior-proposal"}


@dataclass(frozen=True)
class Candidate:
    """A trained model in a home.

    Attributes:
        bundle: folder of the bundle's files.
        sbi: folder of the SBI network's files; None where the home has none.
        prior: the fitted p_BPZ.
        preset: settings that it was trained with, and `preset_digest` their digest at that time.
        git_commit: of the code that trained it.
        training_seconds: by part.
        library_versions: of the packages that trained it.
    """

    bundle: Path
    sbi: Path | None
    prior: Mapping[str, float]
    preset: Preset
    preset_digest: str
    git_commit: str
    training_seconds: dict[str, float]
    library_versions: dict[str, str]


def main() -> int:
    """Does what the arguments ask for; returns the exit code."""
    given = _arguments()
    try:
        if given.page:
            write_page()
            return 0
        if given.from_home is None:
            train(given.home)
        candidate = taken(given.from_home or given.home, given.alias)
        made = compared(candidate, given.sources)
        if (reference_folder() / CARD).exists() and not given.replace:
            print(
                f"Nothing was written: a model ships in {reference_folder()}; --replace puts the new one there."
            )
            return 0
        publish(candidate, made)
        write_page()
        return 0
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def train(home: Path) -> None:
    """Trains the preset `reference` in a home, as `paeplatform run` does; goes on where it was interrupted."""
    chosen = [argument for name in TRAINED for argument in ("--select", name)]
    program = [sys.executable, "-c", "from paeplatform.cli import main; main()"]
    command = [*program, "run", "--preset", REFERENCE, "--home", str(home), *chosen]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise InputError(
            f"the training in {home} did not end well: see the lines above; call this again to go on"
        )


def taken(home: Path, alias: str) -> Candidate:
    """The trained model of a home.

    Raises:
        InputError: the home holds none with this alias, it is the model that ships, or it was not trained on all
            templates of the package or not with a fitted prior.
    """
    from paeplatform.assets.models.reference import ORIGIN
    from paeplatform.cli.options import settings_for
    from paeplatform.resources.registry import PAE, SBI, ModelRegistry

    if not home.is_dir():
        raise InputError(f"--from-home {home} is no folder")
    registry = ModelRegistry.from_settings(settings_for(home, REFERENCE))
    version = registry.by_alias(PAE, alias)
    if version.tags.get(ORIGIN) == REFERENCE:
        raise InputError(
            f"{PAE} {version.label} of {home} is the model that ships: name another one with --alias"
        )
    bundle, setting = registry.artifact(version, "bundle"), registry.artifact(version, "setting")
    path = setting / "preset.json"
    preset = validated(Preset, json.loads(path.read_text()), str(path))
    network = registry.find_alias(SBI, alias)
    sbi = None if network is None else registry.artifact(network, "sbi")
    return Candidate(
        bundle=bundle,
        sbi=sbi,
        prior=_fitted(setting / "prior.json"),
        preset=preset,
        preset_digest=version.tags["preset_digest"],
        git_commit=registry.client().get_run(version.run_id).data.tags.get("git_commit", "unknown"),
        training_seconds=_training_seconds(registry, version, network),
        library_versions=_library_versions(bundle.parents[1] / "requirements.txt"),
    )


@dataclass(frozen=True)
class Measured:
    """What was measured of a candidate, for its card."""

    figures: dict[str, Figures]
    hardware: str
    library_hash: str
    band_hash: str
    templates: int


def compared(candidate: Candidate, n_sources: int | None) -> Measured:
    """Measures a candidate and, on the same sources, the model that ships; prints the gate's view of the two.

    Raises:
        InputError: the candidate was trained on other templates than the package's, or without some of them.
    """
    from paeplatform.cli.options import settings_for
    from paeplatform.resources.workspace import Workspace

    Workspace.from_settings(settings_for(None, REFERENCE)).start_jax()  # before the first array
    from paeplatform.instrument.bands import load_bands
    from paeplatform.pae.bundle import load_bundle
    from paeplatform.reference.evaluation import (
        TrainedModel,
        described,
        evidence_on,
        figures_of,
        judged_sources,
    )
    from paeplatform.sbi.bundle import load_sbi
    from paeplatform.scores.promotion import decide
    from paeplatform.scores.promotion_rules import load_promotion_rules
    from paeplatform.sed.library import load_library

    preset, rules = candidate.preset, load_promotion_rules()
    library = load_library(preset.templates.folder)
    bundle = load_bundle(candidate.bundle)
    if bundle.library_hash != load_library().content_hash() or preset.tables.leave_out:
        raise InputError(
            f"{candidate.bundle} was not trained on all templates of the package, and on no others"
        )
    new = TrainedModel(bundle, candidate.prior, None if candidate.sbi is None else load_sbi(candidate.sbi)[0])
    old = _shipped_model()
    if n_sources is not None:
        promotion = preset.promotion.model_copy(update={"n_sources": n_sources, "n_unseen": n_sources})
        preset = preset.model_copy(update={"promotion": promotion})
    what, test_set = described(preset, len(library)), judged_sources(preset, load_bands())
    shown = evidence_on(new, preset, test_set)
    before = {} if old is None else evidence_on(old, preset, test_set)
    figures = figures_of(what, shown, rules)
    for part, found in figures.items():
        print(f"\n{part}: {found.what}: {found.sources:,} sources", flush=True)
    for method, evidence in shown.items():
        _print_verdict(method, decide(evidence, before.get(method), rules), before.get(method))
    return Measured(figures, shown["pae"].hardware, bundle.library_hash, bundle.band_hash, len(library))


def publish(candidate: Candidate, measured: Measured, target: Path | None = None) -> Path:
    """Writes the folder of the candidate, in the place of the one that stands there."""
    from paeplatform.reference.making import size_of, write_reference
    from paeplatform.resources.models.tracking import flatten, git_commit
    from paeplatform.scores.frozen_sources import unseen_seed

    preset = candidate.preset
    settings, wanted = (flatten(one.model_dump(mode="json")) for one in (preset, load_preset(REFERENCE)))
    differing = {
        name: f"{settings[name]}; {REFERENCE}: {value}"
        for name, value in wanted.items()
        if name.split(".")[0] in DECIDING and settings.get(name, value) != value
    }

    def card(files: dict[str, str]) -> ReferenceCard:
        return ReferenceCard(
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            git_commit=candidate.git_commit,
            evaluated_at=git_commit(ROOT),
            preset=preset.model_dump(mode="json"),
            preset_digest=candidate.preset_digest,
            not_as_preset=differing,
            seeds={
                "trainings": preset.seed,
                "known galaxies": preset.promotion.test_seed,
                "unseen galaxies": unseen_seed(preset),
            },
            files=files,
            templates=measured.templates,
            library_hash=measured.library_hash,
            band_hash=measured.band_hash,
            training_seconds=candidate.training_seconds,
            library_versions=candidate.library_versions,
            hardware=measured.hardware,
            figures=measured.figures,
            left_out=left_out_figures(LEFT_OUT),
            must_not=must_not_be_used_for(preset.model_dump(mode="json"), measured.templates),
        )

    target = reference_folder() if target is None else target
    write_reference(target, bundle=candidate.bundle, sbi=candidate.sbi, prior=candidate.prior, card=card)
    print(f"\nwritten: {target} ({size_of(target) / 1e6:.1f} MB)")
    return target


def left_out_figures(table: Path) -> LeftOut | None:
    """What the preset `outside` showed of templates that its PAE did not see; None without its table.

    Args:
        table: `table_calibration.csv` of a run with that preset.
    """
    if not table.is_file():
        return None
    rows = pl.read_csv(table, glob=False).filter(
        pl.col("property") == "in training", pl.col("method") == "nf_bpz"
    )
    numbers = [name for name, dtype in rows.schema.items() if dtype.is_numeric()]
    found = {
        row["value"]: {name: float(row[name]) for name in numbers if row[name] is not None}
        for row in rows.iter_rows(named=True)
    }
    if not found:
        return None
    return LeftOut(
        what="the smaller model of the preset `outside`, whose training did not see 13 galaxies of Brown et al. 2014",
        source=str(table.relative_to(ROOT)),
        rows=found,
    )


def write_page() -> None:
    """Writes docs/reference_model.md from the card of the model that ships."""
    from paeplatform.reference.page import card_page

    write_whole(PAGE, card_page(card_in(reference_folder())))
    print(f"written: {PAGE}")


def _shipped_model() -> TrainedModel | None:
    """The model that ships now; None where none does."""
    from paeplatform.reference.evaluation import TrainedModel

    if not (reference_folder() / CARD).exists():
        return None
    sbi = reference_sbi()[0] if ships_sbi() else None
    return TrainedModel(reference_bundle(), reference_prior(), sbi)


def _fitted(path: Path) -> dict[str, float]:
    """alpha, beta and gamma of the prior that a version was registered with."""
    prior = json.loads(path.read_text())
    if prior.get("kind") != "bpz":
        raise InputError(f"{path}: the prior must be of kind bpz, found {prior.get('kind')!r}")
    return {name: float(prior[name]) for name in ("alpha", "beta", "gamma")}


def _training_seconds(
    registry: ModelRegistry, version: ModelVersion, network: ModelVersion | None
) -> dict[str, float]:
    """What the trainings took, as their runs recorded it."""
    runs = {}
    for part, name in PARTS.items():
        number = version.tags.get(f"{part}_version")
        if number is not None:
            runs[part] = registry.by_version(name, int(number)).run_id
    if network is not None:
        runs["SBI"] = network.run_id
    found = {}
    for part, run_id in runs.items():
        record = registry.run_file(run_id, "record.json")
        seconds = None if record is None else json.loads(record.read_text())["metrics"].get("seconds")
        if seconds is not None:
            found[part] = float(seconds)
    return found


def _library_versions(requirements: Path) -> dict[str, str]:
    """The pins that were logged with a version."""
    if not requirements.is_file():
        return {}
    pins = (line.strip().split("==") for line in requirements.read_text().splitlines())
    return {pin[0]: pin[1] for pin in pins if len(pin) == 2}


def _print_verdict(method: str, verdict: Verdict, before: Evidence | None) -> None:
    against = "the limits of a first champion" if before is None else "the model that ships"
    print(
        f"\n  {method} against {against}: {'passes' if verdict.promote else 'does not pass'}: {verdict.reason}"
    )
    for row in verdict.metrics:
        mark = {True: "passes", False: "FAILS", None: "-"}[row.passes]
        values = ("" if value is None else f"{value:.4g}" for value in (row.challenger, row.champion))
        new, old = values
        print(
            f"    {row.part:<7} {row.name:<18} {new:>10} {old:>10}  {'better' if row.better else mark:<7} {row.reason}"
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--home", type=Path, default=HOME, help="where the training runs; default runs/reference"
    )
    parser.add_argument(
        "--from-home", type=Path, metavar="HOME", help="train nothing: take what is trained there"
    )
    parser.add_argument(
        "--alias", default="champion", help="which registered version to take; default champion"
    )
    parser.add_argument(
        "--sources", type=int, metavar="N", help="sources of each part; default promotion.n_sources, n_unseen"
    )
    parser.add_argument(
        "--replace", action="store_true", help="put the new model in the place of the old one"
    )
    parser.add_argument(
        "--page", action="store_true", help="only write docs/reference_model.md from the card"
    )
    given = parser.parse_args()
    if given.sources is not None and given.sources < 2:
        parser.error(f"--sources {given.sources}: must be at least 2")
    return given


if __name__ == "__main__":
    sys.exit(main())
