"""The program behind `make reference`: what it takes from a home, and that nothing is replaced unasked."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from paeplatform.assets.models.model_records import example_photometry, write_setting
from paeplatform.assets.models.reference import register_reference
from paeplatform.assets.recording.tables import bands_table
from paeplatform.config import Preset, load_preset
from paeplatform.errors import InputError, RegistryError
from paeplatform.instrument.bands import load_bands
from paeplatform.pae.bundle import load_bundle
from paeplatform.reference import shipped
from paeplatform.reference.page import card_page
from paeplatform.resources.models.signatures import (
    PAE_SUMMARIES,
    SBI_SUMMARIES,
    photometry_signature,
    row_signature,
)
from paeplatform.resources.registry import AUTOENCODER, CHAMPION, PAE, SBI, ModelRegistry
from paeplatform.resources.settings import PlatformSettings
from paeplatform.resources.workspace import Workspace
from tests.scripts import load_script
from tests.small_reference import PRIOR, TINY, made_up_card

make_reference = load_script("make_reference")


@pytest.fixture(autouse=True)
def _no_home_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAEPLATFORM_HOME", "PAEPLATFORM_PRESET"):
        monkeypatch.setenv(name, "")  # set and taken back with what the program sets


@pytest.fixture
def home(parts: Callable[[int], Path], tmp_path: Path) -> Path:
    """A home with a registered bundle, one of its parts, and a network, all champions."""
    folder, settings = tmp_path / "home", PlatformSettings(tmp_path / "home", load_preset(TINY))
    folder.mkdir()
    registry = ModelRegistry.from_settings(settings)
    bundle, network = tmp_path / "given" / "bundle", tmp_path / "given" / "sbi"
    for target, files in (
        (bundle, shipped.bundle_files(parts(1))),
        (network, list((parts(1) / "network").iterdir())),
    ):
        target.mkdir(parents=True)
        for file in files:
            (target / file.name).write_bytes(file.read_bytes())
    example = example_photometry(102)
    with registry.training_run("part", settings.preset, data_version="d", dagster_run_id="r") as run:
        run.log_json({"metrics": {"seconds": 90.5}}, "record.json")
        registry.register(
            AUTOENCODER,
            {"autoencoder": bundle},
            signature=row_signature(3, 3),
            input_example=np.zeros((1, 3), dtype=np.float32),
            tags={"content": "part"},
        )
    setting = write_setting(
        tmp_path / "given" / "setting", settings.preset, pl.DataFrame([PRIOR]), bands_table(load_bands())
    )
    with registry.training_run("pae", settings.preset, data_version="d", dagster_run_id="r"):
        registry.register(
            PAE,
            {"bundle": bundle, "setting": setting},
            signature=photometry_signature(PAE_SUMMARIES),
            input_example=example,
            tags={"content": "p", "preset_digest": "digest-then", "autoencoder_version": 1},
        )
    with registry.training_run("sbi", settings.preset, data_version="d", dagster_run_id="r"):
        registry.register(
            SBI,
            {"sbi": network},
            signature=photometry_signature(SBI_SUMMARIES),
            input_example=example,
            tags={"content": "s"},
        )
    for name in (PAE, SBI):
        registry.set_alias(name, CHAMPION, 1)
    return folder


def test_what_is_taken_is_the_registered_version_with_its_own_settings(
    home: Path, parts: Callable[[int], Path]
) -> None:
    found = make_reference.taken(home, CHAMPION)
    assert {file.name: file.read_bytes() for file in found.bundle.iterdir()} == {
        file.name: file.read_bytes() for file in shipped.bundle_files(parts(1))
    }
    assert found.sbi is not None and {file.name for file in found.sbi.iterdir()} == {
        "sbi.json",
        "sbi.safetensors",
    }
    assert found.preset == load_preset(TINY) and found.preset_digest == "digest-then"
    assert found.prior == PRIOR and found.training_seconds == {"autoencoder": 90.5}
    assert len(found.git_commit) >= 7 and "jax" in found.library_versions


def test_what_cannot_be_taken_is_one_line(home: Path, tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        make_reference.taken(tmp_path / "nowhere", CHAMPION)
    with pytest.raises(RegistryError, match="no model pae@beta"):
        make_reference.taken(home, "beta")
    (tmp_path / "other").mkdir()
    settings = PlatformSettings(tmp_path / "other", load_preset(TINY))
    registry = ModelRegistry.from_settings(settings)
    register_reference(PAE, registry, Workspace.from_settings(settings))
    with pytest.raises(InputError, match=r"pae v1 of .*other is the model that ships"):
        make_reference.taken(tmp_path / "other", "challenger")


def test_a_prior_that_was_not_fitted_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prior.json"
    path.write_text(json.dumps({"kind": "uniform", "z_min": 0.1, "z_max": 3.0}))
    with pytest.raises(InputError, match="must be of kind bpz, found 'uniform'"):
        make_reference._fitted(path)


def candidate(bundle: Path, preset: Preset) -> object:
    return make_reference.Candidate(
        bundle=bundle,
        sbi=None,
        prior=PRIOR,
        preset=preset,
        preset_digest="then",
        git_commit="abc",
        training_seconds={},
        library_versions={},
    )


@pytest.fixture
def program(
    parts: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """The program with a training and measurements that take no time; the new model has the weights of seed 2."""
    card = made_up_card({})
    measured = make_reference.Measured(
        figures=card.figures,
        hardware="a test",
        library_hash=card.library_hash,
        band_hash=card.band_hash,
        templates=160,
    )
    new = candidate(parts(2), load_preset(TINY))
    monkeypatch.setattr(make_reference, "train", lambda home: None)
    monkeypatch.setattr(make_reference, "taken", lambda home, alias: new)
    monkeypatch.setattr(make_reference, "compared", lambda candidate, sources: measured)
    monkeypatch.setattr(make_reference, "PAGE", tmp_path / "page.md")

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["make_reference.py", *arguments])
        return make_reference.main()

    return run


def test_nothing_is_replaced_unless_asked(
    program: Callable[..., int], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folder / "autoencoder.eqx").read_bytes()
    assert program("--from-home", "anywhere") == 0
    assert "Nothing was written" in capsys.readouterr().out
    assert (folder / "autoencoder.eqx").read_bytes() == before and not (tmp_path / "page.md").exists()

    assert program("--from-home", "anywhere", "--replace") == 0
    assert (folder / "autoencoder.eqx").read_bytes() != before
    shipped.verify(folder)
    card = shipped.card_in(folder)
    assert (tmp_path / "page.md").read_text() == card_page(card)
    assert (card.preset_digest, card.git_commit, card.hardware) == ("then", "abc", "a test")
    assert card.not_as_preset["proposal.fit.epochs"] == "3; reference: 50"
    assert not any(name.startswith(("tables.", "release.", "name")) for name in card.not_as_preset)
    assert not shipped.ships_sbi(), "the new one has no network"


def test_the_first_one_needs_no_leave(
    program: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "_FOLDER", tmp_path / "fresh" / "model")
    assert program() == 0
    assert load_bundle(tmp_path / "fresh" / "model").n_latent == 4 and (tmp_path / "page.md").is_file()


def test_the_page_alone(program: Callable[..., int], folder: Path, tmp_path: Path) -> None:
    before = (folder / "card.json").read_bytes()
    assert program("--page") == 0
    assert (tmp_path / "page.md").read_text() == card_page(shipped.card_in(folder))
    assert (folder / "card.json").read_bytes() == before


def test_wrong_input_is_one_line_and_code_two(
    program: Callable[..., int], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "card.json").unlink()
    assert program("--page") == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and "card.json" in err and err.count("\n") == 1
    with pytest.raises(SystemExit) as ended:
        program("--sources", "1")
    assert ended.value.code == 2 and "--sources 1: must be at least 2" in capsys.readouterr().err


def test_help_teaches(program: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program("--help")
    shown = capsys.readouterr().out
    assert all(
        word in shown for word in ("--from-home HOME", "--replace", "--page", "make reference", "two hours")
    )


def test_figures_of_templates_left_out_are_those_of_the_table(project_root: Path) -> None:
    path = project_root / "docs" / "results" / "outside" / "table_calibration.csv"
    found = make_reference.left_out_figures(path)
    with path.open() as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["property"] == "in training" and row["method"] == "nf_bpz"
        ]
    assert found is not None and set(found.rows) == {row["value"] for row in rows} and len(rows) == 2
    for row in rows:
        for name, value in found.rows[row["value"]].items():
            assert value == float(row[name]), name
        assert {"n", "nmad_paper", "nmad_paper_err", "crps"} <= set(found.rows[row["value"]])
    assert make_reference.left_out_figures(project_root / "nowhere.csv") is None


def test_a_model_of_other_templates_is_refused(parts: Callable[[int], Path]) -> None:
    tree = load_preset(TINY).model_dump()
    tree["tables"]["leave_out"] = ("brown/NGC_0474",)
    with pytest.raises(InputError, match="was not trained on all templates of the package"):
        make_reference.compared(candidate(parts(1), Preset.model_validate(tree)), 4)


@pytest.mark.slow  # four inferences with a compiled sampler
def test_the_comparison_is_the_gates(
    parts: Callable[[int], Path], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = make_reference.compared(candidate(parts(1), load_preset(TINY)), 12)
    shown = capsys.readouterr().out
    assert shown.count("pae against the model that ships: does not pass: known and unseen galaxies: ") == 1
    assert shown.count("not shown to be better in any of") == 1, "it is that very model"
    assert set(measured.figures) == {"known", "unseen"} and measured.templates == 160
    for figures in measured.figures.values():
        assert figures.sources == 12 and figures.methods["pae"]["usable"].value > 0.0
