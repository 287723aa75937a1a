"""The paper's tables that are read from scores alone: name, title, and the function that makes each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperTable:
    """One table.

    Attributes:
        name: of its asset and files.
        title: what it is.
        function: that makes it, by its dotted name; a name, since the module is heavy to import.
        shown: columns of the preview in Dagster's page and of the report, by spaces.
        version: number of the code version.
    """

    name: str
    title: str
    function: str
    shown: str
    version: int = 1


TABLES = (
    PaperTable(
        "table_priors",
        "Table 1: template fitting and the PAE under four choices of priors",
        "paeplatform.paper.tables.prior_table",
        "label cut n n_total mean_bias median_sigma nmad_paper eta_3sigma paper_n paper_mean_bias "
        "paper_nmad_paper paper_eta_3sigma",
    ),
    PaperTable(
        "table_latents",
        "Table 2: PAEs of several latent sizes, by Markov chains",
        "paeplatform.paper.tables.latent_table",
        "n_latent cut f_rhat n mean_bias nmad_paper eta_3sigma paper_f_rhat paper_n "
        "paper_mean_bias paper_nmad_paper paper_eta_3sigma",
    ),
    PaperTable(
        "table_sigma_cuts",
        "Fig. 11 as a table: recovery by cut in the quoted uncertainty",
        "paeplatform.paper.tables.sigma_cut_table",
        "label cut n mean_bias nmad_paper nmad_usual eta_3sigma eta_015 paper_n paper_nmad_paper "
        "paper_eta_3sigma",
    ),
    PaperTable(
        "table_flags",
        "Section VI.3: sources whose PAE uncertainty is over twice that of template fitting",
        "paeplatform.paper.tables.flag_table",
        "bin sources n tf_mean_bias tf_eta_3sigma pae_mean_bias pae_eta_3sigma pae_f_trusted "
        "f_rhat paper_n paper_tf_eta_3sigma",
    ),
    PaperTable(
        "table_error_correlation",
        "Section VI.2.1: correlation of the errors of PAE and template fitting",
        "paeplatform.paper.tables.error_correlation",
        "bin n pearson pearson_err spearman paper_low paper_high",
    ),
    PaperTable(
        "table_pit",
        "Fig. 15: PIT, coverage and KS distance before and after de-biasing",
        "paeplatform.paper.calibration_tables.pit_table",
        "label bin n mean_bias coverage_68 coverage_95 pit_ks pit_ks_debiased",
    ),
    PaperTable(
        "table_convergence",
        "Appendix A: convergence of Markov chains with and without the NF prior",
        "paeplatform.paper.tables.convergence_table",
        "label n acl_median acl_p95 f_rhat_1_1 f_rhat_1_2 ess_median paper_acl_median paper_f_rhat_1_1",
    ),
    PaperTable(
        "table_methods",
        "Fig. 17: PAE, SBI and template fitting on the same sources",
        "paeplatform.paper.tables.comparison_table",
        "selection label n mean_bias nmad_paper eta_3sigma coverage_68 pit_ks crps cde_loss "
        "paper_nmad_paper paper_eta_3sigma",
    ),
    PaperTable(
        "table_calibration",
        "Errors and calibration by magnitude, redshift, signal-to-noise and type",
        "paeplatform.paper.calibration_tables.calibration_table",
        "label property value n mean_bias nmad_paper eta_3sigma coverage_68 pit_ks",
    ),
    PaperTable(
        "table_outliers",
        "Anatomy of outliers: which templates, where in redshift",
        "paeplatform.paper.calibration_tables.outlier_table",
        "label property value n n_outliers rate rate_err excess",
    ),
)
