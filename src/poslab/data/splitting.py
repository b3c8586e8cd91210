"""Divide text and examples into training, validation and test, so that nothing is in two of them.

The split does not depend on the seed of a run: all runs on a source share one test.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from poslab.data.kinds import Kind
from poslab.data.overlap import near_copies, normal_form
from poslab.data.source import PreparedSource

if TYPE_CHECKING:
    from datasets import Dataset

FEW_DOCUMENTS = 20
MAX_PARTS = 80
SPLIT_SEED = 0


class Part(NamedTuple):
    """A stretch of a document."""

    document: int
    text: str


def hold_out(sizes: Sequence[int], order: np.ndarray, fractions: Mapping[str, float]) -> dict[str, list[int]]:
    """Give each held-out split its share of the text, in whole documents, of which `order` says who comes first.

    A held-out split has at least one document, and as many as come nearest to its share. Returns the documents of each
    split in ascending order, the rest under `train`; ValueError if there are fewer documents than splits.
    """
    if len(order) <= len(fractions):
        needed = len(fractions) + 1
        raise ValueError(f"validation_fraction and test_fraction need at least {needed} documents, got {len(order)}")
    sizes_in_order = np.asarray(sizes, dtype=np.int64)[order]
    middles = np.cumsum(sizes_in_order) - sizes_in_order / 2
    splits: dict[str, list[int]] = {}
    first, share = 0, 0.0
    for number, (name, fraction) in enumerate(fractions.items()):
        share += fraction
        latest = len(order) - (len(fractions) - number)
        last = min(max(int(np.searchsorted(middles, share * sizes_in_order.sum())), first + 1), latest)
        splits[name] = sorted(order[first:last].tolist())
        first = last
    return {"train": sorted(order[first:].tolist()), **splits}


def random_order(count: int) -> np.ndarray:
    """Return documents in random order, the same in every run.

    If it followed the seed, a run that continues from the weights of another seed would have trained on its test.
    """
    return np.random.default_rng(SPLIT_SEED).permutation(count)


def spread_order(count: int) -> np.ndarray:
    """Return parts of a text in an order of distant neighbours: by multiples of the golden ratio, modulo 1."""
    return np.argsort(np.arange(count) * (5**0.5 - 1) / 2 % 1)


def number_of_parts(size: int, longest: int, smallest_fraction: float) -> int:
    """Return the number of parts to cut a text into: as many as have room for the longest window each, within bounds.

    Many parts make a held-out split look like the whole text, but more than 80 would only shorten contexts; with fewer
    than `1 / smallest_fraction` a part would be larger than a held-out split.
    """
    fewest = round(1 / smallest_fraction)
    return max(fewest, min(MAX_PARTS, size // longest))


def cut(texts: Sequence[str], num_parts: int) -> list[Part]:
    """Cut texts into `num_parts` parts of about the same size; nothing is lost or reordered.

    A cut falls after the next blank line, or the next line end or space where a part has no blank line.
    """
    size, parts = max(1, sum(map(len, texts)) // num_parts), []
    for number, text in enumerate(texts):
        start = 0
        while len(text) - start >= 1.5 * size:
            stop = next_boundary(text, start + size, start + 2 * size)
            parts.append(Part(number, text[start:stop]))
            start = stop
        if start < len(text):
            parts.append(Part(number, text[start:]))
    return parts


def next_boundary(text: str, start: int, stop: int) -> int:
    """Return the position after the first boundary in text[start:stop], of the widest kind that it has."""
    for boundary in ("\n\n", "\n", " "):
        position = text.find(boundary, start - len(boundary), stop)
        if position >= 0:
            return position + len(boundary)
    return start


def join_neighbours(parts: Sequence[Part], chosen: Sequence[int]) -> list[str]:
    """Return the texts of parts, chosen by ascending numbers, joining those that follow one another in a document."""
    runs = groupby(enumerate(chosen), key=lambda item: (parts[item[1]].document, item[1] - item[0]))
    return ["".join(parts[number].text for _, number in run) for _, run in runs]


class RowSource(PreparedSource, ABC):
    """A source of examples in the rows of tables, which are divided into splits that share none.

    Args:
        deduplicate: drop examples that equal an earlier one, and training examples that read as one held out (default
            true).
    """

    deduplicate: bool = True

    kind: ClassVar[Kind]

    @abstractmethod
    def examples(self) -> "dict[str, Dataset]":
        """Return the examples by split, with the columns of their kind: `train`, and any held-out split it has."""

    def split_examples(self) -> "dict[str, Dataset]":
        """Return the examples as `train`, `validation` and `test`.

        A published test is unchanged; examples of published validation and training that read as a held-out one are
        dropped. Splits that the source lacks are held out of training.
        """
        splits = self.examples()
        columns, kind = splits["train"].column_names, self.kind
        texts, read = ([c for c in of if c in columns] for of in (kind.texts, kind.read))
        if self.deduplicate:
            splits = drop_held_out(splits | {"train": drop_duplicates(splits["train"], texts)}, read)
        missing = {name: fraction for name, fraction in self.fractions.items() if name not in splits}
        if not missing:
            return splits
        splits |= split(
            splits["train"],
            missing,
            stratify=kind.stratify_by,
            together=read if self.deduplicate else (),
            near_copies_together=self.split_version >= 2,
        )
        # Examples of two documents that read the same may be in two splits.
        has_documents = "document" in splits["train"].column_names
        return drop_held_out(splits, read) if self.deduplicate and has_documents else splits


def drop_duplicates(dataset: "Dataset", columns: Sequence[str]) -> "Dataset":
    """Drop examples whose texts, in these columns, an earlier one has."""
    first: dict[bytes, int] = {}
    for row, digest in enumerate(_digests(dataset, columns)):
        first.setdefault(digest, row)
    return _select(dataset, list(first.values()))


def drop_held_out(splits: "Mapping[str, Dataset]", columns: Sequence[str]) -> "dict[str, Dataset]":
    """Drop from training what reads as an example of validation or test, and from validation what reads as one of test.

    A test stays whole, so that its scores compare with published ones.
    """
    held_out: set[bytes] = set()
    apart = dict(splits)
    for name in ("test", "validation", "train"):
        if name in splits:
            digests = list(_digests(splits[name], columns, normal_form))
            apart[name] = _select(splits[name], [row for row, d in enumerate(digests) if d not in held_out])
            held_out.update(digests)
    for name, dataset in apart.items():
        if not len(dataset):
            raise ValueError(f"deduplicate leaves nothing of {name}: each of its examples is held out too")
    return apart


def split(
    dataset: "Dataset",
    fractions: Mapping[str, float],
    *,
    stratify: str | None = None,
    together: Sequence[str] = (),
    near_copies_together: bool = False,
    seed: int = SPLIT_SEED,
) -> "dict[str, Dataset]":
    """Hold out shares of examples, chosen at random; ValueError if there are fewer examples, or documents, than splits.

    Every split has at least one example, and otherwise its share to the nearest example, in the order of `dataset`.
    Examples of one `document`, where there is such a column, stay together, so that shares are met as nearly as
    documents allow.

    Args:
        fractions: share of the whole by held-out split; together they leave something for training.
        stratify: a column of classes, of which every split has its share to the nearest example; a class with too few
            examples for that is for training. The rarest of several classes of an example counts, and the first example
            of a document. None: at random.
        together: columns of text; examples that read the same there stay together, where there are no documents.
        near_copies_together: whether near-copies there stay together too.
    """
    rows_of = _documents(dataset)
    order = np.random.default_rng(seed).permutation(len(rows_of))
    has_documents = "document" in dataset.column_names
    if together and not has_documents:
        # Examples that read the same are at the position of the first, so that no other one changes its split.
        groups: dict[Any, list[int]] = {}
        texts = dataset.select_columns(list(together))
        alike = (
            near_copies(["\n".join(row.values()) for row in texts]).tolist()
            if near_copies_together
            else _digests(dataset, together, normal_form)
        )
        for row, group in enumerate(alike):
            groups.setdefault(group, []).append(row)
        rows_of = [[] for _ in rows_of]
        for rows in groups.values():
            rows_of[rows[0]] = rows
        order = np.array([number for number in order if rows_of[number]])
    if len(order) <= len(fractions):
        units = "documents" if has_documents else "different examples"
        raise ValueError(
            f"validation_fraction and test_fraction need at least {len(fractions) + 1} {units}, got {len(order)}"
        )
    sizes = [len(rows) for rows in rows_of]
    if stratify is not None:
        classes = _classes(dataset[stratify][:])
        order = spread_classes([classes[rows[0]] if rows else None for rows in rows_of], sizes, order)
    chosen = hold_out(sizes, order, fractions)
    return {
        name: dataset.select(sorted(row for number in numbers for row in rows_of[number]))
        for name, numbers in chosen.items()
    }


def spread_classes(classes: Sequence[Any], sizes: Sequence[int], order: np.ndarray) -> np.ndarray:
    """Return an order in which every stretch has its share of each class; `order` stays within a class.

    The groups of a class are spread evenly from 0 to 1, single examples at 1/2N, 3/2N, 5/2N, ... for N of them, and all
    are sorted by that. A class of one group comes to the middle, which is for training if less than half is held out.
    """
    totals, seen = Counter[Any](), Counter[Any]()
    for group in order:
        totals[classes[group]] += sizes[group]
    positions = []
    for group in order:
        name, size = classes[group], sizes[group]
        positions.append((seen[name] + size / 2) / totals[name])
        seen[name] += size
    return order[np.argsort(positions, kind="stable")]


def _classes(labels: list[Any]) -> list[Any]:
    """Return the class by which each example is stratified: its own, or the rarest of several."""
    counts = Counter(name for names in labels if isinstance(names, list) for name in names)
    return [
        min(names, key=lambda name: (counts[name], name), default=None) if isinstance(names, list) else names
        for names in labels
    ]


def _documents(dataset: "Dataset") -> list[list[int]]:
    """Return the rows of each document, in order; each row is one where there is no such column."""
    if "document" not in dataset.column_names:
        return [[row] for row in range(len(dataset))]
    rows_of: dict[str, list[int]] = {}
    for row, document in enumerate(dataset["document"][:]):
        rows_of.setdefault(document, []).append(row)
    return list(rows_of.values())


def _digests(dataset: "Dataset", columns: Sequence[str], form: Callable[[str], str] = str) -> Iterator[bytes]:
    """Yield a hash of the texts of each example, in this form."""
    for batch in dataset.select_columns(list(columns)).iter(batch_size=1000):
        for texts in zip(*(batch[column] for column in columns), strict=True):
            yield hashlib.blake2b(json.dumps([form(text) for text in texts]).encode(), digest_size=16).digest()


def _select(dataset: "Dataset", rows: list[int]) -> "Dataset":
    return dataset if len(rows) == len(dataset) else dataset.select(rows)
