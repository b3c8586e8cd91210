"""Tasks of predicting the class of an image, a sound or a video from its patches.

Dimension letters: B arrays, A axes, T patches, P values of a patch, C classes.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from poslab.arguments import Range, with_checked_arguments
from poslab.data.batch import IGNORE
from poslab.data.kinds import Rows
from poslab.data.patched.arrays import IMAGES, SOUNDS, VIDEOS, normalised, patches_of
from poslab.data.patched.audio import normalised_log_mel, read_sound
from poslab.data.patched.images import read_image
from poslab.encodings import Positions
from poslab.encodings.tokens import PADDING, PATCH
from poslab.models import Model
from poslab.tasks.classification import ClassPrediction
from poslab.tasks.measurement import NamedOutputs, TaskRecord
from poslab.tasks.task import LengthWords, Prediction, Search, device_of


class PatchBatch(NamedTuple):
    """Patches of arrays, and the classes of these."""

    tokens: Tensor  # (B, T) int64, `PATCH`, and `PADDING` after the last patch of an array
    patches: Tensor  # (B, T, P) float32, their normalised values; 0 at padding
    classes: Tensor  # (B,) int64, `IGNORE` in rows that do not count
    grid: dict[str, int]  # by name of an axis, the outermost first, the most patches of an array on it
    # (B, A) int64, patches of each array on each axis; None if all are as in `grid`
    sizes: Tensor | None = None
    real: Tensor | None = None  # (B, T) bool, False at padding; None where there is none

    @property
    def positions(self) -> Positions:
        """Positions of the patches, of which encodings of one axis read the order in storage."""
        most = list(self.grid.values())
        sizes = torch.tensor([most], device=self.tokens.device) if self.sizes is None else self.sizes.unsqueeze(1)
        return Positions.grids(sizes, self.tokens.shape[1], most, list(self.grid))


Side = Annotated[int, Range(1, 60_000)]
"""Of a patch: pixels, bins or frames, of which a sound may have the most."""


@with_checked_arguments
@dataclass(frozen=True, kw_only=True)
class PatchesRecord(TaskRecord):
    """The record of a task that reads patches of arrays.

    Args:
        patch: sides of a patch on all axes of an array.
        mean, deviation: of each channel over all arrays of training; 3 of images in colour, else 1.
        others: as in `TaskRecord`.
    """

    patch: list[Side]
    mean: list[float]
    deviation: list[float]

    def __post_init__(self) -> None:
        if not 1 <= len(self.patch) <= 3:
            raise ValueError("patch must be sides on 1 to 3 axes")
        if len(self.mean) not in (1, 3) or len(self.deviation) != len(self.mean) or not min(self.deviation) > 0:
            raise ValueError("mean and deviation must be of 1 or 3 channels, and deviations above 0")

    @property
    def patch_width(self) -> int:
        return math.prod(self.patch) * len(self.mean)


@with_checked_arguments
@dataclass(frozen=True, kw_only=True)
class ClassesOfPatchesRecord(NamedOutputs, PatchesRecord):
    """The record of a classification of arrays; arguments are as in `NamedOutputs` and `PatchesRecord`."""

    def __post_init__(self) -> None:
        NamedOutputs.__post_init__(self)
        PatchesRecord.__post_init__(self)


class PatchClassification(ClassPrediction):
    """Predict the one class of each array, of which a model reads patches with their positions.

    All arrays are normalised by mean and deviation of each channel in training.
    """

    needs = frozenset({"pooled", "patches"})
    record_type = ClassesOfPatchesRecord
    aggregate_lengths = False

    def __init__(self, classes: list[str], source: Any, mean: list[float], deviation: list[float]) -> None:
        super().__init__(classes)
        self.source = source
        self.mean = mean
        self.deviation = deviation

    @classmethod
    def of(cls, data: Any) -> Self:
        return cls(data.splits.facts.classes, data.source, data.splits.facts.mean, data.splits.facts.deviation)

    @classmethod
    def restored(cls, record: ClassesOfPatchesRecord, tokenizer: Any, source: Any) -> Self:
        if record.outputs != (len(record.classes), True) or tuple(record.patch) != source.patch_sizes:
            raise ValueError(f"it has learned no classes of patches of {' x '.join(map(str, source.patch_sizes))}")
        return cls(record.classes, source, record.mean, record.deviation)

    def record(self) -> ClassesOfPatchesRecord:
        return ClassesOfPatchesRecord(
            outputs=self.outputs,
            classes=self.classes,
            patch=list(self.source.patch_sizes),
            mean=self.mean,
            deviation=self.deviation,
        )

    def collate(self, rows: Rows, counts: np.ndarray) -> PatchBatch:
        """Return the batch of arrays, (n_1, ..., n_A, C) of whole patches each."""
        source, arrays = self.source, rows["array"]
        cut = [patches_of(array, source.patch_sizes) for array in arrays]
        sizes_BA = source.cells_of(np.array([array.shape[:-1] for array in arrays], dtype=np.int64))
        real_BT = np.arange(max(map(len, cut))) < sizes_BA.prod(-1)[:, None]
        patches_BTP = np.zeros((*real_BT.shape, cut[0].shape[-1]), dtype=np.float32)
        patches_BTP[real_BT] = normalised(np.concatenate(cut), self.mean, self.deviation)
        largest_A = sizes_BA.max(0)
        are_alike = bool((sizes_BA == largest_A).all())
        return PatchBatch(
            torch.from_numpy(np.where(real_BT, PATCH, PADDING)),
            torch.from_numpy(patches_BTP),
            self._counted(rows["label"], counts),
            dict(zip(source.axes, largest_A.tolist(), strict=True)),
            None if are_alike else torch.from_numpy(sizes_BA),
            None if real_BT.all() else torch.from_numpy(real_BT),
        )

    def logits(self, model: Model, batch: PatchBatch) -> Tensor:
        logits_BC: Tensor = model(batch.tokens, batch.positions, batch.real, patches=batch.patches)
        return logits_BC.float()

    def hidden_states(self, model: Model, batch: PatchBatch) -> Tensor:
        named: dict[str, Any] = {"patches": batch.patches}  # which a model that does not declare them cannot take
        return model.hidden_states(batch.tokens, batch.positions, batch.real, **named)

    def first_tokens(self, batch: PatchBatch, length: int) -> PatchBatch:
        if batch.tokens.shape[1] <= length:
            return batch
        real = batch.tokens != PADDING
        return batch._replace(
            tokens=batch.tokens[:, :length],
            patches=batch.patches[:, :length],
            classes=batch.classes.masked_fill(real[:, length:].any(-1), IGNORE),
            real=real[:, :length],
        )

    def _predicted(self, model: Model, array: np.ndarray) -> Prediction:
        """Return the prediction for one array, as `collate` has it."""
        batch = self.collate({"array": [array], "label": self.classes[:1]}, np.array([True]))
        device = device_of(model)
        batch = batch._replace(tokens=batch.tokens.to(device), patches=batch.patches.to(device))
        return self._prediction(self.logits(model, batch)[0])


OF_SIDES = LengthWords("a side in pixels", ("at", "a side of {:,} pixels"), "images with a side of {:,} pixels", "side")


class ImageClassification(PatchClassification):
    """Predict the one class of each image. Arguments are as in `PatchClassification`."""

    kind = IMAGES
    length_words = OF_SIDES

    @torch.no_grad()
    def predict(self, model: Model, text: str, search: Search) -> Prediction:
        """Predict the class of the image in a file, which is named by its path."""
        image = read_image("prompt", Path(os.path.expanduser(text)), len(self.mean))
        return self._predicted(model, self.source.at_side(image, self.source.side))


class SoundClassification(PatchClassification):
    """Predict the one class of each sound. Arguments are as in `PatchClassification`."""

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


class VideoClassification(PatchClassification):
    """Predict the one class of each video. Arguments are as in `PatchClassification`."""

    kind = VIDEOS
    length_words = LengthWords("a video in frames", ("at", "{:,} frames"), "videos of {:,} frames")

    def predict(self, model: Model, text: str, search: Search) -> Prediction:
        """Raise ValueError: no file of a video is read."""
        raise ValueError("prompt must be a text, an image or a sound: no files of videos are read")
