"""The folder of a reference model: written whole, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from paeplatform.errors import CheckpointError, InputError
from paeplatform.pae.bundle import load_bundle
from paeplatform.reference import making, shipped
from paeplatform.reference.card import ReferenceCard
from paeplatform.reference.making import size_of, write_reference
from tests.small_reference import PRIOR, made_up_card


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_bytes_of_a_bundle_stay_what_they_were(
    write: Callable[..., Path], parts: Callable[[int], Path], tmp_path: Path
) -> None:
    made = write(tmp_path / "model", sbi=True)
    given = {name: content for name, content in contents(parts(1)).items() if "network" not in name}
    assert {name: contents(made)[name] for name in given} == given
    assert set(contents(made)) == {*given, "prior.json", "card.json", "sbi/sbi.json", "sbi/sbi.safetensors"}
    assert size_of(made) == sum(map(len, contents(made).values()))


def test_a_new_model_takes_the_place_of_the_old_one_and_leaves_nothing(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    target = tmp_path / "package" / "model"
    old = contents(write(target, seed=1, sbi=True))
    new = contents(write(target, seed=2))
    assert new["autoencoder.eqx"] != old["autoencoder.eqx"]
    assert not any(name.startswith("sbi/") for name in new), "no file of the old one stays"
    assert [path.name for path in target.parent.iterdir()] == ["model"]


def test_a_shipped_folder_can_be_taken_as_a_bundle_again(write: Callable[..., Path], tmp_path: Path) -> None:
    """Prior and card lie beside the bundle's files and are not taken for parts of it."""
    first = write(tmp_path / "first")
    again = write_reference(tmp_path / "again", bundle=first, sbi=None, prior=PRIOR, card=made_up_card)
    assert contents(again) == contents(first)


@pytest.mark.parametrize("broken", ["flow.eqx", "bundle.json"])
def test_a_damaged_bundle_changes_nothing(
    write: Callable[..., Path], parts: Callable[[int], Path], tmp_path: Path, broken: str
) -> None:
    target, damaged = tmp_path / "package" / "model", tmp_path / "damaged"
    write(target, seed=1)
    before = contents(target)
    shutil.copytree(parts(2), damaged)
    (damaged / broken).write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=rf"damaged/{broken}"):
        write_reference(target, bundle=damaged, sbi=None, prior=PRIOR, card=made_up_card)
    assert contents(target) == before and [path.name for path in target.parent.iterdir()] == ["model"]


def test_a_model_that_is_too_large_changes_nothing(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "package" / "model"
    write(target, seed=1)
    before = contents(target)
    monkeypatch.setattr(making, "MAX_BYTES", size_of(target) - 1)
    with pytest.raises(InputError, match=r"the files have [\d,]+ bytes; [\d,]+ are allowed"):
        write(target, seed=2)
    assert contents(target) == before and [path.name for path in target.parent.iterdir()] == ["model"]
    assert load_bundle(target).n_latent == 4


def test_a_card_that_does_not_fit_the_files_is_not_written(
    parts: Callable[[int], Path], tmp_path: Path
) -> None:
    def forged(files: dict[str, str]) -> ReferenceCard:
        return made_up_card(files | {shipped.PRIOR_FILE: "0" * 64})

    with pytest.raises(CheckpointError, match=r"prior\.json: truncated or altered"):
        write_reference(tmp_path / "new", bundle=parts(1), sbi=None, prior=PRIOR, card=forged)
    assert not (tmp_path / "new").exists()
