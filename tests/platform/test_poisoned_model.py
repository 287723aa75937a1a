"""Code planted in a registered model's files: the platform reads past it; MLflow's own loader shows that it bites."""

from __future__ import annotations

import hashlib
import json
import os
import pickle  # noqa: TID251 - the poison
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from paeplatform.assets.promotion.evaluation import Inputs, evaluate
from paeplatform.assets.promotion.gated import gated
from paeplatform.errors import CheckpointError
from paeplatform.pae.bundle import load_bundle
from paeplatform.resources.registry import PAE, ModelRegistry
from paeplatform.resources.workspace import Workspace
from paeplatform.serving.champion import ServedChampion
from tests.platform.conftest import Platform

pytestmark = pytest.mark.slow  # CI's time: with the shared platform it is near its limit


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def poisoned(platform: Platform, tmp_path: Path) -> Iterator[Path]:
    """The champion's files with code in every place that a loader might run; the folder that it would make."""
    marker = tmp_path / "code_was_run"
    champion = platform.registry.by_alias(PAE)
    bundle = platform.registry.artifact(champion, "bundle")
    root = next(parent for parent in bundle.parents if (parent / "MLmodel").is_file())
    whole = tmp_path / "whole"
    shutil.copytree(root, whole)
    code = f"import os\nos.makedirs({str(marker)!r}, exist_ok=True)\n"
    for script in root.glob("*.py"):
        script.write_text(code + script.read_text())
    for folder in (root, bundle, bundle.parent / "setting"):
        for name in ("sitecustomize.py", "conftest.py", "__init__.py", "jax.py", "loader.py"):
            (folder / name).write_text(code)
        for name in ("python_model.pkl", "model.pkl", "weights.pkl"):
            (folder / name).write_bytes(pickle.dumps(Payload(marker)))
    yield marker
    shutil.rmtree(root)
    shutil.copytree(whole, root)


def test_load_evaluation_and_serving_run_nothing_of_the_artifact(platform: Platform, poisoned: Path) -> None:
    kind, registry = gated(PAE), platform.registry
    champion = registry.by_alias(PAE)
    tables = [platform.table(name) for name in ("spherex_bands", "redshift_prior")]
    sources = platform.table("frozen_test_set").head(3)  # no evaluation is stored for these
    workspace = Workspace.from_settings(platform.settings)
    before = champion.tags
    inputs = Inputs(platform.settings.preset, *tables, registry, workspace, sources, "test")
    found = evaluate(kind, champion, inputs)
    assert found.fresh and found.evidence.scores.height == 3
    registry.tag(PAE, champion.version, {key: before[key] for key in before if key != "content"})

    served = ServedChampion(kind, platform.settings, n_bands=102)
    served.look()
    assert served.fault is None
    photometry = (sources[name].to_numpy() for name in ("flux", "flux_err", "object_id"))
    _, answer = served.batcher.submit(*photometry).result(timeout=300)
    served.batcher.close()
    assert answer.height == 3
    assert not poisoned.exists()


def test_the_planted_code_does_run_in_mlflows_own_loader(platform: Platform, poisoned: Path) -> None:
    """Without this, the test above could pass because the poison is none."""
    platform.registry.client()
    import mlflow

    mlflow.pyfunc.load_model(f"models:/{PAE}@champion")
    assert poisoned.is_dir()


@pytest.mark.parametrize("file", ["landmarks.npy", "flow.eqx"])
def test_a_pickle_with_right_checksums_in_place_of_arrays_is_refused(
    platform: Platform, tmp_path: Path, file: str
) -> None:
    marker, folder = tmp_path / "code_was_run", tmp_path / "bundle"
    shutil.copytree(platform.registry.artifact(platform.registry.by_alias(PAE), "bundle"), folder)
    array = np.empty(1, dtype=object)
    array[0] = Payload(marker)
    with (folder / file).open("wb") as stream:
        np.save(stream, array, allow_pickle=True)
    record = json.loads((folder / "bundle.json").read_text())
    if file == "landmarks.npy":
        record["landmarks_sha256"] = sha256(folder / file)
    else:
        part = json.loads((folder / "flow.json").read_text())
        (folder / "flow.json").write_text(json.dumps(part | {"weights_sha256": sha256(folder / file)}))
        record["parts"]["flow.json"] = sha256(folder / "flow.json")
    (folder / "bundle.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=file.replace(".", r"\.")) as caught:
        load_bundle(folder)
    assert "\n" not in str(caught.value) and not marker.exists()
    np.load(folder / file, allow_pickle=True)
    assert marker.is_dir(), "the pickle is a live one"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_registry_resource_itself_reads_the_model_file_as_data(
    platform: Platform, tmp_path: Path
) -> None:
    """MLmodel is YAML; a tag that would call a function is refused by the safe loader."""
    champion = platform.registry.by_alias(PAE)
    bundle = platform.registry.artifact(champion, "bundle")
    file = next(parent for parent in bundle.parents if (parent / "MLmodel").is_file()) / "MLmodel"
    whole, marker = file.read_text(), tmp_path / "code_was_run"
    try:
        file.write_text(f"evil: !!python/object/apply:os.mkdir [{marker}]\n{whole}")
        with pytest.raises(Exception, match="python/object/apply"):
            ModelRegistry(**platform.registry.model_dump()).artifact(champion, "bundle")
        assert not marker.exists()
    finally:
        file.write_text(whole)
