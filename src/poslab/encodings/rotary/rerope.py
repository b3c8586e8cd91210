"""ReRoPE: distances that stop growing, or grow more slowly. Dimension letters: T tokens."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from poslab.arguments import NOT_EXTREME, Count, Range
from poslab.encodings.frequencies import Base
from poslab.encodings.rotary.ranges import RangedRotary
from poslab.encodings.rotary.rotary import Fraction, Layout
from poslab.encodings.rotary.scalings import Scaling, TrainingLength


class ReRoPE(RangedRotary):
    """ReRoPE: a rotary model reads longer texts, in which far tokens are all at one distance, or grow apart slowly.

        logit(i, j) = q_i . R(-rel(i - j)) k_j / sqrt(D)
        rel(d) = d if d < w, else w (ReRoPE) or w + (d - w) / k (Leaky ReRoPE)

    Use it in the place of a trained rotary encoding (`encoding@swap=rerope`) when the model should read texts of any
    length without any further training. Leaky ReRoPE (`leaky_rerope`) still knows the order of far tokens.

    Args:
        head_dim: head dimension D.
        training_length: L of the model, at least 2, for a null `window`.
        window: w, distances below it are exact; null is L / 8 (author: 512 of 4,096).
        factor: k of Leaky ReRoPE, at least 1 (author: 16); null is ReRoPE, the same without end.
        base, fraction, layout, scaling: as of `Rotary`: those of the trained model.

    No parameters. Causal. Of N tokens the largest distance is w, or w + (N - w) / k, which should stay below L. Up to w
    tokens it is the trained rotary encoding. Costs two products of queries and keys, block by block of query rows;
    queries and keys become 2 D wide.

    Trap: the author also multiplies queries by max(1, ln(i + 1) / ln L), which is a temperature here. `log_n` is the
    same but for tokens before L, whose factor it lets fall below 1.

    Source: Su, "ReRoPE" (2023), a post at kexue.fm/archives/9708, and its code.
    """

    def __init__(
        self,
        head_dim: Count,
        training_length: TrainingLength,
        window: Count | None = None,
        factor: Annotated[float, Range(at_least=1), NOT_EXTREME] | None = None,
        base: Base = 10_000.0,
        fraction: Fraction = 1.0,
        layout: Layout = "half_split",
        scaling: Scaling | None = None,
    ) -> None:
        super().__init__(head_dim, base, fraction, layout, scaling)
        self.window = max(1, training_length // 8) if window is None else window
        self.factor = factor

    def query_ids(self, ids: Tensor) -> list[Tensor]:
        if self.factor is None:
            return [ids, torch.full_like(ids, self.window)]
        return [ids, (ids + self.window * (self.factor - 1)) / self.factor]

    def key_ids(self, ids: Tensor) -> list[Tensor]:
        return [ids, torch.zeros_like(ids) if self.factor is None else ids / self.factor]

    def range_of(self, query_ids: Tensor, key_ids: Tensor) -> Tensor:
        return (query_ids - key_ids >= self.window).int()
