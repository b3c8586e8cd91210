"""Questions whose answer is a span of a context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from poslab.data.kinds.kind import ExampleKind, Reading, Rows
from poslab.data.kinds.prepared import are_equal, are_within, sizes

if TYPE_CHECKING:
    from pyarrow import ChunkedArray

    from poslab.data.tokenizers import Tokenizer


class Spans(ExampleKind):
    """Texts in the columns `question` and `context`, and `answers`, a list of `{"text": string, "start": integer}`.

    `context[start:start + len(text)]` is the text; the list is empty where the context has no answer.
    """

    texts = read = ("question", "context")
    kept = ("context", "answers")

    def tokenise(self, rows: Rows, tokenizer: Tokenizer, reading: Reading) -> dict[str, list[Any]]:
        """Return `start question end context end`, and the places of the context and of the first answer in it.

        The tokens are as for classes. The first one stands for "no answer here", as in BERT's form of SQuAD 2.
        """
        start, end = np.array([tokenizer.start_id]), np.array([tokenizer.end_id])
        columns: dict[str, list[Any]] = {name: [] for name in ("tokens", "length", "first", "places", "span")}
        for question, context, answers in zip(rows["question"], rows["context"], rows["answers"], strict=True):
            before = np.concatenate([start, tokenizer.encode(question), end])
            within, places = tokenizer.encode_with_places(context)
            columns["tokens"].append(np.concatenate([before, within, end]))
            columns["length"].append(len(before) + len(within) + 1)
            columns["first"].append(len(before))
            columns["places"].append(places)
            columns["span"].append(_span(places, answers[0], len(before)) if answers else [0, 0])
        return columns

    def fit(self, columns: Mapping[str, ChunkedArray], names: Sequence[str]) -> bool:
        from pyarrow import compute

        ends, first, span = sizes(columns["tokens"]), columns["first"], columns["span"]
        if not (are_within(first, ends) and are_within(span, ends) and are_equal(sizes(span), 2)):
            return False
        of_context = compute.subtract(compute.subtract(ends, first), 1)
        return are_equal(sizes(columns["places"]), of_context)


def _span(places: np.ndarray, answer: Mapping[str, Any], first: int) -> list[int]:
    """Return the first and the last token of an answer."""
    start, stop = answer["start"], answer["start"] + len(answer["text"])
    touched = np.flatnonzero((places[:, 1] > start) & (places[:, 0] < stop))
    return [first + int(touched[0]), first + int(touched[-1])] if len(touched) else [0, 0]


SPANS = Spans("answers")
