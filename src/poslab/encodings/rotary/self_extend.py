"""Self-Extend: far keys share positions in groups. Dimension letters: T tokens, P channel pairs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from poslab.arguments import Count, PositiveFraction
from poslab.encodings.frequencies import Base
from poslab.encodings.rotary.ranges import RangedRotary
from poslab.encodings.rotary.rotary import FactorOn, Layout
from poslab.encodings.rotary.scalings import Scaling, TrainingLength


class SelfExtend(RangedRotary):
    """Self-Extend: run a rotary model on longer texts, in which far tokens share positions in groups.

        logit(i, j) = q_i . R(-rel(i, j)) k_j / sqrt(D)
        rel(i, j) = i - j if i - j < W, else floor(i / G) - floor(j / G) + W - floor(W / G)

    Use it when a trained rotary model should handle several times its training length without any further training: it
    replaces the encoding (`encoding@swap=self_extend`).

    Args:
        head_dim: head dimension D.
        training_length: L of the model, at least 2, for a null `window`.
        window: W, distances below it are exact; null is L / 4 (authors: 1,024 of 4,096).
        group: G, tokens that share a position (authors: 8). A list has one for each equal share of the pairs that
            rotate, the fastest first (dimension-wise positions; its authors: eight, found for each model, such as 2, 8,
            2, 8, 32, 32, 32, 4 for Llama 3 8B).
        base, fraction, layout, scaling, factor_on: as of `Rotary`, from the trained model.

    No parameters. Causal. Of N tokens the largest relative position is W + (N - W) / G, which should stay below L, by
    the authors' rule of thumb below two thirds of it. Up to W tokens it is the trained rotary encoding. Which tokens
    share a position depends on where they are, so a shift by less than G changes the output. Costs two products of
    queries and keys, block by block of query rows; queries and keys become 2 D wide.

    Traps: the authors' code takes W / G, not its floor, in a full pass, but the floor in one form of decoding; the two
    are the same where G divides W. It also offers a factor on queries that grows with the logarithm of the position;
    here that is a temperature.

    Source: Jin et al., "LLM Maybe LongLM: Self-Extend LLM Context Window Without Tuning" (ICML 2024), section 3; the
    list from Lu et al., "Effective Length Extrapolation via Dimension-Wise Positional Embeddings Manipulation" (2025).
    """

    relative = False

    def __init__(
        self,
        head_dim: Count,
        training_length: TrainingLength,
        window: Count | None = None,
        group: Count | Sequence[Count] = 8,
        base: Base = 10_000.0,
        fraction: PositiveFraction = 1.0,
        layout: Layout = "half_split",
        scaling: Scaling | None = None,
        factor_on: FactorOn = "logits",
    ) -> None:
        super().__init__(head_dim, base, fraction, layout, scaling, factor_on)
        self.window = max(1, training_length // 4) if window is None else window
        self.groups = [group] if isinstance(group, int) else list(group)
        pairs = self.rotary.rotary_dim // 2
        if not self.groups or pairs % len(self.groups):
            raise ValueError(f"group must have a number of entries that divides {pairs} pairs, got {len(self.groups)}")

    def query_ids(self, ids: Tensor) -> list[Tensor]:
        return [ids, self._shared(ids) + self.window - self.window // self._group_of_pairs(ids)]

    def key_ids(self, ids: Tensor) -> list[Tensor]:
        return [ids, self._shared(ids)]

    def range_of(self, query_ids: Tensor, key_ids: Tensor) -> Tensor:
        return (query_ids - key_ids >= self.window).int()

    def _shared(self, ids: Tensor) -> Tensor:
        """Return the number of the group of each position, for each pair of channels, (..., T, P)."""
        return ids.div(self._group_of_pairs(ids), rounding_mode="floor")

    def _group_of_pairs(self, ids: Tensor) -> Tensor:
        share = self.rotary.rotary_dim // 2 // len(self.groups)
        return torch.tensor(self.groups, device=ids.device).repeat_interleave(share)
