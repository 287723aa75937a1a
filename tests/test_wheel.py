"""The wheel, installed beside another package that has modules named assets, resources and sensors."""

import os
import subprocess
import sys
import sysconfig
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
from paeplatform.cli import main
main(["presets"])
"""


@pytest.fixture(scope="module")
def wheel(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=project_root, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
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
