"""A redshift prior from a table of the user's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from paeplatform.errors import ConfigError
from paeplatform.inference.model.priors import TabulatedPrior

_COLUMNS = ("z", "density")


def read_prior_file(path: Path) -> TabulatedPrior:
    """p(z) through the points of a CSV with columns z and density; lines that start with # are skipped.

    Args:
        path: z rises, above 0; density is not negative, in any scale. The prior ends at the first and last z.

    Raises:
        ConfigError: the file is missing or unreadable, a column is missing or not numeric, or the points make no
            density; the message names the file.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path} does not exist or is no file")
    try:
        table = pl.read_csv(path, infer_schema=False, comment_prefix="#", glob=False)
    except Exception as error:
        raise ConfigError(
            f"{path} is not a readable CSV file: {' '.join(str(error).split())[:200]}"
        ) from error
    table = table.rename(lambda name: name.strip())
    values: list[np.ndarray] = []
    for name in _COLUMNS:
        if name not in table.columns:
            raise ConfigError(f"{path}: column {name} is missing; columns z and density are needed")
        column = table[name].str.strip_chars().cast(pl.Float64, strict=False)
        if column.null_count():
            row = int(np.argmax(column.is_null().to_numpy()))
            raise ConfigError(f"{path}: column {name}, row {row} (from 0): {table[name][row]!r} is no number")
        values.append(column.to_numpy())
    try:
        return TabulatedPrior(*values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
