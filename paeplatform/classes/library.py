"""The spectra of stars and brown dwarfs that the package ships.

`scripts/build_star_templates.py` makes the table and says where the spectra come from and what is approximate: BT-Settl
models of 400-7000 K (Allard, Homeier & Freytag 2012) and eight dwarf spectra from grizli (MIT), medians of observed
dwarfs M0-T6 from splat (MIT), and blackbodies above 7000 K.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from importlib import resources

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from paeplatform.errors import TemplateError

KINDS = ("star", "brown_dwarf")


@dataclass(frozen=True, eq=False)
class StarLibrary:
    """Spectra at rest on one grid of wavelengths.

    Attributes:
        name: unique, for example `btsettl/4000K_logg4.5`.
        kind: `star` or `brown_dwarf`; M7 and later, or cooler than 2850 K, is a brown dwarf.
        teff: effective temperature [K]; NaN where the source does not give it.
        wave: [um], even in the logarithm.
        flux: f_nu, relative: the mean over the grid is 1.
        resolved: whether the source has points as close as the channels of SPHEREx; elsewhere the flux is interpolated.
    """

    name: tuple[str, ...]
    kind: tuple[str, ...]
    teff: Float[np.ndarray, " template"]
    wave: Float[np.ndarray, " wave"]
    flux: Float[np.ndarray, "template wave"]
    resolved: Bool[np.ndarray, "template wave"]

    def __len__(self) -> int:
        return len(self.name)

    def rows(self, rows: np.ndarray) -> StarLibrary:
        """Some of the spectra, in the order of `rows`."""
        rows = np.arange(len(self))[rows]
        parts = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                parts[field.name] = tuple(value[row] for row in rows)
            else:
                parts[field.name] = value if field.name == "wave" else value[rows]
        return StarLibrary(**parts)

    def of_kind(self, kind: str) -> StarLibrary:
        """The spectra of one kind.

        Raises:
            TemplateError: `kind` is none of `KINDS`.
        """
        if kind not in KINDS:
            raise TemplateError(f"star templates: kind {kind!r} must be one of {', '.join(KINDS)}")
        return self.rows(np.array([own == kind for own in self.kind]))

    def without(self, names: Collection[str]) -> StarLibrary:
        """All spectra but the named ones; names that it does not have are ignored."""
        return self.rows(np.array([name not in names for name in self.name]))


def load_stars() -> StarLibrary:
    """Reads the packaged spectra.

    Raises:
        TemplateError: the packaged table is missing; names the file and the script that makes it.
    """
    path = resources.files("paeplatform.classes") / "data" / "stars.parquet"
    with resources.as_file(path) as file:
        if not file.is_file():
            raise TemplateError(f"packaged table {file} is missing: run scripts/build_star_templates.py")
        table = pl.read_parquet(file, glob=False)
    return StarLibrary(
        name=tuple(table["name"]),
        kind=tuple(table["kind"]),
        teff=table["teff"].fill_null(np.nan).to_numpy().astype(np.float64),
        wave=table["wave"][0].to_numpy().astype(np.float64),
        flux=np.stack([row.to_numpy() for row in table["flux"]]).astype(np.float64),
        resolved=np.stack([row.to_numpy() for row in table["resolved"]]),
    )
