"""The script that makes the packaged table, run on a synthetic pair of source folders."""

from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest

from tests.scripts import load_script


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("build_templates")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """129 + 31 files with flux per unit wavelength ~ lambda^-2, flat in frequency."""
    brown = tmp_path / "frankenz" / "seds" / "brown"
    ilbert = tmp_path / "rail" / "data" / "SED"
    brown.mkdir(parents=True)
    ilbert.mkdir(parents=True)
    angstrom = np.geomspace(400.0, 100_000.0, 900)
    doubled = np.sort(np.append(angstrom, angstrom[500]))  # the COSMOS files repeat one row
    for i in range(129):
        np.savetxt(brown / f"G{i}_spec.dat", np.column_stack([angstrom, (i + 1.0) * angstrom**-2]))
    for i in range(31):
        np.savetxt(ilbert / f"T{i}_A_0.sed", np.column_stack([doubled, doubled**-2.0]))
    (ilbert / "Im_B2004a.sed").write_text("not one of the set")
    return tmp_path


def test_table_is_normalised_per_frequency_and_bytes_repeat(
    script: ModuleType, sources: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "out" / "a.parquet", tmp_path / "out" / "b.parquet"
    script.build(sources, first)
    script.build(sources, second)
    assert first.read_bytes() == second.read_bytes()
    table = pl.read_parquet(first)
    assert table.height == 160
    assert table["name"].to_list()[0] == "brown/G0"
    flat = np.array(table["flux"][5])
    np.testing.assert_allclose(flat, 1.0, atol=2e-6)
    assert table["has_lines"].sum() == 31  # flat in f_nu is blue
    assert np.array(table["flux"][159]).max() > 2.0
    assert pl.read_parquet_metadata(first)["made_by"] == "scripts/build_templates.py"


def test_a_missing_source_file_stops_the_build(script: ModuleType, sources: Path, tmp_path: Path) -> None:
    next(sources.rglob("G7_spec.dat")).unlink()
    with pytest.raises(SystemExit, match="found 128 files"):
        script.build(sources, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()
