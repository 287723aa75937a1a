"""The public face of the figures: one function a figure, each taking arrays or tables that others computed.

No function here recomputes science; numbers quoted in a panel come in as arguments. Drawn by topic in
`figures_data`, `figures_models` and `figures_redshift`, in the look of `style`.
"""

from paeplatform.figures.data import (
    band_depths,
    photometry_examples,
    redshift_distribution,
    template_overview,
)
from paeplatform.figures.models import (
    example_spectra,
    latent_distributions,
    proposal_recovery,
    reconstruction_error,
    training_curves,
)
from paeplatform.figures.redshift import (
    chi2_distribution,
    convergence,
    pit_histogram,
    redshift_errors,
    redshift_recovery,
)
from paeplatform.figures.style import figure_png

__all__ = [
    "band_depths",
    "chi2_distribution",
    "convergence",
    "example_spectra",
    "figure_png",
    "latent_distributions",
    "photometry_examples",
    "pit_histogram",
    "proposal_recovery",
    "reconstruction_error",
    "redshift_distribution",
    "redshift_errors",
    "redshift_recovery",
    "template_overview",
    "training_curves",
]
