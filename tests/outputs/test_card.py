"""The card of one galaxy: what is on it, and that it is drawn whatever is missing."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from paeplatform.figures.style import figure_png
from paeplatform.inference.results.predictive import Predictive
from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.instrument.bands import BandSet, load_bands
from paeplatform.instrument.measurements import PaddedMeasurements
from paeplatform.outputs.card import Galaxy, Seen, card_png, source_card
from paeplatform.targets import written_by_platform


@pytest.fixture(scope="module")
def bands() -> BandSet:
    return load_bands()


def galaxy(bands: BandSet, **more: object) -> Galaxy:
    rng = np.random.default_rng(2)
    flux, error = rng.normal(40.0, 5.0, len(bands)), np.full(len(bands), 5.0)
    flux[3], error[3] = np.nan, np.inf
    row = {
        "object_id": 1918039863766252482, "ra": 150.5, "dec": 2.2, "snr": 25.0, "n_bands": 101,
        "catalog_flags": 8 | 512,
        "pae_z_median": 0.5, "pae_z_err68_low": 0.45, "pae_z_err68_high": 0.55, "pae_status": "converged",
        "tf_z_median": 0.6, "tf_z_err68_low": 0.5, "tf_z_err68_high": 0.7,
        "tf_z_quantiles": np.interp(QUANTILE_LEVELS, [0, 1], [0.3, 0.9]), "release": "r1", "bundle_version": 3,
    }  # fmt: skip
    return Galaxy(row | more, flux, error, bands.wave_um, bands.bandwidth_um, rng.normal(0.5, 0.05, 400))


def words(figure) -> str:
    return "\n".join(text.get_text() for axes in figure.axes for text in axes.texts)


def test_a_card_says_redshifts_by_method_flags_and_what_made_it(bands: BandSet):
    figure = source_card(galaxy(bands), bands, None)
    said = words(figure)
    assert "0.5000   (0.4500 to 0.5500)" in said and "0.6000   (0.5000 to 0.7000)" in said
    assert "not by proposal" in said and "tf disagrees" in said and "r1" in said
    labels = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert labels == ["PAE", "template fitting"]
    assert "101 measurements, 101 of 102 channels" in (
        figure.axes[0].get_title(),
        figure.axes[0].get_title(loc="left"),
    )
    low, high = figure.axes[1].get_xlim()
    assert low < 0.35 and high > 0.85
    assert figure_png(figure) == figure_png(source_card(galaxy(bands), bands, None))


def test_the_model_is_drawn_at_the_wavelengths_of_the_measurements(bands: BandSet):
    """Two visits in any order, with places for measurements that are not used: a band of the model a detector."""
    rng = np.random.default_rng(5)
    wave = np.concatenate([bands.wave_um * 1.004, bands.wave_um * 0.997])
    width = np.tile(bands.bandwidth_um, 2)
    order = rng.permutation(len(wave))
    blank = np.full((1, 8), np.nan)
    own = PaddedMeasurements(
        np.hstack([np.full((1, 204), 40.0), blank]),
        np.hstack([np.full((1, 204), 5.0), np.full((1, 8), np.inf)]),
        np.hstack([wave[None, order], blank]),
        np.hstack([width[None, order], blank]),
    )
    level = 40.0 + np.hstack([np.log(wave[None, order]), blank])
    width_68_95 = np.array([1.0, 2.0])[:, None]
    low, high = level[:, None] - width_68_95, level[:, None] + width_68_95
    seen = Seen(own, Predictive(np.array([0.6827, 0.9545]), level, low, high, np.zeros(1)))
    axes = source_card(galaxy(bands), bands, seen).axes[0]
    bodies = [
        path.vertices
        for band in axes.collections
        for path in band.get_paths()
        if isinstance(band, PolyCollection)
    ]
    assert len(bodies) == 2 * len(np.unique(bands.detector))
    edges = np.concatenate(bodies)
    assert set(np.round(wave, 9)) == set(np.round(edges[:, 0], 9))


def test_sbi_is_drawn_where_the_catalogue_has_it(bands: BandSet):
    quantiles = np.interp(QUANTILE_LEVELS, [0, 1], [0.4, 0.6])
    figure = source_card(galaxy(bands, sbi_z_quantiles=quantiles, sbi_z_median=0.5,
                                sbi_z_err68_low=0.45, sbi_z_err68_high=0.55), bands, None)  # fmt: skip
    assert "SBI" in [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert "z, SBI" in words(figure)


def test_a_source_without_a_posterior_has_a_card_too(bands: BandSet):
    nothing = galaxy(bands, pae_z_median=None, tf_z_median=None, tf_z_quantiles=None, catalog_flags=1 | 2048)
    empty = Galaxy(
        nothing.row,
        np.full(len(bands), np.nan),
        np.full(len(bands), np.inf),
        bands.wave_um,
        bands.bandwidth_um,
        np.zeros(0),
    )
    figure = source_card(empty, bands, None)
    assert "no posterior" in words(figure) and "no redshift" in words(figure)
    assert figure_png(figure).startswith(b"\x89PNG")


def test_a_card_on_disk_is_known_as_the_platforms_own(bands: BandSet, tmp_path: Path):
    figure = source_card(galaxy(bands), bands, None)
    (tmp_path / "card.png").write_bytes(card_png(figure))
    (tmp_path / "other.png").write_bytes(figure_png(figure))
    assert written_by_platform(tmp_path / "card.png") and not written_by_platform(tmp_path / "other.png")
