"""Deliberate faults of simulated deliveries, each with the rule or reason that has to catch it."""

from __future__ import annotations

from dataclasses import dataclass

from paeplatform.errors import InputError


@dataclass(frozen=True)
class Defect:
    """A fault that a delivery can be given.

    Attributes:
        name: as asked for.
        doc: what is wrong.
        caught_by: rule of quality_rules.yaml, or reason of `rows.SetAside`.
        level: "release" and "cell": what is held; "warn": a warning of a cell, "notice" of the delivery; "row": rows
            set aside.
        needs_baseline: whether it shows against an earlier release only.
    """

    name: str
    doc: str
    caught_by: str
    level: str
    needs_baseline: bool = False


@dataclass(frozen=True)
class DefectSpec:
    """A defect of some cells (indices); of all when none is named."""

    name: str
    cells: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in DEFECTS:
            raise InputError(f"unknown defect {self.name!r}: one of {', '.join(DEFECTS)}")
        if self.cells and DEFECTS[self.name].level in ("release", "notice"):
            raise InputError(f"defect {self.name} concerns the whole delivery; it takes no cells")


DEFECTS: dict[str, Defect] = {
    defect.name: defect
    for defect in (
        Defect(
            "checksum_mismatch",
            "a file changed after the manifest was written",
            "manifest.checksum",
            "release",
        ),
        Defect("missing_file", "a listed file was not delivered", "manifest.files", "release"),
        Defect(
            "row_count_lie",
            "the manifest counts other rows than the file has",
            "manifest.row_count",
            "release",
        ),
        Defect(
            "truncated_file",
            "the second half of a file is missing, its checksum is of the rest",
            "file.readable",
            "release",
        ),
        Defect("missing_column", "the errors are not delivered", "schema.columns", "release"),
        Defect("wrong_dtype", "flags are signed 32-bit numbers", "schema.dtypes", "release"),
        Defect("unknown_label", "a data collection that no release has", "label.known", "release"),
        Defect(
            "version_mismatch",
            "the pipeline version belongs to another release",
            "label.pipeline_version",
            "release",
        ),
        Defect(
            "mixed_releases",
            "rows of QR2 among those of QR3, which have another gain",
            "label.no_mixing",
            "release",
        ),
        Defect(
            "source_count_lie",
            "the manifest counts other sources than the files have",
            "manifest.source_count",
            "release",
        ),
        Defect("no_rows", "the files are there and have no rows", "rows.present", "release"),
        Defect("positions_lost", "right ascensions are no numbers", "positions.usable", "release"),
        Defect(
            "positions_swapped",
            "right ascension and declination stand in each other's column",
            "positions.usable",
            "release",
        ),
        Defect("extra_column", "a column that the format does not have", "schema.extra_columns", "notice"),
        Defect("wrong_units", "fluxes and errors in mJy, said to be uJy", "errors.depth", "cell"),
        Defect(
            "noisy_detector", "errors of detector 3 five times what they should be", "errors.depth", "cell"
        ),
        Defect(
            "background_offset",
            "the background of detector 5 is wrong by four sigma",
            "flux.negative_fraction",
            "cell",
        ),
        Defect("unstable_gain", "the gain changes by half between visits", "repeats.chi2", "cell"),
        Defect("flag_storm", "most rows carry the outlier flag", "flags.rate", "cell"),
        Defect("no_source_bit", "the SOURCE bit is set nowhere", "flags.source_bit", "cell"),
        Defect("missing_detector", "nothing of detector 4", "coverage.detectors", "cell"),
        Defect("sparse_coverage", "two channels in three were not observed", "coverage.channels", "cell"),
        Defect("colour_shift", "fluxes of detector 2 half as bright again", "colours.locus", "cell", True),
        Defect("fit_quality_shift", "fit quality three times what it was", "fit_ql.drift", "cell"),
        Defect("time_disorder", "exposures of a source are not in order of time", "time.order", "cell"),
        Defect("noisy_channel", "errors of channel 40 five times too large", "errors.channel_depth", "cell"),
        Defect("flag_storm_of_one", "most rows of detector 2 carry the outlier flag", "flags.rate", "cell"),
        Defect("fit_quality_tail", "every eighth fit is bad", "fit_ql.tail", "cell"),
        Defect("heavy_tails", "noise of the right size that is not Gaussian", "residuals.ks", "cell"),
        Defect("gain_step", "fluxes of detector 4 twice as bright", "overlap.offset", "cell"),
        Defect("many_duplicates", "every fifth row delivered twice", "duplicates.fraction", "cell"),
        Defect("many_wavelengths_off", "every fifth wavelength wrong", "wavelength.inside_detector", "cell"),
        Defect("many_widths_off", "every fifth width wrong", "width.on_channel", "cell"),
        Defect("many_times_off", "every fifth time before the release", "time.window", "cell"),
        Defect("many_nan_errors", "every fifth error is no number", "errors.finite", "cell"),
        Defect("many_bad_rows", "every fifth error is zero", "rows.set_aside_fraction", "cell"),
        Defect(
            "unknown_bits",
            "bit 40, which nothing documents, is set on some rows",
            "flags.unknown_bits",
            "warn",
        ),
        Defect(
            "helium_airglow",
            "airglow at 1.083 um that changes between visits",
            "contaminants.repeats",
            "warn",
        ),
        Defect("bad_position", "declination beyond the pole, right ascension missing", "bad_position", "row"),
        Defect("nan_flux", "fluxes that are not numbers", "flux_not_finite", "row"),
        Defect("negative_errors", "errors below zero", "error_not_positive", "row"),
        Defect(
            "placeholder_errors", "errors of 5e4 uJy in place of missing values", "error_placeholder", "row"
        ),
        Defect("wavelength_shift", "wavelengths of another detector", "wavelength_outside_detector", "row"),
        Defect("duplicates", "rows delivered twice", "duplicate_exposure", "row"),
        Defect("bad_observation_id", "identifiers of another form", "bad_observation_id", "row"),
        Defect(
            "time_outside_window",
            "observed a thousand days before the release began",
            "time_outside_window",
            "row",
        ),
        Defect(
            "observation_mismatch", "the identifier names another detector", "observation_mismatch", "row"
        ),
        Defect(
            "other_collection", "the identifier is of another data collection", "observation_mismatch", "row"
        ),
        Defect("unknown_detector", "detector 7", "unknown_detector", "row"),
        Defect("lost_source_bit", "rows without the SOURCE bit", "source_bit_missing", "row"),
        Defect("wrong_widths", "widths half as large again", "width_off_channel", "row"),
        Defect(
            "flux_spikes",
            "single exposures hundreds of times brighter than their source",
            "flux_far_above_band",
            "row",
        ),
        Defect("flux_outliers", "fluxes of 1e6 uJy", "flux_outlier", "row"),
    )
}
