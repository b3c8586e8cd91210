"""Pairs of texts: a source, and the target to be written from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from poslab.data.kinds.kind import ExampleKind, Reading, Rows

if TYPE_CHECKING:
    from poslab.data.tokenizers import Tokenizer


class Pairs(ExampleKind):
    """Texts in the columns `source` and `target`, such as a sentence and its translation.

    A text may be translated, summarised or answered in two ways, so only equal pairs are the same example. No two
    splits share a source.
    """

    texts = ("source", "target")
    read = ("source",)
    kept = ("source", "target")
    has_sources = True

    def tokenise(self, rows: Rows, tokenizer: Tokenizer, reading: Reading) -> dict[str, list[Any]]:
        """Return the tokens of source and target, each with the end of a document.

        `length` is that of the longer one, or, where they are joined, of both without the last end.
        """
        end = np.array([tokenizer.end_id])
        sources, targets = (
            [np.append(tokenizer.encode(text), end) for text in rows[column]] for column in ("source", "target")
        )
        if reading.source_length is not None:
            sources = [np.append(source[:-1][: reading.source_length - 1], end) for source in sources]
        lengths = [
            len(source) + len(target) - 1 if reading.joined else max(len(source), len(target))
            for source, target in zip(sources, targets, strict=True)
        ]
        return {"source_tokens": sources, "target_tokens": targets, "length": lengths}


PAIRS = Pairs("pairs")
