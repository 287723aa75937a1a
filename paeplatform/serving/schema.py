"""What a request must look like, checked before any work, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, create_model, field_validator

INT64 = 2**63
# Strict, as "1.5" and true are no fluxes; JSON knows no infinity, and NaN is not JSON.
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Identity = Annotated[int, Field(strict=True, ge=-INT64, lt=INT64)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SourceRequest(_Strict):
    """One source; `photoz_request` adds flux and flux_err of the right length."""

    object_id: Identity | None = Field(
        default=None, description="Fixes the source's random numbers; its place in the list when not given."
    )
    flux: Sequence[float | None]
    flux_err: Sequence[float | None]


class PhotozRequest(_Strict):
    """A request; `photoz_request` narrows its fields."""

    method: str
    sources: Sequence[SourceRequest]

    def object_ids(self) -> list[int]:
        """Given, or else the places in the list."""
        return [
            place if source.object_id is None else source.object_id
            for place, source in enumerate(self.sources)
        ]


def photoz_request(n_bands: int, limits: Mapping[str, int]) -> type[PhotozRequest]:
    """The request for a band set and the methods that are served.

    Args:
        n_bands: numbers in flux and flux_err.
        limits: most sources of a request, by method.
    """
    numbers = Annotated[
        list[Number | None],
        Field(
            min_length=n_bands, max_length=n_bands, description="uJy; null for a band without a measurement."
        ),
    ]
    source = create_model("Source", __base__=SourceRequest, flux=(numbers, ...), flux_err=(numbers, ...))

    class _Checked(PhotozRequest):
        @field_validator("sources", check_fields=False)
        @classmethod
        def _distinct_and_few(cls, sources: list[Any], info: ValidationInfo) -> list[Any]:
            method = info.data.get("method")
            if method in limits and len(sources) > limits[method]:
                raise ValueError(
                    f"at most {limits[method]} sources a request with {method}, got {len(sources)}"
                )
            ids = [place if one.object_id is None else one.object_id for place, one in enumerate(sources)]
            if len(set(ids)) != len(ids):
                raise ValueError("object_id must be distinct")
            return sources

    few = Field(min_length=1, max_length=max(limits.values()))
    fields: dict[str, Any] = {
        "method": (Literal[tuple(limits)], ...),
        "sources": (Annotated[list[source], few], ...),
    }
    return create_model("PhotozRequest", __base__=_Checked, **fields)


class ServedModel(BaseModel):
    """The model version that answered."""

    name: str
    version: int | None = Field(
        description="Of the registry; null for the model that ships with the package."
    )
    origin: Literal["champion", "reference"] = Field(
        description="The home's champion, or the model that ships: it answers where a home never had a champion."
    )


class SourceAnswer(BaseModel):
    """p(z) of one source; numbers are null when there is none."""

    object_id: int
    status: str = Field(
        description="As in the catalogue: converged, unconverged, misfit, unlike_training or failed; or answered."
    )
    z_mean: float | None
    z_median: float | None
    z_mode: float | None
    z_std: float | None
    z_err68_low: float | None
    z_err68_high: float | None
    z_err95_low: float | None
    z_err95_high: float | None
    z_quantiles: list[float] | None
    n_bands: int = Field(description="Bands used.")
    flags: int
    flag_names: list[str]
    input_fault: str | None = None


class PhotozAnswer(BaseModel):
    """The answer, in the order of the request."""

    method: str
    model: ServedModel
    prior: str
    quantile_levels: list[float]
    sources: list[SourceAnswer]


Z_COLUMNS = tuple(
    name for name in SourceAnswer.model_fields if name.startswith("z_") and name != "z_quantiles"
)
