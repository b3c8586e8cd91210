"""Texts and their classes, from the Hugging Face Hub."""

from typing import TYPE_CHECKING, Any

from poslab.data.examples.cells import is_missing
from poslab.data.examples.hub_examples import HubExamples, rewritten
from poslab.data.hub_columns import class_names, is_unlabelled
from poslab.data.kinds.classes import CLASSES

if TYPE_CHECKING:
    from datasets import Dataset


class HubClassification(HubExamples):
    """Texts and their classes: a column of text, perhaps a second one, and a column of classes or of lists of them.

    Classes have the names that the data set gives them. Rows without a class (-1 or null) are left out. A split of them
    alone, such as the tests of GLUE, is refused: `test_split=validation` lets validation serve as test, and a part of
    training as validation.

    Args:
        text: the column of the text (default `text`).
        text_pair: the column of a second text, as in entailment; None: there is none.
        label: the column of the class (default `label`). Scores, as of STS-B, are not classes.
        others: those of `HubExamples`.
    """

    text: str = "text"
    text_pair: str | None = None
    label: str = "label"

    title = "hub_classification"
    kind = CLASSES
    column_arguments = ("text", "text_pair", "label")

    def from_rows(self, rows: "Dataset", split_argument: str) -> "Dataset":
        from datasets import LargeList, List, Value

        feature = rows.features["label"]
        several = isinstance(feature, List | LargeList)
        one = feature.feature if several else feature
        name = class_names(one, self.label)
        text = Value("string")
        types = dict.fromkeys(rows.column_names, text) | {"label": List(text) if several else text}

        def named(row: dict[str, Any], index: int) -> list[dict[str, Any]]:
            label = row["label"]
            if any(map(is_missing, row.values())) or is_unlabelled(label, one):
                return []
            return [row | {"label": [name(value) for value in label] if isinstance(label, list) else name(label)}]

        examples = rewritten(rows, named, types)
        if not len(examples):
            raise ValueError(
                f"{split_argument} must have classes, and those of {getattr(self, split_argument)!r} are not published"
            )
        return examples
