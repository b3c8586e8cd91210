"""xPos: rotary channels that fade with distance. Dimension letters: B batch, H heads, T queries, S keys, D head dim."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from poslab.arguments import Count, Positive
from poslab.encodings.base import PositionalEncoding
from poslab.encodings.frequencies import Base, angle_dtype, angles, inverse_frequencies
from poslab.encodings.positions import Positions
from poslab.encodings.rotary.rotation import check_width, rotate_half_split
from poslab.encodings.shape import TableShape


class ScaledRotation(NamedTuple):
    """Cosines, sines and log scales of queries and keys, float32, (..., T, D / 2) and (..., S, D / 2)."""

    query_cos: Tensor
    query_sin: Tensor
    query_log_scale: Tensor
    key_cos: Tensor
    key_sin: Tensor
    key_log_scale: Tensor

    @property
    def expected_shape(self) -> TableShape:
        return TableShape.of(self.query_cos, self.key_cos)


class XPos(PositionalEncoding):
    """xPos: rotary position embedding whose channels fade with distance, the fastest most.

        logit(i, j) = sum_m zeta_m ** ((i - j) / scale_base) * (R(i) q_i)_m . (R(j) k_j)_m / sqrt(D)
        zeta_m = (2m / D + gamma) / (1 + gamma)

    over channel pairs m = 0, ..., D / 2 - 1, half-split (m, m + D / 2) and rotated as in `Rotary`. Queries have the
    factor zeta_m ** ((i - c) / scale_base) and keys its inverse at j, so that only the distance remains.

    Use it when a rotary decoder should prefer recent tokens, so that it loses less beyond its training length.

    Args:
        head_dim: head dimension D, even.
        base: frequency base (paper: 10,000; above 1).
        scale_base: distance over which pair m fades to zeta_m (torchscale: 512; positive). Larger fades more slowly.
        gamma: a larger gamma fades the fastest pair less (torchscale: 0.4, which gives zeta_0 = 0.286; positive). The
            slowest pair hardly fades at any gamma.

    Causal only: a key ahead of its query would be magnified. No parameters. Time and memory are as of rotary. The
    paper claims a steady loss beyond the training length with attention in overlapping blocks, which this class does
    not have: give the model a `window` of the training length for it.

    Safe lengths: the centre c of a forward pass is the middle of its queries, and keys before them only fade, so
    neither positions nor the length of a cache matter: tokens at position 1,000,000, and steps of decoding behind a
    million keys, are exact. The limit is on one pass over many queries: 32,000 positions from the first to the last in
    float32 and bfloat16, and 5,700 in float16 (with scale_base=512 and gamma=0.4; in proportion to scale_base). Queries
    further from the centre keep the factor of that limit: nothing overflows, but the fastest pairs no longer fade
    between neighbours there. Read longer texts in parts, with a cache. In float16 gradients have the same factors, up
    to 1,100, for which the loss scaling must leave room.

    Traps: torchscale, x-transformers and rotary-embedding-torch centre on half the length, without a limit: keys
    overflow float16 from 9,000 tokens on. `rotate_queries_with_cached_keys` of rotary-embedding-torch gives the query
    of a decoding step another centre than its keys, unlike a full pass. All three interleave pairs (2m, 2m + 1), which
    is the same encoding up to a fixed order of channels. Positions must rise in storage order, as in texts:
    elsewhere a key is magnified.

    Source: Sun et al., "A Length-Extrapolatable Transformer" (2022), section 3 and algorithm 1.
    """

    causal_only = True
    bidirectional_form = "rotary"

    def __init__(
        self, head_dim: Count, base: Base = 10_000.0, scale_base: Positive = 512.0, gamma: Positive = 0.4
    ) -> None:
        super().__init__()
        if head_dim % 2:
            raise ValueError(f"head_dim must be even, got {head_dim}")
        self.head_dim = head_dim
        self.base = base
        self.scale_base = scale_base
        self.gamma = gamma

    def spectrum(self, length: int) -> Tensor:
        """Return the inverse frequencies, (D / 2,) float32."""
        return inverse_frequencies(self.head_dim, self.base)

    def prepare(self, query_positions: Positions, key_positions: Positions) -> ScaledRotation:
        query_ids, key_ids = (
            positions.ids_for_heads.to(torch.promote_types(positions.ids.dtype, torch.int64))  # real ones stay real
            for positions in (query_positions, key_positions)
        )
        ends = query_ids if query_positions.length else key_ids.new_zeros(1)  # no queries have no middle
        twice = ends.amin(-1, keepdim=True) + ends.amax(-1, keepdim=True)  # the centre, an integer if positions are
        dtype = angle_dtype(query_positions.stop, key_positions.stop)
        queries, keys = ((2 * ids - twice) / 2 for ids in (query_ids, key_ids))
        return ScaledRotation(*self._tables(queries, 1.0, dtype), *self._tables(keys, -1.0, dtype))

    def rotate_query(self, q_BHTD: Tensor, tables: ScaledRotation) -> Tensor:
        check_width(q_BHTD, self.head_dim)
        return _rotate_and_scale(q_BHTD, tables.query_cos, tables.query_sin, tables.query_log_scale)

    def rotate_key(self, k_BHSD: Tensor, tables: ScaledRotation) -> Tensor:
        check_width(k_BHSD, self.head_dim)
        return _rotate_and_scale(k_BHSD, tables.key_cos, tables.key_sin, tables.key_log_scale)

    def _tables(self, places: Tensor, sign: float, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        # Angles are counted from the centre too: the difference is exact in float32, but not always the angle itself.
        angle = angles(places, inverse_frequencies(self.head_dim, self.base, places.device, dtype))
        pairs = torch.arange(0, self.head_dim, 2, device=places.device, dtype=torch.float32) / self.head_dim
        log_zeta = ((pairs + self.gamma) / (1 + self.gamma)).log()
        # Not `angles`: without whole turns, a logarithm would be another number.
        log_scale = places.to(torch.float32).unsqueeze(-1) * (log_zeta * (sign / self.scale_base))
        return angle.cos(), angle.sin(), log_scale


def _rotate_and_scale(x: Tensor, cos: Tensor, sin: Tensor, log_scale: Tensor) -> Tensor:
    # At the largest log scale nothing overflows in the dtype of the products of queries and keys. A masked pair of an
    # early query and a late key multiplies two of the largest scales; an infinite product would become NaN under a mask
    # that adds minus infinity. A norm returns float32 under autocast, and attention then rounds it.
    device = x.device.type
    lowered = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
    limit = 7.0 if lowered or x.dtype == torch.float16 else 40.0
    scale = log_scale.clamp(-limit, limit).exp()
    return rotate_half_split(x, cos * scale, sin * scale)
