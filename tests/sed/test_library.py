"""The packaged library is what it says; a user's folder is read or refused with one clear line."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import constants

from paeplatform.errors import TemplateError
from paeplatform.sed import library as library_module
from paeplatform.sed.library import TemplateLibrary, load_library, mean_flux

GOOD = "# um f_nu\n0.05 1.0\n\n1.0, 2.0  # peak\n6.0\t1.0\n"


@pytest.fixture(scope="module")
def packaged() -> TemplateLibrary:
    return load_library()


def test_packaged_library_has_every_galaxy_of_both_sets(packaged: TemplateLibrary) -> None:
    assert len(packaged) == 160
    assert len(set(packaged.name)) == 160
    assert sum(name.startswith("brown/") for name in packaged.name) == 129
    assert sum(name.startswith("ilbert/") for name in packaged.name) == 31
    assert {"brown/NGC_0337", "ilbert/Ell1_A_0"} <= set(packaged.name)
    assert all(packaged.source)
    assert all("MIT" in licence for licence in packaged.licence)


def test_packaged_spectra_are_physical_cover_the_grid_and_have_mean_one(packaged: TemplateLibrary) -> None:
    for name, wave, flux in zip(packaged.name, packaged.wave, packaged.flux, strict=True):
        assert wave.shape == flux.shape, name
        assert np.all(np.isfinite(flux)), name
        assert np.all(flux >= 0.0), name
        assert np.all(np.diff(wave) > 0.0), name
        assert wave[0] <= 0.09, name
        assert wave[-1] >= 5.2, name
        assert mean_flux(wave, flux, 0.1, 5.0) == pytest.approx(1.0, abs=1e-12), name


def test_packaged_content_hash_is_the_recorded_one(packaged: TemplateLibrary) -> None:
    # Guards the shipped file: it changes only when scripts/build_templates.py runs anew with another recipe.
    assert packaged.content_hash() == "c5f585c658fe8818"
    assert load_library().content_hash() == packaged.content_hash()


def test_content_hash_sees_names_and_values(packaged: TemplateLibrary) -> None:
    parts = [
        packaged.name[:2],
        packaged.source[:2],
        packaged.licence[:2],
        packaged.wave[:2],
        packaged.flux[:2],
    ]
    base = TemplateLibrary(*parts).content_hash()
    renamed = TemplateLibrary(("a", "b"), *parts[1:]).content_hash()
    changed = TemplateLibrary(*parts[:4], (parts[4][0], parts[4][1] * (1.0 + 1e-12))).content_hash()
    assert len({base, renamed, changed}) == 3


# Rows of the source files (Angstrom, flux per unit wavelength), copied by hand: NGC_0337_spec.dat of frankenz
# 0.1.5 and Ell3_A_0.sed of pz-rail-base 2.0.11.
@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("brown/NGC_0337", [(5002.28, 5.07618826763), (15087.58, 1.0623980121), (40143.86, 0.0627022508149)]),
        ("ilbert/Ell3_A_0", [(1999.86, 0.0004319016), (15135.61, 0.0024051240), (40271.71, 0.0001077247)]),
    ],
)
def test_spectra_are_per_unit_frequency(
    packaged: TemplateLibrary, name: str, rows: list[tuple[float, float]]
) -> None:
    index = packaged.name.index(name)
    angstrom, flux_lambda = np.array(rows).T
    frequency = constants.c / (angstrom * constants.angstrom)
    flux_nu = flux_lambda * constants.c / frequency**2  # |dlambda/dnu| = c/nu^2
    stored = np.interp(angstrom * 1e-4, packaged.wave[index], packaged.flux[index])
    np.testing.assert_allclose(
        stored / stored[0], flux_nu / flux_nu[0], rtol=3e-5
    )  # wave is stored as float32


def test_packaged_table_states_units_and_provenance() -> None:
    path = Path(library_module.__file__).parent / "data" / "templates.parquet"
    metadata = pl.read_parquet_metadata(path)
    assert "per unit frequency" in metadata["flux_unit"]
    assert metadata["wave_unit"].startswith("um")
    assert "frankenz==0.1.5" in metadata["brown"]
    assert "pz-rail-base==2.0.11" in metadata["ilbert"]
    assert path.stat().st_size < 3e6


def test_packaged_library_refuses_a_grid_it_does_not_cover() -> None:
    with pytest.raises(
        TemplateError, match=r"brown/\S+: wavelengths cover 0\.09-5\.2 um; they must cover 0\.1-8 um"
    ):
        load_library(wave_max_um=8.0)


def test_user_folder_is_read_and_normalised(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text(GOOD)
    (tmp_path / "a.csv").write_text("0.1,3\n5.0,3\n")
    (tmp_path / "README.md").write_text("not a template")
    library = load_library(tmp_path)
    assert library.name == ("user/a.csv", "user/b.txt")
    np.testing.assert_allclose(library.flux[0], 1.0)
    assert mean_flux(library.wave[1], library.flux[1], 0.1, 5.0) == pytest.approx(1.0)
    np.testing.assert_allclose(library.flux[1] / library.flux[1][0], [1.0, 2.0, 1.0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.05 1\n1.0 nan\n6 1\n", r"bad\.txt, row 2: flux nan must be finite and not negative"),
        ("0.05 1\n1.0 -2\n6 1\n", r"bad\.txt, row 2: flux -2\.0 must be finite and not negative"),
        ("0.05 1\ninf 1\n", r"bad\.txt, row 2: wavelength inf um must be finite and positive"),
        ("# c\n1.0 1\n1.0 2\n", r"bad\.txt, row 3: wavelength 1\.0 um must exceed 1\.0 um of the row before"),
        ("0.05 1\n1.0 1 7\n", r"bad\.txt, row 2: expected 2 columns \(um, f_nu\), found 3"),
        ("0.05 1\n1.0 x\n", r"bad\.txt, row 2: not a number in '1\.0 x'"),
        ("0.2 1\n6 1\n", r"bad\.txt: wavelengths cover 0\.2-6 um; they must cover 0\.1-5 um"),
        ("0.05 1\n4.9 1\n", r"bad\.txt: wavelengths cover 0\.05-4\.9 um; they must cover 0\.1-5 um"),
        ("500 1\n60000 1\n", r"bad\.txt: wavelengths cover 500-60000 um"),
        ("0.05 0\n6 0\n", r"bad\.txt: flux is zero all over 0\.1-5 um"),
        ("# nothing\n", r"bad\.txt: 0 rows of data"),
    ],
)
def test_bad_user_file_gives_one_line_that_names_it(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a_good.txt").write_text(GOOD)
    (tmp_path / "bad.txt").write_text(text)
    with pytest.raises(TemplateError, match=message) as caught:
        load_library(tmp_path)
    assert "\n" not in str(caught.value)


def test_binary_user_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.dat").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(TemplateError, match=r"bad\.dat: not a readable text file"):
        load_library(tmp_path)


def test_empty_or_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="holds no template"):
        load_library(tmp_path)
    with pytest.raises(TemplateError, match="does not exist"):
        load_library(tmp_path / "nowhere")
