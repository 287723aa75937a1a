"""The channel table: what it holds, and one clear line when a user's table is wrong."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paeplatform.errors import BandSetError
from paeplatform.instrument.bands import PACKAGED_TABLE, BandSet, load_bands
from paeplatform.instrument.filters import FilterCurves, gaussian_filters

SHARED_TABLE = Path(__file__).resolve().parents[3] / "shared" / "data" / "spherex_channels_102.csv"


def _edited(
    tmp_path: Path, row: int | None = None, column: str = "", value: str = "", keep: int = 102
) -> Path:
    with PACKAGED_TABLE.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    if row is not None:
        rows[row - 1][column] = value
    path = tmp_path / "bands.csv"
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows[:keep])
    return path


def test_the_six_detectors_share_the_range_and_resolution_of_the_instrument(bands: BandSet) -> None:
    assert len(bands) == 102
    assert np.bincount(bands.detector)[1:].tolist() == [17] * 6
    assert bands.wave_um[0] == pytest.approx(0.753)
    assert bands.wave_um[-1] == pytest.approx(4.982)
    resolution = bands.wave_um / bands.bandwidth_um
    assert resolution[bands.detector <= 4].max() < 50.0 < 100.0 < resolution[bands.detector >= 5].min()


def test_the_in_flight_depth_beats_the_maximum_expected_value_in_nearly_every_band(bands: BandSet) -> None:
    ratio = bands.depth("inflight") / bands.depth("mev")
    assert np.mean(ratio < 1.0) > 0.9
    assert 0.5 < np.median(ratio) < 1.0


def test_table_agrees_with_the_shared_facts(bands: BandSet) -> None:
    if not SHARED_TABLE.is_file():
        pytest.skip("the facts' folder ../shared/data is not beside this checkout")
    with SHARED_TABLE.open(newline="") as handle:
        facts = list(csv.DictReader(handle))

    def fact(name: str) -> np.ndarray:
        return np.array([float(row[name]) for row in facts])

    np.testing.assert_allclose(bands.wave_um, fact("wave_um"), atol=1e-9)
    np.testing.assert_allclose(bands.bandwidth_um, fact("bandwidth_um"), atol=1e-9)
    np.testing.assert_allclose(bands.depth_mev_ujy, fact("mev_allsky_1sig_ujy"), rtol=1e-3)
    np.testing.assert_allclose(bands.depth_inflight_ujy, fact("cbe_allsky_5sig_ujy") / 5.0, rtol=1e-3)


def test_hash_is_stable_and_sees_one_changed_depth(bands: BandSet) -> None:
    assert bands.content_hash() == load_bands().content_hash()
    depth = bands.depth_mev_ujy.copy()
    depth[40] *= 1.01
    assert replace(bands, depth_mev_ujy=depth).content_hash() != bands.content_hash()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"keep": 101}, "101 rows, expected 102"),
        (
            {"row": 30, "column": "wave_um", "value": "0.9"},
            r"wave_um, row 30: 0.9 must exceed the row before",
        ),
        ({"row": 7, "column": "depth_mev_ujy", "value": "-1"}, r"depth_mev_ujy, row 7: -1 must be positive"),
        ({"row": 9, "column": "bandwidth_um", "value": "0"}, r"bandwidth_um, row 9: 0 must be positive"),
        ({"row": 2, "column": "depth_inflight_ujy", "value": "nan"}, r"row 2: nan must be finite"),
        ({"row": 5, "column": "wave_um", "value": "red"}, r"wave_um, row 5: 'red' is no number"),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(tmp_path: Path, edit: dict, message: str) -> None:
    with pytest.raises(BandSetError, match=message) as caught:
        load_bands(_edited(tmp_path, **edit))
    assert "\n" not in str(caught.value)
    assert "bands.csv" in str(caught.value)


def test_missing_file_missing_column_and_unknown_depth_are_named(tmp_path: Path, bands: BandSet) -> None:
    with pytest.raises(BandSetError, match=r"absent\.csv does not exist"):
        load_bands(tmp_path / "absent.csv")
    (tmp_path / "short.csv").write_text("channel,detector,wave_um\n1,1,0.75\n")
    with pytest.raises(BandSetError, match="missing column bandwidth_um"):
        load_bands(tmp_path / "short.csv")
    with pytest.raises(BandSetError, match="'deep'"):
        bands.depth("deep")


def test_a_user_may_bring_fewer_bands_when_the_number_is_said(tmp_path: Path) -> None:
    assert len(load_bands(_edited(tmp_path, keep=17), n_bands=17)) == 17


def test_gaussian_filters_have_the_channels_width_and_centre(bands: BandSet, filters: FilterCurves) -> None:
    for band in (0, 50, 101):
        nodes, transmission = filters.wave[band], filters.transmission[band]
        above = nodes[transmission >= 0.5 - 1e-12]
        assert np.ptp(above) == pytest.approx(bands.bandwidth_um[band], rel=1e-9)
        assert nodes[np.argmax(transmission)] == pytest.approx(bands.wave_um[band])
    assert gaussian_filters(bands).wave.shape == (102, filters.wave.shape[1])


@pytest.mark.parametrize(
    ("band", "node", "wave_um", "transmission", "message"),
    [
        (3, 1, 0.1, 1.0, "band 4: wave must be positive and increase"),
        (1, 2, None, -0.1, "band 2: transmission must not be negative"),
        (0, 0, np.nan, 1.0, "band 1: wave and transmission must be finite"),
    ],
)
def test_a_faulty_curve_is_named(
    band: int, node: int, wave_um: float | None, transmission: float, message: str
) -> None:
    wave = np.tile(np.array([1.0, 2.0, 3.0]), (5, 1))
    curve = np.ones((5, 3))
    wave[band, node] = wave[band, node] if wave_um is None else wave_um
    curve[band, node] = transmission
    with pytest.raises(BandSetError, match=message):
        FilterCurves(wave, curve)
