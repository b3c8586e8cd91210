"""Which text is for training, which for validation and which for test. Documents are split, never windows."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

FEW_DOCUMENTS = 20
MOST_PARTS = 80
SPLIT_SEED = 0


class Part(NamedTuple):
    """A stretch of a document."""

    document: int
    text: str


def hold_out(sizes: Sequence[int], order: np.ndarray, fractions: Mapping[str, float]) -> dict[str, list[int]]:
    """Give each held-out split its share of the text, in whole documents.

    Args:
        sizes: size of each document.
        order: the documents in the order in which they are held out, see `random_order` and `spread_order`.
        fractions: share of the whole by held-out split.

    Returns: the documents of each split in ascending order, those left over under `train`. A held-out split has at
        least one, and their number is the nearest to its share.

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
    for place, (name, fraction) in enumerate(fractions.items()):
        share += fraction
        latest = len(order) - (len(fractions) - place)
        last = min(max(int(np.searchsorted(middles, share * sizes_in_order.sum())), first + 1), latest)
        splits[name] = sorted(order[first:last].tolist())
        first = last
    return {"train": sorted(order[first:].tolist()), **splits}


def random_order(count: int) -> np.ndarray:
    """Documents in random order, the same in every run.

    Did it follow the seed of a run, a model that goes on from another seed's weights would have seen its test.
    """
    return np.random.default_rng(SPLIT_SEED).permutation(count)


def spread_order(count: int) -> np.ndarray:
    """Parts of a text in an order whose neighbours are far apart in it: by multiples of the golden ratio, modulo 1."""
    return np.argsort(np.arange(count) * (5**0.5 - 1) / 2 % 1)


def number_of_parts(size: int, longest: int, smallest_fraction: float) -> int:
    """How many parts to cut a text into: as many as hold the longest window each, within bounds.

    Many parts make a held-out split look like the whole text, and more than 80 would only make contexts short; with
    fewer than `1 / smallest_fraction` a part would be more than a held-out split asks for.
    """
    fewest = round(1 / smallest_fraction)
    return max(fewest, min(MOST_PARTS, size // longest))


def cut(texts: Sequence[str], num_parts: int) -> list[Part]:
    """Cut texts into parts of about the same size, `num_parts` in all, so that nothing is lost or reordered.

    A cut falls behind the next blank line, or the next line end or space where a part has no blank line.
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
    """The place behind the first boundary in text[start:stop], of the widest kind that it has."""
    for boundary in ("\n\n", "\n", " "):
        place = text.find(boundary, start - len(boundary), stop)
        if place >= 0:
            return place + len(boundary)
    return start


def join_neighbours(parts: Sequence[Part], chosen: Sequence[int]) -> list[str]:
    """The texts of the chosen parts, those that follow one another in a document as one text again.

    Args:
        parts: all parts, in order.
        chosen: numbers of some of them, ascending.
    """
    runs = groupby(enumerate(chosen), key=lambda item: (parts[item[1]].document, item[1] - item[0]))
    return ["".join(parts[number].text for _, number in run) for _, run in runs]
