"""The model that ships: whole, small, without pickle, fit for the presets; and what a damaged one says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import numpy as np
import pytest

from paeplatform.config import Preset, load_preset, preset_names
from paeplatform.errors import CheckpointError, ConfigError
from paeplatform.inference.estimate import Estimator, covers
from paeplatform.inference.model.priors import prior_from_preset
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.filters import gaussian_filters
from paeplatform.pae.bundle import load_bundle
from paeplatform.reference import shipped
from paeplatform.reference.card import must_not_be_used_for
from paeplatform.reference.making import MAX_BYTES, size_of
from paeplatform.reference.page import card_page
from paeplatform.scores.frozen_sources import unseen_seed
from paeplatform.sed.library import load_library
from tests.small_reference import PRIOR, small_bundle


def test_the_files_that_ship_are_whole_and_small_and_hold_no_code() -> None:
    folder = shipped.reference_folder()
    shipped.verify(folder)
    assert size_of(folder) <= MAX_BYTES == 15_000_000
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".eqx", ".npy", ".safetensors"}
    assert all(path.read_bytes()[:2] != b"\x80\x04" for path in files), "a pickle begins so"
    named = {path.name for path in shipped.bundle_files(folder)} | {"prior.json", "card.json"}
    assert named | ({"sbi.json", "sbi.safetensors"} if shipped.ships_sbi() else set()) == {
        p.name for p in files
    }


@pytest.mark.parametrize("name", [name for name in preset_names() if name != "paper"])
def test_the_bundle_that_ships_answers_for_the_presets(name: str) -> None:
    """Bands, redshifts and prior fit, so importance sampling is possible; `paper` samples by chains alone."""
    bundle, preset, bands = shipped.reference_bundle(), load_preset(name), load_bands()
    prior = prior_from_preset(preset.prior, shipped.reference_prior())
    estimator = Estimator(bundle, prior, bands, gaussian_filters(bands), preset)
    assert covers(bundle.proposal, prior) and estimator.proposal is bundle.proposal
    assert bundle.landmarks is not None and np.isfinite(bundle.landmarks).all()


def test_the_card_is_that_of_the_bundle() -> None:
    card, bundle = shipped.reference_card(), shipped.reference_bundle()
    library = load_library()
    assert card["library_hash"] == bundle.library_hash == library.content_hash()
    assert card["templates"] == len(library)
    assert card["band_hash"] == bundle.band_hash == load_bands().content_hash()
    preset = Preset.model_validate(card["preset"])
    assert preset.pae == bundle.pae and preset.proposal == bundle.proposal_config
    if "known" in card["figures"]:
        assert set(card["figures"]) == {"known", "unseen"}
        assert card["seeds"]["unseen galaxies"] == unseen_seed(preset)
        assert card["seeds"]["known galaxies"] == preset.promotion.test_seed
    else:  # written before the test set had two parts
        assert set(card["figures"]) == {"templates", "mixtures"}
    assert len(card["git_commit"]) >= 40
    assert tuple(card["must_not"]) == must_not_be_used_for(card["preset"], card["templates"])
    methods = {"pae", "sbi"} if shipped.ships_sbi() else {"pae"}
    for shown in card["figures"].values():
        assert set(shown["methods"]) == methods and shown["sources"] >= 100
        for metrics in shown["methods"].values():
            for name, found in metrics.items():
                # resampling adds to a KS distance, so that all of its interval may lie above the value
                assert name == "pit_ks" or found["low"] <= found["value"], name
                assert found["value"] <= found["high"], name


def test_the_page_is_up_to_date(project_root: Path) -> None:
    page = card_page(shipped.card_in(shipped.reference_folder()))
    written = (project_root / "docs" / "reference_model.md").read_text()
    assert written == page, "run `python scripts/make_reference.py --page`"


def test_the_preset_has_the_networks_of_standard() -> None:
    ours, standard = load_preset(shipped.REFERENCE), load_preset("standard")
    assert ours.name == shipped.REFERENCE
    assert ours.model_copy(update={"name": "standard"}) == standard


def test_a_model_is_read_once_and_is_the_one_that_was_written(folder: Path) -> None:
    bundle = shipped.reference_bundle()
    assert shipped.reference_bundle() is bundle
    made = small_bundle(1)
    for part in ("autoencoder", "flow", "proposal"):
        ours, theirs = (eqx.filter(getattr(one, part), eqx.is_array) for one in (made, bundle))
        assert eqx.tree_equal(ours, theirs), part
    assert shipped.reference_prior() == PRIOR
    assert load_bundle(shipped.reference_folder()).n_latent == made.n_latent, "the folder is a bundle's too"
    model, band_hash = shipped.reference_sbi()
    assert band_hash == load_bands().content_hash() and shipped.reference_sbi()[0] is model


def test_the_files_of_a_bundle_are_those_that_are_saved(folder: Path, parts: Callable[[int], Path]) -> None:
    saved = {path.name for path in parts(1).iterdir() if path.is_file()}
    assert saved == set(shipped.BUNDLE_FILES)
    assert {path.name for path in shipped.bundle_files(folder)} == saved


READERS = {
    "bundle.json": shipped.reference_bundle,
    "autoencoder.eqx": shipped.reference_bundle,
    "flow.json": shipped.reference_bundle,
    "proposal.eqx": shipped.reference_bundle,
    "landmarks.npy": shipped.reference_bundle,
    "prior.json": shipped.reference_prior,
    "card.json": shipped.reference_card,
    "sbi/sbi.json": shipped.reference_sbi,
    "sbi/sbi.safetensors": shipped.reference_sbi,
}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip(path: Path) -> None:
    """Another byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


HARMS = {"missing": Path.unlink, "truncated": cut, "altered": flip}
# Nothing vouches for the bytes of the card, only for its form.
HARMED = [(name, harm) for name in READERS for harm in HARMS if (name, harm) != ("card.json", "altered")]


@pytest.mark.parametrize(("name", "harm"), HARMED)
def test_a_damaged_file_is_one_line_that_names_it(folder: Path, name: str, harm: str) -> None:
    HARMS[harm](folder / name)
    with pytest.raises(CheckpointError, match=name.rpartition("/")[2].replace(".", r"\.")) as caught:
        READERS[name]()
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError):
        shipped.verify(folder)


def test_files_of_two_models_in_one_folder_are_noticed(
    folder: Path, write: Callable[..., Path], tmp_path: Path
) -> None:
    other = write(tmp_path / "other", seed=2)
    for file in shipped.bundle_files(other):
        shutil.copyfile(file, folder / file.name)
    assert load_bundle(folder).n_latent == 4, "by itself that bundle is sound"
    with pytest.raises(CheckpointError, match=r"bundle\.json: truncated or altered"):
        shipped.reference_bundle()


def test_without_an_sbi_network_that_is_said(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "_FOLDER", write(tmp_path / "model"))
    assert not shipped.ships_sbi()
    with pytest.raises(CheckpointError, match="no SBI network ships with this package"):
        shipped.reference_sbi()
    shipped.verify(shipped.reference_folder())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "bundle"}, "does not describe a model of kind 'reference-card'"),
        ({"templates": "many"}, "templates: "),
        ({"files": {}}, r"must list bundle\.json and prior\.json"),
        ({"nobody": 1}, "nobody: "),
    ],
)
def test_a_wrong_card_is_one_line(folder: Path, change: dict, said: str) -> None:
    path = folder / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=said) as caught:
        shipped.verify(folder)
    assert "card.json" in str(caught.value) and "\n" not in str(caught.value)


def test_a_prior_without_its_parameters_is_refused(folder: Path) -> None:
    from paeplatform.model_files import sha256

    prior, card = folder / "prior.json", folder / "card.json"
    prior.write_text(json.dumps({"format": 1, "kind": shipped.PRIOR, "alpha": 1.0}))
    tree = json.loads(card.read_text())
    tree["files"]["prior.json"] = sha256(prior.read_bytes())
    card.write_text(json.dumps(tree))
    with pytest.raises(CheckpointError, match=r"prior\.json: must hold the numbers alpha, beta, gamma"):
        shipped.reference_prior()


def test_the_prior_is_refused_where_the_preset_has_none(folder: Path) -> None:
    bpz = {name: value for name, value in shipped.reference_prior().items() if name != "beta"}
    with pytest.raises(ConfigError, match="beta"):
        prior_from_preset(load_preset("demo").prior, bpz)
