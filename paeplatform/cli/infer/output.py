"""Where a table of answers goes, and what its format leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paeplatform.errors import InputError


def output_path(file: Path, output: Path | None, overwrite: bool) -> Path:
    """Where the posteriors go, checked."""
    from paeplatform.inference.files.posterior_file import check_output

    output = beside(file, ".parquet") if output is None else output
    if output.exists() and file.exists() and output.samefile(file):
        raise InputError(f"--output {output}: that is the photometry itself")
    check_output(output, overwrite=overwrite)
    return output


def beside(file: Path, suffix: str) -> Path:
    """FILE's name with _photoz and another ending, .gz and its own taken off."""
    name = file.name[: -len(".gz")] if file.name.lower().endswith(".gz") else file.name
    return file.with_name(f"{Path(name).stem}_photoz{suffix}")


def not_held(output: Path, columns: Sequence[str]) -> list[str]:
    """The note about columns that the format of a file could not hold; no note where there are none."""
    if not columns:
        return []
    return [f"{output.suffix} cannot hold {', '.join(columns)}: left out (.parquet holds all)"]
