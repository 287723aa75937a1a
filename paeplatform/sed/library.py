"""The template library: the packaged 160 galaxies, or a folder of the user's own.

Packaged (paper section III): 129 nearby galaxies of Brown et al. 2014 (ApJS 212, 18) and the 31
templates of Ilbert et al. 2009 (ApJ 690, 1236), the latter with emission lines added;
`scripts/build_templates.py` makes the table and records the provenance in its metadata. All fluxes are per
unit frequency and relative: their mean over the range of the rest grid is 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path

import numpy as np
import polars as pl

from paeplatform.errors import TemplateError

USER_SUFFIXES = (".txt", ".dat", ".sed", ".ascii", ".csv")


@dataclass(frozen=True)
class TemplateLibrary:
    """Galaxy spectra at rest, each on its own wavelength nodes and piecewise linear between them.

    Attributes:
        name: unique, e.g. `brown/NGC_0337`, `ilbert/Ell1_A_0`, `user/my_galaxy`.
        source: where the spectrum comes from.
        licence: under which terms.
        wave: per template (n,) float64 [um], strictly increasing.
        flux: per template (n,) float64, f_nu, mean 1 over the range the library was loaded for.
    """

    name: tuple[str, ...]
    source: tuple[str, ...]
    licence: tuple[str, ...]
    wave: tuple[np.ndarray, ...]
    flux: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.name)

    def without(self, names: Collection[str]) -> TemplateLibrary:
        """The library but the named templates; names that it does not have are ignored."""
        kept = [row for row, name in enumerate(self.name) if name not in names]
        return TemplateLibrary(
            **{field.name: tuple(getattr(self, field.name)[row] for row in kept) for field in fields(self)}
        )

    def content_hash(self) -> str:
        """Sixteen hex digits over names, wavelengths and fluxes (float64, little endian)."""
        digest = hashlib.sha256()
        for name, wave, flux in zip(self.name, self.wave, self.flux, strict=True):
            digest.update(f"{name}\0{wave.size}\0".encode())
            digest.update(np.ascontiguousarray(wave, dtype="<f8").tobytes())
            digest.update(np.ascontiguousarray(flux, dtype="<f8").tobytes())
        return digest.hexdigest()[:16]


def load_library(
    folder: Path | None = None, wave_min_um: float = 0.1, wave_max_um: float = 5.0
) -> TemplateLibrary:
    """Reads the packaged library, or every template file in a folder.

    A user's file has two columns, wavelength [um] and flux density per unit frequency (any scale), separated
    by blanks or a comma; `#` starts a comment. Files end in .txt, .dat, .sed, .ascii or .csv; others are left
    alone.

    Args:
        folder: the user's templates; None for the packaged 160.
        wave_min_um: each template must reach down to here [um].
        wave_max_um: and up to here [um].

    Raises:
        TemplateError: names the file and row of a value that is not a number, not finite, negative or out of
            order; the file that falls short of the range; or the folder that holds no template.
    """
    library = _read_packaged() if folder is None else _read_folder(Path(folder))
    needed = f"{wave_min_um:g}-{wave_max_um:g} um"
    fluxes = []
    for name, wave, flux in zip(library.name, library.wave, library.flux, strict=True):
        origin = name if folder is None else Path(folder) / name.removeprefix("user/")
        if wave[0] > wave_min_um or wave[-1] < wave_max_um:
            covered = f"{wave[0]:g}-{wave[-1]:g} um"
            raise TemplateError(f"template {origin}: wavelengths cover {covered}; they must cover {needed}")
        mean = mean_flux(wave, flux, wave_min_um, wave_max_um)
        if not mean > 0.0:
            raise TemplateError(
                f"template {origin}: flux is zero all over {needed}; it must be positive somewhere"
            )
        fluxes.append(_frozen(flux / mean))
    return TemplateLibrary(library.name, library.source, library.licence, library.wave, tuple(fluxes))


def mean_flux(wave: np.ndarray, flux: np.ndarray, wave_min_um: float, wave_max_um: float) -> float:
    """Mean over wavelength (trapezoid) of a piecewise linear spectrum between two wavelengths it covers."""
    inside = (wave > wave_min_um) & (wave < wave_max_um)
    nodes = np.concatenate([[wave_min_um], wave[inside], [wave_max_um]])
    return float(np.trapezoid(np.interp(nodes, wave, flux), nodes) / (wave_max_um - wave_min_um))


def _read_packaged() -> TemplateLibrary:
    path = resources.files("paeplatform.sed") / "data" / "templates.parquet"
    with resources.as_file(path) as file:
        if not file.is_file():
            raise TemplateError(f"packaged template table {file} is missing: run scripts/build_templates.py")
        table = pl.read_parquet(file, glob=False)
    return TemplateLibrary(
        name=tuple(table["name"]),
        source=tuple(table["source"]),
        licence=tuple(table["licence"]),
        wave=tuple(_frozen(wave.to_numpy()) for wave in table["wave"]),
        flux=tuple(_frozen(flux.to_numpy()) for flux in table["flux"]),
    )


def _read_folder(folder: Path) -> TemplateLibrary:
    if not folder.is_dir():
        raise TemplateError(f"template folder {folder} does not exist or is not a folder")
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in USER_SUFFIXES)
    if not files:
        raise TemplateError(f"template folder {folder} holds no template (files {', '.join(USER_SUFFIXES)})")
    spectra = [_read_text(file) for file in files]
    return TemplateLibrary(
        name=tuple(f"user/{file.name}" for file in files),
        source=tuple(f"user file {file.name}" for file in files),
        licence=tuple("as given by the user" for _ in files),
        wave=tuple(_frozen(wave) for wave, _ in spectra),
        flux=tuple(_frozen(flux) for _, flux in spectra),
    )


def _read_text(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """One user's template; rows are counted as an editor counts lines, from 1, comments included."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(f"template {file}: not a readable text file ({type(error).__name__})") from error
    wave: list[float] = []
    flux: list[float] = []
    for row, line in enumerate(text.splitlines(), start=1):
        fields = line.split("#", 1)[0].replace(",", " ").split()
        if not fields:
            continue
        where = f"template {file}, row {row}"
        if len(fields) != 2:
            raise TemplateError(f"{where}: expected 2 columns (um, f_nu), found {len(fields)}")
        try:
            wave_um, flux_nu = float(fields[0]), float(fields[1])
        except ValueError:
            raise TemplateError(f"{where}: not a number in {line.strip()[:60]!r}") from None
        if not (np.isfinite(wave_um) and wave_um > 0.0):
            raise TemplateError(f"{where}: wavelength {wave_um} um must be finite and positive")
        if not (np.isfinite(flux_nu) and flux_nu >= 0.0):
            raise TemplateError(f"{where}: flux {flux_nu} must be finite and not negative")
        if wave and wave_um <= wave[-1]:
            raise TemplateError(
                f"{where}: wavelength {wave_um} um must exceed {wave[-1]} um of the row before"
            )
        wave.append(wave_um)
        flux.append(flux_nu)
    if len(wave) < 2:
        raise TemplateError(f"template {file}: {len(wave)} rows of data; at least 2 are needed")
    return np.array(wave), np.array(flux)


def _frozen(values: np.ndarray) -> np.ndarray:
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array
