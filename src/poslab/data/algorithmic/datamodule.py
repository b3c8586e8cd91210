"""The batches of a run over an algorithmic task."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from poslab.data.algorithmic.examples import AlgorithmicExamples
from poslab.data.algorithmic.task import Example
from poslab.data.batch import Batch, Collate
from poslab.data.loaders import RunLoader, evaluation_loader, training_loader
from poslab.data.order import BatchPlan
from poslab.data.run_data import RunData
from poslab.data.tokenizers import SymbolTokenizer


class AlgorithmicDataModule(RunData):
    """Examples of an algorithmic task, made as they are needed: no length is prepared, none is trained on twice.

    Args:
        source: the examples and their settings.
    """

    tokenizer: SymbolTokenizer

    def __init__(self, source: AlgorithmicExamples) -> None:
        super().__init__(source.batch_size)
        self.source = source
        self.tokenizer = SymbolTokenizer(source.task.symbols)
        self.vocab_size = self.tokenizer.vocab_size
        self._held_out = cache(source.held_out_examples)

    def setup(self, stage: str | None = None) -> None:
        """Nothing: examples are made as they are asked for."""

    @property
    def training_length(self) -> int:
        """The most tokens of an example that is trained on."""
        return self.source.sequence_length

    @property
    def longest_trained(self) -> int:
        """The longest that is trained on, as the task counts it."""
        return self.source.lengths_trained[-1]

    def lengths_of(self, split: str) -> list[int]:
        """The lengths of the task of which a held-out split has examples that fit the model, ascending."""
        return [length for length in sorted(set(self.source.test_lengths)) if self.examples(split, length)]

    @property
    def lengths_asked(self) -> Sequence[int]:
        """All that the source asks for, ascending."""
        return sorted(set(self.source.test_lengths))

    def train_dataloader(self) -> RunLoader:
        """The micro-batches of the whole run for this process, from the trainer's present step on."""
        assert self.trainer is not None
        plan = BatchPlan.of(self.trainer, self.source.batch_size)
        return training_loader(
            TrainingExamples(self.source, self.task.collate), plan, Places(), self.source.num_workers
        )

    def evaluation_loader(self, split: str, length: int) -> DataLoader[Any]:
        """The examples of a split at a length."""
        assert self.trainer is not None
        examples = self.examples(split, length)
        processes, rank = self.trainer.world_size, self.trainer.global_rank
        rows = self.rows(max(example.num_tokens for example in examples), len(examples))
        return evaluation_loader(
            HeldOutExamples(examples, self.task.collate), len(examples), rows, processes, rank, self.source.num_workers
        )

    def num_examples(self, split: str) -> dict[int, int]:
        """Return how many examples of a held-out split have each length."""
        return {length: len(self.examples(split, length)) for length in self.lengths_of(split)}

    def report_lines(self) -> list[str]:
        """What a person should know of the data before training, in a few lines."""
        first, last = self.source.lengths_trained[0], self.source.lengths_trained[-1]
        return [
            f"{self.source.title}: lengths {first} to {last}, {len(self.source.task.symbols)} symbols, "
            f"tested at {', '.join(map(str, self.lengths_of('test')))}"
        ]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint remembers of the data: what decides which examples are made."""
        source = self.source
        return {"symbols": list(source.task.symbols), "train_lengths": list(source.train_lengths), "seed": source.seed}

    def examples(self, split: str, length: int) -> list[Example]:
        """The held-out examples of a length that the model has positions for."""
        longest = self.max_length
        return [e for e in self._held_out(split, length) if longest is None or e.num_tokens <= longest]


class Places:
    """The order of a run that makes its examples: each place of the stream is an example of its own."""

    def items(self, places: range) -> list[int]:
        return list(places)


class TrainingExamples:
    """Makes training batches by places of the stream."""

    def __init__(self, source: AlgorithmicExamples, collate: Collate) -> None:
        self.source = source
        self.collate = collate

    def __getitems__(self, places: list[int]) -> Batch:
        step = places[0] // self.source.batch_size
        examples = self.source.training_examples(step, [place % self.source.batch_size for place in places])
        return self.collate(examples, np.ones(len(examples), dtype=bool))


class HeldOutExamples:
    """Makes batches of held-out examples by number; from their count on, rows do not count."""

    def __init__(self, examples: Sequence[Example], collate: Collate) -> None:
        self.examples = examples
        self.collate = collate

    def __getitems__(self, numbers: list[int]) -> Batch:
        examples = [self.examples[min(number, len(self.examples) - 1)] for number in numbers]
        return self.collate(examples, np.array(numbers) < len(self.examples))
