"""The photometric bands: the 102 SPHEREx channels of the flight calibration, 1-sigma depths."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from paeplatform.errors import BandSetError

N_SPHEREX_BANDS = 102
PACKAGED_TABLE = Path(__file__).parent / "data" / "spherex_channels.csv"

DepthKind = Literal["mev", "inflight"]


@dataclass(frozen=True, eq=False)
class BandSet:
    """Bands in order of wavelength; wavelengths and widths in um, 1-sigma point-source depths in uJy.

    `depth_mev_ujy` is the maximum expected value the paper's mocks use (digitised from a figure);
    `depth_inflight_ujy` the current best estimate of the flight instrument. `scripts/build_channels.py` names
    the sources.
    """

    channel: np.ndarray  # (n_band,) int64
    detector: np.ndarray  # (n_band,) int64
    wave_um: np.ndarray  # (n_band,) float64
    bandwidth_um: np.ndarray  # (n_band,) float64, full width at half maximum
    depth_mev_ujy: np.ndarray  # (n_band,) float64
    depth_inflight_ujy: np.ndarray  # (n_band,) float64

    def __len__(self) -> int:
        return len(self.wave_um)

    def content_hash(self) -> str:
        """First 16 hex digits of the sha256 over every column."""
        digest = hashlib.sha256()
        for field in fields(self):
            digest.update(field.name.encode())
            digest.update(np.ascontiguousarray(getattr(self, field.name)).tobytes())
        return digest.hexdigest()[:16]

    def depth(self, kind: str = "mev") -> np.ndarray:
        """1-sigma depth (n_band,) [uJy] of the named kind.

        Raises:
            BandSetError: `kind` is neither "mev" nor "inflight".
        """
        if kind not in get_args(DepthKind):
            raise BandSetError(f"depth kind {kind!r}: give one of {', '.join(get_args(DepthKind))}")
        return self.depth_mev_ujy if kind == "mev" else self.depth_inflight_ujy


def load_bands(path: Path | None = None, n_bands: int = N_SPHEREX_BANDS) -> BandSet:
    """Reads a band table (CSV with the columns of `BandSet`); without a path, the packaged SPHEREx channels.

    Raises:
        BandSetError: the file is missing or lacks a column, a value is not a finite number, the table does
            not have `n_bands` rows, wavelengths do not increase, or a wavelength, width or depth is not
            positive. One line.
    """
    path = PACKAGED_TABLE if path is None else Path(path)
    if not path.is_file():
        raise BandSetError(f"band table {path} does not exist")
    with path.open(newline="") as handle:
        reader = csv.DictReader(handle)
        names = [field.name for field in fields(BandSet)]
        missing = [name for name in names if name not in (reader.fieldnames or [])]
        if missing:
            raise BandSetError(
                f"band table {path}: missing column {', '.join(missing)} (needs {', '.join(names)})"
            )
        rows = list(reader)
    if len(rows) != n_bands:
        raise BandSetError(f"band table {path}: {len(rows)} rows, expected {n_bands}")
    columns = {name: _column(path, rows, name) for name in names}
    for name in ("wave_um", "bandwidth_um", "depth_mev_ujy", "depth_inflight_ujy"):
        _first_fault(path, name, columns[name], columns[name] > 0.0, "must be positive")
    increasing = np.diff(columns["wave_um"], prepend=-np.inf) > 0.0
    _first_fault(path, "wave_um", columns["wave_um"], increasing, "must exceed the row before")
    for name in ("channel", "detector"):
        columns[name] = columns[name].astype(np.int64)
    return BandSet(**columns)


def _column(path: Path, rows: list[dict[str, str]], name: str) -> np.ndarray:
    values = np.empty(len(rows))
    for row, record in enumerate(rows):
        try:
            values[row] = float(record[name])
        except (TypeError, ValueError):
            raise BandSetError(
                f"band table {path}: column {name}, row {row + 1}: {record[name]!r} is no number"
            ) from None
    _first_fault(path, name, values, np.isfinite(values), "must be finite")
    return values


def _first_fault(path: Path, name: str, values: np.ndarray, good: np.ndarray, rule: str) -> None:
    if not good.all():
        row = int(np.argmin(good))
        raise BandSetError(f"band table {path}: column {name}, row {row + 1}: {values[row]:g} {rule}")
