"""Every option that names a file or folder to write: what stands there is kept, unless it is the platform's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.outputs.formats import FORMATS, SUFFIXES
from paeplatform.release.schema import source_id
from tests.paespec.test_paespec import folder as paper_folder  # noqa: F401  a fixture

NOTE = "not to be lost\n"


@pytest.fixture
def catalog_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the catalogue of one cell, and a working folder that the default names go to."""
    n, rng = 12, np.random.default_rng(4)
    ra, dec = rng.uniform(150.0, 151.0, n), rng.uniform(2.0, 3.0, n)
    z = rng.uniform(0.3, 1.0, n)
    quantiles = (z[:, None] + 0.1 * np.asarray(QUANTILE_LEVELS)).tolist()
    table = pl.DataFrame({"object_id": source_id(ra, dec), "ra": ra, "dec": dec}).with_columns(
        *(pl.Series(f"pae_z_{name}", z) for name in ("mean", "median", "mode", "std")),
        pl.Series("pae_z_quantiles", quantiles, dtype=pl.Array(pl.Float32, len(QUANTILE_LEVELS))),
        *(
            pl.lit("1").alias(name)
            for name in ("bundle_version", "prior_id", "code_version", "input_data_version")
        ),
    )
    path = home / "var" / "store" / "redshift_catalog" / "mock-r1" / "hp6-1.parquet"
    path.parent.mkdir(parents=True)
    table.write_parquet(path)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return home


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(outcome, *parts: str) -> None:
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("error: ") and outcome.err.count("\n") == 1, outcome.err
    for part in parts:
        assert part in outcome.err


@pytest.mark.parametrize("file_format", FORMATS)
def test_export_keeps_a_folder_and_replaces_its_own(
    command: Callable, catalog_home: Path, file_format: str
) -> None:
    if file_format == "qp":
        pytest.importorskip("qp", reason="extra `outputs` is not installed")

    def export(*more: object):
        return command(
            "export", "--release", "mock-r1", "--format", file_format, "--home", catalog_home, *more
        )

    results = Path("results")
    results.mkdir()
    (results / "notes.txt").write_text(NOTE)
    for more in ((), ("--overwrite",)):
        refused(export("--to", results, *more), "--to results")
    assert content(Path()) == {"results/notes.txt": NOTE.encode()}

    name = Path(f"mock-r1{SUFFIXES[file_format]}")
    assert export().out.startswith(f"{name}: 12 sources"), "the default name"
    before = content(name) or name.read_bytes()
    refused(export(), f"--to {name} exists", "--overwrite")
    assert (content(name) or name.read_bytes()) == before
    assert export("--overwrite").code == 0
    assert sorted(path.name for path in Path().iterdir()) == sorted([name.name, "results"])


def test_a_qp_file_of_the_default_name_is_read_and_integrates_to_one(
    command: Callable, catalog_home: Path
) -> None:
    qp = pytest.importorskip("qp", reason="extra `outputs` is not installed")
    made = command("export", "--release", "mock-r1", "--format", "qp", "--home", catalog_home)
    assert made.code == 0, made
    ensemble, z = qp.read("mock-r1.hdf5"), np.linspace(0.0, 4.0, 40_001)
    assert ensemble.npdf == 12
    np.testing.assert_allclose(np.trapezoid(ensemble.pdf(z), z, axis=1), 1.0, atol=1e-3)


def test_what_somebody_else_wrote_is_refused_before_work(
    command: Callable, catalog_home: Path, tmp_path: Path
) -> None:
    """No model, photometry or source is looked up: the message is about the target."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine.png").write_text(NOTE)
    (tmp_path / "mine.parquet").write_text(NOTE)
    (tmp_path / "link.png").symlink_to(tmp_path / "mine.png")
    os.mkfifo(tmp_path / "fifo.parquet")
    before = sorted(tmp_path.rglob("*"))
    for more in ((), ("--overwrite",)):
        for arguments, said in (
            (("show", "1", "--to", tmp_path / "mine"), "is a folder"),
            (("show", "1", "--to", tmp_path / "mine.png"), "was not written by paeplatform"),
            (("show", "1", "--to", tmp_path / "link.png"), "symbolic link"),
            (("infer", "none.csv", "-o", tmp_path / "mine.parquet"), "was not written by paeplatform"),
            (("infer", tmp_path / "mine.csv", "-o", tmp_path / "fifo.parquet"), "no regular file"),
            (("evaluate", "--posteriors", tmp_path / "mine.parquet"), "was not written by paeplatform"),
            (("evaluate", "--posteriors", tmp_path / "mine"), "is a folder"),
        ):
            refused(command(*arguments, "--home", catalog_home, *more), said)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "mine.png").read_text() == (tmp_path / "mine.parquet").read_text() == NOTE


def test_the_default_output_of_infer_is_under_the_same_rule(
    command: Callable, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "deep.csv").write_text("flux_1\n1\n")
    target = tmp_path / "deep_photoz.parquet"
    pl.DataFrame({"object_id": [1], "pae_z_mean": [0.5]}).write_parquet(target)
    before = target.read_bytes()
    for more in ((), ("--overwrite",)):
        refused(command("infer", tmp_path / "deep.csv", "--home", home, *more), str(target))
    assert target.read_bytes() == before


def test_tables_leave_files_of_the_folder_alone(command: Callable, home: Path, tmp_path: Path) -> None:
    results, to = home / "var" / "results", tmp_path / "docs"
    results.mkdir(parents=True)
    (results / "table_priors.md").write_text("# Table 1\n")
    (results / "table_priors.csv").write_text("n\n7\n")

    def tables(*more: object):
        return command("tables", "--home", home, "--to", to, *more)

    to.mkdir()
    (to / "README.md").write_text(NOTE)
    for more in ((), ("--overwrite",)):
        refused(tables(*more), "README.md", "was not written by `paeplatform tables`")
    assert content(to) == {str(to / "README.md"): NOTE.encode()}
    (to / "README.md").unlink()
    (to / "notes.txt").write_text(NOTE)
    assert tables().code == 0
    refused(tables(), "exists", "--overwrite")
    (results / "table_priors.csv").write_text("n\n8\n")
    assert tables("--overwrite").code == 0
    assert (to / "table_priors.csv").read_text() == "n\n8\n" and (to / "notes.txt").read_text() == NOTE
    (results / "table_ranks.md").write_text("# Table 2\n")
    (results / "table_ranks.csv").write_text("n\n1\n")
    (to / "table_ranks.csv").write_text(NOTE)
    refused(tables("--overwrite"), "table_ranks.csv")
    assert (to / "table_ranks.csv").read_text() == NOTE and not (to / "table_ranks.md").exists()


def test_paper_data_leaves_files_of_the_folder_alone(
    command: Callable,
    home: Path,
    tmp_path: Path,
    paper_folder: Path,  # noqa: F811
) -> None:
    to = tmp_path / "converted"

    def convert(*more: object):
        return command("paper-data", paper_folder, "--to", to, "--home", home, *more)

    to.mkdir()
    for name in ("photometry.parquet", "training_spectra.parquet"):
        (to / name).write_text(NOTE)
        for more in ((), ("--overwrite",)):
            refused(convert(*more), name, "was not written by paeplatform")
        assert content(to) == {str(to / name): NOTE.encode()}
        (to / name).unlink()
    assert convert().code == 0
    before = content(to)
    refused(convert(), "exists", "--overwrite")
    assert convert("--overwrite").code == 0
    assert content(to).keys() == before.keys()


def test_a_delivery_of_the_survey_is_not_simulated_over(
    command: Callable, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_called(*_: object, **__: object):
        raise AssertionError("it is refused before the sources are drawn")

    monkeypatch.setattr("paeplatform.catalog.mock.draw_mock_catalog", not_called)
    folder = tmp_path / "landing" / "qr3"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "spectra.parquet").write_text(NOTE)
    before = content(folder)
    for more in ((), ("--overwrite",)):
        outcome = command("simulate-release", "qr3", "--to", folder.parent, "--home", home, *more)
        refused(outcome, str(folder), "is no delivery that `paeplatform simulate-release` wrote")
    assert content(folder) == before
