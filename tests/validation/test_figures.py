"""Every figure draws, is not blank, is legible in size, takes no sources at all, and leaves matplotlib as it
was.
"""

import io
import struct
import warnings

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.image import imread

from paeplatform.errors import InputError
from paeplatform.figures import data, models, redshift, style
from paeplatform.inference.left_out import Misses
from paeplatform.pae.bundle import RelativeErrors
from paeplatform.scores.statistics import metric_table

RNG = np.random.default_rng(0)
WAVE = np.linspace(0.1, 5.0, 500)
BANDS = np.linspace(0.75, 5.0, 102)
DETECTOR = np.repeat(np.arange(1, 7), 17)
SPECTRA = 1 + 0.3 * np.sin(WAVE * np.arange(1, 5)[:, None])
LEVELS = np.linspace(0.01, 0.99, 51)
LATENTS = RNG.normal(size=(300, 6))


def recovery(n: int, cuts=(0.01, 0.03, 0.1, 0.2)):
    """The figure of n made-up sources."""
    z = RNG.uniform(0, 2, n)
    sigma = 10 ** RNG.uniform(-2.5, -0.5, n)
    z_hat = z + sigma * RNG.normal(size=n)
    table = metric_table(z_hat, sigma, z, cuts, n_bootstrap=0)
    return redshift.redshift_recovery(z, z_hat, sigma, table, cuts=cuts)


def drawings(n: int):
    """Every figure with n sources (or spectra, templates, epochs)."""
    flux = np.full((n, 102), 20.0) + RNG.normal(size=(n, 102))
    pit = RNG.uniform(size=n)
    epoch = np.arange(n)
    k = min(n, 4)
    return {
        "template_overview": lambda: data.template_overview(
            [WAVE] * k, list(SPECTRA[:k]), ["a", "b", "a", "b"][:k]
        ),
        "band_depths": lambda: data.band_depths(BANDS, {"MEV": 5 + BANDS}, DETECTOR, BANDS / 40),
        "redshift_distribution": lambda: data.redshift_distribution(
            RNG.gamma(2, 0.4, n), WAVE, np.exp(-WAVE)
        ),
        "photometry_examples": lambda: data.photometry_examples(
            BANDS, flux, np.ones((n, 102)), flux, model=flux
        ),
        "reconstruction_error": lambda: models.reconstruction_error(
            10 ** RNG.normal(-4, 0.3, n), WAVE, np.full(500, 1e-4), 1e-4
        ),
        "latent_distributions": lambda: models.latent_distributions(LATENTS[:n], LATENTS[:n]),
        "example_spectra": lambda: models.example_spectra(WAVE, SPECTRA[:k], SPECTRA[:k] * 1.01),
        "training_curves": lambda: models.training_curves(
            {"m": {"epoch": epoch, "train_loss": 1 / (1 + epoch), "validation_loss": 1.1 / (1 + epoch)}},
            {"m": 1},
        ),
        "redshift_recovery": lambda: recovery(n),
        "redshift_errors": lambda: redshift.redshift_errors(RNG.normal(0, 0.02, n), RNG.normal(size=n)),
        "pit_histogram": lambda: redshift.pit_histogram(pit, LEVELS, LEVELS, 0.05),
        "convergence": lambda: redshift.convergence(1 + np.abs(RNG.normal(0, 0.03, n)), RNG.gamma(3, 3, n)),
        "proposal_recovery": lambda: models.proposal_recovery(
            RNG.gamma(2, 0.4, n), RNG.gamma(2, 0.4, n), RNG.uniform(size=n)
        ),
        "model_error_figure": lambda: models.model_error_figure(
            RelativeErrors(WAVE, 0.02 * SPECTRA[0]),
            [Misses(0.1 * (flux - 20.0), 0.02 * RNG.normal(size=flux.shape), 3)],
        ),
        "chi2_distribution": lambda: redshift.chi2_distribution(RNG.chisquare(91, n) / 91),
    }


NAMES = sorted(drawings(1))


def test_every_public_figure_is_tried_here():
    drawn = {
        name
        for module in (data, models, redshift)
        for name, one in vars(module).items()
        if hasattr(one, "__wrapped__")  # by `style.styled`
    }
    assert set(NAMES) == drawn


@pytest.mark.parametrize("name", NAMES)
def test_figure_is_drawn_and_not_blank(name):
    before = dict(mpl.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png = style.figure_png(drawings(40)[name]())
    width, height = struct.unpack(">II", png[16:24])
    assert width >= 1100  # 800 px of page at more than one dot per pixel
    assert 400 <= height <= 2000
    assert 8_000 < len(png) < 1_500_000
    pixels = imread(io.BytesIO(png))[..., :3]
    inked = (pixels < 0.98).any(axis=2)
    assert 0.005 < inked.mean() < 0.9
    assert inked[:, : width // 2].any()
    assert inked[:, width // 2 :].any()
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("band_depths", "latent_distributions")])
@pytest.mark.parametrize("n", [0, 1])
def test_figure_of_nothing_or_of_one_source_is_drawn_without_a_warning(name, n):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png = style.figure_png(drawings(n)[name](), dpi=60)
    assert len(png) > 2_000


def test_missing_values_are_left_out():
    values = np.append(RNG.normal(1, 0.02, 50), [np.nan, np.inf])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in (
            redshift.convergence(values, values),
            redshift.chi2_distribution(values),
            redshift.redshift_errors(values, values),
        ):
            assert len(style.figure_png(figure, dpi=60)) > 2_000


def test_convergence_shows_what_there_is():
    chains, weights = (1 + np.abs(RNG.normal(0, 0.03, 40)), RNG.gamma(3, 3, 40)), RNG.uniform(-0.2, 0.9, 40)
    none, draws = np.full(40, np.nan), RNG.uniform(50, 2000, 40)

    def labels(*arguments):
        return " ".join(axes.get_xlabel() for axes in redshift.convergence(*arguments).axes)

    assert "k̂" not in labels(*chains)
    assert "R̂" not in labels(none, none, weights, draws)
    assert "effective draws" in labels(none, none, weights, draws)
    mixed = np.where(np.arange(40) < 30, weights, np.nan)
    both = labels(np.where(np.arange(40) < 30, np.nan, chains[0]), chains[1], mixed, draws)
    assert "k̂" in both
    assert "R̂" in both
    assert "R̂" in labels(none, none, none, none)  # of nothing: empty panels, no error


def test_equal_input_gives_equal_bytes():
    values = RNG.chisquare(91, 100) / 91
    assert style.figure_png(redshift.chi2_distribution(values)) == style.figure_png(
        redshift.chi2_distribution(values)
    )


def panel_texts(figure):
    """All text in the panels of a figure."""
    return [[text.get_text() for text in axes.texts] for axes in figure.axes]


def test_recovery_quotes_the_table_and_says_so_when_a_cut_is_empty():
    z = np.array([0.5, 1.0, 1.5])
    sigma = np.full(3, 0.05)
    table = metric_table(z + 0.01, sigma, z, (0.001, 0.2), n_bootstrap=0)
    texts = panel_texts(redshift.redshift_recovery(z, z + 0.01, sigma, table, cuts=(0.001, 0.2)))
    assert any("N = 0" in text for text in texts[0])
    assert f"NMAD = {table['nmad_paper'][1]:.4f}" in " ".join(texts[1])


def test_many_sources_become_a_density_map():
    assert any(axes.collections and axes.get_label() == "<colorbar>" for axes in recovery(9000).axes)
    assert not any(axes.get_label() == "<colorbar>" for axes in recovery(100).axes)


def test_wrong_input_is_named():
    with pytest.raises(InputError, match="val_loss"):
        models.training_curves({"flow": {"epoch": [0], "train_loss": [1.0]}})
    with pytest.raises(InputError, match=r"\(3, 2\)"):
        models.latent_distributions(np.zeros((3, 2)), np.zeros((3, 4)))
