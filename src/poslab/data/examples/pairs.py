"""Sources and what is to be written of them, as token ids and as batches."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from poslab.data.batch import IGNORE, PairBatch, TokenBatch, padded, unless_whole
from poslab.data.tokenizers import Tokenizer


def tokenised_pairs(
    batch: Mapping[str, Sequence[Any]], tokenizer: Tokenizer, joined: bool, source_length: int | None = None
) -> dict[str, list[Any]]:
    """Token ids of source and target, each with the end of a document, and the length of what is read at once.

    That is the longer one, or, where they are joined, both without the last end. Of a source `source_length` tokens are
    read, the end among them.
    """
    end = np.array([tokenizer.end_id])
    sources, targets = (
        [np.append(tokenizer.encode(text), end) for text in batch[column]] for column in ("source", "target")
    )
    if source_length is not None:
        sources = [np.append(source[:-1][: source_length - 1], end) for source in sources]
    lengths = [
        len(source) + len(target) - 1 if joined else max(len(source), len(target))
        for source, target in zip(sources, targets, strict=True)
    ]
    return {"source_tokens": sources, "target_tokens": targets, "length": lengths}


class PairBatches:
    """Makes batches for an encoder-decoder: a target begins, as it ends, with the token that ends a document.

    Args:
        end_id: that token.
    """

    columns = ("source_tokens", "target_tokens")
    measured = ()

    def __init__(self, end_id: int) -> None:
        self.end_id = end_id

    def __call__(self, rows: Mapping[str, Sequence[Any]], counts: np.ndarray) -> PairBatch:
        """The batch of these examples, of which some do not count."""
        source, real_source = padded([np.asarray(row) for row in rows["source_tokens"]])
        targets, real_target = padded([np.asarray(row) for row in rows["target_tokens"]])
        target = targets.roll(1, dims=1)
        target[:, 0] = self.end_id
        targets = targets.masked_fill(~real_target, IGNORE)
        targets[torch.from_numpy(~counts)] = IGNORE
        return PairBatch(source, unless_whole(real_source), target, targets)


class ContinuedBatches:
    """Makes batches for a decoder: the target follows the source in one text, and is all that is predicted of it."""

    columns = ("source_tokens", "target_tokens")
    measured = ()

    def __call__(self, rows: Mapping[str, Sequence[Any]], counts: np.ndarray) -> TokenBatch:
        """The batch of these examples, of which some do not count."""
        pairs = list(zip(rows["source_tokens"], rows["target_tokens"], strict=True))
        tokens, real = padded([np.concatenate(pair)[:-1] for pair in pairs])
        targets = torch.full_like(tokens, IGNORE)
        for place, (source, target) in enumerate(pairs):
            if counts[place]:
                first = len(source) - 1
                targets[place, first : first + len(target)] = torch.as_tensor(np.asarray(target, dtype=np.int64))
        return TokenBatch(tokens, targets, real=unless_whole(real))
