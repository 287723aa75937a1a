"""What counts as a misfit: the rule by itself, and through importance sampling beside sources that fit."""

import numpy as np
import pytest
from polars.testing import assert_frame_equal

from paeplatform.inference.batches.progress import SILENT
from paeplatform.inference.importance.sampling import run_importance
from paeplatform.inference.results.status import POSTERIOR_STATUSES, misses_data
from paeplatform.inference.results.summaries import ZFlag, summarise
from paeplatform.inference.samplers import of_importance
from paeplatform.inference.sources import Sources
from tests.inference.line_problem import CONFIG, LOG_WAVE, N_BAND, TRUST, posterior, source, untrained


@pytest.mark.parametrize(
    ("chi2", "n_bands", "missed"),
    [
        (95.0, 102, False),
        (163.0, 102, False),  # above 1.5 times the 90 degrees of freedom, and of 102 bands noise reaches it
        (165.0, 102, True),
        (198_000.0, 102, True),
        (5.0, 3, False),  # above 1.5 times the one degree of freedom there always is, and nothing unusual
        (20.0, 3, False),
        (22.0, 3, True),
        (38.0, 12, False),
        (40.0, 12, True),
        (np.nan, 102, False),
        (np.nan, 0, False),
        (np.inf, 102, True),
    ],
)
def test_a_misfit_is_too_large_and_not_by_chance(chi2, n_bands, missed):
    assert misses_data([chi2], [n_bands], 12, TRUST).tolist() == [missed]


@pytest.mark.parametrize("n_bands", [1, 3, 12, 15, 102])
def test_sources_that_the_model_describes_are_no_misfits(n_bands):
    """The true model's chi^2 is an upper bound of the best one's."""
    chi2 = np.random.default_rng(n_bands).chisquare(n_bands, 200_000)
    expected = len(chi2) * TRUST.tail_probability_min
    allowed = expected + 5.0 * np.sqrt(expected)
    assert misses_data(chi2, np.full(len(chi2), n_bands), 12, TRUST).sum() <= allowed


def test_the_limits_are_the_presets():
    strict = TRUST.model_copy(update={"tail_probability_min": 1e-3})
    assert not misses_data([160.0], [102], 12, TRUST) and misses_data([160.0], [102], 12, strict)


def test_a_spectrum_that_no_model_fits_is_a_misfit_and_leaves_the_galaxy_beside_it_alone():
    galaxy, strange = source(2, 40.0, 0.9), np.sin(9.0 * LOG_WAVE) + 1.5
    strange_err = np.full(N_BAND, np.sqrt(np.sum(strange**2)) / 1000.0)  # total SNR 1000
    three = galaxy[1].copy()
    three[3:] = np.inf
    flux = np.stack([galaxy[0], strange, galaxy[0]]).astype(np.float32)
    flux_err = np.stack([galaxy[1], strange_err, three]).astype(np.float32)
    ids = np.array([4, 5, 6])

    def inferred(rows):
        problem = posterior()
        sources = Sources(flux[rows], flux_err[rows], ids[rows], 3)
        result = run_importance(problem, untrained(), sources, CONFIG, TRUST, n_kept=200, progress=SILENT)
        return summarise(sources, of_importance(result), problem, TRUST)

    together, alone = inferred([0, 1, 2]), inferred([0])
    status, flags = together["pae_status"].to_list(), [ZFlag(bits) for bits in together["z_flags"]]
    assert status == ["converged", "misfit", "converged"] and set(status) <= set(POSTERIOR_STATUSES)
    assert flags[0] == ZFlag(0) and ZFlag.BAD_FIT in flags[1]
    assert flags[2] & ZFlag.FEW_BANDS and not flags[2] & ZFlag.BAD_FIT  # three bands
    assert together["pae_chi2_best"][1] > 1e4 and together["pae_z_mean"][1] is not None
    assert (together["pae_chi2_best"] <= together["pae_chi2"] + 3.0).all()
    assert_frame_equal(together.head(1), alone)


def test_more_visits_do_not_hide_what_the_model_misses():
    """The same excess over the noise is a misfit with one visit and with three; noise alone is none with either."""
    excess = 211.0  # of a simulated galaxy that the autoencoder does not describe
    assert misses_data([90.0 + excess], [102], 12, TRUST)
    assert misses_data([277.0 + excess], [102], 12, TRUST, [289])
    noise = np.random.default_rng(0).chisquare(306, 200_000)
    called = misses_data(noise, np.full(noise.shape, 102), 12, TRUST, np.full(noise.shape, 306))
    expected = len(noise) * TRUST.tail_probability_min
    assert called.sum() <= expected + 5.0 * np.sqrt(expected)
