"""Simulated exposures at wavelengths of their own: where they fall, how wide they are, and what the sky emits there."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from paeplatform.catalog.mock import draw_mock_catalog
from paeplatform.catalog.photometry import MockSpectra, mock_photometry, select_release
from paeplatform.config import load_preset
from paeplatform.errors import BandSetError, InputError
from paeplatform.instrument.bands import BandSet, load_bands
from paeplatform.instrument.exact import exact_photometry
from paeplatform.instrument.filters import FilterCurves, gaussian_table
from paeplatform.release.reading import read_batches
from paeplatform.release.rows import WIDTH_SLACK, with_channel
from paeplatform.release.schema import DETECTOR_RANGE_UM
from paeplatform.release.simulated.delivery import DeliverySpec, exposures, write_delivery
from paeplatform.release.simulated.passbands import MARGIN_UM, ChannelPassbands
from paeplatform.release.simulated.sky import ChannelSky, TemplateSky
from paeplatform.sed.library import TemplateLibrary, load_library

EDGES = np.array(
    [0.0, np.finfo(float).tiny, 1e-16, 0.25, 0.5, 0.75, 1.0 - 2.0**-53]
)  # of the draws in [0, 1)


def _with(bands: BandSet, places: np.ndarray, **changes: np.ndarray) -> BandSet:
    columns = {field.name: getattr(bands, field.name)[places] for field in fields(BandSet)}
    return BandSet(**(columns | changes))


@pytest.fixture(scope="module")
def library() -> TemplateLibrary:
    return load_library()


@pytest.fixture(scope="module")
def galaxies(library: TemplateLibrary, bands: BandSet) -> pl.DataFrame:
    """60 sources of the mock catalogue with their true fluxes."""
    demo = load_preset("demo")
    demo = demo.model_copy(
        update={
            "catalog": demo.catalog.model_copy(update={"n_sources": 6000}),
            "release": demo.release.model_copy(update={"sources_per_cell": 30}),
        }
    )
    drawn = select_release(demo, draw_mock_catalog(demo, library))
    return mock_photometry(demo, library, bands, drawn, 3).head(60)


@pytest.fixture(scope="module")
def sky(library: TemplateLibrary) -> TemplateSky:
    return TemplateSky(library)


# -- passbands --------------------------------------------------------------------------------------------------------
def test_the_channels_of_a_detector_meet_midway(bands: BandSet):
    passbands = ChannelPassbands(bands)
    for detector, (low, high) in DETECTOR_RANGE_UM.items():
        here = np.flatnonzero(bands.detector == detector)
        middle = 0.5 * (bands.wave_um[here][1:] + bands.wave_um[here][:-1])
        np.testing.assert_array_equal(passbands.high[here][:-1], middle)
        np.testing.assert_allclose(passbands.low[here][1:], middle, rtol=1e-15)
        assert passbands.low[here].min() >= low + MARGIN_UM
        assert passbands.high[here].max() <= high - MARGIN_UM
    first = np.flatnonzero(bands.detector == 2)[0]
    assert passbands.low[first] == pytest.approx(2 * bands.wave_um[first] - passbands.high[first], rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(chosen=st.sets(st.integers(0, 101), min_size=1), order=st.randoms(use_true_random=False))
def test_an_exposure_falls_into_the_channel_it_was_drawn_for(chosen: set[int], order):
    """For any channels in any order, also a detector's only one."""
    places = list(chosen)
    order.shuffle(places)
    some = _with(load_bands(), np.array(places))
    band = np.repeat(np.arange(len(some)), len(EDGES))
    wave, width = ChannelPassbands(some).draw(band, np.tile(EDGES, len(some)), np.full(band.shape, 0.5))
    rows = pl.DataFrame({"det_id": pl.Series(some.detector[band], dtype=pl.Int16), "lambda": wave})
    found = with_channel(rows, some)["channel"].to_numpy()
    np.testing.assert_array_equal(found, some.channel[band])
    for detector, (low, high) in DETECTOR_RANGE_UM.items():
        inside = wave[some.detector[band] == detector]
        assert ((inside >= low + MARGIN_UM) & (inside <= high - MARGIN_UM)).all()
    assert (width > 0.0).all()


def test_widths_follow_the_resolving_power_of_the_detector(bands: BandSet):
    passbands, rng = ChannelPassbands(bands), np.random.default_rng(2)
    band = rng.integers(0, len(bands), 20_000)
    wave, width = passbands.draw(band, rng.uniform(size=band.size), rng.uniform(size=band.size))
    channel = bands.bandwidth_um[band]
    assert (np.abs(width - channel) < WIDTH_SLACK * channel).all(), "none would be set aside"
    for detector in range(1, 7):
        here = np.flatnonzero(bands.detector == detector)
        centre, resolving = bands.wave_um[here], bands.wave_um[here] / bands.bandwidth_um[here]
        mine = np.isin(band, here)
        expected = wave[mine] / np.interp(np.log(wave[mine]), np.log(centre), resolving)
        ratio = width[mine] / expected
        assert ratio.min() >= 0.99 and ratio.max() <= 1.01
        assert stats.kstest((ratio - 0.99) / 0.02, "uniform").pvalue > 1e-3
    nominal = passbands.draw(band, rng.uniform(size=band.size), np.full(band.size, 0.5))
    for place in (0, 101):  # the outermost: beyond the last centre the resolving power stays
        beyond = (band == place) & ((nominal[0] < bands.wave_um[0]) | (nominal[0] > bands.wave_um[-1]))
        np.testing.assert_allclose(
            nominal[0][beyond] / nominal[1][beyond], bands.wave_um[place] / bands.bandwidth_um[place]
        )


def test_wavelengths_are_uniform_in_their_logarithm_over_the_channel(sources: pl.DataFrame, bands: BandSet):
    rows = exposures(sources, bands, DeliverySpec("r1", seed=2))
    passbands = ChannelPassbands(bands)
    band = rows["lvf_id"].to_numpy() % 1000 - 1
    low, high = np.log(passbands.low[band]), np.log(passbands.high[band])
    place = (np.log(rows["lambda"].to_numpy()) - low) / (high - low)
    assert stats.kstest(place, "uniform").pvalue > 1e-3
    source = rows["ra"].to_numpy() == sources["ra"][0]
    assert len(np.unique(place[source])) == source.sum(), "no two exposures share a passband"


def test_a_channel_that_is_not_on_a_detector_is_named(bands: BandSet):
    two = np.array([0, 40])
    with pytest.raises(InputError, match="channel 1: detector 7 must be one of 1 to 6"):
        ChannelPassbands(_with(bands, two, detector=np.array([7, 3])))
    with pytest.raises(
        InputError, match=r"channel 41: centre 3 um must lie on detector 3, 1\.636 to 2\.44 um"
    ):
        ChannelPassbands(_with(bands, two, wave_um=np.array([0.753, 3.0])))


# -- the sky ----------------------------------------------------------------------------------------------------------
def test_at_a_channels_centre_and_width_the_flux_is_the_channels(
    galaxies: pl.DataFrame, sky: TemplateSky, bands: BandSet
):
    shape = galaxies.height, len(bands)
    wave, width = (np.broadcast_to(values, shape) for values in (bands.wave_um, bands.bandwidth_um))
    found = sky.fluxes(galaxies, wave, width)
    np.testing.assert_allclose(found, galaxies["flux_true"].to_numpy(), rtol=1e-4)


def test_every_flux_is_the_exact_integral_over_its_own_passband(
    galaxies: pl.DataFrame, sky: TemplateSky, library: TemplateLibrary, bands: BandSet
):
    rng, some = np.random.default_rng(4), galaxies[::12]
    band = rng.integers(0, len(bands), (some.height, 30))
    wave, width = ChannelPassbands(bands).draw(band, *rng.uniform(size=(2, *band.shape)))
    found = sky.fluxes(some, wave, width)
    mock, (offset, table) = MockSpectra(library), gaussian_table()
    ((_, spectra, amplitude, z),) = mock.chunks(some)
    for row in range(some.height):
        nodes = wave[row][:, None] + width[row][:, None] * offset
        curves = FilterCurves(nodes, np.broadcast_to(table, nodes.shape).copy())
        expected = amplitude[row] * exact_photometry(mock.wave, spectra[row], z[row], curves)
        np.testing.assert_allclose(found[row], expected, rtol=1e-10)


def test_the_template_sky_names_what_it_cannot_use(galaxies: pl.DataFrame, sky: TemplateSky, tmp_path: Path):
    wave, width = np.full((galaxies.height, 1), 2.0), np.full((galaxies.height, 1), 0.05)
    with pytest.raises(InputError, match="lacks the columns mag_i"):
        sky.fluxes(galaxies.drop("mag_i"), wave, width)
    beyond = galaxies.with_columns(template_index=pl.lit(9999))
    with pytest.raises(InputError, match="row 0 has template_index 9999"):
        sky.fluxes(beyond, wave, width)
    with pytest.raises(BandSetError, match="passband 1"):
        sky.fluxes(galaxies, wave, -width)
    spec, bands = DeliverySpec("r1"), load_bands()
    with pytest.raises(InputError, match="the table of sources lacks mag_i"):
        write_delivery(galaxies.drop("mag_i"), bands, tmp_path / "r1", spec, sky=sky, progress=False)
    with pytest.raises(InputError, match="the table of sources lacks flux_true"):
        write_delivery(galaxies.drop("flux_true"), bands, tmp_path / "r1", spec, progress=False)


def test_the_sky_of_channels_lies_between_them(sources: pl.DataFrame, bands: BandSet):
    sky, some = ChannelSky(bands), sources.head(5)
    true = some["flux_true"].to_numpy()
    at_centres = np.broadcast_to(bands.wave_um, true.shape)
    np.testing.assert_allclose(sky.fluxes(some, at_centres, at_centres), true, rtol=1e-6)
    midway = np.sqrt(at_centres[:, 1:] * at_centres[:, :-1])
    mean = 0.5 * (true[:, 1:] + true[:, :-1])
    np.testing.assert_allclose(sky.fluxes(some, midway, midway), mean, rtol=1e-6)
    ends = np.tile([0.5, 6.0], (5, 1))
    np.testing.assert_allclose(sky.fluxes(some, ends, ends), true[:, [0, -1]], rtol=1e-6)
    assert sky.fluxes(some.clear(), np.zeros((0, 3)), np.zeros((0, 3))).shape == (0, 3)
    with pytest.raises(InputError, match="it must hold 2 values, one a channel"):
        ChannelSky(_with(bands, np.array([0, 1]))).fluxes(some, ends, ends)


# -- deliveries -------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def delivered(
    galaxies: pl.DataFrame, sky: TemplateSky, bands: BandSet, tmp_path_factory: pytest.TempPathFactory
) -> pl.DataFrame:
    """The rows of a delivery of the mock sources, with the row of the source among `galaxies`."""
    folder = tmp_path_factory.mktemp("landing") / "r1"
    spec = DeliverySpec("r1", n_visits=6, seed=9)
    manifest = write_delivery(galaxies, bands, folder, spec, sky=sky, progress=False)
    rows = pl.concat([batch for file in manifest.files for batch in read_batches(folder, file)])
    places = galaxies.select("ra", "dec").with_row_index("source")
    return rows.join(places, on=["ra", "dec"], how="left", maintain_order="left")


def _sky_of(rows: pl.DataFrame, galaxies: pl.DataFrame, sky: TemplateSky) -> np.ndarray:
    own = galaxies[rows["source"].to_numpy()]
    return sky.fluxes(own, rows["lambda"].to_numpy()[:, None], rows["lambda_width"].to_numpy()[:, None])[:, 0]


def test_every_exposure_scatters_about_the_sky_at_its_own_wavelength(
    delivered: pl.DataFrame, galaxies: pl.DataFrame, sky: TemplateSky
):
    rows = delivered.sample(4000, seed=1)
    chi = (rows["flux"].to_numpy() - _sky_of(rows, galaxies, sky)) / rows["flux_err"].to_numpy()
    assert stats.kstest(chi, "norm").pvalue > 1e-3


def test_visits_of_a_channel_measure_different_fluxes_of_the_same_source(
    delivered: pl.DataFrame, galaxies: pl.DataFrame, sky: TemplateSky
):
    """The harm of averaging over a channel: lines and breaks come and go within it."""
    ratio = []
    for source in range(0, galaxies.height, 6):
        rows = delivered.filter(pl.col("source") == source)
        channel = galaxies["flux_true"][source].to_numpy()[rows["lvf_id"].to_numpy() % 1000 - 1]
        ratio.append(np.abs(_sky_of(rows, galaxies, sky) / channel - 1.0))
    apart = np.concatenate(ratio)
    assert np.median(apart) < 0.02, "most of a spectrum is smooth on the scale of a channel"
    assert np.quantile(apart, 0.99) > 0.03


def test_sources_are_simulated_some_at_a_time_with_the_same_result(
    galaxies: pl.DataFrame,
    sky: TemplateSky,
    bands: BandSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    def files(folder: str) -> list[str]:
        spec = DeliverySpec("r1", n_visits=2, rows_per_file=5000)
        manifest = write_delivery(galaxies, bands, tmp_path / folder / "r1", spec, sky=sky, progress=False)
        return [file.sha256 for file in manifest.files]

    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    together = files("one")
    monkeypatch.setattr("paeplatform.release.simulated.delivery.SOURCES_AT_A_TIME", 7)
    assert files("other") == together


def test_the_bar_counts_all_sources(
    galaxies: pl.DataFrame, sky: TemplateSky, bands: BandSet, tmp_path: Path, capsys: pytest.CaptureFixture
):
    write_delivery(galaxies, bands, tmp_path / "r1", DeliverySpec("r1", n_visits=1), sky=sky)
    assert "60/60" in capsys.readouterr().err


def test_what_a_source_measures_does_not_depend_on_its_neighbours(
    galaxies: pl.DataFrame, sky: TemplateSky, bands: BandSet
):
    spec = DeliverySpec("r1", seed=4)
    among = exposures(galaxies, bands, spec, sky)
    alone = exposures(galaxies[5:6], bands, spec, sky)
    mine = among.filter((pl.col("ra") == galaxies["ra"][5]) & (pl.col("dec") == galaxies["dec"][5]))
    assert alone.drop("flux").equals(mine.drop("flux"))
    np.testing.assert_allclose(alone["flux"].to_numpy(), mine["flux"].to_numpy(), rtol=1e-6)
