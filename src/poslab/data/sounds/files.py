"""The base class of sources of sounds in files."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from poslab.data.examples.columns import Splits, as_examples
from poslab.data.examples.fingerprint import fingerprint
from poslab.data.sounds.reading import read_sound
from poslab.data.sounds.source import SoundSource


class Sound(NamedTuple):
    """A file of a sound.

    Args:
        path: of the file.
        label: its class.
        document: what no two splits share; empty for the sound itself.
    """

    path: Path
    label: str
    document: str = ""


class SoundFiles(SoundSource):
    """A source of sounds in files, each of a class.

    Args:
        others: those of `SoundSource`.
    """

    path_argument = "folder"
    """Name of the argument that names the files, for messages."""

    def check(self) -> None:
        super().check()
        if len(classes := {sound.label for sound in self.sounds}) < 2:
            raise ValueError(f"dataset={self.title} must have sounds of at least two classes, got {', '.join(classes)}")

    @property
    @abstractmethod
    def sounds(self) -> list[Sound]:
        """All sounds in an order that does not change; errors are those of `examples`."""

    @cached_property
    def identity(self) -> str:
        sounds = self.sounds
        return fingerprint([one.path for one in sounds], [[one.label, one.document] for one in sounds])

    def examples(self) -> Splits:
        sounds = self.sounds
        columns: dict[str, list[Any]] = {
            "content": [fingerprint([one.path]) for one in sounds],
            "label": [one.label for one in sounds],
            "number": list(range(len(sounds))),
        }
        if sounds[0].document:
            columns["document"] = [one.document for one in sounds]
        return {"train": as_examples(**columns)}

    def arrays(self, numbers: Sequence[int], length: int) -> Iterator[np.ndarray]:
        for number in numbers:
            yield self.spectrogram(read_sound(self.path_argument, self.sounds[number].path))
