"""Reads the model that ships with the package: bundle, SBI network, fitted prior and card.

The folder `model` holds the files of the bundle, `prior.json` and `card.json`, and in `sbi` those of the SBI network.
Bundle and network check the sums of their own files. The card holds those of the files that nothing else vouches for,
so that files of two models in one folder are noticed. `scripts/make_reference.py` writes the folder.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paeplatform.errors import CheckpointError
from paeplatform.model_files import read_checked, read_record
from paeplatform.reference.card import CARD, ReferenceCard, read_card

if TYPE_CHECKING:
    from paeplatform.pae.bundle import PaeBundle
    from paeplatform.sbi.model import SbiModel

REFERENCE = "reference"  # name of the preset, and what stands in the place of a version
SBI_FOLDER, PRIOR_FILE = "sbi", "prior.json"
BUNDLE_RECORD, SBI_RECORD = "bundle.json", f"{SBI_FOLDER}/sbi.json"
# What `save_bundle` writes; proposal and landmarks may be missing.
BUNDLE_FILES = (
    *(f"{part}.{ending}" for part in ("autoencoder", "flow", "proposal") for ending in ("json", "eqx")),
    BUNDLE_RECORD,
    "landmarks.npy",
)
PRIOR = "reference-prior"  # kind of the prior's record
PRIOR_PARAMETERS = ("alpha", "beta", "gamma")
_FOLDER = Path(__file__).parent / "model"


def reference_folder() -> Path:
    """The folder of the files, which is also that of the bundle: `load_bundle` reads it."""
    return _FOLDER


def reference_card() -> dict[str, Any]:
    """The model card as plain values: see `ReferenceCard`.

    Raises:
        CheckpointError: the card is missing or damaged; one line.
    """
    return card_in(reference_folder()).model_dump(mode="json")


def reference_bundle() -> PaeBundle:
    """The trained PAE, read once a process.

    Raises:
        CheckpointError: a file is missing, truncated or altered, or belongs to another model; one line.
    """
    return _bundle(reference_folder())


def reference_prior() -> dict[str, float]:
    """alpha, beta and gamma of the p_BPZ that was fitted to the mock catalogue, for `prior_from_preset`.

    Raises:
        CheckpointError: the file is missing or damaged; one line.
    """
    path = reference_folder() / PRIOR_FILE
    _checked(reference_folder(), PRIOR_FILE)
    record = read_record(path, PRIOR)
    try:
        return {name: float(record[name]) for name in PRIOR_PARAMETERS}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: must hold the numbers {', '.join(PRIOR_PARAMETERS)}") from error


def reference_sbi() -> tuple[SbiModel, str]:
    """(network of simulation-based inference, hash of the bands it was trained for), on the CPU; read once a process.

    Raises:
        CheckpointError: no network ships (`ships_sbi`), or a file is missing, truncated or altered; one line.
    """
    check_files(needs_sbi=True)
    return _sbi(reference_folder())


def ships_sbi() -> bool:
    """Whether an SBI network ships with the bundle.

    Raises:
        CheckpointError: the card is missing or damaged; one line.
    """
    return SBI_RECORD in card_in(reference_folder()).files


def check_files(*, needs_sbi: bool = False) -> None:
    """Checks the sums of the files that the card lists, without reading a model.

    Args:
        needs_sbi: whether the SBI network has to be among them.

    Raises:
        CheckpointError: a file is missing or another one; one line.
    """
    folder = reference_folder()
    if needs_sbi and not ships_sbi():
        raise CheckpointError(f"{folder}: no SBI network ships with this package")
    for name in card_in(folder).files:
        _checked(folder, name)


def bundle_files(folder: Path) -> list[Path]:
    """Those files in a folder that belong to its bundle, in order of name; prior and card may lie beside them."""
    return [folder / name for name in sorted(BUNDLE_FILES) if (folder / name).is_file()]


def verify(folder: Path) -> None:
    """Reads everything in a folder of a reference model.

    Raises:
        CheckpointError: a file is missing, damaged, or belongs to another model; one line.
    """
    from paeplatform.pae.bundle import load_bundle
    from paeplatform.sbi.bundle import load_sbi

    card = card_in(folder)
    for name in card.files:
        _checked(folder, name)
    if not {BUNDLE_RECORD, PRIOR_FILE} <= set(card.files):
        raise CheckpointError(f"{folder / CARD}: must list {BUNDLE_RECORD} and {PRIOR_FILE} under files")
    load_bundle(folder)
    read_record(folder / PRIOR_FILE, PRIOR)
    if SBI_RECORD in card.files:
        load_sbi(folder / SBI_FOLDER)


def card_in(folder: Path) -> ReferenceCard:
    """The card of a folder.

    Raises:
        CheckpointError: it is missing or damaged; one line.
    """
    return read_card(folder / CARD)


@lru_cache(maxsize=2)
def _bundle(folder: Path) -> PaeBundle:
    from paeplatform.pae.bundle import load_bundle

    _checked(folder, BUNDLE_RECORD)
    return load_bundle(folder)


@lru_cache(maxsize=2)
def _sbi(folder: Path) -> tuple[SbiModel, str]:
    from paeplatform.sbi.bundle import load_sbi

    return load_sbi(folder / SBI_FOLDER)


def _checked(folder: Path, name: str) -> None:
    """Checks a file against the sum that the card holds.

    Raises:
        CheckpointError: the card does not list it, or it is missing or another one.
    """
    files = card_in(folder).files
    if name not in files:
        raise CheckpointError(f"{folder / name}: the card {folder / CARD} lists no such file")
    read_checked(folder / name, files[name])
