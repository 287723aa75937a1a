"""Typed inputs and outputs of the registered models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

_SUMMARIES = ("mean", "median", "mode", "std")  # of the redshift
PAE_SUMMARIES = tuple(f"pae_z_{name}" for name in _SUMMARIES)
SBI_SUMMARIES = tuple(f"sbi_z_{name}" for name in _SUMMARIES)
PROPOSAL_SUMMARIES = ("proposal_z_mean", "proposal_z_std")  # uncorrected


def row_signature(n_in: int, n_out: int) -> ModelSignature:
    """Rows of `n_in` float32 numbers to rows of `n_out`."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def rows(n: int) -> Schema:
        return Schema([TensorSpec(np.dtype(np.float32), (-1, n))])

    return ModelSignature(inputs=rows(n_in), outputs=rows(n_out))


def photometry_signature(outputs: Sequence[str]) -> ModelSignature:
    """Columns `flux` and `flux_err` [uJy], each a list of one number a band, to columns of numbers.

    A band without a measurement has an infinite or non-positive flux_err. MLflow checks the column types;
    the number of bands is checked by the model itself, which names the row at fault.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    bands = Array(DataType.double)
    return ModelSignature(
        inputs=Schema(
            [
                ColSpec(bands, "flux"),
                ColSpec(bands, "flux_err"),
                ColSpec(DataType.long, "object_id", required=False),
            ]
        ),
        outputs=Schema([ColSpec(DataType.double, name) for name in outputs]),
    )
