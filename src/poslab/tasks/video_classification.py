"""The task of predicting the class of a video from its patches."""

from __future__ import annotations

from poslab.data.kinds.patched import VIDEOS
from poslab.models import Model
from poslab.tasks.patch_classification import PatchClassification
from poslab.tasks.task import LengthWords, Prediction, Search


class VideoClassification(PatchClassification):
    """Predict the one class of each video. Arguments are those of `PatchClassification`."""

    kind = VIDEOS
    length_words = LengthWords("a video in frames", ("at", "{:,} frames"), "videos of {:,} frames")

    def predict(self, model: Model, text: str, search: Search) -> Prediction:
        """Raise ValueError: no file of a video is read."""
        raise ValueError("prompt must be a text, a picture or a sound: no files of videos are read")
