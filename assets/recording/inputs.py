"""Inputs of an asset taken together, in place of a long list of arguments: for an asset that takes `**inputs`."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, TypeVar

import dagster as dg
import polars as pl

T = TypeVar("T")


def tables_in(names: Iterable[str]) -> dict[str, dg.AssetIn]:
    """The inputs of these names, each a table that is read whole."""
    return {name: dg.AssetIn(dagster_type=pl.DataFrame) for name in names}


def taken(kind: type[T], inputs: dict[str, Any]) -> T:
    """The dataclass of the inputs that `inputs_of` declared; any others stay in `inputs`."""
    return kind(**{field.name: inputs.pop(field.name) for field in fields(kind)})  # type: ignore[arg-type]


def inputs_of(kind: type) -> dict[str, dg.AssetIn]:
    """The inputs that a dataclass holds, of which the asset makes one (`taken`): an input has a field's name, type."""
    return {field.name: dg.AssetIn(dagster_type=field.type) for field in fields(kind)}
