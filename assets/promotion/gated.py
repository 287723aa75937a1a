"""The registered models that pass through the gate, and how each is loaded to answer photometry.

A model of one's own joins by an entry in `GATED` (docs/models.md): assets of its evaluation, promotion and champion,
`paeplatform promote` and `paeplatform serve` follow from it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag

from paeplatform.assets.inference.estimation import (
    PAE_POSTERIORS,
    Estimation,
    EstimationInputs,
    load_champion,
    posterior_code,
)
from paeplatform.assets.inference.reference import load_reference_pae, load_reference_sbi
from paeplatform.assets.inference.sbi_estimation import load_sbi_version, sbi_code
from paeplatform.config import Preset
from paeplatform.errors import InputError
from paeplatform.resources.registry import PAE, SBI

Loader = Callable[[EstimationInputs, int], Estimation]


@dataclass(frozen=True)
class Gated:
    """One registered model.

    Attributes:
        name: in MLflow.
        short: first part of its assets' names and of its posteriors' columns; what the served API calls the method.
        code: code version of its posteriors for a preset: whatever decides an answer beside the model itself.
        load: reads a version by its number, ready to answer, without running anything that is stored with it.
        max_sources: that a request may hold when it is served.
        flag_column: of its posteriors.
        flag_type: the names of these flags' bits.
        load_reference: the model that ships with the package, bound like a version; None for a kind without one.
    """

    name: str
    short: str
    code: Callable[[Preset], str]
    load: Loader
    max_sources: int
    flag_column: str
    flag_type: Callable[[], type[IntFlag]]
    load_reference: Callable[[EstimationInputs], Estimation] | None = None

    @property
    def model_asset(self) -> str:
        """The asset that trains and registers it."""
        return f"{self.short}_model"

    @property
    def promotion_asset(self) -> str:
        """The asset in which the gate judges it."""
        return f"{self.short}_promotion"

    @property
    def champion_asset(self) -> str:
        """The asset that follows its @champion."""
        return f"{self.short}_champion"


def _pae_flags() -> type[IntFlag]:
    from paeplatform.inference.results.summaries import ZFlag

    return ZFlag


def _sbi_flags() -> type[IntFlag]:
    from paeplatform.sbi.domain import SbiFlag

    return SbiFlag


GATED = {
    PAE: Gated(
        name=PAE,
        short="pae",
        code=lambda preset: posterior_code(PAE_POSTERIORS, preset),
        load=load_champion,
        max_sources=100,
        flag_column="z_flags",
        flag_type=_pae_flags,
        load_reference=load_reference_pae,
    ),
    SBI: Gated(
        name=SBI,
        short="sbi",
        code=sbi_code,
        load=load_sbi_version,
        max_sources=1000,
        flag_column="sbi_flags",
        flag_type=_sbi_flags,
        load_reference=load_reference_sbi,
    ),
}


def gated(name: str) -> Gated:
    """The entry of a registered model, by its name or short name.

    Raises:
        InputError: no such model passes through the gate.
    """
    found = next((one for one in GATED.values() if name in (one.name, one.short)), None)
    if found is None:
        raise InputError(f"no model {name!r} passes through the gate: there are {', '.join(GATED)}")
    return found
