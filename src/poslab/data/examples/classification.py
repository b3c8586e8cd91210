"""Texts and their classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from poslab.data.columns import Splits, as_written, class_names, is_missing, is_unlabelled
from poslab.data.examples.tables import ExampleFiles, ExampleTable, HubExamples, Rewrite, TableExamples
from poslab.data.kinds import ExampleKind, ReadingOptions, Rows, are_among, with_ends

if TYPE_CHECKING:
    from datasets import Dataset
    from pyarrow import ChunkedArray

    from poslab.data.tokenizers import Tokenizer

MIN_EXAMPLES = 20  # rows; fewer may each have their own class without a mistake


class ClassKind(ExampleKind):
    """Texts in the column `text`, and their classes in `label`: a string, or a list where a text may have several.

    A second text, as in entailment, is in `text_pair`. Two examples with the same texts are the same, since two
    classes of one text would contradict each other.
    """

    texts = read = ("text", "text_pair")
    kept = ("label",)
    stratify_by = "label"
    is_cut = True

    def tokenise(self, rows: Rows, tokenizer: Tokenizer, options: ReadingOptions) -> dict[str, list[Any]]:
        """Return `start text end`, or `start text end other end`, where `end` is the token that ends a document.

        Most tokenizers have no separate token for the start: a document then follows the end of another. A model
        that reads the last token has seen the whole text.
        """
        texts = [rows["text"], rows["text_pair"]] if "text_pair" in rows else [rows["text"]]
        tokens = [with_ends(tokenizer, *map(tokenizer.encode, row)) for row in zip(*texts, strict=True)]
        return {"tokens": tokens, "length": [len(row) for row in tokens]}

    def labels(self, splits: Mapping[str, Dataset]) -> list[str]:
        labels = (label for examples in splits.values() for label in examples["label"])
        names = {name for label in labels for name in ([label] if isinstance(label, str) else label)}
        if len(names) < 2:
            only = f"only {names.pop()!r}" if names else "none"
            raise ValueError(f"examples must be of at least two classes, and there is {only} among those that are kept")
        return sorted(names)

    def fit(self, columns: Mapping[str, ChunkedArray], names: Sequence[str]) -> bool:
        return are_among(columns["label"], names)


CLASSES = ClassKind("classification")


class LabelledTexts(TableExamples):
    """Texts and their classes: a column of text, perhaps a second one, and a column of classes or of lists of them.

    Classes have the names that a data set of the Hub gives them.

    Args:
        text: the column of the text (default `text`).
        text_pair: the column of a second text, as in entailment; None: there is none.
        label: the column of the class (default `label`), a word or a whole number, or a list of classes. Scores, as of
            STS-B, are not classes.
        separator: separates classes where an example may have several or none, such as `|` in `fast|cheap`; None: the
            whole cell is one class.
    """

    text: str = "text"
    text_pair: str | None = None
    label: str = "label"
    separator: str | None = None

    kind = CLASSES
    column_arguments = ("text", "text_pair", "label")
    optional = ("label",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.separator is not None and not self.separator.strip():
            raise ValueError(f"separator must be one or more characters, got {self.separator!r}")

    @property
    def settings(self) -> tuple[object, ...]:
        return () if self.separator is None else (self.separator,)

    def converter(self, table: ExampleTable) -> tuple[Rewrite, dict[str, Any]]:
        from datasets import LargeList, List, Value

        feature, separator, text = table.rows.features["label"], self.separator, Value("string")
        several = separator is not None or isinstance(feature, List | LargeList)
        single = feature.feature if isinstance(feature, List | LargeList) else feature
        name = class_names(single, self.label)
        texts = [column for column in ("text", "text_pair") if column in table.rows.column_names]

        def labelled(row: dict[str, Any], index: int) -> list[dict[str, Any]]:
            label = row["label"]
            if several:
                parts = label.split(separator) if separator is not None and isinstance(label, str) else label or []
                names = [as_written(name(part)).strip() for part in parts if not is_missing(part)]
                return [{column: row[column] for column in texts} | {"label": list(dict.fromkeys(filter(None, names)))}]
            if is_unlabelled(label, single):
                if self.leaves_out_gaps:
                    return []
                raise ValueError(f"label must be in every row, but {self.label!r} is empty in {table.row_name(index)}")
            return [{column: row[column] for column in texts} | {"label": name(label)}]

        return labelled, dict.fromkeys(texts, text) | {"label": List(text) if several else text}

    def examples(self) -> Splits:
        splits = super().examples()
        labels = splits["train"]["label"][:]
        different = {name for label in labels for name in (label if isinstance(label, list) else [label])}
        if len(labels) >= MIN_EXAMPLES and len(different) > len(labels) / 2:
            raise ValueError(
                f"label must name classes, and {self.label!r} contains {len(different):,} different values in "
                f"{len(labels):,} rows"
            )
        return splits


class ClassificationFile(LabelledTexts, ExampleFiles):
    """Texts and their classes in files."""

    title = "classification_file"

    @property
    def settings(self) -> tuple[object, ...]:
        return (self.separator,)


class HubClassification(LabelledTexts, HubExamples):
    """Texts and their classes on the Hub.

    Rows without a class (-1 or null) are left out. A split of only them, such as the tests of GLUE, raises an error:
    `test_split=validation` uses validation as test, and a part of training as validation.
    """

    title = "hub_classification"
