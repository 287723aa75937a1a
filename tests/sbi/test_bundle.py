"""A model on disk: the same numbers back, no code run, altered files refused."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from paeplatform.config import SbiConfig
from paeplatform.errors import CheckpointError
from paeplatform.sbi.bundle import RECORD, WEIGHTS, load_sbi, save_sbi
from paeplatform.sbi.inference import estimate_sbi
from tests.sbi.small import fresh_model, noisy, random_bank, small_config


@pytest.fixture
def folder(tmp_path):
    save_sbi(fresh_model(), "abc", tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", ["spline", "maf"])
def test_a_loaded_model_answers_as_the_saved_one(tmp_path, kind: str) -> None:
    model = fresh_model(small_config(head={"kind": kind}))
    save_sbi(model, "abc", tmp_path)
    loaded, band_hash = load_sbi(tmp_path)
    assert band_hash == "abc"
    flux, error = noisy(random_bank(30))
    tables = [
        estimate_sbi(one, flux, error, np.arange(30), SbiConfig(device="cpu"), progress=False)
        for one in (model, loaded)
    ]
    assert tables[0].equals(tables[1])


def test_the_same_model_gives_the_same_bytes(tmp_path) -> None:
    for name in ("a", "b"):
        save_sbi(fresh_model(), "abc", tmp_path / name)
    for file in (WEIGHTS, RECORD):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_an_untrained_model_is_not_saved(tmp_path) -> None:
    model = fresh_model()
    model.trained_range = None
    with pytest.raises(CheckpointError, match="trained range"):
        save_sbi(model, "abc", tmp_path)


@pytest.mark.parametrize("file", [WEIGHTS, RECORD])
def test_missing_and_truncated_files_are_refused(folder, file: str) -> None:
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[:-20])
    with pytest.raises(CheckpointError, match=file.replace(".", r"\.")):
        load_sbi(folder)
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match="No such file"):
        load_sbi(folder)


def test_one_changed_byte_is_refused(folder) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match="sha256"):
        load_sbi(folder)


class _Poison:
    ran = False

    def __reduce__(self):
        return (setattr, (_Poison, "ran", True))


def test_a_pickle_in_the_place_of_the_weights_is_refused_and_not_run(folder) -> None:
    import hashlib

    torch.save(_Poison(), folder / "poison.pt")
    payload = (folder / "poison.pt").read_bytes()
    (folder / WEIGHTS).write_bytes(payload)
    record = json.loads((folder / RECORD).read_text())
    record["weights_sha256"] = hashlib.sha256(payload).hexdigest()  # the attacker knows of checksums
    (folder / RECORD).write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="not safetensors"):
        load_sbi(folder)
    assert not _Poison.ran
    torch.load(folder / "poison.pt", weights_only=False)
    assert _Poison.ran  # the poison works: nothing ran it above


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record["config"]["encoder"].update(width=32), "encoder's width 32"),
        (lambda record: record["config"]["head"].update(hidden=64), "does not fit the hyperparameters"),
        (lambda record: record.update(depth_ujy=[1.0]), "exceeds the 1 bands"),
        (lambda record: record.update(z_limits=[3.0, 1.0]), "z_limits"),
        (lambda record: record.update(format=99), "format 99"),
        (lambda record: record.update(kind="pae"), "kind 'sbi'"),
        (lambda record: record.pop("trained_range"), "trained_range"),
        (lambda record: record["config"].update(evil=1), "evil"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(folder, change, message: str) -> None:
    record = json.loads((folder / RECORD).read_text())
    change(record)
    (folder / RECORD).write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=message) as caught:
        load_sbi(folder)
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_finite_are_refused(folder) -> None:
    import hashlib

    tensors = load_file(folder / WEIGHTS)
    tensors["encoder.cls"] = torch.full_like(tensors["encoder.cls"], torch.nan)
    save_file(tensors, folder / WEIGHTS)
    record = json.loads((folder / RECORD).read_text())
    record["weights_sha256"] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    (folder / RECORD).write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="not finite"):
        load_sbi(folder)
