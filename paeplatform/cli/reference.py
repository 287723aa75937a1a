"""`paeplatform models install-reference`: the model that ships, registered and judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from paeplatform.cli.options import HomeOption, JsonOption, PresetOption, settings_for
from paeplatform.cli.printing import print_json, print_text
from paeplatform.errors import InputError

if TYPE_CHECKING:
    from paeplatform.resources.registry import ModelRegistry, ModelVersion
    from paeplatform.resources.settings import PlatformSettings


@dataclass(frozen=True)
class Installed:
    """What came of one model.

    Attributes:
        name: of the registered model.
        version: that holds it.
        registered: whether it was registered now; otherwise it was there already.
        outcome: of the gate: promoted, rejected or left alone.
        against: what it was held against: a version, "limits", or nothing.
        reason: of the gate, one line.
    """

    name: str
    version: int
    registered: bool
    outcome: str
    against: str
    reason: str

    @property
    def line(self) -> str:
        """All of it for people."""
        there = "registered" if self.registered else "was registered already"
        against = f", held against {self.against}" if self.against else ""
        return f"{self.name} v{self.version}: {there}; {self.outcome}{against}: {self.reason}"


def install_reference(
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this registered model: pae or sbi-redshift. May be given again. Default: all that ship.",
            show_default=False,
        ),
    ] = None,
    json_: JsonOption = False,
    home: HomeOption = None,
    preset: PresetOption = None,
) -> None:
    """Register the model that ships with the package, and let the gate judge it like any other version.

    A new platform can then infer its first release before its first training. The frozen test set, the bands and the
    fitted prior are made first where they are missing. Installing it again registers nothing.

    Example: [bold]paeplatform models install-reference && paeplatform run --no-training --select pae_posteriors[/bold]
    """
    settings = settings_for(home, preset)
    found = install(settings, model, progress=not json_)
    if json_:
        print_json({"home": str(settings.home), "models": [vars(one) for one in found]})
        return
    for one in found:
        print_text(one.line)


def install(
    settings: PlatformSettings, models: list[str] | None = None, *, progress: bool
) -> list[Installed]:
    """Registers the models that ship and asks the gate about each.

    Args:
        settings: of the command.
        models: registered models by name or short name; None takes all that ship.
        progress: prints a line for each asset that is made on the way.

    Raises:
        InputError: no such model ships, its files are damaged, or another run is at work in this home.
    """
    from paeplatform.assets.models.reference import register_reference, shipped_models
    from paeplatform.assets.promotion.gated import gated
    from paeplatform.assets.promotion.verdicts import judge_challenger
    from paeplatform.cli.promotion import evaluation_inputs
    from paeplatform.resources.registry import ModelRegistry
    from paeplatform.resources.workspace import Workspace

    there = shipped_models()
    kinds = [gated(name) for name in dict.fromkeys(models or there)]
    missing = [kind.name for kind in kinds if kind.name not in there]
    if missing:
        raise InputError(f"--model {missing[0]}: none ships with this package; there is {', '.join(there)}")
    _make_what_the_gate_reads(settings, progress)
    registry, workspace = ModelRegistry.from_settings(settings), Workspace.from_settings(settings)
    found = []
    for kind in kinds:
        version, new = register_reference(kind.name, registry, workspace)
        judged = judge_challenger(kind, version, evaluation_inputs(settings, registry))
        found.append(
            Installed(kind.name, version.version, new, judged.outcome, judged.against, judged.reason)
        )
    return found


def said_of(registry: ModelRegistry, version: ModelVersion) -> str:
    """One line: the version, where it is from, whether it is champion, and the gate's last verdict."""
    from paeplatform.assets.models.reference import ORIGIN
    from paeplatform.assets.promotion.verdicts import VERDICT, VERDICT_AGAINST, VERDICT_REASON
    from paeplatform.resources.registry import CHAMPION

    tags = version.tags
    origin = (
        "the model that ships" if ORIGIN in tags else f"trained with preset {tags.get('preset', 'unknown')}"
    )
    champion = ", champion" if CHAMPION in registry.aliases(version) else ""
    verdict = "not judged"
    if VERDICT in tags:
        verdict = f"{tags[VERDICT]} against {tags.get(VERDICT_AGAINST)}: {tags.get(VERDICT_REASON)}"
    return f"{version.name} {version.label}, {origin}{champion}: {verdict}"


def _make_what_the_gate_reads(settings: PlatformSettings, progress: bool) -> None:
    """Makes the frozen test set, the bands and the fitted prior where they are missing or out of date.

    Raises:
        InputError: one could not be made.
    """
    from paeplatform.assets.promotion.evaluation import JUDGED_ON
    from paeplatform.definitions import build_definitions
    from paeplatform.sensors.run import materialize_stale

    summary = materialize_stale(
        settings, select=JUDGED_ON, training=False, progress=progress, defs=build_definitions(settings)
    )
    if summary.failed:
        target, fault = summary.failed[0]
        raise InputError(f"{target.label} could not be made, and the gate reads it: {fault}")
