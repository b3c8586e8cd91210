"""ReRoPE: distances that stop growing, or grow more slowly. Dimension letters: T tokens."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from poslab.arguments import NOT_EXTREME, Count, PositiveFraction, Range
from poslab.encodings.frequencies import Base
from poslab.encodings.rotary.ranges import RangedRotary
from poslab.encodings.rotary.rotary import FactorOn, Layout
from poslab.encodings.rotary.scalings import Scaling, TrainingLength


class ReRoPE(RangedRotary):
    """ReRoPE: run a rotary model on longer texts, in which all far tokens are at one distance.

        logit(i, j) = q_i . R(-rel(i - j)) k_j / sqrt(D),    rel(d) = min(d, w)

    Use it when a trained rotary model should handle texts of any length without any further training: it
    replaces the encoding (`encoding@swap=rerope`).

    Args:
        head_dim: head dimension D.
        training_length: L of the model, at least 2, for a null `window`.
        window: w, distances below it are exact; null is L / 8 (author: 512 of 4,096).
        base, fraction, layout, scaling, factor_on: as of `Rotary`, from the trained model.

    No parameters. Causal. The order of far tokens is not known. Up to w tokens it is the trained rotary encoding. Costs
    two products of queries and keys, block by block of query rows; queries and keys become 2 D wide.

    Trap: the author also multiplies queries by max(1, ln(i + 1) / ln L), which is a temperature here. `log_n` is the
    same but for tokens before L, whose factor it lets fall below 1.

    Source: Su, "ReRoPE" (2023), a post at kexue.fm/archives/9708, and its code.
    """

    def __init__(
        self,
        head_dim: Count,
        training_length: TrainingLength,
        window: Count | None = None,
        base: Base = 10_000.0,
        fraction: PositiveFraction = 1.0,
        layout: Layout = "half_split",
        scaling: Scaling | None = None,
        factor_on: FactorOn = "logits",
    ) -> None:
        super().__init__(head_dim, base, fraction, layout, scaling, factor_on)
        self.window = max(1, training_length // 8) if window is None else window

    def query_ids(self, ids: Tensor) -> list[Tensor]:
        return [ids, torch.full_like(ids, self.window)]

    def key_ids(self, ids: Tensor) -> list[Tensor]:
        return [ids, torch.zeros_like(ids)]

    def range_of(self, query_ids: Tensor, key_ids: Tensor) -> Tensor:
        return (query_ids - key_ids >= self.window).int()


class LeakyReRoPE(ReRoPE):
    """Leaky ReRoPE: run a rotary model on longer texts, in which far tokens grow apart slowly.

        logit(i, j) = q_i . R(-rel(i - j)) k_j / sqrt(D),    rel(d) = d if d < w, else w + (d - w) / k

    Use it when a trained rotary model should handle several times its training length without any further training, and
    the order of far tokens matters: it replaces the encoding (`encoding@swap=leaky_rerope`).

    Args:
        factor: k, at least 1 (author: 16).
        others: as of `ReRoPE`, which is the limit of a large factor.

    No parameters. Causal. Of N tokens the largest distance is w + (N - w) / k, which should stay below L. Cost and trap
    are as of `ReRoPE`.

    Source: Su, "ReRoPE" (2023), a post at kexue.fm/archives/9708, and its code.
    """

    def __init__(
        self,
        head_dim: Count,
        training_length: TrainingLength,
        window: Count | None = None,
        factor: Annotated[float, Range(at_least=1), NOT_EXTREME] = 16.0,
        base: Base = 10_000.0,
        fraction: PositiveFraction = 1.0,
        layout: Layout = "half_split",
        scaling: Scaling | None = None,
        factor_on: FactorOn = "logits",
    ) -> None:
        super().__init__(head_dim, training_length, window, base, fraction, layout, scaling, factor_on)
        self.factor = factor

    def query_ids(self, ids: Tensor) -> list[Tensor]:
        return [ids, (ids + self.window * (self.factor - 1)) / self.factor]

    def key_ids(self, ids: Tensor) -> list[Tensor]:
        return [ids, ids / self.factor]
