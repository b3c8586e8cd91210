"""A hook of MkDocs: pages and links of the repository outside docs/, tables and search as the site needs them.

A link to a file of the repository that is not a page of the site, such as conf/train.yaml, becomes its text with the
path as code, because the site does not hold that file. A link to a file that does not exist is a warning, which a
strict build refuses.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs"
OUTSIDE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
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
    """Add the pages that stand outside docs/."""
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


def _prose(text: str, source: str, page: Page) -> str:
    linked = LINK.sub(lambda link: _link(link, source, page), text)
    # GitHub wants a bar in the code of a table escaped; Python-Markdown shows the backslash.
    return CELLS.sub(lambda row: re.sub(r"`[^`]*`", lambda code: code[0].replace(r"\|", "|"), row[0]), linked)


def _link(link: re.Match[str], source: str, page: Page) -> str:
    path, hash_, anchor = link["target"].partition("#")
    if not path or "://" in path or path.startswith("mailto:"):
        return link[0]
    there = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if not (ROOT / there).exists():
        log.warning("%s links to %s, which does not exist", source, path)
        return link[0]
    at = OUTSIDE.get(there) or (there.removeprefix(f"{DOCS}/") if there.startswith(f"{DOCS}/") else None)
    if at is None or at.endswith((".py", ".json")):
        plain = link["text"].strip("`")
        return f"`{there}`" if plain in there else f"{link['text']} (`{there}`)"
    start = posixpath.dirname(page.file.src_uri) or "."
    return f"[{link['text']}]({posixpath.relpath(at, start)}{hash_}{anchor})"
