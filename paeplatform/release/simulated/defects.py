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


# By name: rule or reason, what is wrong, and of some whether it shows against an earlier release only.
_Table = dict[str, tuple[str, str] | tuple[str, str, bool]]
_RELEASE: _Table = {
    "checksum_mismatch": ("manifest.checksum", "a file changed after the manifest was written"),
    "missing_file": ("manifest.files", "a listed file was not delivered"),
    "row_count_lie": ("manifest.row_count", "the manifest counts other rows than the file has"),
    "truncated_file": ("file.readable", "the second half of a file is missing, its checksum is of the rest"),
    "missing_column": ("schema.columns", "the errors are not delivered"),
    "wrong_dtype": ("schema.dtypes", "flags are signed 32-bit numbers"),
    "unknown_label": ("label.known", "a data collection that no release has"),
    "version_mismatch": ("label.pipeline_version", "the pipeline version belongs to another release"),
    "mixed_releases": ("label.no_mixing", "rows of QR1 among those of QR3, which have another gain"),
    "source_count_lie": ("manifest.source_count", "the manifest counts other sources than the files have"),
    "no_rows": ("rows.present", "the files are there and have no rows"),
    "positions_lost": ("positions.usable", "right ascensions are no numbers"),
    "positions_swapped": ("positions.usable", "right ascension and declination stand in each other's column"),
}
_NOTICE: _Table = {
    "extra_column": ("schema.extra_columns", "a column that the format does not have"),
}
_CELL: _Table = {
    "wrong_units": ("errors.depth", "fluxes and errors in mJy, said to be uJy"),
    "noisy_detector": ("errors.depth", "errors of detector 3 five times what they should be"),
    "background_offset": ("flux.negative_fraction", "the background of detector 5 is wrong by four sigma"),
    "unstable_gain": ("repeats.chi2", "the gain changes by half between visits"),
    "flag_storm": ("flags.rate", "most rows carry the outlier flag"),
    "no_source_bit": ("flags.source_bit", "the SOURCE bit is set nowhere"),
    "missing_detector": ("coverage.detectors", "nothing of detector 4"),
    "sparse_coverage": ("coverage.channels", "two channels in three were not observed"),
    "colour_shift": ("colours.locus", "fluxes of detector 2 half as bright again", True),
    "fit_quality_shift": ("fit_ql.drift", "fit quality three times what it was"),
    "time_disorder": ("time.order", "exposures of a source are not in order of time"),
    "noisy_channel": ("errors.channel_depth", "errors of channel 40 five times too large"),
    "flag_storm_of_one": ("flags.rate", "most rows of detector 2 carry the outlier flag"),
    "fit_quality_tail": ("fit_ql.tail", "every eighth fit is bad"),
    "heavy_tails": ("residuals.ks", "noise of the right size that is not Gaussian"),
    "gain_step": ("overlap.offset", "fluxes of detector 4 twice as bright"),
    "many_duplicates": ("duplicates.fraction", "every fifth row delivered twice"),
    "many_wavelengths_off": ("wavelength.inside_detector", "every fifth wavelength wrong"),
    "many_widths_off": ("width.on_channel", "every fifth width wrong"),
    "many_times_off": ("time.window", "every fifth time before the release"),
    "many_nan_errors": ("errors.finite", "every fifth error is no number"),
    "many_bad_rows": ("rows.set_aside_fraction", "every fifth error is zero"),
}
_WARN: _Table = {
    "unknown_bits": ("flags.unknown_bits", "bit 40, which nothing documents, is set on some rows"),
    "helium_airglow": ("contaminants.repeats", "airglow at 1.083 um that changes between visits"),
}
_ROW: _Table = {
    "bad_position": ("bad_position", "declination beyond the pole, right ascension missing"),
    "nan_flux": ("flux_not_finite", "fluxes that are not numbers"),
    "negative_errors": ("error_not_positive", "errors below zero"),
    "placeholder_errors": ("error_placeholder", "errors of 5e4 uJy in place of missing values"),
    "wavelength_shift": ("wavelength_outside_detector", "wavelengths of another detector"),
    "duplicates": ("duplicate_exposure", "rows delivered twice"),
    "bad_observation_id": ("bad_observation_id", "identifiers of another form"),
    "time_outside_window": ("time_outside_window", "observed a thousand days before the release began"),
    "observation_mismatch": ("observation_mismatch", "the identifier names another detector"),
    "other_collection": ("observation_mismatch", "the identifier is of another data collection"),
    "unknown_detector": ("unknown_detector", "detector 7"),
    "lost_source_bit": ("source_bit_missing", "rows without the SOURCE bit"),
    "wrong_widths": ("width_off_channel", "widths half as large again"),
    "flux_spikes": ("flux_far_above_band", "single exposures hundreds of times brighter than their source"),
    "flux_outliers": ("flux_outlier", "fluxes of 1e6 uJy"),
}
_LEVELS = {"release": _RELEASE, "notice": _NOTICE, "cell": _CELL, "warn": _WARN, "row": _ROW}
DEFECTS = {
    name: Defect(name, doc, caught_by, level, *needs_baseline)
    for level, table in _LEVELS.items()
    for name, (caught_by, doc, *needs_baseline) in table.items()
}
