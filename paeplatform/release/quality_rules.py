"""The rules of the quality gate, read from the one file that documents them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from paeplatform.errors import ConfigError
from paeplatform.release.outcomes import RuleOutcome

PACKAGED = Path(__file__).parent / "quality_rules.yaml"


class Rule(BaseModel):
    """One rule; the head of quality_rules.yaml explains the keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    level: Literal["release", "cell"]
    severity: Literal["error", "warn"]
    what: str
    why: str
    low: float | None = None
    high: float | None = None
    sigmas: float = 0.0
    drift: float | None = None

    def outcome(
        self, passed: bool, column: str, observed: str, expected: str, detail: str = ""
    ) -> RuleOutcome:
        """What this rule found."""
        return RuleOutcome(self.name, self.level, self.severity, passed, column, observed, expected, detail)

    @model_validator(mode="after")
    def _ordered(self) -> Rule:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"rule {self.name}: low {self.low} is above high {self.high}")
        if self.sigmas < 0.0 or (self.drift is not None and self.drift <= 0.0):
            raise ValueError(f"rule {self.name}: sigmas must not be negative, drift must be positive")
        return self


class Rules(BaseModel):
    """All rules, in the order of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: tuple[Rule, ...]

    @model_validator(mode="after")
    def _distinct(self) -> Rules:
        names = [rule.name for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"rules listed twice: {', '.join(twice)}")
        return self

    def of_level(self, level: str) -> list[Rule]:
        """The rules of "release" or "cell"."""
        return [rule for rule in self.rules if rule.level == level]

    def named(self, name: str) -> Rule:
        """One rule.

        Raises:
            ConfigError: there is none of that name.
        """
        found = next((rule for rule in self.rules if rule.name == name), None)
        if found is None:
            raise ConfigError(
                f"no quality rule {name!r}: there are {', '.join(rule.name for rule in self.rules)}"
            )
        return found


@lru_cache
def load_rules(path: Path = PACKAGED) -> Rules:
    """Reads a file of rules; without a path, the packaged one.

    Raises:
        ConfigError: missing, no YAML, an unknown key or a range whose ends are crossed; one line.
    """
    try:
        return Rules.model_validate(yaml.safe_load(Path(path).read_text()))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"quality rules {path}: {' '.join(str(error).split())}") from error
