"""Turn a source of pictures into arrays on the disk: drop repeats, split, and bring them to a side.

Dimension letters: N pictures, H height, W width, C numbers of a pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from poslab.arguments import with_checked_arguments
from poslab.data import cache
from poslab.data.examples.splitting import split_examples
from poslab.data.pictures.source import PictureSource
from poslab.data.preparation import make_tokenizer, tokenizer_settings
from poslab.data.run_data import HELD_OUT
from poslab.data.source import Source
from poslab.data.splitting import random_order
from poslab.data.tokenizers import load_tokenizer

# Raise it with every change of the pictures that come of the same source: old ones are then not found.
VERSION = 1


@with_checked_arguments
@dataclass(frozen=True)
class Facts:
    """Facts of prepared pictures at a side.

    Args:
        num_examples: by split; `train` is at the side of training alone.
        classes: names of the classes, or captions, in the order of their numbers.
        channels: numbers of a pixel.
        mean, deviation: of each of them over all pixels of training, from 0 to 255; empty at another side.
    """

    num_examples: dict[str, cache.Number]
    classes: list[str]
    channels: cache.Number
    mean: list[float]
    deviation: list[float]


class StoredPictures:
    """Pictures of a split at a side, read from the disk as they are needed.

    Args:
        folder, split: as `prepare` has them.
        channels: numbers of a pixel.

    Attributes:
        sizes: (N, 2), height and width of each.
        labels: (N,), numbers of their classes or captions.
    """

    def __init__(self, folder: Path, split: str, channels: int) -> None:
        self.channels = channels
        self.sizes = np.fromfile(folder / f"{split}.sizes", dtype=np.int32).reshape(-1, 2)
        self.labels = np.fromfile(folder / f"{split}.labels", dtype=np.int32)
        self._pixels = cache.TokenFile(folder / f"{split}.pixels", "uint8")
        self._ends = np.cumsum(self.sizes.prod(-1, dtype=np.int64) * channels)

    @property
    def is_whole(self) -> bool:
        """True if there are as many labels and pixels as the sizes ask for."""
        return len(self.sizes) == len(self.labels) > 0 and self._ends[-1] == len(self._pixels)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, number: int) -> np.ndarray:
        """Return a picture, (H, W, C) uint8."""
        height, width = self.sizes[number].tolist()
        end = self._ends[number]
        return self._pixels.ids[end - height * width * self.channels : end].reshape(height, width, self.channels)


def prepare(source: PictureSource, side: int) -> Path:
    """Make the arrays of the held-out pictures at a side, and at that of training of all, unless they are there.

    Returns: their folder.

    Raises: errors of `PictureSource`.
    """
    source.check()
    folder = source.cache / f"{source.title}-{cache.key(_settings(source, side))}"
    if cache.is_kept(folder, partial(_check, source, side)):
        return folder
    splits = split_examples(source)
    classes = source.kind.labels(splits)
    number_of = {name: number for number, name in enumerate(classes)}
    counts: dict[str, int] = {}
    mean, deviation = list[float](), list[float]()
    with cache.new_folder(folder) as temporary:
        for name in splits_at(source, side):
            rows = splits[name]
            if name in HELD_OUT and source.test_examples is not None:
                rows = rows.select(sorted(random_order(len(rows))[: source.test_examples]))
            sums = _write(temporary, name, source, side, list(rows["number"]))
            np.array([number_of[label] for label in rows["label"]], np.int32).tofile(temporary / f"{name}.labels")
            counts[name] = len(rows)
            if name == "train":
                mean, deviation = _moments(sums)
        if isinstance(source, Source):
            make_tokenizer(source, iter([splits["train"]["label"][:]])).save(temporary)
        cache.write_facts(temporary, Facts(counts, classes, source.channels, mean, deviation))
    return folder


def splits_at(source: PictureSource, side: int) -> tuple[str, ...]:
    """Return the splits that there are at a side."""
    return cache.SPLITS if side == source.side else HELD_OUT


def _write(folder: Path, split: str, source: PictureSource, side: int, numbers: Sequence[int]) -> np.ndarray:
    """Write pictures and their sizes; return how often each value of a pixel occurs, (C, 256)."""
    counts, sizes = np.zeros((source.channels, 256), np.int64), []
    with (folder / f"{split}.pixels").open("wb") as file:
        for picture in source.pictures(numbers, side):
            file.write(np.ascontiguousarray(picture).data)
            sizes.append(picture.shape[:2])
            for channel, values in enumerate(counts):
                values += np.bincount(picture[..., channel].ravel(), minlength=256)
    np.array(sizes, np.int32).tofile(folder / f"{split}.sizes")
    return counts


def _moments(counts: np.ndarray) -> tuple[list[float], list[float]]:
    """Return the mean and the deviation of each channel from its counts of values, (C, 256); that of one value is 1."""
    shares, values = counts / counts.sum(-1, keepdims=True), np.arange(256)
    mean = shares @ values
    deviation = np.sqrt(np.maximum(shares @ values**2 - mean**2, 0))
    return mean.tolist(), np.where(deviation > 0, deviation, 1).tolist()


def _check(source: PictureSource, side: int, folder: Path) -> None:
    """Raise ValueError unless a folder holds as many pictures as it says, of whole patches and of its classes."""
    facts = cache.read_facts(folder, Facts)
    if isinstance(source, Source):
        load_tokenizer(folder)
    cache.require_splits(splits_at(source, side), facts.num_examples)
    moments = facts.channels if side == source.side else 0
    is_right = facts.channels in (1, 3) and len(facts.mean) == len(facts.deviation) == moments
    is_right &= all(0 <= one < 256 for one in facts.mean)
    is_right &= len(facts.classes) > 1 and all(0 < one < 256 for one in facts.deviation)
    for name, count in facts.num_examples.items():
        try:
            stored = StoredPictures(folder, name, facts.channels)
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder} does not hold pictures: {error}") from error
        labels, (rows, rest) = stored.labels, np.divmod(stored.sizes, source.patch)
        is_right &= stored.is_whole and len(stored) == count
        is_right &= bool(((labels >= 0) & (labels < len(facts.classes))).all() and (rows > 0).all() and not rest.any())
        is_right &= bool((rows.prod(-1, dtype=np.int64) <= source.patches_at(side)).all())
    if not is_right:
        raise ValueError(f"{folder} does not hold what {cache.FACTS} says")


def _settings(source: PictureSource, side: int) -> dict[str, object]:
    """Return all settings that decide which pictures come out."""
    return {
        "version": VERSION,
        "source": source.identity,
        "deduplicate": source.deduplicate,
        "fractions": [source.validation_fraction, source.test_fraction],
        "test_examples": source.test_examples,
        "sides": [side, source.side],
        "patch": source.patch,
        **(tokenizer_settings(source) if isinstance(source, Source) else {}),
    }
