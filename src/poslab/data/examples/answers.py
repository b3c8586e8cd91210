"""Questions whose answer is a span of a context, as token ids and as batches.

A question is read with its context, as `end question end context end`, where `end` is the token that ends a document.
The first of them stands for "no answer here", as in BERT's form of SQuAD 2.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from poslab.data.batch import IGNORE, SpanBatch, padded
from poslab.data.context import Context
from poslab.data.tokenizers import Tokenizer


def tokenised_answers(batch: Mapping[str, Sequence[Any]], tokenizer: Tokenizer) -> dict[str, list[Any]]:
    """Token ids and length of each question with its context, and where context and first answer are among them."""
    end = np.array([tokenizer.end_id])
    columns: dict[str, list[Any]] = {name: [] for name in ("tokens", "length", "first", "places", "span")}
    for question, context, answers in zip(batch["question"], batch["context"], batch["answers"], strict=True):
        asked = np.concatenate([end, tokenizer.encode(question), end])
        told, places = tokenizer.encode_with_places(context)
        columns["tokens"].append(np.concatenate([asked, told, end]))
        columns["length"].append(len(asked) + len(told) + 1)
        columns["first"].append(len(asked))
        columns["places"].append(places)
        columns["span"].append(_span(places, answers[0], len(asked)) if answers else [0, 0])
    return columns


def _span(places: np.ndarray, answer: Mapping[str, Any], first: int) -> list[int]:
    """The first and the last token of an answer."""
    start, stop = answer["start"], answer["start"] + len(answer["text"])
    touched = np.flatnonzero((places[:, 1] > start) & (places[:, 0] < stop))
    return [first + int(touched[0]), first + int(touched[-1])] if len(touched) else [0, 0]


class AnswerBatches:
    """Makes batches of questions with their contexts."""

    columns = ("tokens", "first", "span")
    measured = ("places", "context", "answers")

    def __call__(self, rows: Mapping[str, Sequence[Any]], counts: np.ndarray) -> SpanBatch:
        """The batch of these examples, of which some do not count; without texts where the rows have none."""
        tokens, real = padded([np.asarray(row) for row in rows["tokens"]])
        place_T = torch.arange(tokens.shape[1])
        first_B1 = torch.as_tensor(np.asarray(rows["first"], dtype=np.int64)).unsqueeze(-1)
        last_B1 = real.sum(-1, keepdim=True) - 1
        answerable = ((place_T >= first_B1) & (place_T < last_B1)) | (place_T == 0)
        spans = torch.as_tensor(np.asarray(rows["span"], dtype=np.int64))
        spans[torch.from_numpy(~counts)] = IGNORE
        if "context" not in rows:
            return SpanBatch(tokens, real, answerable, spans)
        right = [[answer["text"] for answer in answers] for answers in rows["answers"]]
        contexts = [
            Context(text, int(first), np.asarray(places))
            for text, first, places in zip(rows["context"], rows["first"], rows["places"], strict=True)
        ]
        return SpanBatch(tokens, real, answerable, spans, contexts, right)
