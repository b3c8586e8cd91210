"""Sounds and their classes, from the Hugging Face Hub."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from poslab.data.patched.hub import HubArrays
from poslab.data.sounds.reading import read_sound
from poslab.data.sounds.source import SoundSource


class HubSounds(SoundSource, HubArrays):
    """WAV, FLAC and Ogg files in the rows of a data set on the Hub, and a column of their classes.

    They are read as those of `SoundFolder` are. `dataset=sounds` reads a folder of files that is not such a data set.

    Args:
        audio: the column of the sounds (default `audio`).
        others: those of `SoundSource` and `HubArrays`.
    """

    audio: str = "audio"

    title = "hub_sounds"
    file_argument = "audio"

    @property
    def file_type(self) -> Any:
        from datasets import Audio

        return Audio(decode=False)

    def arrays(self, numbers: Sequence[int], length: int) -> Iterator[np.ndarray]:
        for file, name in self.files(numbers):
            yield self.spectrogram(read_sound(self.file_argument, file, name))
