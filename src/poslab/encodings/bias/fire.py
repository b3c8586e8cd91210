"""FIRE: functional interpolation of distances. Dimension letters: H heads, R query rows, S keys, W hidden units."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poslab.arguments import Count, Positive
from poslab.encodings.base import PositionalEncoding, QueryRows
from poslab.encodings.distance import TokenPairs
from poslab.encodings.numerics import float32_linear
from poslab.encodings.positions import Positions


class Fire(PositionalEncoding):
    """FIRE: a learned function of distance relative to how far the query could look back.

        logit(i, j) = q_i . k_j / sqrt(D) + MLP_h(psi(i - j) / (psi(max(T, i)) + 1e-6))
        psi(x) = ln(|c * x| + 1),  T = |multiplier * threshold|

    The argument of the MLP is between 0 and 1 at any length, a range that training covers (progressive interpolation);
    up to the threshold T it is a function of only the distance.

    Use it when a decoder should handle texts of many lengths: distances count relative to the position of the query, so
    that a longer text has no distance that is new.

    Args:
        num_heads: heads H.
        width: hidden units of the MLP, which has one hidden layer with ReLU (usual code: 32; at least 1).
        c: initial value of c; a larger c resolves near distances more finely (usual code: 0.1; positive).
        threshold: initial value of T, usually between a quarter of the training length and all of it (512; positive).

    Parameters, for each layer its own: the MLP (`hidden.weight` (width, 1), `hidden.bias` (width,), `output.weight`
    (H, width)), `c` and `multiplier` (scalars). Causal only, as published: ahead of the query the argument has no
    bound. Claimed to extrapolate to several times the training length. Beyond the threshold it depends on the position
    of the query in its document, so a shift changes it. Time: the MLP at each query and key, width * T * S operations;
    memory: width numbers for each key and each query of a block.

    Traps: i is the position of the query, in decoding too, not the length of the text. The output layer has no bias,
    unlike in other implementations: it would add one number to all logits of a head, which a softmax ignores. One of
    DAPE's copies starts from half the threshold.

    Source: Li et al., "Functional Interpolation for Relative Positions Improves Long Context Transformers"
    (ICLR 2024); initial values as in implementations by others (mcleish7/arithmetic).
    """

    shared_by_layers = False
    causal_only = True
    relative = False

    def __init__(self, num_heads: Count, width: Count = 32, c: Positive = 0.1, threshold: Positive = 512.0) -> None:
        super().__init__()
        self.threshold = threshold
        self.hidden = nn.Linear(1, width)
        self.output = nn.Linear(width, num_heads, bias=False)
        self.c = nn.Parameter(torch.tensor([float(c)]))  # one dimension: FSDP takes no scalars
        self.multiplier = nn.Parameter(torch.ones(1))

    def prepare(self, query_positions: Positions, key_positions: Positions) -> TokenPairs:
        return TokenPairs.between(query_positions, key_positions)

    def learned(self) -> dict[str, Tensor]:
        """Return |c| and the threshold T in tokens; single weights of the MLP mean nothing."""
        return {"c": self.c.abs(), "threshold": self._threshold()}

    def pair_bias(self, rows: QueryRows) -> Tensor:
        pairs: TokenPairs = rows.tables
        queries_R1 = pairs.query_ids[..., rows.rows].unsqueeze(-1)
        # Integers are subtracted as such: float32 represents the distance, but not all far positions.
        distance_RS = pairs.distance(rows.rows, rows.keys)[:, 0].to(torch.float32)
        furthest_R1 = torch.maximum(queries_R1.to(torch.float32), self._threshold())
        share_RS = self._psi(distance_RS) / (self._psi(furthest_R1) + 1e-6)
        hidden_RSW = float32_linear(share_RS.unsqueeze(-1), self.hidden.weight, self.hidden.bias).relu()
        return float32_linear(hidden_RSW, self.output.weight).movedim(-1, -3)

    def _threshold(self) -> Tensor:
        return (self.multiplier.to(torch.float32) * self.threshold).abs()

    def _psi(self, x: Tensor) -> Tensor:
        return torch.log1p((self.c.to(torch.float32) * x).abs())
