"""One mask of warnings for each row of the catalogue, over all methods."""

from __future__ import annotations

from enum import IntFlag

import polars as pl

from paeplatform.config import TrustConfig
from paeplatform.inference.results.binning import UNSAFE
from paeplatform.inference.results.summaries import ZFlag

N_SIGMAS = 3.0  # of both errors together
TF_WIDTH_RATIO = 2.0  # sigma_PAE / sigma_TF (section VI.3)
MANY_SET_ASIDE = 0.05  # of a source's exposures


class CatalogFlag(IntFlag):
    """Bits of `catalog_flags`; 0 is a source nothing speaks against. Limits are those of section `trust`."""

    NO_REDSHIFT = 1  # no posterior: no usable band, or no finite density
    NOT_CONVERGED = 2  # R-hat of chains or k-hat of weights at or above its limit
    LOW_ESS = 4  # too few effective draws
    NOT_BY_PROPOSAL = (
        8  # the amortised proposal did not do: adapted draws, chains or pocoMC made the posterior
    )
    MISFIT = 16  # no draw describes the data: pae_status is "misfit"
    MULTIMODAL = 32  # p(z) has a second peak
    AT_PRIOR_EDGE = 64  # p(z) piles up at an end of the prior
    FEW_BANDS = 128  # many of the 102 bands are missing
    BAD_INPUT = 256  # a band was masked for a fault of its numbers
    TF_DISAGREES = 512  # template fitting is over three sigma away
    WIDER_THAN_TF = 1024  # sigma_PAE over twice sigma_TF (section VI.3)
    NO_TEMPLATE_FIT = 2048  # template fitting has no answer
    EXPOSURES_SET_ASIDE = 4096  # over 5 % of the source's delivered exposures were quarantined
    PRIOR_MOVED = 8192  # p(z) was moved to another prior by weights, or inferred again for it
    SBI_DISAGREES = 16384  # SBI is over three sigma away
    SBI_UNLIKE_TRAINING = 32768  # SBI extrapolates: nothing like this source was in its training set
    NO_SBI_REDSHIFT = 65536  # SBI has no answer
    BINNING_UNSAFE = (
        131072  # lines fall between the wavelengths of visits: fits to channels (TF, SBI) are misled
    )


def catalog_flags(catalog: pl.DataFrame, trust: TrustConfig) -> pl.Series:
    """The mask of each row, uint32.

    Args:
        catalog: rows of `redshift_catalog`: pae_*, tf_*, sbi_*, z_flags, n_used, n_masked, n_set_aside, pae_moved.
        trust: limits that the posteriors were judged by.
    """
    z_flags = pl.col("z_flags")
    known = pl.col("pae_z_mean").is_not_null() & pl.col("tf_z_mean").is_not_null()
    exposures = pl.sum_horizontal("n_used", "n_masked", "n_set_aside")
    rules: dict[CatalogFlag, pl.Expr] = {
        CatalogFlag.NO_REDSHIFT: pl.col("pae_z_mean").is_null(),
        CatalogFlag.NOT_CONVERGED: (pl.col("pae_rhat") >= trust.rhat_max)
        | (pl.col("pae_khat") >= trust.khat_max),
        CatalogFlag.LOW_ESS: pl.col("pae_ess") < trust.ess_min,
        CatalogFlag.NOT_BY_PROPOSAL: pl.col("pae_path") != "proposal",
        CatalogFlag.MISFIT: z_flags & int(ZFlag.BAD_FIT) != 0,
        CatalogFlag.MULTIMODAL: z_flags & int(ZFlag.MULTIMODAL) != 0,
        CatalogFlag.AT_PRIOR_EDGE: z_flags & int(ZFlag.AT_PRIOR_EDGE) != 0,
        CatalogFlag.FEW_BANDS: z_flags & int(ZFlag.FEW_BANDS) != 0,
        CatalogFlag.BAD_INPUT: z_flags & int(ZFlag.BAD_INPUT) != 0,
        CatalogFlag.TF_DISAGREES: _apart("tf"),
        CatalogFlag.WIDER_THAN_TF: known & (pl.col("pae_z_std") > TF_WIDTH_RATIO * pl.col("tf_z_std")),
        CatalogFlag.NO_TEMPLATE_FIT: pl.col("tf_z_mean").is_null(),
        CatalogFlag.EXPOSURES_SET_ASIDE: pl.col("n_set_aside") > MANY_SET_ASIDE * exposures,
        CatalogFlag.PRIOR_MOVED: pl.col("pae_moved") != "no",
        CatalogFlag.SBI_DISAGREES: _apart("sbi"),
        CatalogFlag.SBI_UNLIKE_TRAINING: pl.col("sbi_status") == "unlike_training",
        CatalogFlag.NO_SBI_REDSHIFT: pl.col("sbi_z_mean").is_null(),
        CatalogFlag.BINNING_UNSAFE: pl.col("pae_binning_chi2") > UNSAFE,
    }
    bits = [rule.fill_null(False).cast(pl.UInt32) * int(flag) for flag, rule in rules.items()]
    return catalog.select(pl.sum_horizontal(bits).cast(pl.UInt32).alias("catalog_flags"))["catalog_flags"]


def _apart(method: str) -> pl.Expr:
    """Whether a method's mean is over `N_SIGMAS` from the PAE's, by both standard deviations; null without either."""
    spread = (pl.col("pae_z_std") ** 2 + pl.col(f"{method}_z_std") ** 2).sqrt()
    return (pl.col("pae_z_mean") - pl.col(f"{method}_z_mean")).abs() > N_SIGMAS * spread


def in_words(mask: int) -> str:
    """The names of a mask's bits, in order, joined by "|"; "none" for 0."""
    return "|".join(flag.name or "" for flag in CatalogFlag if mask & flag) or "none"
