"""Builds `paeplatform/classes/data/stars.parquet`, the spectra of stars and brown dwarfs that the package ships.

    python scripts/build_star_templates.py                        # downloads both sources with pip, checks sha256
    python scripts/build_star_templates.py --source-dir FOLDER    # both archives are already unpacked in FOLDER

Sources: the folder `grizli/data/templates/stars` of the sdist grizli 1.14.3 (MIT). It holds BT-Settl model spectra
(Allard, Homeier & Freytag 2012, Phil. Trans. R. Soc. A 370, 2765) of 400-7000 K, and eight spectra of dwarfs M6.5 to
T7.5 that are observed where they have many points. All are Angstrom and flux per unit wavelength. And the spectra of
dwarfs M0-T8 from the SpeX prism in the wheel splat 1.14 (MIT; Burgasser & Splat Development Team 2017). Here:

1. The BT-Settl spectra have 1,000 points to a factor e up to 2.3 um, and beyond it eight means over cells of 10 %. The
   point at 2.3 um is a mean too, of a cell that begins there, so that it is moved to the middle of this cell.
   Between the means the spectrum is a power law. The column `resolved` says which cells have points closer than 2.5 %.
2. Beyond the last point a spectrum continues as lambda^-4 (Rayleigh-Jeans).
3. Hot stars, which the library lacks (above 7000 K), are blackbodies. They have no lines and no Balmer jump.
4. The SpeX spectra of each spectral type are averaged: the median of those with a signal-to-noise above 30, scaled to
   the same mean flux. Only spectra of even number are used; the odd ones are left for tests
   (`scripts/classify_real_spectra.py`). Below 0.8 and beyond 2.4 um the BT-Settl model of the type's temperature (near
   Filippazzo et al. 2015, ApJ 810, 158) continues them.
5. Angstrom -> um, f_lambda -> f_nu; means over cells of R = 600 in 0.6-5.2 um; mean over these cells set to 1.
6. The last 10 bits of the float32 mantissa are set to zero (1e-4 of the flux), so that the file is small.

Same sources and same polars version, same bytes. Needs the package installed (or PYTHONPATH=.).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
from astropy.io import fits

from paeplatform.sed.grid import rebin

OUTPUT = Path(__file__).resolve().parents[1] / "paeplatform" / "classes" / "data" / "stars.parquet"
REQUIREMENTS = (
    "grizli==1.14.3 --hash=sha256:29604b17083b176ffc2186ebe45a5a84b3ef893cbfb41f5340fa2b7cf35a54e2",
    "splat==1.14 --hash=sha256:398a1ab79c4d25466032c3aad777cc6d1d171dc7ebf17da609296e4dc4ee9d4b",
)
WAVE_MIN_UM, WAVE_MAX_UM, RESOLUTION = 0.6, 5.2, 600
STAR_FROM_K = 2850.0  # cooler ones, M7 and later, count as brown dwarfs
RESOLVED_STEP = 0.025  # distance of points in ln(wavelength), below the width of a channel of R = 35-130
HOT_K = (7500, 8000, 9000, 10000, 12000, 15000, 20000, 30000, 50000)
TYPES = {"M6.5": "star"} | dict.fromkeys(
    ["M8.0", "L1.0", "L3.5", "L6.0", "T2.0", "T6.0", "T7.5"], "brown_dwarf"
)
# temperature [K] of the spectral types M0-T8
TYPE_NAMES = [f"{letter}{number}" for letter in "MLT" for number in range(10)][:29]
TYPE_TEMPERATURES = (
    *(3850, 3700, 3550, 3400, 3200, 3050, 2850, 2650, 2500, 2400),
    *(2250, 2100, 1950, 1850, 1700, 1600, 1500, 1420, 1350, 1300),
    *(1280, 1260, 1240, 1220, 1180, 1100, 980, 830, 700),
)
TYPE_K = dict(zip(TYPE_NAMES, TYPE_TEMPERATURES, strict=True))
SPEX_UM, SPEX_SNR, SPEX_LEAST = (0.80, 2.40), 30.0, 3
SPEX_SOURCE = "median of SpeX prism spectra (splat 1.14), BT-Settl below 0.8 and beyond 2.4 um"
SPEX_LICENCE = "MIT (splat 1.14, Cool Star Lab)"
LICENCE = "MIT (grizli 1.14.3, G. Brammer)"
MODEL_SOURCE = "BT-Settl, Allard et al. 2012 (as in grizli 1.14.3)"
TYPE_SOURCE = "dwarf templates of grizli 1.14.3, which does not name the observers"
METADATA = {
    "title": "spectra of stars and brown dwarfs",
    "wave_unit": "um, in vacuum as in the source",
    "flux_unit": "flux density per unit frequency, relative: the mean over the cells is 1",
    "range": f"{WAVE_MIN_UM}-{WAVE_MAX_UM} um, cells of R = {RESOLUTION}",
    "archives": "; ".join(REQUIREMENTS),
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
    """Fetches the two pinned archives with pip, which checks their hashes, and unpacks what is needed of them."""
    pins = folder / "requirements.txt"
    pins.write_text("\n".join(REQUIREMENTS) + "\n")
    options = ["--no-deps", "--require-hashes", "--disable-pip-version-check", "--no-binary", "grizli"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), "-r", str(pins)]
    subprocess.run(command, check=True)
    with tarfile.open(next(folder.glob("grizli-*.tar.gz"))) as archive:
        members = [member for member in archive.getmembers() if "/data/templates/stars/" in member.name]
        archive.extractall(folder, members=members, filter="data")
    with zipfile.ZipFile(next(folder.glob("splat-*.whl"))) as archive:
        parts = ("/Public/SPEX-PRISM/", "splat/db/spectral_data.txt")
        archive.extractall(
            folder, [name for name in archive.namelist() if any(part in name for part in parts)]
        )


def build(source_dir: Path, output: Path) -> None:
    """Reads the spectra below `source_dir` and writes the table.

    Raises:
        SystemExit: the models, or one of the eight types, are not there or are there twice.
    """
    n_cell = round(np.log(WAVE_MAX_UM / WAVE_MIN_UM) * RESOLUTION) + 1
    grid = np.geomspace(WAVE_MIN_UM, WAVE_MAX_UM, n_cell)
    rows = []
    models = read_models(_one(source_dir, "bt-settl_t400-3500_z0.0.fits"))
    for (teff, logg), (wave, flux) in models.items():
        kind = "star" if teff > STAR_FROM_K else "brown_dwarf"
        name = f"btsettl/{teff:.0f}K_logg{logg:.1f}"
        rows.append((name, kind, teff, MODEL_SOURCE, LICENCE, *_stored(wave, flux, grid)))
    for spectral_type, kind in TYPES.items():
        wave, flux = np.loadtxt(_one(source_dir, f"{spectral_type}.txt"), unpack=True)
        name = f"observed/{spectral_type}"
        rows.append((name, kind, None, TYPE_SOURCE, LICENCE, *_stored(wave, flux, grid)))
    for spectral_type, (wave, flux, coarse) in spex_types(source_dir, models).items():
        teff = float(TYPE_K[spectral_type])
        kind = "star" if teff > 2700.0 else "brown_dwarf"
        *stored, resolved = _stored(wave, flux, grid)
        resolved = (np.array(resolved) & ~np.interp(grid * 1e4, wave, coarse).astype(bool)).tolist()
        rows.append((f"spex/{spectral_type}", kind, teff, SPEX_SOURCE, SPEX_LICENCE, *stored, resolved))
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


def spex_types(
    source_dir: Path, models: dict[tuple[float, float], tuple[np.ndarray, np.ndarray]]
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(wavelength [Angstrom], f_lambda, whether it is the model's continuation) of each type with enough spectra."""
    table = pl.read_csv(
        _one(source_dir, "splat/db/spectral_data.txt"),
        separator="\t",
        infer_schema=False,
        quote_char=None,
        truncate_ragged_lines=True,
        glob=False,
    )
    table = table.filter(
        (pl.col("QUALITY_FLAG") == "OK")
        & (pl.col("MEDIAN_SNR").cast(pl.Float64, strict=False) > SPEX_SNR)
        & (pl.col("DATA_KEY").cast(pl.Int64) % 2 == 0)
    )
    folder = next(source_dir.rglob("Public/SPEX-PRISM"))
    grid = np.exp(np.arange(np.log(SPEX_UM[0]), np.log(SPEX_UM[1]), 1.0 / RESOLUTION)) * 1e4
    spectra: dict[str, list[np.ndarray]] = {}
    for row in table.iter_rows(named=True):
        file, spectral_type = folder / f"{row['DATA_FILE']}.gz", str(row["SPEX_TYPE"])[:2]
        if spectral_type not in TYPE_K or not file.is_file():
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # comments of the reduction are no valid keywords
            data = fits.getdata(file)
        wave, flux = np.asarray(data, np.float64)[:2]
        good = np.isfinite(flux) & (np.diff(wave, prepend=0.0) > 0.0)
        if wave[good][0] > SPEX_UM[0] or wave[good][-1] < SPEX_UM[1]:
            continue
        spectrum = np.interp(grid, wave[good] * 1e4, flux[good])
        spectra.setdefault(spectral_type, []).append(spectrum / spectrum.mean())
    found = {}
    for spectral_type in TYPE_K:
        if len(spectra.get(spectral_type, [])) < SPEX_LEAST:
            continue
        middle = np.median(spectra[spectral_type], axis=0)
        model_k = min(
            {teff for teff, logg in models if logg == 5.0}, key=lambda k: abs(k - TYPE_K[spectral_type])
        )
        wave, flux = models[model_k, 5.0]
        below, above = wave < grid[0], wave > grid[-1]
        # the model joins the median over 3 % of the wavelength on either side
        ends = grid < grid[0] * 1.03, grid > grid[-1] / 1.03
        factor = [middle[end].mean() / np.interp(grid[end], wave, flux).mean() for end in ends]
        parts = flux[below] * factor[0], middle, flux[above] * factor[1]
        joined = np.concatenate([wave[below], grid, wave[above]])
        coarse = np.concatenate([np.ones(below.sum()), np.zeros(len(grid)), np.ones(above.sum())])
        found[spectral_type] = joined, np.concatenate(parts), coarse
    return found


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
