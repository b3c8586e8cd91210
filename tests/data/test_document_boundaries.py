"""Documents kept apart within a window."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from poslab.data.batch import IGNORE, make_batch
from poslab.data.text_files import TextFiles


def test_segments_count_documents_and_no_target_crosses_an_end() -> None:
    batch = make_batch(np.array([[5, 9, 6, 7, 9, 9, 8]], dtype=np.uint16), boundary=9)
    assert batch.tokens.tolist() == [[5, 9, 6, 7, 9, 9]]
    assert batch.targets.tolist() == [[9, IGNORE, 7, 9, IGNORE, IGNORE]]
    assert batch.segments is not None
    assert batch.segments.tolist() == [[0, 0, 1, 1, 1, 2]]


def test_every_token_but_the_first_of_each_document_is_predicted_once(
    stories: list[Path], arguments: dict[str, Any], attach: Callable[..., Any]
) -> None:
    files = [str(path) for path in stories]
    datamodule = attach(TextFiles(files=files, document_boundaries=True, **arguments))
    end = datamodule.tokenizer.end_id
    text = datamodule._tokens["validation"].ids.tolist()
    expected = [after for before, after in pairwise(text) if before != end]
    size = sum(len(datamodule.tokenizer.decode([token]).encode()) for token in text)
    for loader in datamodule.val_dataloader():
        batches = list(loader)
        assert [t for batch in batches for t in batch.targets.flatten().tolist() if t != IGNORE] == expected
    assert datamodule.bytes_per_token["validation"] == size / len(expected)


def test_windows_number_their_documents(
    stories: list[Path], arguments: dict[str, Any], attach: Callable[..., Any]
) -> None:
    arguments |= {"sequence_length": 2000, "length_multiples": [1]}
    datamodule = attach(TextFiles(files=[str(path) for path in stories], document_boundaries=True, **arguments))
    tokens, _, segments, _ = next(iter(datamodule.train_dataloader()))
    for row, numbers in zip(tokens.tolist(), segments.tolist(), strict=True):
        current = 0
        for token, number in zip(row, numbers, strict=True):
            assert number == current
            current += token == datamodule.tokenizer.end_id
    assert segments.max() >= 1
