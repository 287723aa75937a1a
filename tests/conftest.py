"""What every test runs under: no display, no usage reporting, no state of the user's, shapes checked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything imports jax, matplotlib, mlflow or dagster. Nothing a test does may land in the project's own
# var/ or mlruns/.
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
for _name, _value in {
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GX_ANALYTICS_ENABLED": "false",
}.items():
    os.environ[_name] = _value
for _name in ("PAEPLATFORM_PRESET", "PAEPLATFORM_MLFLOW_UI", "DAGSTER_HOME", "MLFLOW_TRACKING_URI"):
    os.environ.pop(_name, None)
_HOME = tempfile.TemporaryDirectory(prefix="paeplatform-tests-")
os.environ["PAEPLATFORM_HOME"] = _HOME.name
# Homes of tests, and the processes that tests start, compile the same programs: once is enough.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(_HOME.name) / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

from hypothesis import HealthCheck, settings  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

# A first call compiles, so hypothesis must not judge examples by their time; CI draws the same ones each time.
_quiet = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("local", **_quiet)
settings.register_profile("ci", derandomize=True, print_blob=True, **_quiet)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# Shapes in annotations are checked in these modules while tests run, and cost nothing otherwise. Elsewhere NumPy
# arrays are passed where `Array` is written, which the check would refuse.
CHECKED = ["instrument.forward", "inference.mclmc.diagnostics"]
install_import_hook([f"paeplatform.{name}" for name in CHECKED], "beartype.beartype")

PROJECT_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The checkout that the tests belong to."""
    return PROJECT_ROOT


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty platform home of this test's own."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("PAEPLATFORM_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True, scope="session")
def _no_home_left_behind() -> Iterator[None]:
    """The temporary home goes with the session."""
    yield
    _HOME.cleanup()
