"""The task of predicting the class of a picture from its patches.

Dimension letters: B pictures, T patches, P numbers of a patch, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from poslab.arguments import Range, with_checked_arguments
from poslab.data.batch import IGNORE
from poslab.data.kinds.kind import Rows
from poslab.data.kinds.pictures import PICTURES
from poslab.data.pictures.folder import read_picture
from poslab.data.pictures.patches import normalised, patches_of
from poslab.data.pictures.source import PictureSource
from poslab.encodings import Positions
from poslab.encodings.tokens import PADDING, PATCH
from poslab.models import Model
from poslab.tasks.classification import ClassPrediction
from poslab.tasks.record import NamedOutputs, TaskRecord
from poslab.tasks.task import LengthWords, Prediction, Search, device_of

OF_SIDES = LengthWords("a side in pixels", ("at", "a side of {:,} pixels"), "pictures with a side of {:,} pixels")


class PictureBatch(NamedTuple):
    """Patches of pictures, and the classes of these.

    Args:
        tokens: (B, T) int64, `PATCH`, and `PADDING` behind the last patch of a picture.
        patches: (B, T, P) float32, their pixels; 0 at padding.
        classes: (B,) int64, `IGNORE` in rows that do not count.
        rows, columns: of the highest and of the widest picture, in patches.
        sizes: (B, 2) int64, rows and columns of each picture; None if all have `rows` and `columns`.
        real: (B, T) bool, False at padding; None where there is none.
    """

    tokens: Tensor
    patches: Tensor
    classes: Tensor
    rows: int
    columns: int
    sizes: Tensor | None = None
    real: Tensor | None = None

    @property
    def num_tokens(self) -> int | Tensor:
        return self.tokens.numel() if self.real is None else self.real.sum()

    @property
    def positions(self) -> Positions:
        """Positions of the patches, of which encodings of one axis read the order in storage."""
        most, device = (self.rows, self.columns), self.tokens.device
        sizes = torch.tensor([most], device=device) if self.sizes is None else self.sizes.unsqueeze(1)
        return Positions.grids(sizes, self.tokens.shape[1], most)


@with_checked_arguments
@dataclass(frozen=True, kw_only=True)
class PatchesRecord(TaskRecord):
    """The record of a task that reads patches of pictures.

    Args:
        patch: side of a patch in pixels.
        mean, deviation: of each number of a pixel over the pictures of training; 1 of grey ones, 3 of others.
        others: those of `TaskRecord`.
    """

    patch: Annotated[int, Range(1, 1000)] = 1
    mean: list[float]
    deviation: list[float]

    def __post_init__(self) -> None:
        if len(self.mean) not in (1, 3) or len(self.deviation) != len(self.mean) or not min(self.deviation) > 0:
            raise ValueError("mean and deviation must be of 1 or 3 numbers of a pixel, and deviations above 0")

    @property
    def patch_width(self) -> int:
        return self.patch * self.patch * len(self.mean)


@with_checked_arguments
@dataclass(frozen=True, kw_only=True)
class PicturesRecord(NamedOutputs, PatchesRecord):
    """The record of a classification of pictures; arguments are those of `NamedOutputs` and `PatchesRecord`."""

    def __post_init__(self) -> None:
        NamedOutputs.__post_init__(self)
        PatchesRecord.__post_init__(self)


class PictureClassification(ClassPrediction):
    """Predict the one class of each picture, of which a model reads patches with their places on a grid.

    Args:
        classes: their names, in the order of their numbers.
        source: of the pictures.
        mean, deviation: of each number of a pixel in training, by which all are normalised.
    """

    kind = PICTURES
    needs = frozenset({"pooled", "patches"})
    record_type = PicturesRecord
    pools_lengths = False
    length_words = OF_SIDES

    def __init__(self, classes: list[str], source: PictureSource, mean: list[float], deviation: list[float]) -> None:
        super().__init__(classes)
        self.source = source
        self.mean = mean
        self.deviation = deviation

    @classmethod
    def of(cls, data: Any) -> PictureClassification:
        return cls(data.facts.classes, data.source, data.facts.mean, data.facts.deviation)

    @classmethod
    def restored(cls, record: PicturesRecord, tokenizer: Any, source: Any) -> PictureClassification:
        if record.outputs != (len(record.classes), True) or record.patch != source.patch:
            raise ValueError(f"it has learned no classes of patches of {source.patch} x {source.patch} pixels")
        return cls(record.classes, source, record.mean, record.deviation)

    def record(self) -> PicturesRecord:
        return PicturesRecord(
            outputs=self.outputs,
            classes=self.classes,
            patch=self.source.patch,
            mean=self.mean,
            deviation=self.deviation,
        )

    def collate(self, rows: Rows, counts: np.ndarray) -> PictureBatch:
        """Return the batch of pictures, (H, W, numbers of a pixel) uint8 of whole patches each."""
        patch = self.source.patch
        cut = [patches_of(picture, patch) for picture in rows["picture"]]
        sizes_B2 = np.array([picture.shape[:2] for picture in rows["picture"]], dtype=np.int64) // patch
        real_BT = np.arange(max(map(len, cut))) < sizes_B2.prod(-1)[:, None]
        patches_BTP = np.zeros((*real_BT.shape, cut[0].shape[-1]), dtype=np.float32)
        patches_BTP[real_BT] = normalised(np.concatenate(cut), self.mean, self.deviation)
        high, wide = sizes_B2.max(0).tolist()
        are_alike = bool((sizes_B2 == (high, wide)).all())
        return PictureBatch(
            torch.from_numpy(np.where(real_BT, PATCH, PADDING)),
            torch.from_numpy(patches_BTP),
            self._counted(rows["label"], counts),
            high,
            wide,
            None if are_alike else torch.from_numpy(sizes_B2),
            None if real_BT.all() else torch.from_numpy(real_BT),
        )

    def logits(self, model: Model, batch: PictureBatch) -> Tensor:
        logits_BC: Tensor = model(batch.tokens, batch.positions, batch.real, patches=batch.patches)
        return logits_BC.float()

    def hidden_states(self, model: Model, batch: PictureBatch) -> Tensor:
        named: dict[str, Any] = {"patches": batch.patches}  # which a model that does not declare them cannot take
        return model.hidden_states(batch.tokens, batch.positions, batch.real, **named)

    def first_tokens(self, batch: PictureBatch, length: int) -> PictureBatch:
        if batch.tokens.shape[1] <= length:
            return batch
        real = batch.tokens != PADDING
        return batch._replace(
            tokens=batch.tokens[:, :length],
            patches=batch.patches[:, :length],
            classes=batch.classes.masked_fill(real[:, length:].any(-1), IGNORE),
            real=real[:, :length],
        )

    @torch.no_grad()
    def predict(self, model: Model, text: str, search: Search) -> Prediction:
        """Predict the class of the picture in a file, which is named by its path."""
        picture = self.source.at_side(read_picture("prompt", Path(text).expanduser(), len(self.mean)), self.source.side)
        batch = self.collate({"picture": [picture], "label": self.classes[:1]}, np.array([True]))
        device = device_of(model)
        batch = batch._replace(tokens=batch.tokens.to(device), patches=batch.patches.to(device))
        return self._prediction(self.logits(model, batch)[0])
