"""The project as a checkout: layout, the commands documents promise, requirements, rules for every source file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PACKAGES = ("paeplatform", "assets", "resources", "sensors")


@pytest.fixture(scope="module")
def pyproject(project_root: Path) -> dict:
    return tomllib.loads((project_root / "pyproject.toml").read_text())


def pins(project_root: Path) -> dict[str, str]:
    lines = (project_root / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def sources(project_root: Path) -> list[Path]:
    return [
        path
        for folder in (*PACKAGES, "benchmarks", "scripts")
        for path in (project_root / folder).rglob("*.py")
    ]


READERS = re.compile(r"(scan|read)_(parquet|csv|ipc|ndjson|lines|parquet_schema|delta|ipc_schema)")


def patterns_in(text: str) -> list[str]:
    """Calls in a source file by which a name such as `cat[1].csv` would mean another file."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = getattr(function, "attr", getattr(function, "id", ""))
        of_polars = isinstance(function, ast.Name) or (
            isinstance(function, ast.Attribute) and getattr(function.value, "id", "") in ("pl", "polars")
        )
        given = {key.arg: getattr(key.value, "value", None) for key in node.keywords}
        if of_polars and READERS.fullmatch(name) and given.get("glob") is not False:
            found.append(f"line {node.lineno}: {name} without glob=False")
        if name in ("glob", "rglob", "iglob") and any(isinstance(arg, ast.JoinedStr) for arg in node.args):
            found.append(f"line {node.lineno}: {name} with a pattern made of names; list the folder")
    return found


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("pl.read_csv(path)", 1),
        ("pl.scan_parquet(path, glob=True)", 1),
        ("pl.read_parquet_schema(path)", 1),
        ("from polars import read_csv\nread_csv(path)", 1),
        ("folder.glob(f'{release}/*.csv')", 1),
        ("pl.scan_csv(path, glob=False)", 0),
        ("folder.glob('*.csv')", 0),
        ("pl.read_parquet_metadata(path)", 0),
    ],
)
def test_a_name_that_is_read_as_a_pattern_is_found(text: str, n: int) -> None:
    assert len(patterns_in(text)) == n


def test_names_are_never_read_as_patterns(project_root: Path) -> None:
    """Polars expands `[`, `*` and `?` in paths unless told otherwise, and a user's folder may be called run[1]."""
    found = {str(path): patterns_in(path.read_text()) for path in sources(project_root)}
    assert {path: calls for path, calls in found.items() if calls} == {}


def test_rooms_and_papers_stand_where_the_documentation_says(project_root: Path) -> None:
    for name in (*PACKAGES, "docs/decisions", "benchmarks", "tests", "paeplatform/presets"):
        assert (project_root / name).is_dir(), name
    for name in (
        "pyproject.toml constraints.txt Makefile README.md CONTRIBUTING.md CHANGELOG.md LICENSE NOTICE .ci/run"
        " docs/architecture.md docs/img/data-flow.svg"
    ).split():
        assert (project_root / name).stat().st_size > 0, name


def test_every_make_command_in_the_documents_exists(project_root: Path) -> None:
    makefile = (project_root / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, flags=re.MULTILINE))
    documents = [
        project_root / "README.md",
        project_root / "CONTRIBUTING.md",
        *(project_root / "docs").rglob("*.md"),
    ]
    for document in documents:
        code = re.findall(
            r"`make ([a-z][a-z-]*)|^    make ([a-z][a-z-]*)", document.read_text(), flags=re.MULTILINE
        )
        used = {name for pair in code for name in pair if name}
        assert used <= targets, f"{document.name}: {sorted(used - targets)}"


def test_links_between_documents_lead_somewhere(project_root: Path) -> None:
    broken = []
    for document in [*project_root.glob("*.md"), *(project_root / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text()):
            if "://" not in link and not (document.parent / link).exists():
                broken.append(f"{document.relative_to(project_root)}: {link}")
    # pictures of running servers are taken after a run, so a checkout in the making may lack them
    assert [link for link in broken if not link.endswith(".png")] == []


def test_make_help_lists_every_target(project_root: Path) -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=project_root, capture_output=True, text=True, check=True
    )
    for target in ("demo", "test", "ui", "check", "bench", "clean"):
        assert f"make {target} " in shown.stdout


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml", "Makefile", ".ci/run"])
def test_no_file_names_a_package_index(project_root: Path, name: str) -> None:
    text = (project_root / name).read_text()
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links|--trusted-host", text)


def test_constraints_pin_every_requirement_within_its_range(project_root: Path, pyproject: dict) -> None:
    pinned = {canonicalize_name(name): Version(version) for name, version in pins(project_root).items()}
    extras = pyproject["project"]["optional-dependencies"]
    wanted = [
        *pyproject["project"]["dependencies"],
        *(line for name, lines in extras.items() if name != "cuda12" for line in lines),
    ]
    for requirement in map(Requirement, wanted):
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} against {version}"
        assert version.local is None, f"{requirement.name}: a local version exists on some machines only"


def test_no_requirement_of_ours_brings_cuda(project_root: Path, pyproject: dict) -> None:
    names = [*pins(project_root), *(Requirement(line).name for line in pyproject["project"]["dependencies"])]
    assert not [name for name in names if re.search(r"nvidia|cuda|triton|cudnn", name)]


def test_version_is_the_packages_own(pyproject: dict, project_root: Path) -> None:
    from paeplatform import __version__

    assert "version" in pyproject["project"]["dynamic"]
    assert pyproject["tool"]["hatch"]["version"]["path"] == "paeplatform/__init__.py"
    assert Version(__version__) > Version("0")
    assert str(Version(__version__)) == __version__


def test_sources_neither_pickle_nor_run_shell_strings(project_root: Path) -> None:
    found = []
    for path in sources(project_root):
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            names = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            )
            module = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            keywords = node.keywords if isinstance(node, ast.Call) else []
            shell = any(k.arg == "shell" and getattr(k.value, "value", True) for k in keywords)
            allowed = any(k.arg == "allow_pickle" and getattr(k.value, "value", True) for k in keywords)
            pickles = any(
                name.split(".")[0] in {"pickle", "cloudpickle", "dill", "joblib"}
                for name in [*names, *module]
            )
            if shell or allowed or pickles:
                found.append(f"{path.relative_to(project_root)}:{node.lineno}")
    assert found == []


def test_the_wheel_would_ship_the_data_files(project_root: Path, pyproject: dict) -> None:
    assert pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["paeplatform"]
    shipped = ["presets/demo.yaml", "sed/data/templates.parquet", "instrument/data/spherex_channels.csv"]
    shipped = [f"paeplatform/{name}" for name in shipped]
    ignored = subprocess.run(
        ["git", "check-ignore", *shipped, "mlruns/README.md"],
        cwd=project_root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ignored.stdout == "", "hatchling leaves out what git ignores"


def test_help_answers_without_the_heavy_libraries(project_root: Path) -> None:
    heavy = ("jax", "torch", "mlflow", "great_expectations", "matplotlib", "dagster")
    code = (
        "import sys; import paeplatform.cli; "
        f"print(sorted(name for name in {heavy!r} if name in sys.modules))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=project_root, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"
