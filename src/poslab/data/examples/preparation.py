"""Turn a source of examples into token ids on the disk: drop repeats, split, tokenise, measure the overlap."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from poslab.arguments import with_checked_arguments
from poslab.data import cache
from poslab.data.examples.splitting import split_examples
from poslab.data.kinds.kind import ExampleKind, Reading
from poslab.data.kinds.prepared import are_within
from poslab.data.overlap import SEPARATOR, STRING_BYTES, shared_by_document
from poslab.data.preparation import MEASURED_BYTES, make_tokenizer, tokenizer_settings
from poslab.data.run_data import HELD_OUT
from poslab.data.splitting import random_order
from poslab.data.tokenizers import FILE_NAME, Tokenizer, load_tokenizer
from poslab.io.files import read_json

if TYPE_CHECKING:
    from datasets import Dataset

# Raise it with every change of the tokens of the same examples: old ones are then not found.
VERSION = 3


@with_checked_arguments
@dataclass(frozen=True)
class Facts:
    """Facts of prepared examples.

    Args:
        num_examples: by split.
        cut: by split, how many texts are longer than the limit and lose their end.
        left_out: by split, how many examples are longer than the limit and are left out.
        classes: their names, in the order of their numbers; empty where there are none.
        several_classes: True if an example may have several, or none.
        two_texts: True if two texts are classified together.
        overlap: share of the bytes read of `validation` and `test` inside 60-byte strings that training holds too.
        near_duplicates: for each, how many examples have at least half of their bytes in such strings, and out of how
            many: those of 60 bytes or more.
    """

    num_examples: dict[str, cache.Number]
    cut: dict[str, cache.Number]
    left_out: dict[str, cache.Number]
    classes: list[str]
    several_classes: bool
    two_texts: bool
    overlap: dict[str, cache.Share]
    near_duplicates: dict[str, list[cache.Number]]

    def __post_init__(self) -> None:
        cache.require_splits(cache.SPLITS, self.num_examples, self.cut, self.left_out)
        cache.require_splits(HELD_OUT, self.overlap, self.near_duplicates)


def prepare(source: Any, joined: bool = False) -> Path:
    """Make the token ids of a source unless they are there; return their folder.

    Args:
        source: the examples and their settings.
        joined: True reads the texts of a pair as one.

    Raises: errors of `ExampleSource`.
    """
    source.check()
    folder = source.cache / f"{source.title}-{cache.key(_settings(source, joined))}"
    if cache.verify_or_discard(folder, partial(_check, source.kind)):
        return folder
    splits = split_examples(source)
    with cache.new_folder(folder) as temporary:
        tokenizer = make_tokenizer(source, _texts(splits["train"], source))
        tokenizer.save(temporary)
        written = {name: _write(name, splits[name], source, tokenizer, joined, temporary) for name in cache.SPLITS}
        for name, counts in written.items():
            if not counts.read:
                raise ValueError(
                    f"sequence_length={source.sequence_length} leaves no example in {name}: all are longer"
                )
        read, cut, left_out = (
            {name: getattr(counts, field) for name, counts in written.items()} for field in _Written._fields
        )
        classes, several = source.kind.labels(splits)
        two_texts = "text_pair" in splits["train"].column_names
        facts = Facts(read, cut, left_out, classes, several, two_texts, **_alike(splits, source))
        cache.write_facts(temporary, facts)
    return folder


def _check(kind: ExampleKind, folder: Path) -> None:
    """Raise ValueError unless a folder holds as many examples as it says, of its own vocabulary, places and labels."""
    from datasets import load_from_disk

    facts, vocab_size = cache.read_facts(folder, Facts), load_tokenizer(folder).vocab_size
    for name in cache.SPLITS:
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
            raise ValueError(f"{folder / name} does not hold examples: {error}") from error
        if not is_right:
            raise ValueError(f"{folder / name} does not hold what {cache.FACTS} and {FILE_NAME} say")


def _settings(source: Any, joined: bool) -> dict[str, object]:
    """Return all settings that decide which tokens come out."""
    return {
        "version": VERSION,
        "kind": source.kind.name,
        "joined": joined,
        "source": source.identity,
        "deduplicate": source.deduplicate,
        "fractions": list(source.fractions.values()),
        "lengths": [source.sequence_length, source.longest],
        **({} if source.source_length is None else {"source_length": source.source_length}),
        **({} if source.split_version == 1 else {"split": source.split_version}),
        **tokenizer_settings(source),
    }


def _alike(splits: "dict[str, Dataset]", source: Any) -> dict[str, Any]:
    """Measure the overlap of held-out examples with training: see `Facts`."""
    found: dict[str, Any] = {"overlap": {}, "near_duplicates": {}}
    for name in HELD_OUT:
        training = (SEPARATOR.join(text.encode() for text in texts) for texts in _read(splits["train"], source))
        sizes, shared = shared_by_document(_sample(splits[name], source), training)
        long = sizes >= STRING_BYTES
        found["overlap"][name] = float(shared.sum() / max(1, sizes.sum()))
        found["near_duplicates"][name] = [int((long & (2 * shared >= sizes)).sum()), int(long.sum())]
    return found


def _sample(examples: "Dataset", source: Any) -> list[str]:
    """Return the texts of examples drawn at random, at least `MEASURED_BYTES` where there is as much."""
    sample: list[str] = []
    for texts in _read(examples.select(random_order(len(examples))), source):
        sample += texts
        if sum(map(len, sample)) >= MEASURED_BYTES:
            break
    return sample


def _read(examples: "Dataset", source: Any) -> Iterator[list[str]]:
    """Yield the texts that a model reads of examples, in lists."""
    columns = [name for name in source.kind.read if name in examples.column_names]
    for batch in examples.select_columns(columns).iter(batch_size=1000):
        yield ["\n".join(texts) for texts in zip(*(batch[name] for name in columns), strict=True)]


def _texts(examples: "Dataset", source: Any) -> Iterator[list[str]]:
    columns = [name for name in source.kind.texts if name in examples.column_names]
    for batch in examples.select_columns(columns).iter(batch_size=1000):
        yield [text for name in columns for text in batch[name] if text]


def _write(name: str, examples: "Dataset", source: Any, tokenizer: Tokenizer, joined: bool, folder: Path) -> "_Written":
    """Tokenise a split and write the examples that fit."""
    tokenised = examples.map(
        source.kind.tokenise,
        batched=True,
        fn_kwargs={"tokenizer": tokenizer, "reading": Reading(joined, source.source_length)},
        remove_columns=[column for column in examples.column_names if column not in source.kind.kept],
        desc=f"Tokenising {name}",
        load_from_cache_file=False,
    )
    lengths = np.array(tokenised["length"], dtype=np.int64)
    too_long = lengths > source.longest
    fits = np.ones_like(too_long) if source.kind.is_cut else ~too_long
    if name == "train" and source.longest > source.sequence_length:
        fits = lengths <= source.sequence_length
    with _without_bars():
        tokenised.select(np.flatnonzero(fits)).save_to_disk(str(folder / name))
    return _Written(int(fits.sum()), cut=int((fits & too_long).sum()), left_out=int((~fits).sum()))


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Hide the progress bars of `datasets` within this context, such as those of saving, which takes no time."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


class _Written(NamedTuple):
    """Counts of the examples of a split: read, of these cut, and left out."""

    read: int
    cut: int
    left_out: int
