"""Pairs of texts: a translation, a summary, a reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from poslab.arguments import Count
from poslab.data.examples.tables import ExampleFiles, ExampleTable, HubExamples, Rewrite, TableExamples
from poslab.data.kinds import ExampleKind, ReadingOptions, Rows

if TYPE_CHECKING:
    from poslab.data.tokenizers import Tokenizer


class PairKind(ExampleKind):
    """Texts in the columns `source` and `target`, such as a sentence and its translation.

    A text may be translated, summarised or answered in two ways, so only equal pairs are the same example. No two
    splits share a source.
    """

    texts = ("source", "target")
    read = ("source",)
    kept = ("source", "target")
    has_sources = True

    def tokenise(self, rows: Rows, tokenizer: Tokenizer, options: ReadingOptions) -> dict[str, list[Any]]:
        """Return the tokens of source and target, each with the end of a document.

        `length` is the longer one's, or, where they are joined, of both without the last end.
        """
        end = np.array([tokenizer.end_id])
        sources, targets = (
            [np.append(tokenizer.encode(text), end) for text in rows[column]] for column in ("source", "target")
        )
        if options.source_length is not None:
            sources = [np.append(source[:-1][: options.source_length - 1], end) for source in sources]
        lengths = [
            len(source) + len(target) - 1 if options.joined else max(len(source), len(target))
            for source, target in zip(sources, targets, strict=True)
        ]
        return {"source_tokens": sources, "target_tokens": targets, "length": lengths}


PAIRS = PairKind("pairs")


class TextPairs(TableExamples):
    """Texts and their targets, in a column each."""

    source: str = "source"
    target: str = "target"

    kind = PAIRS
    column_arguments = ("source", "target")

    def converter(self, table: ExampleTable) -> tuple[Rewrite, dict[str, Any]]:
        from datasets import Value

        def pair(row: dict[str, Any], index: int) -> list[dict[str, Any]]:
            return [{"source": row["source"], "target": row["target"]}]

        return pair, dict.fromkeys(("source", "target"), Value("string"))


class PairsFile(TextPairs, ExampleFiles):
    """Texts and their targets in files."""

    title = "pairs_file"


class HubPairs(TextPairs, HubExamples):
    """Texts and their targets on the Hub."""

    title = "hub_pairs"


class HubDialogue(HubExamples):
    """Conversations, each a row with a list of turns: every turn but the first is a reply to those before it.

    A conversation stays in one split.

    Args:
        turns: the column of the turns, a list of texts (default `dialog`).
        context_turns: turns before a reply that are its context, a line a turn, at least 1; None: all (default).
        others: as in `HubExamples`; `document` groups conversations, None: each is one.
    """

    turns: str = "dialog"
    context_turns: Count | None = None

    title = "hub_dialogue"
    kind = PAIRS
    column_arguments = optional = ("turns",)

    @property
    def settings(self) -> tuple[object, ...]:
        return (self.context_turns,)

    def converter(self, table: ExampleTable) -> tuple[Rewrite, dict[str, Any]]:
        from datasets import LargeList, List, Value

        feature = table.rows.features["turns"]
        if not (isinstance(feature, List | LargeList) and "string" in str(getattr(feature.feature, "dtype", ""))):
            raise ValueError(f"turns must contain lists of texts, and {self.turns!r} contains {feature}")
        context_turns = self.context_turns

        def with_replies(row: dict[str, Any], index: int) -> list[dict[str, Any]]:
            pairs = replies([turn or "" for turn in row["turns"] or []], context_turns)
            return [{"source": source, "target": target, "document": str(index)} for source, target in pairs]

        return with_replies, dict.fromkeys(("source", "target", "document"), Value("string"))


def replies(turns: Sequence[str], context_turns: int | None) -> list[tuple[str, str]]:
    """Return every turn but the first as a reply to those before it: pairs of context, a line a turn, and reply.

    Empty turns do not count, and without `context_turns` all turns before a reply are its context.

    Example: the turns a, b, c with two turns of context give (a, b), (a\\nb, c).
    """
    lines = [line for turn in turns if (line := " ".join(turn.split()))]
    return [
        ("\n".join(lines[max(0, number - (context_turns or number)) : number]), lines[number])
        for number in range(1, len(lines))
    ]
