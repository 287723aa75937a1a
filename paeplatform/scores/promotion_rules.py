"""The rules of promotion, read from the one file that documents them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError, model_validator

from paeplatform.config import Section
from paeplatform.errors import ConfigError
from paeplatform.scores.metrics import GATE_METRICS, THROUGHPUT

PACKAGED = Path(__file__).parent / "promotion_rules.yaml"
JUDGED = (*GATE_METRICS, THROUGHPUT)
# The parts of the frozen test set, in their order, and the column that tells them apart.
PART = "part"
KNOWN, UNSEEN = "known", "unseen"
PARTS = (KNOWN, UNSEEN)


def name_on(part: str, metric: str) -> str:
    """A metric's name in MLflow: `crps` on known galaxies, `unseen_crps` on unseen ones."""
    return metric if part == KNOWN else f"{part}_{metric}"


class OwnLimits(Section):
    """What a rule asks of one part of the test set in the place of its own; what is not given stays."""

    margin: Annotated[float, Field(ge=0.0)] | None = None
    low: float | None = None
    high: float | None = None


class MetricRule(Section):
    """What is asked of one metric; the head of promotion_rules.yaml explains the keys."""

    name: str
    margin: Annotated[float, Field(ge=0.0)]
    relative: bool = False
    low: float | None = None
    high: float | None = None
    unseen: OwnLimits | None = None
    what: str
    why: str

    @model_validator(mode="after")
    def _ordered(self) -> MetricRule:
        for rule in (self, self.on(UNSEEN)):
            if rule.low is not None and rule.high is not None and rule.low > rule.high:
                raise ValueError(f"rule {self.name}: low {rule.low} is above high {rule.high}")
        return self

    def on(self, part: str) -> MetricRule:
        """The rule as it holds for a part of the test set."""
        if part != UNSEEN or self.unseen is None:
            return self
        own = {name: value for name, value in self.unseen.model_dump().items() if value is not None}
        return self.model_copy(update=own | {"unseen": None})

    def within(self, value: float) -> bool:
        """Whether a first champion may have this value."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def limits_text(self) -> str:
        """The accepted values in words."""
        if self.low is None and self.high is None:
            return "any"
        if self.low is None:
            return f"at most {self.high:g}"
        return f"at least {self.low:g}" if self.high is None else f"{self.low:g} to {self.high:g}"


class PromotionRules(Section):
    """All rules, in the order of the file."""

    confidence: Annotated[float, Field(gt=0.5, lt=1.0)]
    resamples: Annotated[int, Field(ge=100)]
    superiority: Annotated[tuple[str, ...], Field(min_length=1)]
    metrics: tuple[MetricRule, ...]

    @model_validator(mode="after")
    def _complete(self) -> PromotionRules:
        names = [rule.name for rule in self.metrics]
        twice = sorted({name for name in names if names.count(name) > 1})
        unknown, missing = sorted(set(names) - set(JUDGED)), sorted(set(JUDGED) - set(names))
        if twice or unknown or missing:
            faults = {"listed twice": twice, "unknown": unknown, "missing": missing}
            found = "; ".join(f"{what}: {', '.join(which)}" for what, which in faults.items() if which)
            raise ValueError(f"metrics {found} (there are {', '.join(JUDGED)})")
        strange = sorted(set(self.superiority) - set(GATE_METRICS))
        if strange:
            raise ValueError(f"superiority {', '.join(strange)}: must be of {', '.join(GATE_METRICS)}")
        return self

    def on(self, part: str) -> tuple[MetricRule, ...]:
        """The rules for a part of the test set; the rate, measured over both parts, is judged with the known one."""
        return tuple(rule.on(part) for rule in self.metrics if part == KNOWN or rule.name != THROUGHPUT)


@lru_cache
def load_promotion_rules(path: Path = PACKAGED) -> PromotionRules:
    """Reads a file of rules; without a path, the packaged one.

    Raises:
        ConfigError: missing, no YAML, an unknown key, a metric that is unknown, missing or listed twice, or a value
            outside its range; one line.
    """
    try:
        return PromotionRules.model_validate(yaml.safe_load(Path(path).read_text()))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"promotion rules {path}: {' '.join(str(error).split())}") from error
