"""What a folder of the paper's simulation files holds, and what it misses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from paeplatform.errors import InputError

# Places of the files within the folder.
PATTERNS = {
    "spectra": "phot/hires_sed_COSMOS_0_200000_*.npz",
    "properties": "line_catalogs/COSMOS_aug2x_debv_0p02_dustlaw.csv",
    "base catalogue": "line_catalogs/COSMOS_catalog_with_lines_feder23.csv",
    "noisy photometry": "phot/catgrid_*sph*_COSMOS_*",
    "noiseless photometry": "phot/catgrid_*sph*_COSMOS_*.out",
    "selection": "select_catgrid_info/catgrid_info_COSMOS_*",
    "filters": "filters/spherex_filters102/SPHEREx_band[1-6]*.dat",
    "external filters": "filters/ext_filters/*.res",
}
NEEDED = {"spectra": "training", "noisy photometry": "inference", "selection": "truth", "filters": "both"}


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        folder: looked at.
        files: by kind (keys of `PATTERNS`), in order of name.
    """

    folder: Path
    files: dict[str, tuple[Path, ...]]

    @property
    def missing(self) -> list[str]:
        """Kinds of which there is no file."""
        return [kind for kind in PATTERNS if not self.files[kind]]

    def the(self, kind: str) -> Path:
        """The one file of a kind.

        Raises:
            InputError: there is none, or several; names the pattern or the files.
        """
        found = self.files[kind]
        if len(found) != 1:
            what = f"{len(found)} files ({', '.join(path.name for path in found)})" if found else "no file"
            raise InputError(f"{self.folder}: {kind}: {what} for {PATTERNS[kind]}, one is wanted")
        return found[0]


def survey(folder: Path) -> Survey:
    """Looks for every kind of file.

    Raises:
        InputError: the folder does not exist, or holds none of them.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder")
    files = {kind: tuple(sorted(folder.glob(pattern))) for kind, pattern in PATTERNS.items()}
    files["noisy photometry"] = tuple(path for path in files["noisy photometry"] if path.suffix != ".out")
    if not any(files.values()):
        raise InputError(
            f"{folder} holds none of the paper's files; looked for {', '.join(PATTERNS.values())}"
        )
    return Survey(folder, files)
