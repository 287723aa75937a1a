"""The model that ships with the package, bound to bands and settings as a registered version is."""

from dataclasses import replace

import polars as pl

from paeplatform.assets.inference.estimation import Estimation, EstimationInputs, bundle_estimation
from paeplatform.assets.inference.sbi_estimation import sbi_estimation
from paeplatform.reference.shipped import SBI_FOLDER, check_files, reference_folder, reference_prior
from paeplatform.resources.failures import one_line_failures
from paeplatform.resources.registry import PAE, REFERENCE_VERSION, SBI, ModelVersion


def reference_version(name: str) -> ModelVersion:
    """What stands in the place of a version in answers of the model that ships."""
    return ModelVersion(name, REFERENCE_VERSION, run_id="", tags={}, url="")


def load_reference_pae(inputs: EstimationInputs) -> Estimation:
    """The bundle that ships, under the prior that was fitted with it: a home without models has no fit of its own.

    Raises:
        dagster.Failure: its files are at fault.
    """
    with one_line_failures():
        check_files()
        fitted = pl.DataFrame([reference_prior()])
    return bundle_estimation(
        reference_version(PAE), reference_folder(), replace(inputs, redshift_prior=fitted)
    )


def load_reference_sbi(inputs: EstimationInputs) -> Estimation:
    """The SBI network that ships.

    Raises:
        dagster.Failure: none ships, or its files are at fault.
    """
    with one_line_failures():
        check_files(needs_sbi=True)
    return sbi_estimation(reference_version(SBI), reference_folder() / SBI_FOLDER, inputs)
