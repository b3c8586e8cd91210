"""Dual chunk attention: positions that begin again in each chunk. Dimension letters: T tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from poslab.arguments import Count, PositiveFraction
from poslab.encodings.frequencies import Base
from poslab.encodings.rotary.ranges import RangedRotary
from poslab.encodings.rotary.rotary import FactorOn, Layout
from poslab.encodings.rotary.scalings import Scaling, TrainingLength


class DualChunk(RangedRotary):
    """Dual chunk attention (DCA): run a rotary model on a longer text in chunks, each with positions from 0 on.

        logit(i, j) = q_i . R(j mod s - a(i, j)) k_j / sqrt(D),    s = c - w
        a(i, j) = i mod s             if j is in the chunk of i
                  min(i mod s + s, c) if it is in the chunk before
                  min(2s - 1, c)      if it is further back

    Distances are exact within a chunk, and between neighbouring chunks up to w tokens.

    Use it when a trained rotary model should read many times its training length without any further training: it
    replaces the encoding (`encoding@swap=dual_chunk`).

    Args:
        head_dim: head dimension D.
        training_length: L of the model, at least 2, for null arguments.
        chunk: c, the largest position; it should be below L; null is 3 L / 4 (authors).
        local: w, below c; null is L / 16 (authors' code).
        base, fraction, layout, scaling, factor_on: as of `Rotary`, from the trained model.

    No parameters. Causal. Up to s tokens it is the trained rotary encoding. Where chunks begin depends on the position,
    so a shift changes the output. Costs three products of queries and keys, block by block of query rows; queries
    become 3 D wide, and keys rotate once.

    Trap: some code also scales the logits with the length of the text. A temperature does such a thing here.

    Source: An et al., "Training-Free Long-Context Scaling of Large Language Models" (ICML 2024), section 3, with the
    sizes of its code.
    """

    relative = False

    def __init__(
        self,
        head_dim: Count,
        training_length: TrainingLength,
        chunk: Count | None = None,
        local: Count | None = None,
        base: Base = 10_000.0,
        fraction: PositiveFraction = 1.0,
        layout: Layout = "half_split",
        scaling: Scaling | None = None,
        factor_on: FactorOn = "logits",
    ) -> None:
        super().__init__(head_dim, base, fraction, layout, scaling, factor_on)
        self.chunk = max(2, 3 * training_length // 4) if chunk is None else chunk
        self.local = max(1, training_length // 16) if local is None else local
        self.stride = self.chunk - self.local
        if self.stride < 1:
            raise ValueError(f"local must be below chunk, which is {self.chunk}, got {self.local}")

    def query_ids(self, ids: Tensor) -> list[Tensor]:
        within, furthest = ids % self.stride, min(2 * self.stride - 1, self.chunk)
        return [within, (within + self.stride).clamp(max=self.chunk), torch.full_like(ids, furthest)]

    def key_ids(self, ids: Tensor) -> list[Tensor]:
        return [ids % self.stride]

    def range_of(self, query_ids: Tensor, key_ids: Tensor) -> Tensor:
        query_chunks, key_chunks = (ids.div(self.stride, rounding_mode="floor") for ids in (query_ids, key_ids))
        return query_chunks - key_chunks
