"""The base class of all sources of examples, and their splits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np

from poslab.arguments import NOT_HUGE, Count, Range
from poslab.data import cache
from poslab.data.examples.preparation import (
    VERSION,
    ExampleFacts,
    check_examples,
    measure_overlap,
    texts_of,
    write_examples,
)
from poslab.data.kinds import ExampleKind, ReadingOptions
from poslab.data.overlap import STRING_BYTES
from poslab.data.preparation import make_tokenizer, tokenizer_settings
from poslab.data.source import HELD_OUT, SPLITS, Collating, DataSplits, Share, Source
from poslab.data.splitting import RowSource
from poslab.data.tokenizers import load_tokenizer

if TYPE_CHECKING:
    from datasets import Dataset

    from poslab.data.batch import Batch, Collate
    from poslab.data.order import BatchPlan


class ExampleSource(RowSource, Source):
    """A source of examples of one kind.

    Args:
        sequence_length: the most tokens of a training example, at least 1 (default 256).
        max_length: the most tokens of an example of validation and test; None is `sequence_length`. Where it is more,
            they measure lengths that training never has: training leaves out examples longer than `sequence_length`. A
            longer text to be classified is cut, and any other longer example is left out.
        source_length: of pairs, the most tokens of a source that are read, its end included; the rest is cut, as is
            usual before summarising. None cuts nothing.
        deduplicate: drop examples whose texts equal those of an earlier one before anything is held out, and let no two
            splits have examples that read the same but for case, white space, punctuation and Unicode form: they stay
            together, or, where documents or published splits part them, the one in training is dropped (default true).
    """

    batch_size: Count = 32
    tokenizer: str = "bpe"
    validation_fraction: Share = 0.1
    test_fraction: Share = 0.1
    sequence_length: Count = 256
    max_length: Count | None = None
    source_length: Annotated[int, Range(at_least=2), NOT_HUGE] | None = None

    kind: ClassVar[ExampleKind]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.longest < self.sequence_length:
            raise ValueError(f"max_length must be at least sequence_length={self.sequence_length}, got {self.longest}")
        if self.source_length is not None and not self.kind.has_sources:
            raise ValueError("source_length must be null where no target is written of a source")

    @property
    def longest(self) -> int:
        """The most tokens of an example of any split."""
        return self.max_length or self.sequence_length

    def prepare(self, joined: bool = False) -> Path:
        """Write the token ids unless they are there; return their folder."""
        self.check()
        settings = {
            "version": VERSION,
            "kind": self.kind.name,
            "joined": joined,
            "deduplicate": self.deduplicate,
            "lengths": [self.sequence_length, self.longest],
            **({} if self.source_length is None else {"source_length": self.source_length}),
            **({} if self.split_version == 1 else {"split": self.split_version}),
            **tokenizer_settings(self),
        }
        folder = self.prepared_folder(**settings)
        if cache.verify_or_discard(folder, partial(check_examples, self.kind)):
            return folder
        from datasets import List

        splits, kind = self.split_examples(), self.kind
        with cache.new_folder(folder) as temporary:
            tokenizer = make_tokenizer(self, texts_of(splits["train"], kind.texts))
            tokenizer.save(temporary)
            options, counts = ReadingOptions(joined, self.source_length), {}
            for name in SPLITS:
                longest_kept = self.sequence_length if name == "train" else self.longest
                counts[name] = write_examples(
                    splits[name], kind, tokenizer, options, self.longest, longest_kept, temporary / name
                )
                if not counts[name][0]:
                    raise ValueError(
                        f"sequence_length={self.sequence_length} leaves no example in {name}: all are longer"
                    )
            read, cut, left_out = (
                dict(zip(counts, numbers, strict=True)) for numbers in zip(*counts.values(), strict=True)
            )
            columns = splits["train"].features
            facts = ExampleFacts(
                num_examples=read,
                cut=cut,
                left_out=left_out,
                classes=kind.labels(splits),
                several_classes=isinstance(columns.get("label"), List),
                two_texts="text_pair" in columns,
                **measure_overlap(splits, kind),
            )
            cache.write_facts(temporary, facts)
        return folder

    def open(self, joined: bool = False) -> ExampleSplits:
        return ExampleSplits(self, self.prepare(joined))


class ExampleSplits(DataSplits):
    """Prepared examples of a task, those of a batch of about the same length.

    The lengths of the evaluation are halves, quarters ... of `sequence_length` and twice, four times ... as much: each
    example counts at the least of them that it does not exceed.

    Attributes:
        facts: counts and measurements of the examples, and their classes.
    """

    length_means = "most tokens of its examples"
    source: ExampleSource

    def __init__(self, source: ExampleSource, folder: Path) -> None:
        from datasets import load_from_disk

        self.source = source
        self.facts = cache.read_facts(folder, ExampleFacts)
        self.state = {"prepared": folder.name}  # the name changes with the examples
        self.tokenizer = load_tokenizer(folder)
        self._examples: dict[str, Dataset] = {name: load_from_disk(str(folder / name)) for name in SPLITS}
        self._lengths = {
            name: np.minimum(np.array(examples["length"], dtype=np.int64), source.longest)
            for name, examples in self._examples.items()
        }

    def examples(self, split: str) -> Dataset:
        """Return the examples of a split."""
        return self._examples[split]

    @property
    def lengths(self) -> Sequence[int]:
        return self._lengths_of_all("test")

    def lengths_of(self, split: str, max_length: int | None) -> list[int]:
        return [length for length in self._lengths_of_all(split) if len(self.numbers(split, length, max_length))]

    def training_batches(self, task: Collating, plan: BatchPlan) -> Iterable[Batch]:
        batches = self._batches("train", np.arange(self.num_rows), task, task.columns)
        return self.source.example_loader(batches, batches.num_tokens, plan)

    @property
    def num_rows(self) -> int:
        return len(self._lengths["train"])

    def held_out(self, split: str, length: int, task: Collating, max_length: int | None) -> ExampleBatches:
        if length not in (known := self._lengths_of_all(split)):
            raise ValueError(f"lengths must be among {', '.join(map(str, known))}, which {split} has, got {length:,}")
        chosen, columns = self.numbers(split, length, max_length), (*task.columns, *task.measured_columns)
        return self._batches(split, chosen, task, columns, length)

    def _batches(
        self, split: str, chosen: np.ndarray, task: Collating, columns: Sequence[str], longest: int = 0
    ) -> ExampleBatches:
        examples = self._examples[split].select_columns(list(columns))  # since texts take long to decode
        return ExampleBatches(examples, self._lengths[split][chosen], chosen, task.collate, longest)

    def num_examples(self, split: str, max_length: int | None) -> dict[int, int]:
        return {length: len(self.numbers(split, length, max_length)) for length in self.lengths_of(split, max_length)}

    def numbers(self, split: str, length: int, max_length: int | None = None) -> np.ndarray:
        """Return the numbers of the examples of a split that count at this length, of at most `max_length` tokens."""
        chosen = self._upper_lengths(split) == length
        return np.flatnonzero(chosen if max_length is None else chosen & (self._lengths[split] <= max_length))

    def report_lines(self, max_length: int | None) -> list[str]:
        facts, source = self.facts, self.source
        counts = ", ".join(f"{facts.num_examples[name]:,} {name}" for name in SPLITS)
        lines = [f"{source.title}: {counts} examples ({source.tokenizer}, {self.tokenizer.vocab_size:,} tokens)"]
        shared = ", ".join(f"{100 * share:.2f} % of {name}" for name, share in facts.overlap.items())
        near = ", ".join(f"{count:,} of {of:,} in {name}" for name, (count, of) in facts.near_duplicates.items() if of)
        line = f"overlap with training: {shared} ({STRING_BYTES}-byte strings)"
        lines.append(
            f"{line}; examples of at least {STRING_BYTES} bytes that overlap by half: {near}" if near else line
        )
        if facts.classes:
            shown = ", ".join(facts.classes[:8]) + (", ..." if len(facts.classes) > 8 else "")
            lines.append(f"{len(facts.classes)} classes: {shown}")
        limit = f"{source.sequence_length:,}"
        if source.longest > source.sequence_length and any(facts.left_out[split] for split in HELD_OUT):
            limit += f" (train) or {source.longest:,}"
        losses = {f"cut after {source.longest:,}": facts.cut, f"left out after {limit}": facts.left_out}
        if max_length is not None:
            past = {split: int((self._lengths[split] > max_length).sum()) for split in HELD_OUT}
            losses[f"left out where the encoding ends, after {max_length:,}"] = past
        for reason, counted in losses.items():
            if some := ", ".join(f"{count:,} of {name}" for name, count in counted.items() if count):
                lines.append(f"{reason} tokens: {some}")
        return lines

    def _lengths_of_all(self, split: str) -> list[int]:
        return [int(length) for length in np.unique(self._upper_lengths(split))]

    def _upper_lengths(self, split: str) -> np.ndarray:
        """Return the length at which each example is evaluated."""
        length = self.source.sequence_length
        limits = sorted({*(length >> shift for shift in range(4)), *(length << shift for shift in range(1, 12))} - {0})
        return np.array(limits)[np.searchsorted(limits, self._lengths[split])]


@dataclass(eq=False)
class ExampleBatches:
    """Batches of the chosen examples of a split by number; larger numbers are rows that do not count.

    Args:
        examples: the columns of the split that a batch needs.
        num_tokens, chosen: of the examples with the numbers 0, 1, ...: their tokens, and their rows in the split.
        collate: makes a batch.
        longest: most tokens of an example that counts at the length of the batches; not needed for training.
    """

    examples: Dataset
    num_tokens: np.ndarray
    chosen: np.ndarray
    collate: Collate
    longest: int

    def __getitems__(self, numbers: Sequence[int]) -> Batch:
        within = np.minimum(numbers, len(self.chosen) - 1)
        return self.collate(self.examples[self.chosen[within].tolist()], np.asarray(numbers) < len(self.chosen))
