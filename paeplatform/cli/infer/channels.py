"""`paeplatform infer` on a table of the 102 channels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from paeplatform.cli.infer.output import not_held, output_path
from paeplatform.cli.infer.summary import print_summary, summary_of
from paeplatform.cli.printing import print_json

if TYPE_CHECKING:
    import polars as pl

    from paeplatform.cli.infer.model import ChosenModel
    from paeplatform.inference.files.photometry_file import PhotometryFile


def infer_channels(file: Path, model: ChosenModel, output: Path | None, overwrite: bool, json_: bool) -> None:
    """Answers for a table of the 102 channels: writes the table and prints its summary."""
    from paeplatform.inference.files.photometry_file import read_photometry_file
    from paeplatform.inference.files.posterior_file import write_posteriors
    from paeplatform.instrument.bands import load_bands

    output = output_path(file, output, overwrite)
    photometry = read_photometry_file(file, len(load_bands()))
    estimator, name = model.estimator()
    posteriors = estimator.estimate(photometry.flux, photometry.flux_err, photometry.object_id)
    prior_id = estimator.z_prior.prior_id()
    table, warnings = _with_source_columns(posteriors, photometry, prior_id)
    left_out = write_posteriors(output, table, trust=estimator.preset.trust, overwrite=overwrite)
    warnings += not_held(output, left_out)
    summary = summary_of(table) | {
        "file": str(file),
        "output": str(output),
        "model": name,
        "prior": prior_id,
        "method": estimator.sampler,
        "trust": estimator.preset.trust.model_dump(),
        "warnings": warnings,
    }
    if json_:
        print_json(summary)
    else:
        print_summary(summary)


def _with_source_columns(
    posteriors: pl.DataFrame, photometry: PhotometryFile, prior_id: str
) -> tuple[pl.DataFrame, list[str]]:
    """Adds what is known of each source: its prior, the file's other columns; and the warnings."""
    import polars as pl

    table = posteriors.with_columns(pl.lit(prior_id).alias("prior_id"))
    warnings = list(photometry.warnings)
    taken = [name for name in photometry.extra.columns if name in table.columns]
    if taken:
        warnings.append(f"columns {', '.join(taken)} of the photometry were replaced by the posterior's")
    return table.hstack(photometry.extra.drop(taken)), warnings
