"""A hook of MkDocs: pages and links of the repository outside docs/, tables and search as the site needs them.

The pages encodings/ and reference/ are built from the code and conf/ each time. A link to a file of conf/ that has a
section there, such as conf/encoding/alibi.yaml, leads to that section. A link to another file of the repository, such
as conf/train.yaml, becomes its text with the path as code, because the site does not have that file. A link to a file
that does not exist is a warning, which fails a strict build.
"""

from __future__ import annotations

import logging
import posixpath
import re
import sys
from functools import cache
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs"
OUTSIDE = {
    "CHANGELOG.md": "changelog.md",
    ".github/CONTRIBUTING.md": "contributing.md",
    "comparisons/README.md": "reference/comparisons.md",
    "sweeps/README.md": "reference/sweeps.md",
}
"""Pages of the site that are files outside docs/, by their paths in the repository."""

FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[(?P<text>[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)?)\]\((?P<target>[^()\s]+)\)")
CELLS = re.compile(r"^\|.*\|$", re.MULTILINE)
TABLE = re.compile(r"<table>(?=\s*<thead>\s*<tr>\s*<th>[^<]*</th>\s*<th>(?P<second>\w+)</th>)")
"""The start of a table, with the word above its second column."""

log = logging.getLogger("mkdocs.hooks.site")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are built, and those that are files outside docs/."""
    for path, text in _built_pages().items():
        files.append(File.generated(config, path, content=text))
    for source, page in OUTSIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_post_build(config: MkDocsConfig) -> None:
    """Write the index of the search as a script too, which a page that is opened from a folder may read."""
    folder = Path(config.site_dir) / "search"
    index = (folder / "search_index.json").read_text(encoding="utf-8")
    (folder / "search_index.js").write_text(f"var __index = {index}", encoding="utf-8")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the text of a page with its links and tables as the site needs them."""
    origins = {to: source for source, to in OUTSIDE.items()}
    source = origins.get(page.file.src_uri, f"{DOCS}/{page.file.src_uri}")
    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [_prose(markdown[end : fence.start()], source, page), fence[0]]
        end = fence.end()
    return "".join([*parts, _prose(markdown[end:], source, page)])


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return a page whose tables name their second column, for the style sheet."""
    return TABLE.sub(lambda table: f'<table data-second="{table["second"].lower()}">', html)


@cache
def _built_pages() -> dict[str, str]:
    """Return the text of the pages encodings/ and reference/, by their paths in the site."""
    sys.path[:0] = [str(ROOT / DOCS), str(ROOT / "src")]
    from hydra import initialize_config_dir
    from pages import encodings, reference

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return {path.as_posix(): text for path, text in {**encodings.pages(), **reference.pages()}.items()}


@cache
def _sections() -> dict[str, str]:
    """Return the built page, with its anchor, of each file or folder of the repository that has one."""
    pages = {f"src/poslab/{path.removesuffix('.md')}": path for path in _built_pages() if path.startswith("encodings/")}
    pages |= {"conf": "reference/configuration.md", "src": "reference/commands.md"}
    for path, text in _built_pages().items():
        folder, name = posixpath.split(path.removesuffix(".md"))
        titles = re.findall(r"^## (\S+)$", text, re.MULTILINE)
        if folder == "reference/conf":
            pages[f"conf/{name}"] = path
            for title in titles:
                pages.setdefault(f"conf/{name}/{title}.yaml", f"{path}#{title.lower().replace('/', '')}")
        elif name in ("positions", "temperature"):
            pages |= {f"conf/{title.replace('=', '/')}.yaml": f"{path}#{title.replace('=', '')}" for title in titles}
        elif folder == "encodings":
            pages |= {f"conf/encoding/{title}.yaml": f"{path}#{title}" for title in titles}
    return pages


def _prose(text: str, source: str, page: Page) -> str:
    linked = LINK.sub(lambda link: _link(link, source, page), text)
    # GitHub wants a bar in the code of a table escaped; Python-Markdown shows the backslash.
    return CELLS.sub(lambda row: re.sub(r"`[^`]*`", lambda code: code[0].replace(r"\|", "|"), row[0]), linked)


def _link(link: re.Match[str], source: str, page: Page) -> str:
    path, hash_, anchor = link["target"].partition("#")
    if not path or "://" in path or path.startswith("mailto:"):
        return link[0]
    there = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if not (ROOT / there).exists() and there.removeprefix(f"{DOCS}/") not in _built_pages():
        log.warning("%s links to %s, which does not exist", source, path)
        return link[0]
    if section := _sections().get(there):
        page_path, _, anchor = section.partition("#")
        hash_ = "#" if anchor else ""
        there = f"{DOCS}/{page_path}"
    at = OUTSIDE.get(there) or (there.removeprefix(f"{DOCS}/") if there.startswith(f"{DOCS}/") else None)
    if at is None or at.endswith((".py", ".json")):
        plain = link["text"].strip("`")
        return f"`{there}`" if plain in there else f"{link['text']} (`{there}`)"
    start = posixpath.dirname(page.file.src_uri) or "."
    return f"[{link['text']}]({posixpath.relpath(at, start)}{hash_}{anchor})"
