"""Hooks of the documentation site (`mkdocs.yml`), so that the pages read well both in the repository and as a site.

- README.md becomes the front page; CONTRIBUTING.md and CHANGELOG.md become pages.
- A file outside docs/ that a page links to (a YAML file of rules, a Dockerfile) becomes a page that shows its text.
- One page of API reference per Python package is made from the folders as they are, so moving a module needs no edit.
- Numbered lists are indented as the site's Markdown needs it.
- Formulas in TeX notation become MathML, which browsers draw without a script or a network.
"""

from __future__ import annotations

import html
import os
import posixpath
import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
PACKAGES = ("paeplatform", "assets", "resources", "sensors")
LINK = re.compile(r"(\]\()([^)#\s]*)((?:#[^)\s]*)?\))")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", "Dockerfile": "dockerfile"}


def repository_path(src_uri: str) -> str:
    """Where in the repository a page of the site has its text."""
    return next((path for path, page in PAGES.items() if page == src_uri), f"docs/{src_uri}")


def site_path(path: str) -> str:
    """The page of the site that shows a file of the repository."""
    if path in PAGES:
        return PAGES[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else f"source/{path}.md"


def links(text: str, source: str) -> list[tuple[re.Match[str], str]]:
    """Relative links of a page, each with the path in the repository that it leads to."""
    found = []
    for match in LINK.finditer(text):
        target = match[2]
        if target and "://" not in target and not target.startswith("mailto:"):
            found.append((match, posixpath.normpath(posixpath.join(posixpath.dirname(source), target))))
    return found


def source_page(path: str) -> str:
    """A file of the repository, or the list of a folder's files, as a page."""
    place = ROOT / path
    if place.is_dir():
        files = sorted(str(file.relative_to(place)) for file in place.rglob("*") if file.is_file())
        return f"# {path}\n\nThis folder of the repository holds:\n\n" + "".join(
            f"- `{name}`\n" for name in files
        )
    language = LANGUAGES.get(place.suffix or place.name, "text")
    return f"# {path}\n\n~~~~~{language}\n{place.read_text(encoding='utf-8').rstrip()}\n~~~~~\n"


def packages() -> list[str]:
    """Dotted names of the Python packages, in the order of their folders.

    The folders beside `paeplatform` are imported under its name, by the links in it.
    """
    return [
        ".".join(("paeplatform", *folder.relative_to(ROOT).parts)).replace(
            "paeplatform.paeplatform", "paeplatform"
        )
        for package in PACKAGES
        for folder in sorted([ROOT / package, *(ROOT / package).rglob("*")])
        if folder.is_dir() and not folder.is_symlink() and (folder / "__init__.py").is_file()
    ]


def reference_page(package: str) -> str:
    """The API reference of one package: its own docstring, then each of its modules."""
    folder = ROOT / package.replace(".", "/")
    modules = sorted(file.stem for file in folder.glob("*.py") if not file.stem.startswith("__"))
    head = f"# {package}\n\n::: {package}\n    options: {{show_root_heading: false}}\n\n"
    return head + "\n".join(f"::: {package}.{module}\n" for module in modules)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the pages of the API reference to the navigation."""
    config.nav.append({"API reference": [{name: f"reference/{name}.md"} for name in packages()]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made from files outside docs/."""
    for path, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text(encoding="utf-8")))
    for package in packages():
        files.append(File.generated(config, f"reference/{package}.md", content=reference_page(package)))
    linked = {
        path
        for file in files.documentation_pages()
        if not file.src_uri.startswith("reference/")
        for _, path in links(file.content_string, repository_path(file.src_uri))
    }
    for path in sorted(linked):
        outside = not path.startswith(("docs/", "../")) and path not in PAGES
        if outside and (ROOT / path).exists():
            files.append(File.generated(config, site_path(path), content=source_page(path)))
    return files


def deepen_lists(markdown: str) -> str:
    """Indents what belongs to a numbered item by four spaces, as Python-Markdown asks; GitHub is content with three."""
    lines, inside = [], False
    for line in markdown.split("\n"):
        if re.match(r"\d+\. ", line):
            inside = True
        elif line and not line.startswith(" "):
            inside = False
        lines.append(f" {line}" if inside and line.startswith("   ") else line)
    return "\n".join(lines)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links between files of the repository into links between pages of the site."""
    here = page.file.src_uri
    if here.startswith(("reference/", "source/")):
        return markdown
    text, end = [], 0
    for match, path in links(markdown, repository_path(here)):
        target = site_path(path)
        if path.startswith("docs/") and (ROOT / path).is_dir():
            target += "/README.md"
        text += [
            markdown[end : match.start()],
            match[1],
            os.path.relpath(target, posixpath.dirname(here) or "."),
            match[3],
        ]
        end = match.end()
    return deepen_lists("".join([*text, markdown[end:]]))


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Draws formulas as MathML."""

    def drawn(match: re.Match[str]) -> str:
        display = "block" if match[2] == "[" else "inline"
        return convert(html.unescape(match[3]).strip(), display=display)

    return FORMULA.sub(drawn, content)
