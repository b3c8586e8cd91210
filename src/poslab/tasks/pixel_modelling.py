"""The task of predicting the next pixel of an image.

Dimension letters: B images, T pixels, U = T + 1 (all pixels of an image).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from poslab.data.batch import IGNORE
from poslab.data.kinds import Rows
from poslab.data.patched.arrays import PIXELS
from poslab.data.patched.images import Pixels
from poslab.encodings import Positions
from poslab.models import Model
from poslab.tasks.measurement import ItemSums, Observation, TaskRecord
from poslab.tasks.patch_classification import OF_SIDES
from poslab.tasks.token_prediction import TokenPrediction, with_perplexity


class PixelBatch(NamedTuple):
    """Images of one size, and the pixel that follows each pixel but the last."""

    # tokens, targets: levels, (B, T) int64; the targets of rows that do not count are `IGNORE`
    tokens: Tensor
    targets: Tensor
    # rows, columns: of each image
    rows: int
    columns: int

    @property
    def real(self) -> None:
        """None, for there is no padding."""
        return None

    @property
    def positions(self) -> Positions:
        """Positions of the pixels, of which encodings of one axis read the order in storage."""
        most = (self.rows, self.columns)
        return Positions.grids(torch.tensor([most], device=self.tokens.device), self.tokens.shape[1], most)


class PixelModelling(TokenPrediction):
    """Predict each pixel of an image but the first from those before it, row after row.

    The model knows the positions of the last and of the next pixel on the grid. `bits_per_pixel` is the mean of -log2 p
    over the predicted pixels.
    """

    kind = PIXELS
    needs = frozenset({"causal"})
    headline = "bits_per_pixel"
    validated = ("loss", "bits_per_pixel", "perplexity", "accuracy")
    shown = ("bits_per_pixel", "loss", "accuracy")
    open_ended = TokenPrediction.open_ended | {"bits_per_pixel"}
    aggregate_lengths = False
    length_words = OF_SIDES

    def __init__(self, source: Pixels) -> None:
        self.source = source

    @classmethod
    def of(cls, data: Any) -> PixelModelling:
        return cls(data.source)

    @classmethod
    def restored(cls, record: TaskRecord, tokenizer: Any, source: Any) -> PixelModelling:
        raise ValueError("it has learned to predict pixels, and answers nothing")

    def collate(self, rows: Rows, counts: np.ndarray) -> PixelBatch:
        """Return the batch of images of one size, (H, W, 1) uint8 each."""
        images = np.stack(rows["array"])
        levels_BU = torch.from_numpy(self.source.levels_of(images).reshape(len(images), -1))
        targets_BT = levels_BU[:, 1:].masked_fill(torch.from_numpy(~counts).unsqueeze(-1), IGNORE)
        return PixelBatch(levels_BU[:, :-1].contiguous(), targets_BT, *images.shape[1:3])

    def seen(self, model: Model, batch: Any) -> tuple[Positions, None]:
        return batch.positions, None

    def scores(self, observation: Observation) -> ItemSums:
        loss, counted = observation.sums.loss.item(), int(observation.sums.counted)
        return {"bits_per_pixel": (loss / math.log(2), counted), **super().scores(observation)}

    def from_means(self, split: str, loss: float, accuracy: float) -> dict[str, float]:
        return {"bits_per_pixel": loss / math.log(2), **with_perplexity(loss, accuracy)}
