"""The splits of an algorithmic task."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from poslab.data.algorithmic.task import Example
from poslab.data.batch import Batch, Collate
from poslab.data.loaders import RunLoader, training_loader
from poslab.data.order import BatchPlan
from poslab.data.run_data import Collating, DataSplits
from poslab.data.tokenizers import SymbolTokenizer


class AlgorithmicSplits(DataSplits):
    """Examples of an algorithmic task, made as they are needed: none is prepared, and none is trained on twice."""

    tokenizer: SymbolTokenizer

    length_means = "size of an example, as its task counts it"

    def __init__(self, source: Any) -> None:
        self.source = source
        self.tokenizer = SymbolTokenizer(source.task.symbols)
        self.state = {
            "symbols": list(source.task.symbols),
            "train_lengths": list(source.train_lengths),
            "seed": source.seed,
        }
        self._held_out = cache(source.held_out_examples)

    @property
    def longest_trained(self) -> int:
        return self.source.lengths_trained[-1]

    def lengths_of(self, split: str, max_length: int | None) -> list[int]:
        if max_length is None:  # without making all examples, which takes a second of some tasks
            return [length for length in self.lengths if self.source.has_held_out_examples(split, length)]
        return [length for length in self.lengths if self.examples(split, length, max_length)]

    @property
    def lengths(self) -> Sequence[int]:
        return sorted(set(self.source.test_lengths))

    def training_batches(
        self, task: Collating, plan: BatchPlan, draws_independently: bool, num_earlier: int
    ) -> RunLoader:
        # Each index of the stream is another example.
        return training_loader(TrainingExamples(self.source, task.collate), plan, list, self.source.num_workers)

    def held_out(self, split: str, length: int, task: Collating, max_length: int | None) -> HeldOutExamples:
        if length < 1 or not self.source.task.has_length(length):
            raise ValueError(f"lengths must be lengths that the task has, got {length:,}")
        return HeldOutExamples(self.examples(split, length, max_length), task.collate)

    def identity(self, split: str, length: int) -> str:
        examples = json.dumps([[*map(list, example)] for example in self._held_out(split, length)])
        return f"{self.source.title}-{hashlib.sha256(examples.encode()).hexdigest()[:20]}/{split}@{length}"

    def num_examples(self, split: str, max_length: int | None) -> dict[int, int]:
        lengths = self.lengths_of(split, max_length)
        return {length: len(self.examples(split, length, max_length)) for length in lengths}

    def report_lines(self, max_length: int | None) -> list[str]:
        first, last = self.source.lengths_trained[0], self.source.lengths_trained[-1]
        return [
            f"{self.source.title}: lengths {first} to {last}, {len(self.source.task.symbols)} symbols, "
            f"tested at {', '.join(map(str, self.lengths_of('test', max_length)))}"
        ]

    def examples(self, split: str, length: int, max_length: int | None = None) -> list[Example]:
        """Return the held-out examples of a length, of at most `max_length` tokens."""
        return [e for e in self._held_out(split, length) if max_length is None or e.num_tokens <= max_length]


class TrainingExamples:
    """Training batches by indices of the stream."""

    def __init__(self, source: Any, collate: Collate) -> None:
        self.source = source
        self.collate = collate

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        step = indices[0] // self.source.batch_size
        examples = self.source.training_examples(step, [index % self.source.batch_size for index in indices])
        return self.collate(examples, np.ones(len(examples), dtype=bool))


class HeldOutExamples:
    """Batches of held-out examples by number; numbers from their count on are rows that do not count."""

    def __init__(self, examples: Sequence[Example], collate: Collate) -> None:
        self.examples = examples
        self.collate = collate

    @property
    def num_tokens(self) -> np.ndarray:
        return np.array([example.num_tokens for example in self.examples], dtype=np.int64)

    @property
    def longest(self) -> int:
        return int(self.num_tokens.max())

    def __getitems__(self, numbers: Sequence[int]) -> Batch:
        examples = [self.examples[min(number, len(self.examples) - 1)] for number in numbers]
        return self.collate(examples, np.array(numbers) < len(self.examples))
