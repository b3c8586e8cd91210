"""Split text into training, validation and test, by documents, never by windows."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

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
    """Give each held-out split its share of the text, in whole documents.

    Args:
        sizes: size of each document.
        order: the order in which documents are held out, see `random_order` and `spread_order`.
        fractions: share of the whole by held-out split.

    Returns: the documents of each split in ascending order, the rest under `train`. A held-out split has at least one,
        and as many as come nearest to its share.

    Raises:
        ValueError: there are fewer documents than splits.
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
    """Return the number of parts to cut a text into: as many as hold the longest window each, within bounds.

    Many parts make a held-out split look like the whole text, but more than 80 would only shorten contexts; with fewer
    than `1 / smallest_fraction` a part would be larger than a held-out split.
    """
    fewest = round(1 / smallest_fraction)
    return max(fewest, min(MAX_PARTS, size // longest))


def cut(texts: Sequence[str], num_parts: int) -> list[Part]:
    """Cut texts into `num_parts` parts of about the same size; nothing is lost or reordered.

    A cut falls after the next blank line, or the next line end or space where a part has no blank line.
    """
    size = max(1, sum(map(len, texts)) // num_parts)
    return [Part(number, part) for number, text in enumerate(texts) for part in _cut_one(text, size)]


def _cut_one(text: str, size: int) -> list[str]:
    parts, start = [], 0
    while len(text) - start >= 1.5 * size:
        stop = next_boundary(text, start + size, start + 2 * size)
        parts.append(text[start:stop])
        start = stop
    return [*parts, text[start:]] if start < len(text) else parts


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


def as_dataset(texts: list[str]) -> "Dataset":
    """Return a Hugging Face dataset with one column `text`."""
    from datasets import Dataset, Features, Value

    # Arrow's plain strings end at 2 GB a column.
    return Dataset.from_dict({"text": texts}, features=Features({"text": Value("large_string")}))
