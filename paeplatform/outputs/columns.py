"""What the catalogue's columns mean: unit, UCD and description, for the headers of every format."""

from __future__ import annotations

import re
from dataclasses import dataclass

from paeplatform.outputs.flags import CatalogFlag

METHODS = {"pae": "probabilistic autoencoder", "tf": "template fitting", "sbi": "simulation-based inference"}


@dataclass(frozen=True)
class Column:
    """One column: unit as astropy writes it ("" for none), UCD1+ ("" where none fits), description."""

    unit: str
    ucd: str
    description: str


_FIXED = {
    "object_id": Column("", "meta.id;meta.main", "HEALPix NESTED index of the position at order 29"),
    "_healpix_29": Column("", "meta.id;pos.healpix", "HEALPix NESTED index of the position at order 29"),
    "ra": Column("deg", "pos.eq.ra;meta.main", "right ascension, ICRS"),
    "dec": Column("deg", "pos.eq.dec;meta.main", "declination, ICRS"),
    "cell": Column("", "pos.healpix", "sky cell, HEALPix NESTED at the order of the release's partitions"),
    "snr": Column("", "stat.snr;phot.flux", "total signal-to-noise ratio over all bands"),
    "n_bands": Column("", "meta.number;instr.bandpass", "bands with a usable exposure, of 102"),
    "n_used": Column("", "meta.number;obs.exposure", "exposures that were binned"),
    "n_masked": Column("", "meta.number;obs.exposure", "exposures masked for their flags"),
    "n_set_aside": Column("", "meta.number;obs.exposure", "exposures in quarantine"),
    "flags_any": Column("", "meta.code.qual", "all flag bits of the binned exposures"),
    "mjd_min": Column("d", "time.start;obs.exposure", "MJD of the first binned exposure, UTC"),
    "mjd_max": Column("d", "time.end;obs.exposure", "MJD of the last binned exposure, UTC"),
    "release": Column("", "meta.dataset", "release the photometry was delivered in"),
    "input_data_version": Column("", "meta.version", "version of the photometry"),
    "bundle_version": Column("", "meta.version", "version of the model `pae`"),
    "prior_id": Column("", "meta.id", "redshift prior that p(z) is under"),
    "code_version": Column("", "meta.version", "version of code and settings of the posterior"),
    "run_id": Column("", "meta.id", "Dagster run that made the posterior"),
    "pae_path": Column("", "meta.code", "how the posterior was made: proposal, adapted, mclmc, pocomc, none"),
    "pae_status": Column(
        "", "meta.code.status", "converged, unconverged, misfit (no draw describes the data) or failed"
    ),
    "pae_ess": Column("", "stat.value", "effective number of draws of z"),
    "pae_khat": Column("", "stat.param", "Pareto shape of the importance weights; below 0.7 is sound"),
    "pae_rhat": Column("", "stat.param", "split R-hat of z; below 1.1 is sound"),
    "class_best": Column(
        "", "src.class", "galaxy, quasar, star, brown_dwarf, or none where no class describes the data"
    ),
    "class_z_quasar": Column("", "src.redshift.phot", "redshift of the best quasar"),
    "class_z_quasar_low": Column("", "src.redshift.phot;stat.min", "lower end of its 68 % interval"),
    "class_z_quasar_high": Column("", "src.redshift.phot;stat.max", "upper end of its 68 % interval"),
    "class_star": Column("", "meta.id;src.sed", "best spectrum of a star"),
    "class_brown_dwarf": Column("", "meta.id;src.sed", "best spectrum of a brown dwarf"),
    "class_mag": Column(
        "mag", "phot.mag;em.IR.J", "AB magnitude near 1.2 um that the class prior was taken at"
    ),
    "pae_moved": Column("", "meta.code", "how p(z) came under the prior: no (sampled so), weights, inferred"),
    "pae_reweight_ess": Column("", "stat.value", "effective number of draws after reweighting"),
    "input_fault": Column("", "meta.note", "why bands were masked, where their numbers were at fault"),
    "z_flags": Column(
        "", "meta.code.qual", "bits of the posterior: paeplatform.inference.results.summaries.ZFlag"
    ),
    "catalog_flags": Column(
        "", "meta.code.qual", "bits: " + ", ".join(f"{int(flag)} {flag.name}" for flag in CatalogFlag)
    ),
    "sbi_status": Column(
        "", "meta.code.status", "converged, unlike_training (SBI extrapolates) or failed (no answer)"
    ),
    "sbi_flags": Column("", "meta.code.qual", "bits of SBI's p(z): paeplatform.sbi.domain.SbiFlag"),
    "sbi_distance": Column(
        "", "stat.value", "distance from SBI's training set; above 1 is unlike all but 0.1 % of it"
    ),
    "sbi_version": Column("", "meta.version", "version of the model `sbi-redshift`"),
    "sbi_code_version": Column("", "meta.version", "version of code and settings of SBI's p(z)"),
    "tf_template": Column("", "meta.id;src.sed", "best template"),
    "tf_dust_law": Column("", "meta.id", "dust law of the best model; null without dust"),
    "tf_ebv": Column("mag", "phot.color.excess", "E(B-V) of the best model"),
    "tf_z_best": Column("", "src.redshift.phot;stat.likelihood", "redshift of the best model"),
    "tf_status": Column(
        "",
        "meta.code.status",
        "fitted, misfit (no template describes the data), no_signal, no_bands or bad_flux",
    ),
}
_PATTERNS = (
    (r"z_mean", "src.redshift.phot;stat.mean", "mean of p(z)"),
    (r"z_median", "src.redshift.phot;stat.median", "median of p(z)"),
    (r"z_mode", "src.redshift.phot;stat.max", "mode of p(z)"),
    (r"z_std", "stat.stdev;src.redshift.phot", "standard deviation of p(z)"),
    (r"z_err(\d\d)_low", "src.redshift.phot;stat.min", "lower bound of the central {0} % interval"),
    (r"z_err(\d\d)_high", "src.redshift.phot;stat.max", "upper bound of the central {0} % interval"),
    (
        r"z_quantiles",
        "src.redshift.phot;stat.probability",
        "quantiles of p(z) at the levels of QUANTILE_LEVELS",
    ),
    (r"z2", "src.redshift.phot;stat.median", "median of the second heaviest peak of p(z)"),
    (r"z2_weight", "stat.probability;src.redshift.phot", "share of p(z) in its second heaviest peak"),
    (r"z3", "src.redshift.phot;stat.median", "median of the third heaviest peak of p(z)"),
    (r"z3_weight", "stat.probability;src.redshift.phot", "share of p(z) in its third heaviest peak"),
    (r"chi2_best", "stat.fit.chi2", "chi^2 of the draw that fits best"),
    (
        r"chi2_gap",
        "stat.fit.chi2;arith.diff",
        "chi^2 of the best draw of the second peak minus that of the first",
    ),
    (r"chi2", "stat.fit.chi2", "chi^2 of the reconstruction"),
    (
        r"error_scale",
        "stat.param",
        "factor by which the draws in p(z) of a misfit are spread; 1 for other sources",
    ),
    (r"n_measurements", "meta.number;obs.exposure", "measurements that chi^2 is a sum over"),
    (
        r"binning_chi2",
        "stat.fit.chi2",
        "what binning into channels would change: above 1, fits to them are misled",
    ),
    (r"n_bands", "meta.number;instr.bandpass", "bands used"),
    (
        r"log_evidence",
        "stat.likelihood",
        "ln of the integral of L over the prior, without a constant of the data",
    ),
)
_CLASS_PATTERNS = (
    (r"p_(\w+)", "stat.probability;src.class", "probability that the source is a {0}"),
    (r"ln_evidence_(\w+)", "stat.likelihood;src.class", "ln of the evidence of a {0}, without the counts"),
    (r"chi2_(\w+)", "stat.fit.chi2;src.class", "chi^2 of the best {0}, the models' errors counted"),
)


def describe(name: str) -> Column:
    """Unit, UCD and description of a column; a column that nothing is known of gets its name."""
    if name in _FIXED:
        return _FIXED[name]
    method, _, rest = name.partition("_")
    patterns = _CLASS_PATTERNS if method == "class" else _PATTERNS if method in METHODS else ()
    lead = f"{METHODS[method]}: " if method in METHODS else ""
    for pattern, ucd, text in patterns:
        match = re.fullmatch(pattern, rest)
        if match:
            words = (group.replace("_", " ") for group in match.groups())
            return Column("", ucd, lead + text.format(*words))
    return Column("", "", lead + (rest if lead else name))
