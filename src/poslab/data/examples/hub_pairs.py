"""Pairs of texts, from the Hugging Face Hub."""

from typing import TYPE_CHECKING, Any

from poslab.data.examples.cells import is_missing
from poslab.data.examples.hub_examples import HubExamples
from poslab.data.kinds.pairs import PAIRS

if TYPE_CHECKING:
    from datasets import Dataset


class HubPairs(HubExamples):
    """Texts and their targets: a translation, a summary, an answer.

    Args:
        source: the column of the text (default `source`).
        target: the column of its target (default `target`).
        others: those of `HubExamples`.
    """

    source: str = "source"
    target: str = "target"

    title = "hub_pairs"
    kind = PAIRS
    column_arguments = ("source", "target")

    def from_rows(self, rows: "Dataset", split_argument: str) -> "Dataset":
        return rows.filter(_are_whole, batched=True, load_from_cache_file=False)


def _are_whole(batch: dict[str, list[Any]]) -> list[bool]:
    return [
        not (is_missing(source) or is_missing(target))
        for source, target in zip(batch["source"], batch["target"], strict=True)
    ]
