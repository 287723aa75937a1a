"""The wheel, installed beside another package that has modules named assets, resources and sensors."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

OTHERS = ("assets", "resources", "sensors")
PROGRAM = """
import assets, resources, sensors
assert {assets.WHOSE, resources.WHOSE, sensors.WHOSE} == {"somebody else's"}
import paeplatform
from paeplatform.assets.release.deliveries import RAW_RELEASE
from paeplatform.config import load_preset
from paeplatform.resources.settings import PlatformSettings, code_root
from paeplatform.sensors.plan import plan_runs
import paeplatform.definitions
assert paeplatform.__file__.startswith(ENVIRONMENT), paeplatform.__file__
assert str(code_root()).startswith(ENVIRONMENT)
settings = PlatformSettings.from_env()
assert str(settings.home) == HERE, settings.home
assert len(paeplatform.definitions.build_definitions(settings).resolve_asset_graph().get_all_asset_keys()) > 50
from paeplatform.reference.shipped import reference_bundle, reference_card, reference_folder
assert str(reference_folder()).startswith(ENVIRONMENT)
assert reference_bundle().library_hash == reference_card()["library_hash"]
from paeplatform.cli import main
main(["presets"])
"""


@pytest.fixture(scope="module")
def built(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of wheel and source distribution."""
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", str(folder)]
    subprocess.run(command, cwd=project_root, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (made,) = built.glob("*.whl")
    return made


def test_the_wheel_holds_one_top_level_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"paeplatform"}
    wanted = ("assets/release/deliveries.py", "resources/pyfunc/pae_model.py", "sensors/run.py")
    data = (
        "presets/demo.yaml",
        "scores/promotion_rules.yaml",
        "release/quality_rules.yaml",
        "report/browser.js",
    )
    assert {f"paeplatform/{name}" for name in (*wanted, *data)} <= set(names)


def test_wheel_and_source_distribution_hold_the_reference_model(
    built: Path, wheel: Path, project_root: Path
) -> None:
    folder = project_root / "paeplatform" / "reference" / "model"
    files = {path.relative_to(project_root).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {
        f"paeplatform/reference/model/{name}" for name in ("bundle.json", "card.json", "prior.json")
    } <= files
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if "/reference/model/" in name} == files
        for name in files:
            assert archive.read(name) == (project_root / name).read_bytes()
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert files <= inside


def test_it_works_beside_a_package_of_the_same_module_names(wheel: Path, tmp_path: Path) -> None:
    environment, here = tmp_path / "env", tmp_path / "here"
    venv.create(environment, with_pip=False)
    (site,) = environment.glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    for name in OTHERS:
        (site / name).mkdir()
        (site / name / "__init__.py").write_text('WHOSE = "somebody else\'s"\n')
    # The requirements come from this environment. A path in a .pth file is searched, and its own .pth files, one of
    # which is this checkout's, are not read.
    (site / "requirements.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    here.mkdir()
    program = PROGRAM.replace("ENVIRONMENT", repr(str(environment))).replace("HERE", repr(str(here)))
    done = subprocess.run(
        [environment / "bin" / "python", "-I", "-c", program],
        cwd=here,
        env={name: value for name, value in os.environ.items() if not name.startswith("PAEPLATFORM_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout and list(here.iterdir()) == []
