"""English and translated manual pages, aligned paragraph by paragraph."""

import gzip
import os
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from poslab.configuration.build import nearest
from poslab.data.examples.columns import Splits, as_examples
from poslab.data.examples.fingerprint import fingerprint
from poslab.data.examples.source import ExampleSource
from poslab.data.kinds.pairs import PAIRS
from poslab.data.offline.roff import paragraphs, plain
from poslab.data.source import require_text
from poslab.io.files import NotInstalledError

# The mark of the pages in Debian's manpages and manpages-dev; those of other packages differ from machine to machine.
PROJECT = re.compile(rb"^\.TH .*Linux man-pages", re.MULTILINE)
A_WORD = re.compile(r"[^\W\d_]{2}")


class ManualPages(ExampleSource):
    """Paragraphs of the Linux man-pages in English, to be translated.

    A translation keeps the macros of its page, so that paragraphs correspond by their place; a page whose macros differ
    is left out whole, as are paragraphs that are not translated, code and tables. Macros and escapes become plain text.
    `document` is the page.

    The pages come from Debian (or Ubuntu): apt-get install manpages manpages-dev manpages-fr manpages-fr-dev. A slim
    container leaves out /usr/share/man on installing: delete the path-exclude of it in /etc/dpkg/dpkg.cfg.d first.

    Args:
        language: of the translation, the name of its folder: `fr` (default), `de`, `es`, ...
        folder: of the pages, and of the languages' folders (default `/usr/share/man`).
        others: those of `ExampleSource`.
    """

    language: str = "fr"
    folder: str = "/usr/share/man"

    title = "manual_pages"
    kind = PAIRS

    def __post_init__(self) -> None:
        super().__post_init__()
        require_text("language", self.language)
        require_text("folder", self.folder)

    def check(self) -> None:
        super().check()
        if not any(self._translated()):
            packages = f"manpages manpages-dev manpages-{self.language} manpages-{self.language}-dev"
            languages = sorted(path.parent.name for path in self._root.glob("*/man2"))
            choices = f" or one of the languages {', '.join(languages)}" if languages else ""
            raise NotInstalledError(
                f"dataset=manual_pages needs Debian's packages {packages}{choices}{nearest(self.language, languages)}:"
                f" apt-get install {packages}"
            )

    @cached_property
    def identity(self) -> str:
        return fingerprint([path for pair in self.pages for path in pair])

    @cached_property
    def pages(self) -> list[tuple[Path, Path]]:
        """English pages and their translations."""
        return [pair for pair in self._translated() if PROJECT.search(gzip.decompress(pair[0].read_bytes()))]

    def examples(self) -> Splits:
        sources, targets, documents = [], [], []
        for page, translation in self.pages:
            for source, target in aligned(_read(page), _read(translation)):
                sources.append(source)
                targets.append(target)
                documents.append(str(page.relative_to(self._root)).removesuffix(".gz"))
        return {"train": as_examples(source=sources, target=targets, document=documents)}

    @property
    def _root(self) -> Path:
        return Path(os.path.expanduser(self.folder))

    def _translated(self) -> Iterator[tuple[Path, Path]]:
        """Yield pages with a translation, in order of their names; no links, since many functions share a page."""
        for page in sorted(self._root.glob("man[1-8]/*.gz")):
            translation = self._root / self.language / page.relative_to(self._root)
            if translation.is_file() and not page.is_symlink():
                yield page, translation


def aligned(page: str, translation: str) -> list[tuple[str, str]]:
    """Return paragraphs of a page and of its translation, as plain text, those that differ and hold a word.

    There are none where the kinds of their paragraphs differ in number or order.

    Args:
        page: in roff.
        translation: the same; it may end with a section of its own, which names the translators.
    """
    ours, theirs = paragraphs(page), paragraphs(translation)
    if ours is None or theirs is None:
        return []
    more = theirs[len(ours) :]
    if [p.kind for p in ours] != [p.kind for p in theirs[: len(ours)]] or (more and more[0].kind != "section"):
        return []
    pairs = [(plain(p.text), plain(q.text)) for p, q in zip(ours, theirs, strict=False)]
    return [(p, q) for p, q in pairs if p and q and p != q and A_WORD.search(p)]


def _read(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode("utf-8", errors="replace")
