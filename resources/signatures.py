"""Typed inputs and outputs of the registered models."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.models import ModelSignature


def row_signature(n_in: int, n_out: int) -> ModelSignature:
    """Rows of `n_in` float32 numbers to rows of `n_out`."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def rows(n: int) -> Schema:
        return Schema([TensorSpec(np.dtype(np.float32), (-1, n))])

    return ModelSignature(inputs=rows(n_in), outputs=rows(n_out))


def photometry_signature() -> ModelSignature:
    """Photometry to the redshift summaries of `pae`."""
    return _from_photometry([f"pae_z_{name}" for name in ("mean", "median", "mode", "std")])


def proposal_signature() -> ModelSignature:
    """Photometry to the uncorrected redshifts of `posterior-proposal`."""
    return _from_photometry(["proposal_z_mean", "proposal_z_std"])


def sbi_signature() -> ModelSignature:
    """Photometry to the redshift summaries of `sbi-redshift`."""
    return _from_photometry([f"sbi_z_{name}" for name in ("mean", "median", "mode", "std")])


def _from_photometry(outputs: list[str]) -> ModelSignature:
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
