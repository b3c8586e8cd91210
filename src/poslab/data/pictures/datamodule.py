"""The batches of a run over pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from poslab.data.batch import Batch, Collate
from poslab.data.cache import read_facts
from poslab.data.kinds.pictures import PICTURES
from poslab.data.loaders import RunLoader, training_loader
from poslab.data.order import BatchPlan, ExampleOrder
from poslab.data.pictures.preparation import Facts, StoredPictures, prepare
from poslab.data.pictures.source import PictureSource
from poslab.data.run_data import RunData
from poslab.data.tokenizers import SymbolTokenizer


class PictureDataModule(RunData):
    """Pictures and their classes; a length is a side, at which the test has all of its pictures.

    Validation is at the side of training alone, so that no state of a model is chosen by its results at another one.

    Attributes after `setup`, beside those of `RunData`:
        facts: counts and measurements of the pictures, and their classes.
    """

    facts: Facts

    length_means = "side of a picture in pixels"

    def __init__(self, source: PictureSource) -> None:
        super().__init__(source)
        self.source = source
        self.tokenizer = SymbolTokenizer(source.symbols)
        self.vocab_size = self.tokenizer.vocab_size
        self._stored: dict[tuple[str, int], StoredPictures] = {}

    def prepare_data(self) -> None:
        for side in self.lengths_asked:
            prepare(self.source, side)

    def setup(self, stage: str | None = None) -> None:
        folder = prepare(self.source, self.source.side)
        self.facts = read_facts(folder, Facts)
        self._prepared = folder.name

    def state_dict(self) -> dict[str, Any]:
        """Return the name of the prepared pictures, which changes with them, for a checkpoint."""
        return {"prepared": self._prepared}

    @property
    def longest_trained(self) -> int:
        return self.source.side

    def lengths_of(self, split: str) -> list[int]:
        sides = self.lengths_asked if split == "test" else [self.source.side]
        return [side for side in sides if self.max_length is None or self.source.tokens_at(side) <= self.max_length]

    @property
    def lengths_asked(self) -> Sequence[int]:
        return self.source.all_sides

    def training_batches(self, plan: BatchPlan) -> RunLoader:
        source = self.source
        batches = self._batches("train", source.side)
        repeat = source.batch_size if source.overfit else None
        order = ExampleOrder(batches.num_tokens, source.batch_size, source.seed, repeat)
        return training_loader(batches, plan, order.items, source.num_workers)

    def held_out(self, split: str, length: int) -> "PictureBatches":
        self.source.require_whole("lengths", length)
        return self._batches(split, length)

    def identity(self, split: str, length: int) -> str:
        return f"{prepare(self.source, length).name}/{split}@{length}"

    def evaluation_loader(self, split: str, length: int) -> DataLoader[Batch]:
        batches = self.held_out(split, length)
        return self.loader_of_all(batches, len(batches.num_tokens), int(batches.num_tokens.max()))

    def report_lines(self) -> list[str]:
        facts, source = self.facts, self.source
        counts = ", ".join(f"{count:,} {name}" for name, count in facts.num_examples.items())
        shown = ", ".join(facts.classes[:8]) + (", ..." if len(facts.classes) > 8 else "")
        colours = "grey" if facts.channels == 1 else "colour"
        return [
            f"{source.title}: {counts} pictures in {colours}, {source.patches_at(source.side)} patches of "
            f"{source.patch} x {source.patch} pixels at a side of {source.side}",
            *([f"{len(facts.classes)} classes: {shown}"] if source.kind is PICTURES else []),
        ]

    def _batches(self, split: str, side: int) -> "PictureBatches":
        return PictureBatches(self._stored_at(split, side), self.source.patch, self.facts.classes, self.task.collate)

    def _stored_at(self, split: str, side: int) -> StoredPictures:
        if (split, side) not in self._stored:
            self._stored[split, side] = StoredPictures(prepare(self.source, side), split, self.facts.channels)
        return self._stored[split, side]


class PictureBatches:
    """Batches of pictures by number; numbers from their count on are rows that do not count.

    Args:
        stored: the pictures.
        patch: side of a patch in pixels.
        labels: names of the classes, or tokens of the captions, in the order of their numbers.
        collate: makes a batch of the columns `picture` and `label`.
    """

    def __init__(self, stored: StoredPictures, patch: int, labels: Sequence[Any], collate: Collate) -> None:
        self.stored = stored
        self.num_tokens = (stored.sizes // patch).prod(-1, dtype=np.int64)
        self.labels = labels
        self.collate = collate

    def __getitems__(self, numbers: Sequence[int]) -> Batch:
        within = [min(number, len(self.stored) - 1) for number in numbers]
        labels = [self.labels[label] for label in self.stored.labels[within]]
        rows = {"picture": [self.stored[number] for number in within], "label": labels}
        return self.collate(rows, np.asarray(numbers) < len(self.stored))
