"""The task of predicting the class of a sound from patches of its spectrogram."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from poslab.data.kinds.patched import SOUNDS
from poslab.data.sounds.log_mel import normalised_log_mel
from poslab.data.sounds.reading import read_sound
from poslab.models import Model
from poslab.tasks.patch_classification import PatchClassification
from poslab.tasks.task import LengthWords, Prediction, Search


class SoundClassification(PatchClassification):
    """Predict the one class of each sound. Arguments are those of `PatchClassification`."""

    kind = SOUNDS
    length_words = LengthWords("a crop in frames of 10 ms", ("at", "{:,} frames"), "crops of {:,} frames")

    @torch.no_grad()
    def predict(self, model: Model, text: str, search: Search) -> Prediction:
        """Predict the class of the sound in a file, which is named by its path, from its beginning."""
        frames = self.source.trained_length
        spectrum_TM = normalised_log_mel(read_sound("prompt", Path(os.path.expanduser(text))))[:frames]
        if len(spectrum_TM) < frames:
            raise ValueError(f"prompt must be a sound of at least {self.source.seconds:g} seconds, got {text!r}")
        return self._predicted(model, spectrum_TM.T[..., None])
