"""The task of predicting the class of a picture from its patches."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from poslab.data.kinds.patched import PICTURES
from poslab.data.pictures.reading import read_picture
from poslab.models import Model
from poslab.tasks.patch_classification import PatchClassification
from poslab.tasks.task import LengthWords, Prediction, Search

OF_SIDES = LengthWords(
    "a side in pixels", ("at", "a side of {:,} pixels"), "pictures with a side of {:,} pixels", "side"
)


class PictureClassification(PatchClassification):
    """Predict the one class of each picture. Arguments are those of `PatchClassification`."""

    kind = PICTURES
    length_words = OF_SIDES

    @torch.no_grad()
    def predict(self, model: Model, text: str, search: Search) -> Prediction:
        """Predict the class of the picture in a file, which is named by its path."""
        picture = read_picture("prompt", Path(os.path.expanduser(text)), len(self.mean))
        return self._predicted(model, self.source.at_side(picture, self.source.side))
