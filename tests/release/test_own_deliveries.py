"""A simulated delivery replaces one that was simulated before, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from paeplatform.errors import InputError
from paeplatform.release.manifest import Manifest, write_manifest
from paeplatform.release.simulated.delivery import NOTE

Deliver = Callable[..., tuple[Path, Manifest]]


def test_only_a_delivery_of_its_own_is_replaced(deliver: Deliver):
    folder, manifest = deliver()
    data = folder / manifest.files[0].name
    own = {path.name: path.read_bytes() for path in folder.iterdir()}

    def restored(*without: str) -> None:
        for path in folder.iterdir():
            path.unlink()
        for name in own.keys() - set(without):
            (folder / name).write_bytes(own[name])

    def refused(said: str) -> None:
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        with pytest.raises(InputError, match=said):
            deliver()
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        assert [path.name for path in folder.parent.iterdir()] == [folder.name]

    (folder / "notes.txt").write_text("not to be lost")
    refused(r"holds notes\.txt, which is not of the simulated delivery")
    restored()
    data.write_bytes(b"of the survey")
    refused(f"holds {data.name}")
    restored()
    survey = manifest.model_copy(update={"n_sources": manifest.n_sources + 1})  # put into the same place
    write_manifest(folder, survey)
    refused("is no delivery that `paeplatform simulate-release` wrote")
    restored(NOTE, data.name)
    named = manifest.files[0].model_copy(update={"name": "spectra.parquet"})
    (folder / "spectra.parquet").write_bytes(own[data.name])
    write_manifest(folder, manifest.model_copy(update={"files": (named,)}))
    refused("is no delivery that")
    restored(NOTE)  # as earlier versions left it
    deliver()
    assert (folder / NOTE).exists()
