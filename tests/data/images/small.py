"""Small files in the formats of the sources of images."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features
from datasets import Image as ImageColumn
from PIL import Image, ImageColor

CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker")
COLOURS = ("red", "green", "blue", "white")


def png(width: int, height: int, data: bytes) -> bytes:
    """Return a PNG file of grey pixels, whose header may claim any size."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def bars(count: int, side: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy images, (count, side, side), whose bright row is that of their class, and the classes."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % min(len(CLASSES), side)
    images = generator.integers(0, 60, (count, side, side))
    images[np.arange(count), labels] += 150
    return images.astype(np.uint8), labels.astype(np.uint8)


def write_fashion(folder: Path, counts: Sequence[int] = (200, 40), side: int = 8) -> Path:
    """Write a data set in the form of Fashion-MNIST, with so many images of training and of test, into a new folder."""
    features = Features({"image": ImageColumn(), "label": ClassLabel(names=list(CLASSES))})
    splits = {}
    for seed, (split, count) in enumerate(zip(("train", "test"), counts, strict=True)):
        images, labels = bars(count, side, seed)
        columns = {"image": list(map(Image.fromarray, images)), "label": labels}
        splits[split] = Dataset.from_dict(columns, features=features)
    DatasetDict(splits).save_to_disk(folder)
    return folder


def write_images(folder: Path, sizes: Sequence[tuple[int, int]], count: int = 6, mode: str = "RGB") -> Path:
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


CAPTIONS = [f"{number} {colour}." for number in ("one", "two", "three", "four", "five") for colour in COLOURS]
"""Twenty captions: a number of bars, and their colour."""


def write_captioned(folder: Path, sizes: Sequence[tuple[int, int]] = ((8, 8), (12, 4)), count: int = 20) -> Path:
    """Write PNG files of these widths and heights, with the first of `CAPTIONS`, into a new folder and one below it."""
    (folder / "below").mkdir(parents=True)
    for number, caption in enumerate(CAPTIONS[:count]):
        width, height = sizes[number % len(sizes)]
        pixels = np.random.default_rng(number).integers(0, 30, (height, width, 3))
        pixels[:, : 2 * (1 + number // len(COLOURS))] += np.array(ImageColor.getrgb(caption.split()[1][:-1])) // 2
        path = folder / ("below" if number % 2 else "") / f"{number}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        path.with_suffix(".txt").write_text(f"{caption}\nmore\n")
    return folder
