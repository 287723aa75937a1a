"""A small reference model in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from paeplatform.reference import shipped
from tests.small_reference import save_parts, write_small


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The folder of the parts with weights of a seed; each is made once."""
    folders: dict[int, Path] = {}

    def made(seed: int) -> Path:
        if seed not in folders:
            folders[seed] = save_parts(tmp_path_factory.mktemp("parts"), seed)
        return folders[seed]

    return made


@pytest.fixture
def write(parts: Callable[[int], Path]) -> Callable[..., Path]:
    """Writes a small reference model to a folder; `seed` decides its weights."""

    def made(target: Path, seed: int = 1, *, sbi: bool = False) -> Path:
        return write_small(target, parts(seed), sbi=sbi)

    return made


@pytest.fixture
def folder(write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small reference model with SBI in the place of the one that ships."""
    made = write(tmp_path / "model", sbi=True)
    monkeypatch.setattr(shipped, "_FOLDER", made)
    return made
