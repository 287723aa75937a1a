"""Classifies observed spectra of dwarfs and quasars that the library is not made of.

    pip download splat==1.14 --no-deps
    python scripts/classify_real_spectra.py splat-1.14-py3-none-any.whl [--number 400]

The wheel of splat (MIT; Burgasser & Splat Development Team 2017) holds 3,099 spectra of ultracool dwarfs from the SpeX
prism, 0.8-2.45 um, and 27 near-infrared spectra of quasars at z = 0.12-0.42 of Glikman et al. 2006 (ApJ 640, 579). They
are integrated over the channels that they cover; the other channels are masked. Noise of the survey's depth is added
at a total signal-to-noise of 30-300. The galaxy's evidence is that of template fitting. Nothing of it is kept here.
"""

from __future__ import annotations

import argparse
import gzip
import io
import warnings
import zipfile
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from paeplatform.classes.classify import classify, load_classifier
from paeplatform.classes.models import band_fluxes
from paeplatform.instrument.bands import BandSet, load_bands

RANGE_UM = (0.82, 2.40)
# where the air lets nothing through, spectra from the ground are noise
AIR_UM = ((1.34, 1.44), (1.79, 1.98))
SNR_RANGE = (30.0, 300.0)


def main() -> None:
    parser = argparse.ArgumentParser(description="Classifies observed spectra of dwarfs and quasars.")
    parser.add_argument("wheel", type=Path, help="splat-1.14-py3-none-any.whl")
    parser.add_argument("--number", type=int, default=400, help="of dwarfs")
    args = parser.parse_args()
    warnings.simplefilter("ignore", AstropyWarning)  # comments of the reduction are no valid keywords
    bands, rng = load_bands(), np.random.default_rng(1)
    classifier = load_classifier(bands, galaxies=True)
    with zipfile.ZipFile(args.wheel) as wheel:
        for name, spectra in (("dwarfs", dwarfs(wheel, args.number, rng)), ("quasars", quasars(wheel))):
            kinds, z = [kind for kind, *_ in spectra], np.array([z for _, z, *_ in spectra])
            flux, flux_err = observed([(wave, flux) for *_, wave, flux in spectra], bands, rng)
            table = classify(classifier, flux, flux_err, np.arange(len(flux)))
            best = table["class_best"].to_numpy()
            print(f"{name}: {len(best)} spectra")
            for kind in sorted(set(kinds)):
                rows = np.array(kinds) == kind
                names, counts = np.unique(best[rows].astype(str), return_counts=True)
                print(f"  {kind}: " + ", ".join(f"{n} {m}" for n, m in zip(names, counts, strict=True)))
            if name == "quasars":
                error = np.abs(table["class_z_quasar"].to_numpy() - z) / (1.0 + z)
                print(f"  abs(dz)/(1+z) < 0.02: {np.mean(error < 0.02):.2f}, median {np.median(error):.4f}")


def dwarfs(wheel: zipfile.ZipFile, number: int, rng: np.random.Generator) -> list[tuple]:
    """(spectral class, z, wavelength [um], f_lambda) of a random choice of the good spectra."""
    lines = wheel.read("splat/db/spectral_data.txt").decode().splitlines()
    header = lines[0].split("\t")
    file, quality, kind = (header.index(name) for name in ("DATA_FILE", "QUALITY_FLAG", "SPEX_TYPE"))
    rows = [line.split("\t") for line in lines[1:]]
    stored = {Path(name).name: name for name in wheel.namelist() if "/Public/SPEX-PRISM/" in name}
    rows = [
        row
        for row in rows
        if row[quality] == "OK" and row[kind][:1] in set("MLT") and row[file] + ".gz" in stored
    ]
    found = []
    for at in rng.permutation(len(rows))[:number]:
        row = rows[at]
        data = gzip.decompress(wheel.read(stored[row[file] + ".gz"]))
        with fits.open(io.BytesIO(data)) as hdus:
            wave, flux = np.asarray(hdus[0].data, np.float64)[:2]
        early = row[kind][:1] == "M" and float(row[kind][1:4]) < 7.0
        found.append(
            ("M0-M6" if early else "M7-M9" if row[kind][0] == "M" else row[kind][0], 0.0, wave, flux)
        )
    return found


def quasars(wheel: zipfile.ZipFile) -> list[tuple]:
    """(name of the class, z, wavelength [um], f_lambda); the last number of a file's first row is the redshift."""
    found = []
    for name in sorted(wheel.namelist()):
        if "/GlikmanQuasars/SDSS" not in name:
            continue
        lines = gzip.decompress(wheel.read(name)).decode().splitlines()
        z = float(lines[0].split()[3])
        wave, flux = np.array([line.split()[:2] for line in lines], np.float64).T
        if wave[0] < 0.9:
            found.append(("quasar", z, wave, flux))
    return found


def observed(
    spectra: list[tuple[np.ndarray, np.ndarray]], bands: BandSet, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(flux, flux_err) [uJy] in the channels that the spectra cover."""
    low, high = bands.wave_um - 1.5 * bands.bandwidth_um, bands.wave_um + 1.5 * bands.bandwidth_um
    seen = (low > RANGE_UM[0]) & (high < RANGE_UM[1])
    for first, last in AIR_UM:
        seen &= (high < first) | (low > last)
    flux, flux_err = np.zeros((len(spectra), len(bands))), np.full((len(spectra), len(bands)), np.inf)
    for row, (wave, f_lambda) in enumerate(spectra):
        good = np.isfinite(f_lambda) & (np.diff(wave, prepend=0.0) > 0.0)
        wave, f_nu = wave[good], f_lambda[good] * wave[good] ** 2
        clean = band_fluxes(wave, f_nu[None], bands)[0, 0, seen]
        depth = bands.depth("mev")[seen]
        snr = np.exp(rng.uniform(*np.log(SNR_RANGE)))
        clean *= snr / np.sqrt(np.sum((clean / depth) ** 2))
        flux[row, seen], flux_err[row, seen] = clean + depth * rng.normal(size=len(depth)), depth
    return flux, flux_err


if __name__ == "__main__":
    main()
