"""The documentation against the project: links, commands with their options, and paths of files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import typer
from markdown.extensions.toc import slugify

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [
        *ROOT.glob("*.md"),
        ROOT / "mlruns/README.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "deploy").rglob("*.md"),
    ]
)
FOLDERS = "paeplatform assets resources sensors docs deploy scripts benchmarks tests".split()
NO_PATH = re.compile(
    r"[<*{]|^docs/results/|^paeplatform/gate$"
)  # with a placeholder; written by a run; a tag


def fenced(text: str) -> list[str]:
    """Lines of code blocks, those of continued commands joined."""
    lines, inside = [], False
    for line in text.splitlines():
        if line.lstrip().startswith(("```", "~~~")):
            inside = not inside
        elif inside or line.startswith("    "):
            lines.append(line.strip())
    return "\n".join(lines).replace("\\\n", " ").splitlines()


def inline(text: str) -> list[str]:
    """Code within sentences and tables."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(text: str) -> set[str]:
    """Names of a page's headings, as GitHub and the site make them."""
    outside = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
    return {
        slugify(re.sub(r"\[([^]]*)\]\([^)]*\)|[`*]", r"\1", heading), "-")
        for heading in re.findall(r"^#+ (.+)$", outside, flags=re.MULTILINE)
    }


def broken_links(page: str, text: str) -> list[str]:
    broken = []
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", text):
        if "://" in target or target.startswith("mailto:"):
            continue
        path = (ROOT / page).parent / target if target else ROOT / page
        if not path.exists():
            broken.append(target)
        elif anchor and path.suffix == ".md" and anchor not in anchors(path.read_text()):
            broken.append(f"{target}#{anchor}")
    return broken


@pytest.fixture(scope="module")
def command() -> click.Group:
    from paeplatform.cli import app

    found = typer.main.get_command(app)
    assert hasattr(found, "commands")
    return found


def unknown(words: list[str], group: click.Group) -> str | None:
    """What a command line names that the program does not have."""
    node, rest = group, words
    while rest and hasattr(node, "commands"):
        if rest[0] not in node.commands:
            return None if re.match(r"[-<\[.]|$", rest[0]) else f"no command {rest[0]!r}"
        node, rest = node.commands[rest[0]], rest[1:]
    known = {option for parameter in node.params for option in (*parameter.opts, *parameter.secondary_opts)}
    given = [word.strip("[],").split("=")[0] for word in rest if word.strip("[").startswith("--")]
    missing = [option for option in given if option not in {*known, "--help"}]
    return f"{' '.join(words)}: no option {missing}" if missing else None


def commands_of(text: str) -> list[list[str]]:
    found = []
    for line in [*fenced(text), *inline(text)]:
        called = re.match(r"(?:\$ )?(?:\.venv/bin/)?paeplatform +([a-z].*)", line)
        if called:
            words = re.split(r"\s[#|>&;(]|$", called[1], maxsplit=1)[0]
            found.append(shlex.split(words))
    return found


def missing_paths(text: str) -> list[str]:
    names = [
        name.rstrip("/")
        for code in inline(text)
        for name in re.findall(rf"^(?:(?:{'|'.join(FOLDERS)})/\S+)$", code)
        if not NO_PATH.search(name)
    ]
    return [name for name in names if not (ROOT / name.split(":")[0]).exists()]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    assert broken_links(page, (ROOT / page).read_text()) == []


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_their_options_exist(page: str, command: click.Group) -> None:
    wrong = [unknown(words, command) for words in commands_of((ROOT / page).read_text())]
    assert [line for line in wrong if line] == []


@pytest.mark.parametrize("page", PAGES)
def test_paths_of_the_repository_exist(page: str) -> None:
    assert missing_paths((ROOT / page).read_text()) == []


def test_the_table_of_commands_is_complete_and_right(command: click.Group) -> None:
    rows = re.findall(r"^\| (`[a-z].*?) \| (.*) \|$", (ROOT / "docs/cli.md").read_text(), flags=re.MULTILINE)
    named = set()
    for names, text in rows:
        for name in re.findall(r"`([a-z][a-z-]*(?: [a-z]+)?)", names):
            top = name.split()[0]
            if top not in command.commands:
                continue
            named.add(top)
            node = command.commands[top]
            known = {o for p in node.params for o in (*p.opts, *p.secondary_opts)}
            options = re.findall(r"`(--[a-z-]+)", f"{names} {text}")
            assert not [option for option in options if option not in known], name
    assert named == set(command.commands)


@pytest.mark.parametrize("page", [p for p in PAGES if not p.startswith(("docs/results/", "CHANGELOG"))])
def test_pages_name_no_row_of_a_specification(page: str) -> None:
    assert re.findall(r"\b[Rr]ows? [A-Z]\d", (ROOT / page).read_text()) == []


def test_what_the_checks_look_for_is_found(command: click.Group) -> None:
    assert broken_links("README.md", "[a](docs/none.md) [b](docs/cli.md#none) [c](docs/cli.md#exports)") == [
        "docs/none.md",
        "docs/cli.md#none",
    ]
    text = (
        "    paeplatform run --nothing x  # why --not\n\n`paeplatform nowhere`, `paeplatform run --select a`"
    )
    wrong = [unknown(words, command) for words in commands_of(text)]
    assert wrong == ["run --nothing x: no option ['--nothing']", "no command 'nowhere'", None]
    assert missing_paths("`docs/none.md` `paeplatform/<package>/` `docs/cli.md`") == ["docs/none.md"]
