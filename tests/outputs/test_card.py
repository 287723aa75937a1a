"""The card of one galaxy: what is on it, and that it is drawn whatever is missing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from paeplatform.figures.style import VERMILION, figure_png
from paeplatform.inference.results.predictive import Predictive
from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.instrument.bands import BandSet, load_bands
from paeplatform.instrument.measurements import PaddedMeasurements
from paeplatform.outputs.card import Galaxy, card_png, source_card
from paeplatform.outputs.seen import Seen
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
    assert "0.500   (0.450 to 0.550)" in said and "0.60   (0.50 to 0.70)" in said
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


@pytest.mark.parametrize(("method", "status"), [("sbi", "unlike_training"), ("tf", "misfit")])
def test_a_redshift_beside_that_is_not_to_be_used_is_called_so(bands: BandSet, method: str, status: str):
    quantiles = np.interp(QUANTILE_LEVELS, [0, 1], [0.4, 0.6])
    numbers = {"z_quantiles": quantiles, "z_median": 0.5, "z_err68_low": 0.45, "z_err68_high": 0.55}
    own = {f"{method}_{name}": value for name, value in numbers.items()} | {f"{method}_status": status}
    figure = source_card(galaxy(bands, **own), bands, None)
    label = {"sbi": "SBI", "tf": "template fitting"}[method]
    assert f"{label}, not usable" in [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    shown = words(figure).split("\n")
    assert shown[shown.index(f"z, {label}") + 1] == "not usable"


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


def slope_seen(bands: BandSet, factor: float = 1.0) -> Seen:
    """A model of 40 uJy throughout; measurements lie `factor` errors above and below in turn."""
    n = len(bands)
    sign = np.where(np.arange(n) % 2, 1.0, -1.0)
    own = PaddedMeasurements(
        *(
            part[None]
            for part in (40.0 + 5.0 * factor * sign, np.full(n, 5.0), bands.wave_um, bands.bandwidth_um)
        )
    )
    own.flux_err[0, 3] = np.inf
    model, spread = np.full((1, n), 40.0), np.array([1.0, 2.0])[:, None]
    return Seen(own, Predictive(np.array([0.6827, 0.9545]), model, model[:, None] - spread, model[:, None] + spread,
                                np.zeros(1)))  # fmt: skip


def panel(figure: Figure, label: str) -> Axes:
    (found,) = (axes for axes in figure.axes if axes.get_ylabel() == label)
    return found


def test_residuals_are_in_standard_deviations_below_the_sed(bands: BandSet):
    figure = source_card(galaxy(bands), bands, slope_seen(bands, 2.0))
    axes, sed = panel(figure, "residual [σ]"), figure.axes[0]
    drawn = np.concatenate([line.get_xydata() for line in axes.lines if line.get_marker() == "o"])
    assert len(drawn) == len(bands) - 1, "the masked one has no residual"
    assert set(np.round(drawn[:, 1], 9)) == {-2.0, 2.0}
    assert axes.get_xlim() == sed.get_xlim() and axes.get_ylim() == (-3.5, 3.5)
    figure.canvas.draw()
    assert axes.get_position().y1 < sed.get_position().y0
    assert sed.get_xlabel() == "" and axes.get_xlabel() == "wavelength [µm]"


def test_residuals_count_the_errors_of_the_model_as_the_likelihood_does(bands: BandSet):
    plain = slope_seen(bands, 3.0)
    seen = replace(plain, predictive=replace(plain.predictive, error_growth=np.full((1, len(bands)), 1.5)))
    np.testing.assert_allclose(seen.pull, plain.pull / 1.5)


def test_the_class_is_named_with_its_probability(bands: BandSet):
    said = words(
        source_card(galaxy(bands, class_best="brown_dwarf", class_p_brown_dwarf=0.9996), bands, None)
    )
    assert "class" in said and "brown dwarf   (above 99.9 %)" in said
    said = words(source_card(galaxy(bands, class_best="quasar", class_p_quasar=0.871), bands, None))
    assert "quasar   (87.1 %)" in said
    none = words(source_card(galaxy(bands, class_best="none"), bands, None))
    assert "none of those that are known" in none
    assert "class" not in words(source_card(galaxy(bands), bands, None))


def test_a_residual_beyond_the_panel_is_an_arrow(bands: BandSet):
    seen = slope_seen(bands, 1.0)
    seen.measured.flux[0, 50] = 40.0 + 5.0 * 900.0
    axes = panel(source_card(galaxy(bands), bands, seen), "residual [σ]")
    (arrow,) = (line for line in axes.lines if line.get_marker() == "^" and len(line.get_xdata()))
    assert arrow.get_xdata()[0] == pytest.approx(bands.wave_um[50])
    assert axes.get_ylim()[1] == 3.5 and arrow.get_ydata()[0] < 3.5


@pytest.mark.parametrize(
    ("status", "said"),
    [("misfit", "do not use this redshift"), ("unconverged", "did not converge"), ("failed", "No redshift")],
)
def test_what_is_not_to_be_trusted_is_said_in_colour(bands: BandSet, status: str, said: str):
    figure = source_card(galaxy(bands, pae_status=status), bands, slope_seen(bands))
    (line,) = (text for axes in figure.axes for text in axes.texts if text.get_color() == VERMILION)
    assert said in line.get_text()
    assert not [
        text for axes in source_card(galaxy(bands), bands, None).axes for text in axes.texts
        if text.get_color() == VERMILION
    ]  # fmt: skip


def test_a_misfit_quotes_no_redshift(bands: BandSet):
    figure = source_card(galaxy(bands, pae_status="misfit"), bands, None)
    said = words(figure)
    assert "0.500" not in said and "not usable" in said
    assert "0.60   (0.50 to 0.70)" in said, "the other method keeps its own"
    labels = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert labels == ["PAE, not usable", "template fitting"]


def test_a_users_source_has_its_name_and_no_rows_of_a_release(bands: BandSet):
    rng = np.random.default_rng(3)
    row = {
        "object_id": 4, "ra": float("nan"), "dec": float("nan"), "snr": 25.0, "pae_n_bands": 97, "z_flags": 8 | 2,
        "pae_z_median": 0.5, "pae_z_err68_low": 0.45, "pae_z_err68_high": 0.55, "pae_status": "converged",
        "pae_chi2_best": 91.25, "pae_chi2_gap": 4.31, "model": "reference", "prior_id": "bpz-1",
    }  # fmt: skip
    z = np.concatenate([rng.normal(0.5, 0.01, 300), rng.normal(1.5, 0.01, 200)])
    flux, error = rng.normal(40.0, 5.0, len(bands)), np.full(len(bands), 5.0)
    name = "H1413+117\n $\\alpha$ <b>"
    figure = source_card(Galaxy(row, flux, error, bands.wave_um, bands.bandwidth_um, z, name), bands, None)
    assert figure.get_suptitle() == "H1413+117 $\\alpha$ <b>   SNR 25"
    said = words(figure).splitlines()
    assert not {"release", "bundle", "run", "code"} & set(said)
    assert (
        said[said.index("model") + 1] == "reference" and said[said.index("chi^2, best model") + 1] == "91.25"
    )
    assert "few bands" in said and "at prior edge" in said
    peaks = said[said.index("its peaks") + 1 :]
    assert (
        peaks[0].startswith("0.50") and peaks[0].endswith("(60%)") and peaks[2].endswith("(40%, chi^2 +4.3)")
    )
    assert figure_png(figure).startswith(b"\x89PNG")


def test_a_measurement_beyond_the_panel_is_an_arrow_and_a_fault_is_nothing(bands: BandSet):
    one = galaxy(bands)
    one.flux[60], one.flux_err[61], one.flux_err[62] = 1e5, -1.0, 0.0
    axes = source_card(one, bands, None).axes[0]
    (arrow,) = (line for line in axes.lines if line.get_marker() == "^" and len(line.get_xdata()))
    assert arrow.get_xdata().tolist() == [bands.wave_um[60]]
    assert 0.9 * axes.get_ylim()[1] < arrow.get_ydata()[0] < axes.get_ylim()[1] < 200.0
    assert axes.get_title(loc="left").startswith("99 measurements")


def test_large_numbers_have_no_exponent(bands: BandSet):
    said = words(
        source_card(
            galaxy(bands, pae_chi2_best=135_045.25, pae_khat=0.31234, pae_path="adapted"), bands, None
        )
    )
    assert "135,045" in said and "0.3123" in said and "adaptive importance sampling" in said


def test_a_misfit_of_template_fitting_quotes_no_redshift_either(bands: BandSet):
    """Both methods have the same templates: a quasar's sharp p(z) of the one means as little as that of the other."""
    z = np.linspace(2.53, 2.55, len(QUANTILE_LEVELS)).tolist()
    row = {"tf_z_median": 2.54, "tf_z_err68_low": 2.535, "tf_z_err68_high": 2.545, "tf_z_quantiles": z}
    for status, usable in (("fitted", True), ("misfit", False)):
        figure = source_card(galaxy(bands, tf_status=status, **row), bands, None)
        labels = [text.get_text() for text in panel(figure, "p(z)").get_legend().get_texts()]
        assert ("template fitting" in labels) is usable
        assert ("template fitting, not usable" in labels) is not usable
        assert ("2.5350 to 2.5450" in words(figure)) is usable
