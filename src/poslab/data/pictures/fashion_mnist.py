"""Fashion-MNIST from a package of Debian, and the format of its files."""

import gzip
import hashlib
import math
import os
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from poslab.data.examples.columns import Splits, as_examples
from poslab.data.examples.fingerprint import fingerprint
from poslab.data.pictures.source import PictureSource
from poslab.data.source import require_text
from poslab.io.files import NotInstalledError

PACKAGE = "dataset-fashion-mnist"
FILES = {
    split: [f"{name}-images-idx3-ubyte.gz", f"{name}-labels-idx1-ubyte.gz"]
    for split, name in (("train", "train"), ("test", "t10k"))
}
CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


class FashionMnist(PictureSource):
    """70,000 grey pictures of clothes in ten classes, 28 pixels wide and high; the test of 10,000 is the published one.

    They come from Debian (or Ubuntu): apt-get install dataset-fashion-mnist. Sides other than 28 are resized.

    Args:
        folder: of the files (default `/usr/share/datasets/fashion-mnist`).
        others: those of `PictureSource`.

    Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms"
    (2017).
    """

    folder: str = "/usr/share/datasets/fashion-mnist"

    title = "fashion_mnist"
    channels = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_text("folder", self.folder)

    def check(self) -> None:
        super().check()
        self.require_files(self.title)

    def require_files(self, dataset: str) -> None:
        """Raise ValueError, naming a dataset, for a file that is not there."""
        for path in self._paths:
            if not os.path.isfile(path):
                raise NotInstalledError(
                    f"dataset={dataset} needs {path}, from Debian's package {PACKAGE}: apt-get install {PACKAGE}"
                )

    @cached_property
    def identity(self) -> str:
        return fingerprint(self._paths)

    def examples(self) -> Splits:
        splits, first = {}, 0
        for split, (pictures, labels) in self._arrays.items():
            splits[split] = as_examples(
                content=[hashlib.blake2b(picture.tobytes(), digest_size=16).hexdigest() for picture in pictures],
                label=[CLASSES[label] for label in labels],
                number=list(range(first, first + len(pictures))),
            )
            first += len(pictures)
        return splits

    def arrays(self, numbers: Sequence[int], side: int) -> Iterator[np.ndarray]:
        everything = np.concatenate([pictures for pictures, _ in self._arrays.values()])
        for number in numbers:
            yield self.at_side(everything[number, ..., None], side)

    @property
    def _paths(self) -> list[Path]:
        return [Path(os.path.expanduser(self.folder)) / name for names in FILES.values() for name in names]

    @cached_property
    def _arrays(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Pictures, (N, H, W), and the numbers of their classes, (N,), by split; ValueError unless they go together."""
        arrays = {}
        for split, (first, second) in zip(FILES, (self._paths[:2], self._paths[2:]), strict=True):
            pictures, labels = read_idx(first, 3), read_idx(second, 1)
            if len(pictures) != len(labels) or not pictures.size or labels.max() >= len(CLASSES):
                raise ValueError(
                    f"folder must hold pictures of {len(CLASSES)} classes with as many labels, but {str(first)!r} has "
                    f"{len(pictures)} and {str(second)!r} has {len(labels)}, up to class {max(labels, default=0)}"
                )
            arrays[split] = pictures, labels
        if len(shapes := {pictures.shape[1:] for pictures, _ in arrays.values()}) > 1:
            sizes = " and ".join(f"{height} x {width}" for height, width in sorted(shapes))
            raise ValueError(f"folder must hold pictures of one size for training and test, got {sizes} pixels")
        return arrays


def read_idx(path: Path, num_axes: int) -> np.ndarray:
    """Return the array of bytes in a compressed idx file, the format of MNIST.

    It has two bytes of 0, the type 8 (a byte), the number of axes, a big-endian size of 4 bytes for each, and values.

    Raises:
        ValueError: beginning with `folder`, if the file is not one with so many axes.
    """
    header = 4 + 4 * num_axes
    try:
        with gzip.open(path) as file:
            head = file.read(header)
            sizes = np.frombuffer(head, ">u4", offset=4).tolist() if len(head) == header else []
            if head[:4] != bytes([0, 0, 8, num_axes]) or 0 in sizes[1:] or math.prod(sizes) > MAX_VALUES:
                raise ValueError(f"its first bytes are {head.hex(' ')}")
            values = file.read(math.prod(sizes) + 1)  # no more than that is unpacked
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(f"folder must hold idx files of {num_axes} axes, but {str(path)!r} is not: {error}") from error
    if len(values) != math.prod(sizes):
        more = "more" if len(values) > math.prod(sizes) else f"{len(values):,}"
        raise ValueError(f"folder must hold whole files, but {str(path)!r} has {more} of {math.prod(sizes):,} values")
    return np.frombuffer(values, np.uint8).reshape(sizes)


MAX_VALUES = 2_000_000_000
"""Most values of an idx file; that of Fashion-MNIST has 47,040,000."""
