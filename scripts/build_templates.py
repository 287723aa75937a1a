"""Builds `paeplatform/sed/data/templates.parquet`, the 160 galaxy templates that the package ships.

    python scripts/build_templates.py                        # downloads both sources with pip, checks sha256
    python scripts/build_templates.py --source-dir FOLDER    # both archives are already unpacked in FOLDER

Sources: Brown et al. 2014 (129 spectra) in the sdist frankenz 0.1.5, and the COSMOS set of Ilbert et al. 2009
(31) in the wheel pz-rail-base 2.0.11; both MIT. Their files hold Angstrom and flux per unit wavelength. Here:

1. Angstrom -> um, f_lambda -> f_nu (times lambda^2; the constant drops out with the normalisation);
2. cut to 0.09-5.2 um: the rest grid is 0.1-5.0 um, its outer half cells reach 0.005 um further, and the rest
   is margin for a grid moved a little. The ends are interpolated, so that every template covers the same
   range;
3. emission lines for the COSMOS templates (`paeplatform.sed.lines`);
4. mean over wavelength in 0.1-5.0 um set to 1.

Same sources and same polars version, same bytes. Needs the package installed (or PYTHONPATH=.).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import polars as pl

from paeplatform.sed.library import mean_flux
from paeplatform.sed.lines import add_emission_lines

WAVE_MIN_UM, WAVE_MAX_UM = 0.09, 5.2
OUTPUT = Path(__file__).resolve().parents[1] / "paeplatform" / "sed" / "data" / "templates.parquet"
REQUIREMENTS = (
    "frankenz==0.1.5 --hash=sha256:423b1d4dc070b0bb08b86095c34c5c5c545adbba4faaf4f83504cba64123f2fb",
    "pz-rail-base==2.0.11 --hash=sha256:ebe28f501bade92617a116a59f71e6b02b3ea5fdcab8e6fba64c29a7a555553f",
)
BROWN_SOURCE = "Brown et al. 2014, ApJS 212, 18 (as in frankenz 0.1.5)"
BROWN_LICENCE = "MIT (frankenz 0.1.5, J. Speagle)"
ILBERT_SOURCE = (
    "Ilbert et al. 2009, ApJ 690, 1236 (as in pz-rail-base 2.0.11), lines added here where has_lines"
)
ILBERT_LICENCE = "MIT (pz-rail-base 2.0.11, LSST DESC)"
METADATA = {
    "title": "160 galaxy templates at rest",
    "wave_unit": "um (vacuum/air as in the sources)",
    "flux_unit": "flux density per unit frequency, relative: mean over wavelength in 0.1-5.0 um is 1",
    "range": f"{WAVE_MIN_UM}-{WAVE_MAX_UM} um",
    "brown": f"{BROWN_SOURCE}; {BROWN_LICENCE}; {REQUIREMENTS[0]}",
    "ilbert": f"{ILBERT_SOURCE}; {ILBERT_LICENCE}; {REQUIREMENTS[1]}",
    "has_lines": "true where emission lines were added; Brown's spectra carry the lines that were observed",
    "made_by": "scripts/build_templates.py",
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Builds the packaged template table.")
    parser.add_argument("--source-dir", type=Path, help="folder with both archives unpacked: no download")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    if args.source_dir is not None:
        build(args.source_dir, args.output)
    else:
        with tempfile.TemporaryDirectory() as folder:
            download(Path(folder))
            build(Path(folder), args.output)


def download(folder: Path) -> None:
    """Fetches the two pinned archives with pip, which checks their hashes, and unpacks them side by side."""
    pins = folder / "requirements.txt"
    pins.write_text("\n".join(REQUIREMENTS) + "\n")
    options = ["--no-deps", "--require-hashes", "--disable-pip-version-check", "--dest", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, "-r", str(pins)], check=True)
    with tarfile.open(next(folder.glob("frankenz-*.tar.gz"))) as archive:
        archive.extractall(folder / "frankenz", filter="data")
    with zipfile.ZipFile(next(folder.glob("pz_rail_base-*.whl"))) as archive:
        archive.extractall(folder / "rail")


def build(source_dir: Path, output: Path) -> None:
    """Reads both sets below `source_dir` and writes the table.

    Raises:
        SystemExit: a set does not have the expected number of files.
    """
    rows = []
    for file in _files(source_dir, "seds/brown/*_spec.dat", 129):
        wave, flux = read_template(file)
        name = f"brown/{file.stem.removesuffix('_spec')}"
        rows.append((name, BROWN_SOURCE, BROWN_LICENCE, *_stored(name, wave, flux), False))
    for file in _files(source_dir, "data/SED/*_A_[0-9].sed", 31):
        wave, flux, has_lines = add_emission_lines(*read_template(file))
        name = f"ilbert/{file.stem}"
        rows.append((name, ILBERT_SOURCE, ILBERT_LICENCE, *_stored(name, wave, flux), has_lines))
    schema = {
        "name": pl.String,
        "source": pl.String,
        "licence": pl.String,
        "wave": pl.List(pl.Float32),
        "flux": pl.List(pl.Float32),
        "has_lines": pl.Boolean,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    table = pl.DataFrame(rows, schema=schema, orient="row")
    table.write_parquet(output, compression="zstd", compression_level=19, metadata=METADATA)
    print(f"{output}: {table.height} templates, {output.stat().st_size / 1e6:.2f} MB")


def read_template(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """One source file (Angstrom, f_lambda) as wave [um] and f_nu (unscaled) on exactly 0.09-5.2 um."""
    angstrom, flux_lambda = np.loadtxt(file, usecols=(0, 1), unpack=True)
    first = np.concatenate([[True], np.diff(angstrom) > 0.0])  # the COSMOS files repeat their row at 10000 A
    wave = angstrom[first] * 1e-4
    flux_nu = flux_lambda[first] * wave**2
    inside = (wave > WAVE_MIN_UM) & (wave < WAVE_MAX_UM)
    nodes = np.concatenate([[WAVE_MIN_UM], wave[inside], [WAVE_MAX_UM]])
    return nodes, np.interp(nodes, wave, flux_nu)


def _stored(name: str, wave: np.ndarray, flux: np.ndarray) -> tuple[list[float], list[float]]:
    """The float32 columns of one template, normalised on the nodes as they are stored."""
    stored = wave.astype(np.float32)
    # Rounding to float32 must not pull an end inside the promised range.
    stored[0] = np.nextafter(np.float32(WAVE_MIN_UM), np.float32(0.0))
    stored[-1] = np.nextafter(np.float32(WAVE_MAX_UM), np.float32(10.0))
    if not np.all(np.diff(stored) > 0.0):
        raise SystemExit(f"{name}: wavelengths are not strictly increasing in float32")
    scaled = flux / mean_flux(stored.astype(np.float64), flux, 0.1, 5.0)
    return stored.tolist(), scaled.astype(np.float32).tolist()


def _files(source_dir: Path, pattern: str, expected: int) -> list[Path]:
    files = sorted(source_dir.rglob(pattern), key=lambda file: file.name)
    if len(files) != expected:
        raise SystemExit(f"{source_dir}: found {len(files)} files {pattern}, expected {expected}")
    return files


if __name__ == "__main__":
    main()
