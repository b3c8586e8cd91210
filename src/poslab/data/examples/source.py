"""The base class of all sources of examples, their tokens on the disk, and their splits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from poslab.arguments import NOT_HUGE, Count, Range, with_checked_arguments
from poslab.data import cache
from poslab.data.kinds import ExampleKind, ReadingOptions, are_within
from poslab.data.overlap import SEPARATOR, STRING_BYTES, shared_by_document
from poslab.data.preparation import MEASURED_BYTES, make_tokenizer, tokenizer_settings
from poslab.data.source import HELD_OUT, SPLITS, Collating, DataSplits, Share, Source
from poslab.data.splitting import RowSource, random_order
from poslab.data.tokenizers import FILE_NAME, Tokenizer, load_tokenizer
from poslab.io.files import read_json

if TYPE_CHECKING:
    from datasets import Dataset

    from poslab.data.batch import Batch, Collate
    from poslab.data.order import BatchPlan


# Raise it with every change of the tokens of the same examples: old ones are then not found.
VERSION = 3


@with_checked_arguments
@dataclass(frozen=True)
class ExampleFacts:
    """Facts of prepared examples."""

    num_examples: dict[str, cache.Number]  # by split
    cut: dict[str, cache.Number]  # by split, how many texts are longer than the limit and lose their end
    left_out: dict[str, cache.Number]  # by split, how many examples are longer than the limit and are left out
    classes: list[str]  # their names, in the order of their numbers; empty where there are none
    several_classes: bool  # True if an example may have several, or none
    two_texts: bool  # True if two texts are classified together
    # share of the bytes read of `validation` and `test` inside 60-byte strings that training contains too
    overlap: dict[str, cache.Share]
    # for each, how many examples have at least half of their bytes in such strings, and out of how many of 60 bytes or
    # more
    near_duplicates: dict[str, list[cache.Number]]

    def __post_init__(self) -> None:
        cache.require_splits(SPLITS, self.num_examples, self.cut, self.left_out)
        cache.require_splits(HELD_OUT, self.overlap, self.near_duplicates)


def check_examples(kind: ExampleKind, folder: Path) -> None:
    """Raise ValueError unless a folder has as many examples as it says, of its own vocabulary, positions and labels."""
    from datasets import load_from_disk

    facts, vocab_size = cache.read_facts(folder, ExampleFacts), load_tokenizer(folder).vocab_size
    for name in SPLITS:
        state = read_json(folder / name / "state.json")
        try:
            kept = {path.name for path in (folder / name).iterdir()}
            if state["_format_type"] is not None or any(file["filename"] not in kept for file in state["_data_files"]):
                raise ValueError("its files are elsewhere, or of another format")
            examples = load_from_disk(str(folder / name))
            columns = {column: examples.data.column(column) for column in examples.column_names}
            tokens = [column for argument, column in columns.items() if argument.endswith("tokens")]
            is_right = len(examples) == facts.num_examples[name] and "length" in columns and bool(tokens)
            is_right &= all(are_within(column, vocab_size) for column in tokens) and kind.fit(columns, facts.classes)
        except Exception as error:  # whatever the library meets in files that it did not write
            raise ValueError(f"{folder / name} does not contain examples: {error}") from error
        if not is_right:
            raise ValueError(f"{folder / name} does not contain what {cache.FACTS} and {FILE_NAME} say")


def measure_overlap(splits: dict[str, Dataset], kind: ExampleKind) -> dict[str, Any]:
    """Measure the overlap of held-out examples with training: see `ExampleFacts`."""
    overlap: dict[str, float] = {}
    near_duplicates: dict[str, list[int]] = {}
    read = partial(texts_of, columns=kind.read, joined=True)
    for name in HELD_OUT:
        training = (SEPARATOR.join(text.encode() for text in texts) for texts in read(splits["train"]))
        sizes, shared = shared_by_document(_sample(splits[name], read), training)
        long = sizes >= STRING_BYTES
        overlap[name] = float(shared.sum() / max(1, sizes.sum()))
        near_duplicates[name] = [int((long & (2 * shared >= sizes)).sum()), int(long.sum())]
    return {"overlap": overlap, "near_duplicates": near_duplicates}


def _sample(examples: Dataset, read: Callable[[Dataset], Iterator[list[str]]]) -> list[str]:
    """Return the texts of examples drawn at random, at least `MEASURED_BYTES` where there is as much."""
    sample: list[str] = []
    for texts in read(examples.select(random_order(len(examples)))):
        sample += texts
        if sum(map(len, sample)) >= MEASURED_BYTES:
            break
    return sample


def texts_of(examples: Dataset, columns: Sequence[str], joined: bool = False) -> Iterator[list[str]]:
    """Yield the texts of columns, as far as they are there, in lists: the texts of an example joined, or each text."""
    columns = [name for name in columns if name in examples.column_names]
    for batch in examples.select_columns(columns).iter(batch_size=1000):
        if joined:
            yield ["\n".join(texts) for texts in zip(*(batch[name] for name in columns), strict=True)]
        else:
            yield [text for name in columns for text in batch[name] if text]


class ExampleSource(RowSource, Source):
    """A source of examples of one kind.

    Args:
        sequence_length: the most tokens of a training example, at least 1 (default 256).
        max_length: the most tokens of an example of validation and test; None is `sequence_length`. Where it is more,
            they measure lengths that training never has: training leaves out examples longer than `sequence_length`. A
            longer text to be classified is cut, and any other longer example is left out.
        source_length: of pairs, the most tokens of a source that are read, its end included; the rest is cut, as is
            usual before summarising. None cuts nothing.
        deduplicate: drop examples whose texts equal an earlier one's before anything is held out, and let no two
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
            counts = {name: self._write(splits[name], tokenizer, joined, temporary / name) for name in SPLITS}
            of_splits = zip(*counts.values(), strict=True)
            read, cut, left_out = (dict(zip(counts, numbers, strict=True)) for numbers in of_splits)
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

    def _write(self, examples: Dataset, tokenizer: Tokenizer, joined: bool, folder: Path) -> tuple[int, int, int]:
        """Write the tokens of the examples of a split that fit; return how many are read, cut and left out."""
        from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

        kind, options = self.kind, ReadingOptions(joined, self.source_length)
        tokenised = examples.map(
            kind.tokenise,
            batched=True,
            fn_kwargs={"tokenizer": tokenizer, "options": options},
            remove_columns=[column for column in examples.column_names if column not in kind.kept],
            desc=f"Tokenising {folder.name}",
            load_from_cache_file=False,
        )
        lengths = np.array(tokenised["length"], dtype=np.int64)
        too_long = lengths > self.longest
        fits = np.ones_like(too_long) if kind.is_cut else ~too_long
        if folder.name == "train" and self.sequence_length < self.longest:
            fits = lengths <= self.sequence_length
        if not fits.any():
            raise ValueError(
                f"sequence_length={self.sequence_length} leaves no example in {folder.name}: all are longer"
            )
        are_hidden = are_progress_bars_disabled()
        disable_progress_bars()  # saving takes no time
        try:
            tokenised.select(np.flatnonzero(fits)).save_to_disk(str(folder))
        finally:
            if not are_hidden:
                enable_progress_bars()
        return int(fits.sum()), int((fits & too_long).sum()), int((~fits).sum())

    def open(self, joined: bool = False) -> ExampleSplits:
        return ExampleSplits(self, self.prepare(joined))


class ExampleSplits(DataSplits):
    """Prepared examples of a task, in batches of about the same length.

    The lengths of the evaluation are halves, quarters ... of `sequence_length` and twice, four times ... as much: each
    example counts at the least of them that it does not exceed.
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
        shared = ", ".join(f"{100 * share:.2f}% of {name}" for name, share in facts.overlap.items())
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

    `num_tokens` are of the chosen ones, whose rows in the split are `chosen`. `longest` is the most tokens of an
    example that counts at the length of the batches; training needs none.
    """

    examples: Dataset
    num_tokens: np.ndarray
    chosen: np.ndarray
    collate: Collate
    longest: int

    def __getitems__(self, numbers: Sequence[int]) -> Batch:
        within = np.minimum(numbers, len(self.chosen) - 1)
        return self.collate(self.examples[self.chosen[within].tolist()], np.asarray(numbers) < len(self.chosen))
