"""Titles and captions of the figures that the platform draws, by the name under which they enter the
report.
"""

CAPTIONS: dict[str, tuple[str, str]] = {
    "redshift_recovery": (
        "Redshift recovery",
        "Estimated against true redshift for selections in the quoted uncertainty. Solid: equality; dashed: "
        "|Δz|/(1+z) = 0.15. Numbers are those of the metric table (NMAD in the paper's definition).",
    ),
    "redshift_errors": (
        "Redshift errors and Z-scores",
        "Left: fractional error; values beyond the axis are counted in the end bins. Right: error in "
        "units of the quoted "
        "uncertainty with the unit Gaussian expected of honest errors; dotted: ±3.",
    ),
    "pit": (
        "Calibration of p(z)",
        "Probability integral transform of the posteriors and the empirical coverage. A calibrated set "
        "is flat on the "
        "left and diagonal on the right; a U shape means posteriors that are too narrow, a slope a bias. "
        "The grey band "
        "on the right is what 95 % of perfectly calibrated samples of this size stay within.",
    ),
    "convergence": (
        "How well the posteriors were sampled",
        "Importance sampling: Pareto shape of the weights and effective number of draws. Chains, where some were "
        "needed: split R-hat and autocorrelation length of the redshift. Curves are cumulative fractions; sources "
        "beyond the dashed line are flagged as unconverged.",
    ),
    "missing_bands": (
        "Missing bands",
        "The same sources with a growing part of their bands masked. Left: quoted uncertainty, median and middle "
        "half of the sources. Middle: errors against the truth. Right: sources whose interval holds the truth; "
        "dashed: what a calibrated posterior has.",
    ),
    "proposal_recovery": (
        "The amortised proposal by itself",
        "Simulated sources that it was not trained on, before importance sampling corrects it. Left: median of its "
        "draws against the truth. Right: rank of the truth among the draws, flat (dashed) when calibrated.",
    ),
    "chi2": (
        "Goodness of fit",
        "Reduced χ² of the posterior mean (bands minus latents minus one degrees of freedom). "
        "Well-modelled sources "
        "scatter around 1; a long right tail would say that the model misses features of the data.",
    ),
    "reconstruction_error": (
        "Autoencoder reconstruction",
        "Top: mean squared error of each held-out spectrum. Bottom: squared error averaged over spectra, "
        "by rest "
        "wavelength, with strong emission lines and the 3.3 μm PAH feature marked.",
    ),
    "latent_distributions": (
        "Latents before and after the flow",
        "Left: autoencoder latents of held-out spectra. Right: the same spectra in the flow's base "
        "variable, which "
        "should look like independent unit Gaussians (black curves).",
    ),
    "example_spectra": (
        "Example reconstructions",
        "Held-out rest-frame spectra (black) with their reconstructions (orange) and the difference below.",
    ),
    "training_curves": (
        "Training",
        "Loss on the training and the validation part by epoch; the dashed line marks the epoch whose "
        "weights were kept.",
    ),
    "redshift_distribution": (
        "Redshift distribution and prior",
        "N(z) of the mock catalogue with the fitted prior p_BPZ(z) that enters the posterior.",
    ),
    "template_overview": (
        "SED templates",
        "The galaxy templates behind the mock catalogue, mean-normalised flux density per unit "
        "frequency; a few of each "
        "set in colour.",
    ),
    "band_depths": (
        "Channels",
        "1σ point-source depth and resolving power of the spectral channels.",
    ),
    "photometry_examples": (
        "Mock photometry",
        "Measured fluxes with 1σ errors and the noiseless spectrum behind them.",
    ),
    "fig03_reconstruction": (
        "Fig. 3: reconstruction by latent size",
        "Mean squared error of held-out spectra, one by one and averaged by rest wavelength, for each n_latent "
        "trained. Dotted: emission lines; grey: the 3.3 μm PAH feature.",
    ),
    "fig05_latent_norms": (
        "Fig. 5: latent norm against redshift",
        "Norm of held-out spectra in the flow's base, with the mean in bins of redshift. A trend means that the NF "
        "prior itself prefers some redshifts.",
    ),
    "fig06_chi2": (
        "Fig. 6: goodness of fit on the validation sample",
        "Reduced χ² of the posterior mean under both priors.",
    ),
    "fig07_reconstruction_example": (
        "Fig. 7: a bright source",
        "Photometry with the median, 68 % and 95 % of the posterior predictive, residuals, and p(z) with the truth.",
    ),
    "fig08_posterior_corner": (
        "Fig. 8: its posterior",
        "Draws of the first latents and of the redshift of the same source, pair by pair.",
    ),
    "fig09_missing_bands": (
        "Fig. 9: the same source with missing bands",
        "A growing part of the bands masked, chosen at random; ticks at the bottom mark them.",
    ),
    "fig10_pz_gallery": (
        "Fig. 10: p(z) of PAE and template fitting",
        "Sources drawn at random in bins of growing uncertainty, each p(z) scaled to its peak.",
    ),
    "fig11_recovery": (
        "Fig. 11: redshift recovery of template fitting and PAE",
        "Columns are cuts in each method's own uncertainty, so they hold other sources above and below.",
    ),
    "fig12_error_correlation": (
        "Fig. 12: errors of PAE against template fitting",
        "Top: correlation by bin of the PAE's uncertainty with bootstrap errors; grey: the paper's range. "
        "Bottom: the errors.",
    ),
    "fig13_flagged": (
        "Fig. 13: sources flagged by the ratio of uncertainties",
        "Flagged: σ of the PAE over twice that of template fitting. Rows are bins of template fitting's precision.",
    ),
    "fig14_latent_correlation": (
        "Fig. 14: errors against the correlation of z with u",
        "The largest |ρ(z, u_i)| of each posterior, and Z-scores against it; bars: median and central 68 % in bins.",
    ),
    "fig15_priors": (
        "Fig. 15: choices of priors",
        "Errors, Z-scores, and coverage before and after each bin's mean bias is taken out, for template fitting and "
        "the PAE's four choices of priors, in bins of each one's own uncertainty.",
    ),
    "fig16_fits": (
        "Fig. 16: best fits at several redshifts",
        "The PAE's best fit nearest the true redshift (dashed) and the best of each quarter of the range, on the "
        "photometry.",
    ),
    "fig16_profiles": (
        "Fig. 16: profile likelihoods",
        "−ln L maximised over everything but redshift, by PAE and template fitting, and the densities these give.",
    ),
    "fig17_methods": (
        "Fig. 17: PAE and SBI on the same sources",
        "Recovery, errors and coverage, for bright sources and all.",
    ),
    "fig18_convergence": (
        "Fig. 18: convergence of Markov chains",
        "With the NF prior (solid) and without (dashed): split R-hat and autocorrelation length of z, values beyond "
        "the axis in the last bin.",
    ),
    "ranks": (
        "Rank tests on simulated sources",
        "Ranks of the true z and u among posterior draws of sources drawn from the PAE's own prior, and TARP's "
        "coverage of the joint posterior. Exact inference is flat and diagonal; grey: 95 % of such samples.",
    ),
}
