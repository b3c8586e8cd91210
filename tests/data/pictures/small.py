"""Small files in the formats of the sources of pictures."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from poslab.data.pictures.fashion_mnist import CLASSES, FILES


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write bytes as MNIST's files have them, compressed."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def bars(count: int, side: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy pictures, (count, side, side), whose bright row is that of their class, and the classes."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % min(len(CLASSES), side)
    pictures = generator.integers(0, 60, (count, side, side))
    pictures[np.arange(count), labels] += 150
    return pictures.astype(np.uint8), labels.astype(np.uint8)


def write_fashion(folder: Path, counts: Sequence[int] = (200, 40), side: int = 8) -> Path:
    """Write files of the names of Fashion-MNIST, with so many pictures of training and of test, into a new folder."""
    folder.mkdir()
    for seed, (names, count) in enumerate(zip(FILES.values(), counts, strict=True)):
        for name, array in zip(names, bars(count, side, seed), strict=True):
            write_idx(folder / name, array)
    return folder


def write_pictures(folder: Path, sizes: Sequence[tuple[int, int]], count: int = 6, mode: str = "RGB") -> Path:
    """Write `count` PNG files of each of these widths and heights into the folders of two classes."""
    generator = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            width, height = sizes[number % len(sizes)]
            shape = (height, width, 3) if mode == "RGB" else (height, width)
            pixels = generator.integers(0, 256, shape).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder
