"""Writes the folder of a reference model: gathered under a hidden name, read back whole, then put in its place."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from paeplatform.errors import CheckpointError, InputError
from paeplatform.files import replace_folder
from paeplatform.model_files import one_line, read_bytes, sha256, write_record
from paeplatform.pae.bundle import load_bundle
from paeplatform.reference.card import CARD, ReferenceCard, write_card
from paeplatform.reference.shipped import (
    BUNDLE_RECORD,
    PRIOR,
    PRIOR_FILE,
    PRIOR_PARAMETERS,
    SBI_FOLDER,
    SBI_RECORD,
    bundle_files,
    verify,
)
from paeplatform.sbi.bundle import RECORD, WEIGHTS, load_sbi

MAX_BYTES = 15_000_000  # what the package may grow by


def write_reference(
    target: Path,
    *,
    bundle: Path,
    sbi: Path | None,
    prior: Mapping[str, float],
    card: Callable[[dict[str, str]], ReferenceCard],
) -> Path:
    """Writes a folder that `paeplatform.reference.shipped` reads; a reader never sees half of it.

    Args:
        target: where it goes; the folder that stands there is replaced.
        bundle: folder of the bundle's files, which are copied byte by byte.
        sbi: folder of the SBI network's files; None for a reference model without one.
        prior: alpha, beta and gamma of the fitted p_BPZ; further entries are left out.
        card: makes the card from the sums of the files.

    Returns:
        `target`.

    Raises:
        CheckpointError: a file is missing or damaged.
        InputError: the files are larger than `MAX_BYTES` in all.
    """
    load_bundle(bundle)  # names a fault where it is, not in the copy
    if sbi is not None:
        load_sbi(sbi)
    with _gathered(target.parent) as folder:
        for file in bundle_files(bundle):
            _copy(file, folder / file.name)
        if sbi is not None:
            for name in (RECORD, WEIGHTS):
                _copy(sbi / name, folder / SBI_FOLDER / name)
        write_record(folder / PRIOR_FILE, PRIOR, {name: float(prior[name]) for name in PRIOR_PARAMETERS})
        named = [BUNDLE_RECORD, PRIOR_FILE, *([] if sbi is None else [SBI_RECORD])]
        sums = {name: sha256(read_bytes(folder / name)) for name in named}
        write_card(card(sums), folder / CARD)
        verify(folder)
        size = size_of(folder)
        if size > MAX_BYTES:
            raise InputError(f"{target}: the files have {size:,} bytes; {MAX_BYTES:,} are allowed")
        replace_folder(folder, target)
    return target


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@contextmanager
def _gathered(beside: Path) -> Iterator[Path]:
    """A folder on the same file system as the target, so that the last step is a rename."""
    beside.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=beside, prefix=".reference-") as scratch:
        folder = Path(scratch) / "model"
        folder.mkdir()
        yield folder


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise CheckpointError(f"{source}: {one_line(error)}") from error
