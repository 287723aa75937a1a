"""Files in the layouts of `shared/data/paespec_files.md`, sound and broken."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from paeplatform.config import load_preset
from paeplatform.errors import InputError
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.filters import gaussian_filters
from paeplatform.paespec.filters import central_wavelength, read_filters
from paeplatform.paespec.folder import survey
from paeplatform.paespec.photometry import read_photometry, read_properties, read_truth, with_truth
from paeplatform.paespec.spectra import write_training_spectra
from paeplatform.sed.grid import rest_grid

N = 12
IDS = np.arange(100, 100 + N)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole set, tiny."""
    rng = np.random.default_rng(2)
    for name in ("phot", "line_catalogs", "select_catgrid_info", "filters/spherex_filters102"):
        (tmp_path / name).mkdir(parents=True)
    wave = np.linspace(0.05, 6.0, 900)
    flux = np.exp(rng.normal(size=(N, 1))) * (1.0 + 0.3 * np.sin(2.0 * wave + rng.uniform(0, 6, (N, 1))))
    np.savez(
        tmp_path / "phot/hires_sed_COSMOS_0_200000_x.npz", sed_um_wave=wave, sed_mJy_fluxes=flux, srcids=IDS
    )
    lines = [f"{i},10.0,0.1,{0.1 * k:.2f},3,1" for k, i in enumerate(IDS[:-1])]
    (tmp_path / "line_catalogs/COSMOS_aug2x_debv_0p02_dustlaw.csv").write_text(
        "Tractor_ID,mass_best,ebv,redshift,bfit_tid,dustlaw\n" + "\n".join(lines)
    )
    np.savetxt(tmp_path / "phot/catgrid_sphxonly_COSMOS_a", photometry_rows(rng, 102))
    np.savetxt(tmp_path / "phot/catgrid_sphxonly_COSMOS_a.out", rng.normal(size=(N, 111)))
    truth = np.zeros((N - 2, 6))
    truth[:, 0], truth[:, 4] = IDS[:-2], np.linspace(0.1, 1.0, N - 2)
    np.savetxt(tmp_path / "select_catgrid_info/catgrid_info_COSMOS_a", truth)
    write_filters(tmp_path / "filters/spherex_filters102")
    return tmp_path


def photometry_rows(rng: np.random.Generator, n_band: int, unit: float = 1.0) -> np.ndarray:
    rows = np.zeros((N, 3 + 2 * n_band))
    rows[:, 0] = IDS
    rows[:, 3::2] = unit * rng.normal(20.0, 5.0, (N, n_band))
    rows[:, 4::2] = unit * 5.0
    return rows


def write_filters(folder: Path) -> None:
    curves, bands = gaussian_filters(load_bands()), load_bands()
    for k in range(102):
        wave = np.concatenate([[curves.wave[k, 0] - 0.001], curves.wave[k], [curves.wave[k, -1] + 0.001]])
        table = np.column_stack([1e4 * wave, [0.0, *curves.transmission[k], 0.0]])
        np.savetxt(folder / f"SPHEREx_band{bands.detector[k]}_{101 - k:03d}.dat", table)


# -- folder -----------------------------------------------------------------------------------------------------------
def test_a_survey_says_what_is_there_and_what_is_missing(folder: Path):
    found = survey(folder)
    assert len(found.files["filters"]) == 102 and len(found.files["spectra"]) == 1
    assert found.files["noisy photometry"][0].suffix != ".out"
    assert found.missing == ["base catalogue", "external filters"]
    with pytest.raises(InputError, match="external filters: no file for filters/ext_filters"):
        found.the("external filters")
    with pytest.raises(InputError, match="filters: 102 files"):
        found.the("filters")


def test_a_folder_of_something_else_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="holds none of the paper's files"):
        survey(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        survey(tmp_path / "none")


# -- spectra ----------------------------------------------------------------------------------------------------------
def test_spectra_are_resampled_and_have_mean_one(folder: Path, tmp_path: Path):
    wave = rest_grid(load_preset("demo").rest_grid)
    truth = {int(i): 0.5 for i in IDS[:-3]}
    out = tmp_path / "t.parquet"
    path = survey(folder).the("spectra")
    counts = write_training_spectra(path, out, wave, truth, progress=False)
    assert counts == {"spectra": N, "unmatched_ids": 3, "not_finite": 0, "not_positive": 0}
    table = pl.read_parquet(out)
    flux = np.stack(table["flux"].to_list())
    np.testing.assert_allclose(flux.mean(axis=1), 1.0, rtol=1e-5)
    with np.load(path) as archive:
        one = np.interp(wave, archive["sed_um_wave"], archive["sed_mJy_fluxes"][4])
    np.testing.assert_allclose(flux[4], one / one.mean(), rtol=1e-5)
    assert table["z"].null_count() == 3


def test_the_platform_trains_on_them(folder: Path, tmp_path: Path):
    """The file is what training reads."""
    from paeplatform.catalog.training_set import read_spectra

    wave = rest_grid(load_preset("demo").rest_grid)
    out = tmp_path / "t.parquet"
    write_training_spectra(survey(folder).the("spectra"), out, wave, progress=False)
    assert read_spectra(out).shape == (N, len(wave))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"srcids": None}, "missing srcids"),
        ({"sed_um_wave": np.linspace(0.5, 6.0, 900)}, "0.1-5 um is needed"),
        ({"sed_um_wave": np.ones(900)}, "must increase"),
        ({"sed_mJy_fluxes": np.ones((N, 7))}, "expected"),
        ({"srcids": np.array([object()] * N)}, "srcids"),
    ],
)
def test_bad_spectra_are_refused_by_name(folder: Path, tmp_path: Path, change: dict, said: str):
    path = survey(folder).the("spectra")
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files} | change
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None}, allow_pickle=True)
    with pytest.raises(InputError, match=said) as caught:
        write_training_spectra(
            path, tmp_path / "t.parquet", rest_grid(load_preset("demo").rest_grid), progress=False
        )
    assert str(path) in str(caught.value) and not list(tmp_path.glob("*.parquet"))


def test_spectra_that_are_not_finite_or_positive_are_counted(folder: Path, tmp_path: Path):
    path = survey(folder).the("spectra")
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["sed_mJy_fluxes"][0, 400], arrays["sed_mJy_fluxes"][1] = np.nan, 0.0
    np.savez(path, **arrays)
    wave = rest_grid(load_preset("demo").rest_grid)
    counts = write_training_spectra(path, tmp_path / "t.parquet", wave, progress=False)
    assert (counts["not_finite"], counts["not_positive"], counts["spectra"]) == (1, 1, N - 2)


# -- photometry and truth ---------------------------------------------------------------------------------------------
def test_photometry_is_joined_with_its_truth(folder: Path):
    found = survey(folder)
    table, notes = read_photometry(found.the("noisy photometry"))
    assert notes.lines == () and table["object_id"].to_list() == IDS.tolist()
    joined, said = with_truth(table, read_truth(found.the("selection")))
    assert (
        joined["z_true"].null_count() == 2 and "2 of 12 sources have no truth: ids 110, 111" in said.lines[0]
    )
    assert read_properties(found.the("properties")).height == N - 1


def test_the_table_is_what_infer_reads(folder: Path, tmp_path: Path):
    from paeplatform.inference.files.photometry_file import read_photometry_file

    table, _ = read_photometry(survey(folder).the("noisy photometry"))
    table.write_parquet(tmp_path / "p.parquet")
    read = read_photometry_file(tmp_path / "p.parquet", 102)
    np.testing.assert_allclose(read.flux, table["flux"].to_numpy())


def test_external_bands_are_left_out_and_mjy_converted_and_both_said(tmp_path: Path):
    rows = photometry_rows(np.random.default_rng(5), 107, unit=1e-3)
    np.savetxt(tmp_path / "p", rows)
    table, notes = read_photometry(tmp_path / "p")
    np.testing.assert_allclose(table["flux"].to_numpy(), 1e3 * rows[:, 13::2], rtol=1e-6)
    assert "first 5 bands are external" in notes.lines[0] and "are mJy" in notes.lines[1]


def test_placeholders_are_masked(tmp_path: Path):
    rows = photometry_rows(np.random.default_rng(5), 102)
    rows[2, 4], rows[3, 6] = 5e4, np.nan
    np.savetxt(tmp_path / "p", rows)
    table, notes = read_photometry(tmp_path / "p")
    error = table["flux_err"].to_numpy()
    assert np.isinf(error[2, 0]) and np.isinf(error[3, 1]) and np.isinf(error).sum() == 2
    assert "2 of 1224 values are missing" in notes.lines[0]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda rows: rows[:, :-1], "206 columns, expected 207 or 217"),
        (lambda rows: np.vstack([rows, rows[:1]]), "1 ids occur twice"),
        (lambda rows: np.where(np.arange(207) == 0, 0.5, 1.0) * rows, "is no whole number"),
        (lambda rows: np.where(np.arange(207) < 3, 1.0, 1e-9) * rows, "fit neither uJy"),
    ],
)
def test_bad_photometry_is_refused_by_name(tmp_path: Path, spoil, said: str):
    rows = photometry_rows(np.random.default_rng(5), 102)
    rows[:, 0] += 1 - rows[:, 0] % 2  # odd ids, so that half of one is none
    rows[:, 0] = np.arange(1, 2 * N, 2)
    np.savetxt(tmp_path / "p", spoil(rows))
    with pytest.raises(InputError, match=said):
        read_photometry(tmp_path / "p")


def test_text_in_a_table_and_bad_redshifts_are_refused(tmp_path: Path):
    (tmp_path / "t").write_text("1 2 3 4 five\n")
    with pytest.raises(InputError, match="five"):
        read_truth(tmp_path / "t")
    (tmp_path / "t").write_text("1 2 3 4 0.5\n2 2 3 4 -1\n")
    with pytest.raises(InputError, match="row 1: redshift -1"):
        read_truth(tmp_path / "t")
    truth = pl.DataFrame({"object_id": [1], "z_true": [0.5]})
    with pytest.raises(InputError, match="no id of the photometry"):
        with_truth(pl.DataFrame({"object_id": [7]}), truth)


# -- filters ----------------------------------------------------------------------------------------------------------
def test_filters_are_sorted_by_wavelength_and_keep_their_shape(folder: Path):
    curves, wanted = read_filters(survey(folder).files["filters"]), gaussian_filters(load_bands())
    for k in (0, 50, 101):
        got = central_wavelength((curves.wave[k], curves.transmission[k]))
        assert got == pytest.approx(central_wavelength((wanted.wave[k], wanted.transmission[k])), rel=1e-4)
        again = np.interp(wanted.wave[k], curves.wave[k], curves.transmission[k])
        np.testing.assert_allclose(again, wanted.transmission[k], atol=5e-3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("7500 0.1 1\n", "3 columns, expected 2"),
        ("0.75 0.1\n0.76 0.5\n0.77 0.1\n", "if the unit is Angstrom"),
        ("7500 0\n7600 0\n7700 0\n", "above 0 somewhere"),
        ("7500 -1\n7600 1\n7700 1\n", "0 or more"),
        ("7700 1\n7600 1\n7500 1\n", "must increase"),
    ],
)
def test_bad_filters_are_refused_by_name(folder: Path, text: str, said: str):
    paths = survey(folder).files["filters"]
    paths[7].write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        read_filters(paths)
    assert paths[7].name in str(caught.value)
    with pytest.raises(InputError, match="101 filter files, expected 102"):
        read_filters(paths[1:])
