"""The script that makes the packaged channel table, on a calibration table written here."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from paeplatform.instrument.bands import BandSet, load_bands
from tests.scripts import load_script

fits = pytest.importorskip("astropy.io.fits")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("build_channels")


def _calibration_table(path: Path, bands: BandSet, n_row: int = 102) -> Path:
    columns = [
        fits.Column("DETECTOR", "B", array=bands.detector[:n_row]),
        fits.Column("WAVELENGTH", "E", array=bands.wave_um[:n_row]),
        fits.Column("BANDWIDTH", "E", array=bands.bandwidth_um[:n_row]),
    ]
    table = fits.BinTableHDU.from_columns(columns, name="SPECTRAL_CHANNELS")
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    return path


def test_script_reproduces_the_packaged_table(script: ModuleType, tmp_path: Path, bands: BandSet) -> None:
    script.build(_calibration_table(tmp_path / "table.fits", bands), tmp_path / "channels.csv")
    assert load_bands(tmp_path / "channels.csv").content_hash() == bands.content_hash()


def test_a_table_of_another_length_leaves_no_file(script: ModuleType, tmp_path: Path, bands: BandSet) -> None:
    with pytest.raises(SystemExit, match="expected 102 channels, got 90"):
        script.build(_calibration_table(tmp_path / "table.fits", bands, 90), tmp_path / "channels.csv")
    assert not (tmp_path / "channels.csv").exists()


def test_depths_are_positive_numbers(script: ModuleType) -> None:
    assert np.min(script.MEV_1SIGMA_UJY) > 0.0
    assert np.min(script.CBE_1SIGMA_UJY) > 0.0
