"""Questions by the type of their answers."""

from poslab.data.examples.columns import Splits, as_examples
from poslab.data.kinds.classes import CLASSES
from poslab.data.offline.packaged import NlpiaFile


class QuestionTypes(NlpiaFile):
    """Questions of TREC by the six coarse classes of their answers: ABBR, DESC, ENTY, HUM, LOC, NUM.

    The file repeats most questions; 5,381 are different. Those that differ in a word or two stay in one split.

    Source: Li, Roth, "Learning Question Classifiers" (COLING 2002).
    """

    split_version = 2
    title = "question_types"
    file = "question_labels.txt"
    kind = CLASSES

    def examples(self) -> Splits:
        # A line is `NUM:count How many ... ?`
        lines = self.paths[0].read_text(encoding="utf-8").split("\n")
        rows = [line.partition(" ") for line in lines if line.strip()]
        labels = [types.partition(":")[0] for types, _, _ in rows]
        return {"train": as_examples(text=[question.strip() for _, _, question in rows], label=labels)}
