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
}
