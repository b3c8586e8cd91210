"""Documents kept apart within a window."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from poslab.data.batch import IGNORE
from poslab.data.corpus import bytes_per_token
from poslab.data.text_files import TextFiles
from poslab.data.tokenizers import ByteTokenizer, SubwordTokenizer
from poslab.tasks.language_modelling import next_token_batch


def test_segments_count_documents_and_no_target_crosses_an_end() -> None:
    batch = next_token_batch(np.array([[5, 9, 6, 7, 9, 9, 8]], dtype=np.uint16), boundary=9)
    assert batch.tokens.tolist() == [[5, 9, 6, 7, 9, 9]]
    assert batch.targets.tolist() == [[9, IGNORE, 7, 9, IGNORE, IGNORE]]
    assert batch.segments is not None
    assert batch.segments.tolist() == [[0, 0, 1, 1, 1, 2]]


def test_every_token_but_the_first_of_each_document_is_predicted_once(
    text: dict[str, Any], attach: Callable[..., Any]
) -> None:
    datamodule = attach(TextFiles(document_boundaries=True, **text))
    end = datamodule.tokenizer.end_id
    tokens = datamodule.splits._tokens["validation"].ids.tolist()
    expected = [after for before, after in pairwise(tokens) if before != end]
    size = sum(len(datamodule.tokenizer.decode([token]).encode()) for token in expected)
    for loader in datamodule.val_dataloader():
        batches = list(loader)
        assert [t for batch in batches for t in batch.targets.flatten().tolist() if t != IGNORE] == expected
    assert datamodule.splits.bytes_per_token["validation"] == size / len(expected)


def test_windows_number_their_documents(text: dict[str, Any], attach: Callable[..., Any]) -> None:
    text |= {"sequence_length": 2000, "length_multiples": [1]}
    datamodule = attach(TextFiles(document_boundaries=True, **text))
    tokens, _, segments, *_ = next(iter(datamodule.train_dataloader()))
    for row, numbers in zip(tokens.tolist(), segments.tolist(), strict=True):
        current = 0
        for token, number in zip(row, numbers, strict=True):
            assert number == current
            current += token == datamodule.tokenizer.end_id
    assert segments.max() >= 1


@pytest.mark.parametrize(("boundary", "expected"), [(256, 3 / 5), (None, 4 / 6)])
def test_bytes_count_where_their_cost_does(
    monkeypatch: pytest.MonkeyPatch, boundary: int | None, expected: float
) -> None:
    """Of "ab" and "cde": b, d, e and two ends are predicted where documents are kept apart; else c and all these."""
    monkeypatch.setattr("poslab.data.corpus.TOKENS_AT_ONCE", 2)  # a document begins where a piece does too
    tokens = ByteTokenizer().encode_documents(["ab", "cde"])
    assert bytes_per_token(5, tokens, ByteTokenizer(), boundary) == expected


def test_subword_tokens_that_are_parts_of_a_character_have_its_bytes_between_them() -> None:
    """The first token of each document is left out with as many bytes as it is of, not those of its replacement."""
    texts = ["é", "日本", "the sea", "sea"]
    tokenizer = SubwordTokenizer.train([texts], vocab_size=258)  # 256 bytes, the end, and one pair of bytes
    tokens = tokenizer.encode_documents(texts)
    assert tokenizer.num_bytes(tokens) == sum(len(text.encode()) for text in texts)
    rest = [tokenizer.num_bytes(tokenizer.encode(text)[1:]) for text in texts]
    predicted = sum(len(tokenizer.encode(text)) for text in texts)  # the end takes the place of the first
    size = bytes_per_token(sum(len(text.encode()) for text in texts), tokens, tokenizer, tokenizer.end_id)
    assert size == sum(rest) / predicted
