"""Examples as token ids on the disk, and what there is to know of them; for `ExampleSource.prepare`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from poslab.arguments import with_checked_arguments
from poslab.data import cache
from poslab.data.kinds import ExampleKind, ReadingOptions, are_within
from poslab.data.overlap import SEPARATOR, STRING_BYTES, shared_by_document
from poslab.data.preparation import MEASURED_BYTES
from poslab.data.source import HELD_OUT, SPLITS
from poslab.data.splitting import random_order
from poslab.data.tokenizers import FILE_NAME, Tokenizer, load_tokenizer
from poslab.io.files import read_json

if TYPE_CHECKING:
    from datasets import Dataset

# Raise it with every change of the tokens of the same examples: old ones are then not found.
VERSION = 3


@with_checked_arguments
@dataclass(frozen=True)
class ExampleFacts:
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
        cache.require_splits(SPLITS, self.num_examples, self.cut, self.left_out)
        cache.require_splits(HELD_OUT, self.overlap, self.near_duplicates)


def check_examples(kind: ExampleKind, folder: Path) -> None:
    """Raise ValueError unless a folder holds as many examples as it says, of its own vocabulary, places and labels."""
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
            raise ValueError(f"{folder / name} does not hold examples: {error}") from error
        if not is_right:
            raise ValueError(f"{folder / name} does not hold what {cache.FACTS} and {FILE_NAME} say")


def measure_overlap(splits: "dict[str, Dataset]", kind: ExampleKind) -> dict[str, Any]:
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


def _sample(examples: "Dataset", read: "Callable[[Dataset], Iterator[list[str]]]") -> list[str]:
    """Return the texts of examples drawn at random, at least `MEASURED_BYTES` where there is as much."""
    sample: list[str] = []
    for texts in read(examples.select(random_order(len(examples)))):
        sample += texts
        if sum(map(len, sample)) >= MEASURED_BYTES:
            break
    return sample


def texts_of(examples: "Dataset", columns: Sequence[str], joined: bool = False) -> Iterator[list[str]]:
    """Yield the texts of columns, as far as they are there, in lists: those of an example joined, or each text."""
    columns = [name for name in columns if name in examples.column_names]
    for batch in examples.select_columns(columns).iter(batch_size=1000):
        if joined:
            yield ["\n".join(texts) for texts in zip(*(batch[name] for name in columns), strict=True)]
        else:
            yield [text for name in columns for text in batch[name] if text]


def write_examples(
    examples: "Dataset",
    kind: ExampleKind,
    tokenizer: Tokenizer,
    options: ReadingOptions,
    longest: int,
    longest_kept: int,
    folder: Path,
) -> tuple[int, int, int]:
    """Tokenise a split and write the examples that fit.

    Args:
        examples: of the split.
        kind, tokenizer, options: to read them.
        longest: the most tokens of an example; the kind decides whether a longer one is cut or left out.
        longest_kept: the most tokens before an example is left out in any case.
        folder: that is written.

    Returns: counts of the examples: read, of these cut, and left out.
    """
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    tokenised = examples.map(
        kind.tokenise,
        batched=True,
        fn_kwargs={"tokenizer": tokenizer, "options": options},
        remove_columns=[column for column in examples.column_names if column not in kind.kept],
        desc=f"Tokenising {folder.name}",
        load_from_cache_file=False,
    )
    lengths = np.array(tokenised["length"], dtype=np.int64)
    too_long = lengths > longest
    fits = np.ones_like(too_long) if kind.is_cut else ~too_long
    if longest_kept < longest:
        fits = lengths <= longest_kept
    are_hidden = are_progress_bars_disabled()
    disable_progress_bars()  # saving takes no time
    try:
        tokenised.select(np.flatnonzero(fits)).save_to_disk(str(folder))
    finally:
        if not are_hidden:
            enable_progress_bars()
    return int(fits.sum()), int((fits & too_long).sum()), int((~fits).sum())
