"""STRING: far keys at the distances of nearer ones. Dimension letters: T tokens."""

from __future__ import annotations

from torch import Tensor

from poslab.arguments import Count, Positive, PositiveFraction
from poslab.encodings.frequencies import Base
from poslab.encodings.rotary.ranges import RangedRotary, Ranges
from poslab.encodings.rotary.rotary import FactorOn, Layout
from poslab.encodings.rotary.scalings import Scaling, TrainingLength


class String(RangedRotary):
    """STRING: within its training length, a rotary model reads far tokens at distances that training saw more often.

        logit(i, j) = a^2 q_i . R(-rel(i - j)) k_j / sqrt(D)
        rel(d) = d if d < S, else d - S + W

    A text of L tokens has the distance d only L - d times, so that the largest distances are hardly trained. The last
    ones are dropped, and nearer ones are used instead.

    Use it when a trained rotary model uses the far end of its window badly: it replaces the encoding
    (`encoding@swap=string`). It is not for texts beyond the training length.

    Args:
        head_dim: head dimension D.
        training_length: L of the model, at least 2, for null arguments.
        offset: S, distances below it are exact; null is L / 3 (authors: a quarter to two fifths of L).
        local: W, the distance at which far tokens begin, at most S; null is 128, or L / 16 if that is less (authors:
            128 to 512, for L = 131,072).
        attention_factor: a, whose square multiplies the logits, of near tokens too (above 0; authors:
            0.1 ln 2 + 1).
        base, fraction, layout, scaling, factor_on: as of `Rotary`, from the trained model.

    No parameters. Causal. Up to S tokens only the factor differs from the trained rotary encoding. Costs two products
    of queries and keys, block by block of query rows; queries become 2 D wide, and keys rotate once.

    Traps: another STRING (Schenck et al. 2025) is a learned rotation. In the authors' fast code the key at d = S counts
    twice, near and far; here it is far.

    Source: An et al., "Why Does the Effective Context Length of LLMs Fall Short?" (ICLR 2025), section 4, and its code.
    """

    def __init__(
        self,
        head_dim: Count,
        training_length: TrainingLength,
        offset: Count | None = None,
        local: Count | None = None,
        attention_factor: Positive = 1.0693147180559945,
        base: Base = 10_000.0,
        fraction: PositiveFraction = 1.0,
        layout: Layout = "half_split",
        scaling: Scaling | None = None,
        factor_on: FactorOn = "logits",
    ) -> None:
        super().__init__(head_dim, base, fraction, layout, scaling, factor_on)
        self.offset = max(1, training_length // 3) if offset is None else offset
        self.local = max(1, min(128, training_length // 16)) if local is None else local
        if self.local > self.offset:
            raise ValueError(f"local must be at most offset, which is {self.offset}, got {self.local}")
        self.attention_factor = attention_factor

    def query_ids(self, ids: Tensor) -> list[Tensor]:
        return [ids, ids - (self.offset - self.local)]

    def key_ids(self, ids: Tensor) -> list[Tensor]:
        return [ids]

    def range_of(self, query_ids: Tensor, key_ids: Tensor) -> Tensor:
        return (query_ids - key_ids >= self.offset).int()

    def scale(self, tables: Ranges) -> float:
        return super().scale(tables) * self.attention_factor**2
