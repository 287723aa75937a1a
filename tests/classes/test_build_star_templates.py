"""The script that makes the packaged table, run on a synthetic source folder."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from astropy.io import fits

from tests.scripts import load_script


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two models with points of 10 % beyond 2.3 um, eight types, and three SpeX spectra of a T5: all lambda^-4."""
    folder, tables = tmp_path / "stars", tmp_path / "splat" / "db"
    spex = tmp_path / "splat" / "resources" / "Spectra" / "Public" / "SPEX-PRISM"
    for path in (folder, tables, spex):
        path.mkdir(parents=True)
    fine = np.exp(np.arange(np.log(4000.0), np.log(23000.0), 1e-3))
    wave = np.concatenate([fine, 23000.0 * 1.105 ** np.arange(9)])
    level = wave**-4.0
    middles = 0.5 * (wave[1:] + wave[:-1])
    cells = np.concatenate([[wave[0]], middles, [wave[-1] * 1.05]])
    means = (cells[:-1] ** -3.0 - cells[1:] ** -3.0) / 3.0 / np.diff(cells)
    level[len(fine) :] = means[len(fine) :]
    columns = [
        fits.Column("wave", "D", array=wave),
        fits.Column("flux", "2D", array=np.stack([level, 2.0 * level], axis=1)),
    ]
    hdu = fits.BinTableHDU.from_columns(columns)
    for number, teff in enumerate((1100.0, 5000.0)):
        hdu.header[f"TEFF{number:03d}"], hdu.header[f"LOGG{number:03d}"] = teff, 5.0
    hdu.writeto(folder / "bt-settl_t400-3500_z0.0.fits")
    for name in ("M6.5", "M8.0", "L1.0", "L3.5", "L6.0", "T2.0", "T6.0", "T7.5"):
        np.savetxt(folder / f"{name}.txt", np.column_stack([fine, fine**-4.0]))
    um = np.linspace(0.7, 2.5, 400)
    rows = ["DATA_KEY\tDATA_FILE\tQUALITY_FLAG\tMEDIAN_SNR\tSPEX_TYPE"]
    for key in (2, 4, 6, 7):
        sign = -1.0 if key == 7 else 1.0  # an odd one, which is not used
        fits.writeto(spex / f"{key}.fits.gz", np.stack([um, sign * um**-4.0, um]))
        rows.append(f"{key}\t{key}.fits\tOK\t100\tT5.0")
    (tables / "spectral_data.txt").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_the_table_is_made_of_all_parts_and_repeats(source: Path, tmp_path: Path) -> None:
    script = load_script("build_star_templates")
    first, second = tmp_path / "a.parquet", tmp_path / "b.parquet"
    script.build(source, first)
    script.build(source, second)
    assert first.read_bytes() == second.read_bytes()
    table = pl.read_parquet(first)
    assert table.height == 2 + 8 + 1 + len(script.HOT_K)
    kinds = dict(zip(table["name"], table["kind"], strict=True))
    assert kinds["btsettl/5000K_logg5.0"] == "star" and kinds["btsettl/1100K_logg5.0"] == "brown_dwarf"
    assert kinds["spex/T5"] == "brown_dwarf" and kinds["observed/M6.5"] == "star"
    assert pl.read_parquet_metadata(first)["made_by"] == "scripts/build_star_templates.py"
    # f_lambda ~ lambda^-4 is f_nu ~ lambda^-2, also where the source has means of 10 % and beyond its end
    for name in ("btsettl/5000K_logg5.0", "observed/L1.0", "spex/T5"):
        row = table.row(table["name"].to_list().index(name), named=True)
        wave, flux = np.array(row["wave"]), np.array(row["flux"])
        np.testing.assert_allclose(flux * wave**2, flux[0] * wave[0] ** 2, rtol=0.02)
        assert not any(np.array(row["resolved"])[wave > 2.5]) and all(
            np.array(row["resolved"])[(wave > 0.9) & (wave < 2.2)]
        )


def test_a_missing_part_stops_the_script(source: Path, tmp_path: Path) -> None:
    (source / "stars" / "T6.0.txt").unlink()
    with pytest.raises(SystemExit, match=r"found 0 files T6.0.txt"):
        load_script("build_star_templates").build(source, tmp_path / "a.parquet")
