"""Who is champion of a registered model, since when and by whose hand: the alias @champion and its history.

MLflow keeps the alias and no history of it. Every move made here is therefore written down as a tag of the registered
model, `champion.0001`, `champion.0002`, ...; a move made elsewhere (the MLflow page, MLflow's client) is noticed by
the difference between alias and last entry, and written down as made by hand. The alias always has the last word.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from paeplatform.errors import RegistryError
from paeplatform.resources.registry import CHALLENGER, CHAMPION, ModelRegistry, ModelVersion

GATE, COMMAND, ROLLBACK, HAND = "gate", "command", "rollback", "hand"  # by whom a champion was made
PROMOTED_BY, PROMOTED_AT, PROMOTED_OVER = "promoted_by", "promoted_at", "previous_champion"
DEMOTED_BY, DEMOTED_AT = "demoted_by", "demoted_at"
_ENTRY = "champion."
_REASON_LENGTH = 500


@dataclass(frozen=True)
class Move:
    """One change of @champion.

    Attributes:
        version: that became champion; None when the alias was taken down.
        previous: that was it before; None for the first.
        by: GATE, COMMAND, ROLLBACK or HAND.
        at: UTC, ISO 8601; of a move by hand, when it was noticed.
        reason: as given.
    """

    version: int | None
    previous: int | None
    by: str
    at: str
    reason: str = ""


class Champions:
    """The champion of one registered model."""

    def __init__(self, registry: ModelRegistry, name: str) -> None:
        self._registry, self.name = registry, name

    def now(self) -> ModelVersion | None:
        """The version that @champion points at."""
        return self._registry.find_alias(self.name, CHAMPION)

    def history(self) -> list[Move]:
        """All recorded moves, oldest first."""
        if not self._registry.versions(self.name):
            return []
        tags = self._registry.client().get_registered_model(self.name).tags
        return [Move(**json.loads(tags[key])) for key in sorted(tags) if key.startswith(_ENTRY)]

    def notice(self) -> Move | None:
        """Writes down a move that was made by hand since the last look; None when there was none."""
        champion, history = self.now(), self.history()
        current = champion.version if champion else None
        recorded = history[-1].version if history else None
        if current == recorded:
            return None
        return self._record(current, recorded, HAND, "alias moved outside the platform", len(history))

    def promote(self, version: int, by: str, reason: str) -> Move:
        """Makes a version champion; it stops being challenger.

        Raises:
            RegistryError: no such version.
        """
        self.notice()
        previous, history = self.now(), self.history()
        self._registry.set_alias(self.name, CHAMPION, version)
        challenger = self._registry.find_alias(self.name, CHALLENGER)
        if challenger is not None and challenger.version == version:
            self._registry.drop_alias(self.name, CHALLENGER)
        return self._record(version, previous.version if previous else None, by, reason, len(history))

    def rollback(self, reason: str) -> Move:
        """Makes the champion before this one champion again; called twice, it goes back two.

        Raises:
            RegistryError: there is no champion, none before it, or that version was deleted.
        """
        self.notice()
        champion, history = self.now(), self.history()
        if champion is None:
            raise RegistryError(f"no model {self.name}@{CHAMPION}: nothing to roll back")
        line = _line_of_succession(history)
        if len(line) < 2:
            raise RegistryError(
                f"{self.name} {champion.label} had no champion before it: nothing to roll back to"
            )
        before = line[-2]
        self._registry.set_alias(self.name, CHAMPION, before)
        return self._record(before, champion.version, ROLLBACK, reason, len(history))

    def _record(self, version: int | None, previous: int | None, by: str, reason: str, number: int) -> Move:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        move = Move(version, previous, by, at, reason[:_REASON_LENGTH])
        entry = f"{_ENTRY}{number + 1:04d}"
        self._registry.client().set_registered_model_tag(self.name, entry, json.dumps(asdict(move)))
        there = self._registry.versions(self.name)
        if version in there:
            over = "none" if previous is None else f"v{previous}"
            self._registry.tag(self.name, version, {PROMOTED_BY: by, PROMOTED_AT: at, PROMOTED_OVER: over})
            self._registry.untag(self.name, version, (DEMOTED_BY, DEMOTED_AT))
        if previous in there:
            self._registry.tag(self.name, previous, {DEMOTED_BY: by, DEMOTED_AT: at})
        return move


def _line_of_succession(history: list[Move]) -> list[int]:
    """The champions that rolling back goes through, the present one last: a rollback takes the last one off."""
    line: list[int] = []
    for move in history:
        if move.by == ROLLBACK and line:
            line.pop()
        if move.version is not None and (not line or line[-1] != move.version):
            line.append(move.version)
    return line
