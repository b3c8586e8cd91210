"""Texts with a tag for each word, such as the names of people and places in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from poslab.data.columns import as_written, is_missing
from poslab.data.examples.tables import ExampleFiles, ExampleTable, Rewrite
from poslab.data.kinds import ExampleKind, ReadingOptions, Rows, are_among, are_equal, are_within, sizes, with_ends

if TYPE_CHECKING:
    from datasets import Dataset
    from pyarrow import ChunkedArray

    from poslab.data.tokenizers import Tokenizer

OUTSIDE = "O"  # the tag of a word that belongs to nothing


class TagKind(ExampleKind):
    """Texts in the column `text`, whose words are separated by single spaces, and `tags`, a list of one for each word.

    Tags are in the form of CoNLL: `B-PER` begins a person, `I-PER` continues it, `O` is neither.
    """

    texts = read = ("text",)
    kept = ("tags",)

    def tokenise(self, rows: Rows, tokenizer: Tokenizer, options: ReadingOptions) -> dict[str, list[Any]]:
        """Return `start text end`, and the first token of each word; ValueError for a word without its own token."""
        columns: dict[str, list[Any]] = {"tokens": [], "firsts": [], "length": []}
        for text in rows["text"]:
            tokens, places = tokenizer.encode_with_places(text)
            words = text.split(" ")
            starts = np.cumsum([0, *(len(word) + 1 for word in words[:-1])])
            firsts = np.searchsorted(places[:, 1], starts, side="right")
            if len(without := np.flatnonzero(np.diff(firsts, append=len(tokens)) == 0)):
                word = words[without[0]]
                raise ValueError(f"tokenizer must give each word its own token, and {word[:40]!r} has none")
            columns["tokens"].append(with_ends(tokenizer, tokens))
            columns["firsts"].append((1 + firsts).tolist())
            columns["length"].append(len(tokens) + 2)
        return columns

    def labels(self, splits: Mapping[str, Dataset]) -> list[str]:
        names = {tag for examples in splits.values() for tags in examples["tags"] for tag in tags}
        if names <= {OUTSIDE}:
            raise ValueError(f"tags must name at least one thing, such as B-PER, and all of them are {OUTSIDE}")
        return sorted(names)

    def fit(self, columns: Mapping[str, ChunkedArray], names: Sequence[str]) -> bool:
        firsts, tags = columns["firsts"], columns["tags"]
        is_of_tokens = are_within(firsts, sizes(columns["tokens"]))
        return is_of_tokens and are_equal(sizes(firsts), sizes(tags)) and are_among(tags, names)


TAGS = TagKind("tags")


class TagsFile(ExampleFiles):
    """Sentences with a tag for each word, in files with a column each, one sentence a row.

    Words and tags are separated by white space; in JSON, JSON lines and Parquet each may also be a list.

    Args:
        words: the column of the words of a sentence (default `words`).
        tags: the column of their tags, as many (default `tags`): `O`, or `B-` and `I-` with a type.
    """

    words: str = "words"
    tags: str = "tags"

    title = "tags_file"
    kind = TAGS
    column_arguments = ("words", "tags")

    def converter(self, table: ExampleTable) -> tuple[Rewrite, dict[str, Any]]:
        from datasets import List, Value

        def tagged(row: dict[str, Any], index: int) -> list[dict[str, Any]]:
            row_name = table.row_name(index)
            words, tags = (_parts(row[name], name, column, row_name) for name, column in self.columns.items())
            if len(words) != len(tags):
                raise ValueError(
                    f"tags must be as many as words, but {row_name} has {len(tags)} tags for {len(words)} words"
                )
            if wrong := [tag for tag in tags if tag != OUTSIDE and (tag[:2] not in ("B-", "I-") or len(tag) < 3)]:
                raise ValueError(
                    f"tags must be {OUTSIDE}, or B- or I- with a type, as in B-PER, but {row_name} has {wrong[0]!r}"
                )
            return [{"text": " ".join(words), "tags": tags}]

        return tagged, {"text": Value("string"), "tags": List(Value("string"))}


def _parts(value: Any, argument: str, column: str, row_name: str) -> list[str]:
    """Return the words or tags of a cell; ValueError if there are none, or if an item is not a word."""
    parts = value if isinstance(value, list) else as_written(value).split()
    if not parts:
        raise ValueError(f"{argument} must be in every row, but {column!r} is empty in {row_name}")
    if wrong := [part for part in parts if isinstance(part, list | dict) or is_missing(part)]:
        raise ValueError(f"{argument} must be words, but {column!r} in {row_name} has {str(wrong[0])[:40]!r}")
    return ["".join(as_written(part).split()) for part in parts]
