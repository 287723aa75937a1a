"""Small grids of the four classes, and the photometry of sources that are none of their points."""

import numpy as np
import pytest

from paeplatform.classes.classify import Classifier
from paeplatform.classes.grid import class_grid
from paeplatform.classes.library import load_stars
from paeplatform.classes.models import galaxy_grid, quasar_grid, star_grid
from paeplatform.instrument.bands import load_bands
from paeplatform.sed.library import load_library
from paeplatform.template_fit.grid import TemplateGridConfig


@pytest.fixture(scope="session")
def bands():
    return load_bands()


@pytest.fixture(scope="session")
def classifier(bands) -> Classifier:
    """The packaged classes; galaxies of every fourth template at steps of 0.02."""
    names = load_library().name
    library = load_library().without([name for row, name in enumerate(names) if row % 4])
    config = TemplateGridConfig(
        z_max=2.0, z_step=0.02, ebv_max=0.4, ebv_step=0.2, dust_laws=("prevot", "calzetti")
    )
    stars = load_stars()
    grids = {
        "quasar": quasar_grid(bands),
        "star": star_grid(bands, stars, "star"),
        "brown_dwarf": star_grid(bands, stars, "brown_dwarf"),
        "galaxy": galaxy_grid(bands, library, config),
    }
    return Classifier(bands, grids)


@pytest.fixture(scope="session")
def small_grid(bands):
    """40 redshifts x 5 smooth models of unequal weights, errors that differ from group to group."""
    rng = np.random.default_rng(2)
    x = np.log(bands.wave_um)
    z = np.linspace(0.1, 2.0, 40)
    level = rng.normal(size=(40, 5, 4))
    flux = np.exp(np.einsum("zmk,kb->zmb", level, np.stack([x**k for k in range(4)])))
    error = np.round(rng.uniform(0.02, 0.12, (40, len(x))), 2)
    return class_grid("quasar", flux, error, rng.uniform(0.1, 1.0, (40, 5)), 4, z=z)


@pytest.fixture(scope="session")
def noisy(small_grid, bands):
    """12 sources of the small grid with distortions of 5 %, SNR 8-400; some bands are masked."""
    rng = np.random.default_rng(3)
    depth = bands.depth("mev")
    clean = small_grid.flux[rng.integers(40, size=12), rng.integers(5, size=12)].astype(float)
    clean *= np.exp(0.05 * rng.normal(size=clean.shape))
    snr = np.geomspace(8.0, 400.0, 12)
    clean *= (snr / np.sqrt(np.sum((clean / depth) ** 2, axis=1)))[:, None]
    flux_err = np.tile(depth, (12, 1))
    flux = clean + flux_err * rng.normal(size=clean.shape)
    flux_err[3, 10:60], flux_err[4, ::2] = np.inf, np.nan
    return flux, flux_err
