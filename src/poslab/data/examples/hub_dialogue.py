"""Conversations from the Hugging Face Hub as pairs of context and reply."""

from typing import TYPE_CHECKING, Any

from poslab.arguments import Count
from poslab.data.examples.dialogue import replies
from poslab.data.examples.hub_examples import HubExamples, rewritten
from poslab.data.kinds.pairs import PAIRS

if TYPE_CHECKING:
    from datasets import Dataset


class HubDialogue(HubExamples):
    """Conversations, each a row with a list of turns: every turn but the first is a reply to those before it.

    A conversation stays in one split.

    Args:
        turns: the column of the turns, a list of texts (default `dialog`).
        context_turns: turns before a reply that are its context, a line a turn, at least 1; None: all (default).
        others: those of `HubExamples`; `document` groups conversations, None: each is one.
    """

    turns: str = "dialog"
    context_turns: Count | None = None

    title = "hub_dialogue"
    kind = PAIRS
    column_arguments = ("turns",)

    @property
    def settings(self) -> tuple[object, ...]:
        return (self.context_turns,)

    def from_rows(self, rows: "Dataset", split_argument: str) -> "Dataset":
        from datasets import LargeList, List, Value

        feature = rows.features["turns"]
        if not (isinstance(feature, List | LargeList) and "string" in str(getattr(feature.feature, "dtype", ""))):
            raise ValueError(f"turns must hold lists of texts, and {self.turns!r} holds {feature}")
        context_turns = self.context_turns

        def with_replies(row: dict[str, Any], index: int) -> list[dict[str, Any]]:
            pairs = replies([turn or "" for turn in row["turns"] or []], context_turns)
            document = str(row.get("document", index))
            return [{"source": source, "target": target, "document": document} for source, target in pairs]

        return rewritten(rows, with_replies, dict.fromkeys(("source", "target", "document"), Value("string")))
