"""`paeplatform infer` on files of measurements: the command in a process of its own, with the model that ships."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from astropy.table import Table

from paeplatform.reference.shipped import reference_folder
from paeplatform.targets import written_by_platform
from tests.answers.mocks import N_GALAXIES, bright_galaxies, exported, galaxy
from tests.intake.layouts import write

SHIPPED = "the reference model that ships with paeplatform"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files lie; beside them a home that nothing was made in."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "home").mkdir()
    return folder


def infer(folder: Path, *arguments: object, cache: Path | None = None) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from paeplatform.cli import main; main()", "infer"]
    command = [str(argument) for argument in (*program, *arguments)]
    environment = os.environ | {"PAEPLATFORM_HOME": str(folder / "home"), "COLUMNS": "120"}
    environment["XDG_CACHE_HOME"] = str(folder / "cache" if cache is None else cache)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=580, env=environment)


def assert_one_line(ended: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert ended.returncode == 2, ended
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1, ended.stderr
    assert ended.stdout == ""
    for part in parts:
        assert part in ended.stderr, f"{part!r} is not in {ended.stderr!r}"


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# -- one source -------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def one(folder: Path) -> subprocess.CompletedProcess[str]:
    write(galaxy(3), folder / "one.csv")
    ended = infer(folder, folder / "one.csv", "--plot")
    assert ended.returncode == 0, ended.stderr
    return ended


def test_one_source_is_answered_on_the_terminal(one: subprocess.CompletedProcess[str], folder: Path) -> None:
    lines = one.stdout.splitlines()
    assert lines[0].startswith("one (ra 150.") and lines[1].startswith("Redshift: z = ")
    z = float(lines[1].split("z = ")[1].split(",")[0].rstrip(".:"))
    assert z == pytest.approx(bright_galaxies()["z_true"][3], abs=0.2)
    assert lines[-1] == f"drawn in {folder / 'one_photoz.png'}"
    assert (folder / "one_photoz.png").read_bytes().startswith(PNG)
    assert not list(folder.glob("one_photoz.parquet")), "of a single source no table is written"
    assert "\r" not in one.stdout and "importance" not in one.stderr, "no bar for one source"


def test_the_reference_model_answers_and_the_home_stays_empty(
    one: subprocess.CompletedProcess[str], folder: Path
) -> None:
    assert any(line.startswith(f"Model {SHIPPED}, prior bpz") for line in one.stdout.splitlines())
    assert files_below(folder / "home") == []


def test_a_picture_that_stands_there_is_not_replaced_unasked(
    one: subprocess.CompletedProcess[str], folder: Path
) -> None:
    before = (folder / "one_photoz.png").read_bytes()
    assert_one_line(infer(folder, folder / "one.csv", "--plot"), "one_photoz.png exists", "--overwrite")
    assert (folder / "one_photoz.png").read_bytes() == before


# -- many -------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def many(folder: Path) -> pl.DataFrame:
    """The table of several sources, which the command wrote with a page beside it."""
    write(exported(), folder / "many.parquet")
    ended = infer(folder, folder / "many.parquet", "--plot")
    assert ended.returncode == 0, ended.stderr
    text = " ".join(ended.stdout.split())
    assert f"{exported().height:,} measurements read of {N_GALAXIES} sources" in text
    assert "set aside: " in text and "flagged OVERFLOW" in text
    assert f"status converged {N_GALAXIES} 100.0" in text
    assert f"with model {SHIPPED}, prior bpz-" in text
    assert text.endswith(f"drawn in {folder / 'many_photoz.html'}")
    return pl.read_parquet(folder / "many_photoz.parquet")


def test_many_sources_are_a_table_and_a_page(many: pl.DataFrame, folder: Path) -> None:
    truth = bright_galaxies()
    assert many["object_id"].to_list() == truth["object_id"].to_list()
    off = (many["pae_z_median"] - truth["z_true"]) / many["pae_z_std"]
    assert (off.abs() < 5.0).all()
    assert many["tf_z_median"].null_count() == 0, "template fitting stands beside, for the drawings"
    assert many["deep_flg"].to_list() == [False] * N_GALAXIES, "columns of the file go along"
    page = (folder / "many_photoz.html").read_text()
    for name in many["name"]:
        assert name in page
    assert files_below(folder / "home") == []


def test_a_second_run_replaces_what_is_ours_only_when_asked(many: pl.DataFrame, folder: Path) -> None:
    table, page = folder / "many_photoz.parquet", folder / "many_photoz.html"
    before = table.read_bytes(), page.read_bytes()
    assert_one_line(infer(folder, folder / "many.parquet"), "many_photoz.parquet exists", "--overwrite")
    assert_one_line(
        infer(folder, folder / "many.parquet", "--plot", "-o", folder / "other.parquet"),
        "many_photoz.html exists",
        "--overwrite",
    )
    assert (table.read_bytes(), page.read_bytes()) == before
    assert not (folder / "other.parquet").exists()
    ended = infer(folder, folder / "many.parquet", "--plot", "--overwrite", "--ebv-mw", 0.02)
    assert ended.returncode == 0, ended.stderr
    again = pl.read_parquet(table)
    assert again["object_id"].equals(many["object_id"])
    assert not again["pae_z_median"].equals(many["pae_z_median"])
    assert table.read_bytes() != before[0] and page.read_bytes() != before[1]
    assert written_by_platform(table) and written_by_platform(page)


def test_what_is_not_ours_is_never_replaced(folder: Path) -> None:
    path = folder / "mine.csv"
    write(galaxy(0), path)
    target = folder / "mine_photoz.png"
    target.write_bytes(PNG + b"a drawing of somebody else")
    assert_one_line(infer(folder, path, "--plot", "--overwrite"), str(target), "not written by paeplatform")
    assert target.read_bytes() == PNG + b"a drawing of somebody else"


# -- what a user says of files ----------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def in_json(many: pl.DataFrame, folder: Path) -> dict:
    """Two galaxies in files of their own, their fluxes in mJy in columns that nobody would guess."""
    paths = []
    for number in (2, 0):
        table = galaxy(number).with_columns(pl.col("flux", "flux_err") * 1e-3)
        table = table.rename({"flux": "F_total", "flux_err": "dF_total"})
        paths.append(write(table, folder / f"galaxy {number}.csv"))
    said = ["--columns", "flux=F_total", "--columns", "flux_err=dF_total", "--unit", "mJy"]
    ended = infer(folder, *paths, *said, "--json", "-o", folder / "new" / "two.fits")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_files_with_columns_and_a_unit_of_their_own(in_json: dict, many: pl.DataFrame, folder: Path) -> None:
    table = Table.read(folder / "new" / "two.fits")
    assert [str(name).strip() for name in table["name"]] == ["galaxy 2", "galaxy 0"]
    for name in ("object_id", "pae_z_median", "pae_z_std", "pae_chi2_best"):
        np.testing.assert_array_equal(np.asarray(table[name]), many[name].to_numpy()[[2, 0]])


def test_json_says_what_was_read_and_what_answers_say(in_json: dict, folder: Path) -> None:
    assert in_json["files"] == [str(folder / f"galaxy {number}.csv") for number in (2, 0)]
    assert in_json["sources"] == 2 and in_json["status"] == {"converged": 2}
    assert in_json["rows"] == galaxy(2).height + galaxy(0).height
    used = sum(in_json["set_aside"].values())
    assert 0 < used < in_json["rows"] and all(reason.startswith("flagged") for reason in in_json["set_aside"])
    assert in_json["model"] == SHIPPED and in_json["prior"].startswith("bpz-")
    assert in_json["output"] == str(folder / "new" / "two.fits") and in_json["picture"] is None
    assert [one["name"] for one in in_json["answers"]] == ["galaxy 2", "galaxy 0"]
    assert all(one["says"][1].startswith("Redshift: z = ") for one in in_json["answers"])


def test_the_folder_of_a_bundle(many: pl.DataFrame, folder: Path) -> None:
    """The model that ships, named as any other bundle: the same redshift."""
    write(galaxy(1), folder / "alone.ecsv")
    options = ["--bundle", reference_folder(), "--preset", "reference", "--prior", "uniform"]
    refused = infer(folder, folder / "alone.ecsv", *options, "-o", folder / "alone.txt")
    assert_one_line(refused, "alone.txt", ".parquet, .csv, .fits")
    ended = infer(folder, folder / "alone.ecsv", *options, "-o", folder / "alone_z.csv")
    assert ended.returncode == 0, ended.stderr
    assert f"Model {reference_folder()}, prior uniform-" in ended.stdout
    assert f"written to {folder / 'alone_z.csv'}" in ended.stdout
    row = pl.read_csv(folder / "alone_z.csv").row(0, named=True)
    assert row["object_id"] == many["object_id"][1]
    assert row["pae_z_median"] == pytest.approx(many["pae_z_median"][1], abs=3.0 * many["pae_z_std"][1])
    assert files_below(folder / "home") == []


# -- what is wrong ----------------------------------------------------------------------------------------------------
Change = Callable[[pl.DataFrame], pl.DataFrame]


def cell(column: str, row: int, text: str) -> Change:
    def change(table: pl.DataFrame) -> pl.DataFrame:
        texts = table[column].cast(pl.String).to_list()
        texts[row] = text
        return table.with_columns(pl.Series(column, texts))

    return change


FILES: dict[str, tuple[Change, list[str]]] = {
    "no fluxes": (lambda t: t.drop("flux"), ["no column of fluxes", "--columns flux=NAME"]),
    "no errors": (lambda t: t.drop("flux_err"), ["no column of errors"]),
    "no wavelengths": (lambda t: t.drop("lambda"), ["no column of wavelengths"]),
    "text among numbers": (cell("flux", 3, "bright"), ["column flux, row 3", "'bright'"]),
    "a position off the sphere": (cell("dec", 5, "95.5"), ["column dec, row 5", "[-90, 90] deg"]),
    "flags in words": (cell("flags", 2, "GOOD"), ["column flags, row 2", "'GOOD'"]),
    "a detector in words": (cell("det_id", 2, "K"), ["column det_id, row 2", "D1 to D6"]),
    "swapped columns": (
        lambda t: t.rename({"lambda": "lambda_width", "lambda_width": "lambda"}),
        ["lambda and lambda_width look swapped"],
    ),
    "two columns of one kind": (
        lambda t: t.with_columns(wavelength=pl.col("lambda")),
        ["lambda and wavelength both look like wave"],
    ),
    "no rows": (lambda t: t.head(0), ["holds no rows"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_wrong_end_in_one_line(
    command: Callable, tmp_path: Path, home: Path, name: str
) -> None:
    change, parts = FILES[name]
    path = write(change(galaxy(0)), tmp_path / "größe.csv")
    outcome = command("infer", path, "--plot", "--home", home)
    assert outcome.code == 2 and outcome.out == "", outcome
    assert outcome.err.startswith(f"error: {path}") and outcome.err.count("\n") == 1, outcome.err
    for part in parts:
        assert part in outcome.err, f"{part!r} is not in {outcome.err!r}"
    assert list(home.iterdir()) == [] and not list(tmp_path.glob("*photoz*"))


OPTIONS: dict[str, tuple[list[object], list[str]]] = {
    "a unit that is none": (["--unit", "Crab"], ["'Crab'", "uJy, mJy, Jy, nJy, ABmag"]),
    "a column without its name": (["--columns", "flux"], ["--columns flux", "OURS=THEIRS"]),
    "a column twice": (["--columns", "flux=a", "--columns", "flux=b"], ["flux is given twice"]),
    "a column that is not there": (["--columns", "flux=F"], ["no column F", "--columns flux=F"]),
    "a column that we have not": (["--columns", "colour=F"], ["colour"]),
    "a radius below zero": (["--match-radius", -1], ["match radius -1", "[0, 3600] arcsec"]),
    "a policy of flags": (["--flags", "loose"], ["loose", "strict"]),
    "reddening below zero": (["--ebv-mw", -0.1], ["E(B-V) -0.1", "within 0 and 10 mag"]),
    "a floor beyond all": (["--error-floor", 300], ["error floor 300", "within 0 and 100"]),
    "confusion that is no number": (["--confusion", "nan"], ["confusion noise nan"]),
    "a prior": (["--prior", "flat"], ["--prior flat", "uniform, bpz"]),
    "a sampler": (["--method", "magic"], ["--method magic", "importance, mclmc, pocomc"]),
    "two models": (["--bundle", "a", "--alias", "b"], ["--bundle or --alias"]),
    "a bundle that is not there": (["--bundle", "nowhere", "--prior", "uniform"], ["nowhere"]),
    "an alias that is not there": (["--alias", "best"], ["best"]),
    "a preset": (["--preset", "nope"], ["unknown preset 'nope'", "reference"]),
    "another ending": (["-o", "out.hdf5"], ["out.hdf5", ".parquet, .csv, .fits"]),
    "a folder as target": (["-o", "folder.csv"], ["folder.csv", "is a folder"]),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_are_wrong_end_in_one_line(
    command: Callable, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("the inference began")

    monkeypatch.setattr("paeplatform.inference.estimate.Estimator.estimate_measured", started)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    options, parts = OPTIONS[name]
    path = write(galaxy(0), tmp_path / "good.csv")
    outcome = command("infer", path, *options, "--home", home)
    assert outcome.code == 2, outcome
    # the notice of a single source may stand before it
    said = outcome.err.removeprefix(
        "Inferring; the first time on a machine this compiles for half a minute ...\n"
    )
    assert said.startswith("error: ") and said.count("\n") == 1, outcome.err
    for part in parts:
        assert part in outcome.err, f"{part!r} is not in {outcome.err!r}"
    assert not list(tmp_path.glob("*photoz*"))


def test_files_that_do_not_go_together(command: Callable, tmp_path: Path, home: Path) -> None:
    path = write(galaxy(0), tmp_path / "a.csv")
    channels = write(
        pl.DataFrame({f"{q}_{b}": [1.0] for q in ("flux", "flux_err") for b in range(1, 103)}),
        tmp_path / "b.csv",
    )

    def refused(*arguments: object, parts: tuple[str, ...]) -> None:
        outcome = command("infer", *arguments, "--home", home)
        assert outcome.code == 2 and outcome.err.count("\n") == 1, outcome
        for part in parts:
            assert part in outcome.err, f"{part!r} is not in {outcome.err!r}"

    refused(path, path, parts=("a.csv is given twice",))
    refused(path, channels, parts=("b.csv holds the 102 channels", "read alone"))
    refused(channels, "--error-floor", 2, parts=("b.csv", "--error-floor"))
    refused(path, tmp_path / "none.csv", parts=("none.csv does not exist",))
    refused(path, "-o", path, parts=("a.csv: that is the photometry itself",))
    assert list(home.iterdir()) == []


def test_a_wrong_file_ends_a_process_of_its_own_as_well(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.write_bytes(b"")
    assert_one_line(infer(folder, path, "--plot", cache=tmp_path / "cache"), f"{path} is empty")
    assert files_below(folder / "home") == [] and not (tmp_path / "cache").exists()


# -- tables of channels -----------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_sentinels_and_layouts_of_tables_of_channels(folder: Path) -> None:
    """-99 with a good error is masked and said; semicolons and arrays of variable length are read."""
    truth = bright_galaxies()[:3]
    flux, flux_err = truth["flux"].to_numpy().astype(np.float64), truth["flux_err"].to_numpy()
    lost = np.arange(102) % 10 == 0
    spoilt = flux.copy()
    spoilt[0, lost] = -99.0 * flux_err[0].max()
    masked = np.where(np.arange(3)[:, None] == 0, np.where(lost, np.inf, flux_err), flux_err)

    def answers(name: str, fluxes: np.ndarray, errors: np.ndarray) -> pl.DataFrame:
        columns = {
            f"{q}_{b + 1}": values[:, b]
            for q, values in (("flux", fluxes), ("flux_err", errors))
            for b in range(102)
        }
        table = pl.DataFrame({"object_id": [1, 2, 3]} | columns)
        (folder / name).write_text(table.write_csv(separator=";"))
        ended = infer(folder, folder / name)
        assert ended.returncode == 0, ended.stderr
        return pl.read_parquet(folder / f"{Path(name).stem}_photoz.parquet")

    got, wanted = answers("sentinel.csv", spoilt, flux_err), answers("masked.csv", flux, masked)
    assert got["input_fault"].to_list() == ["sentinel", None, None]
    assert got["pae_n_bands"].to_list() == wanted["pae_n_bands"].to_list() == [102 - lost.sum(), 102, 102]
    assert got["pae_z_median"].equals(wanted["pae_z_median"])
