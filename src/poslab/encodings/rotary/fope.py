"""FoPE: every channel pair rotates at several frequencies at once.

Dimension letters: B batch, G key-value heads, T queries, S keys, D head dim, N frequencies, P channel pairs.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Annotated, Literal

import torch
from torch import Tensor

from poslab.arguments import NOT_EXTREME, NOT_HUGE, Count, Range
from poslab.encodings.frequencies import Base, angle_dtype, angles, inverse_frequencies
from poslab.encodings.positions import Positions
from poslab.encodings.rotary.by_head import RotatedByHead, rotation_by_group
from poslab.encodings.rotary.rotation import Rotation


class FoPE(RotatedByHead):
    """Fourier position embedding (FoPE): each channel pair has a mixture of all frequencies, not a single one.

        q'_i = q_i * c(i) + rotate_half(q_i) * s(i),    k' likewise
        c_m(p) = sum_n C_nm cos(p theta_n),    s_m(p) = sum_n S_nm sin(p theta_n),    theta_n = base ** (-2n / D)

    over the N frequencies that complete a turn within the training length L, theta_n >= 2 pi / L. C and S are the
    identity plus fixed random numbers, for each key-value head its own, and have min(N, D / 4) columns m. Where the
    identity does not fit, its ones are in every ceil(N / columns)-th row. TokenPairs without a column are clipped.

    Use it when a rotary decoder should read beyond its training length: no pair meets a new angle there, and each has
    met all others' frequencies.

    Args:
        head_dim: head dimension D, a multiple of 4.
        num_heads, num_kv_heads: H and G; the query heads of a group rotate as their keys do.
        training_length: L, at least 7.
        base: frequency base (paper: 10,000; above 1).
        gain: size of the random numbers, whose standard deviation is gain * sqrt(2 / (rows + columns)); not negative
            (authors: 0.3 with 60 million parameters, 0.6 with 1.2 billion).
        clipped: c and s of clipped pairs: "identity" is 1 and 0 (paper), "ones" 1 and 1 (authors' code), which turns
            them by 45 degrees and doubles their part of the logit.
        seed: of the random numbers. A trained model needs the same ones again.

    No parameters. Causal and bidirectional. Not a rotation: logits depend on both positions, and queries change their
    length. All layers share one set of tables, of D / 2 numbers for each position and head, which cost a product with N
    columns; then it costs what rotary does. Claimed to degrade less than rotary and ALiBi beyond the training length.

    Source: Hua et al., "Fourier Position Embedding: Enhancing Attention's Periodic Extension for Length Generalization"
    (ICML 2025), equations 11 to 13 and appendix B.
    """

    relative = False
    of_pretrained = ("base",)

    def __init__(
        self,
        head_dim: Count,
        num_heads: Count,
        num_kv_heads: Count,
        training_length: Annotated[int, Range(at_least=7), NOT_HUGE],
        base: Base = 10_000.0,
        gain: Annotated[float, Range(at_least=0), NOT_EXTREME] = 0.3,
        clipped: Literal["identity", "ones"] = "identity",
        seed: Annotated[int, Range(at_least=0), NOT_HUGE] = 0,
    ) -> None:
        super().__init__(num_heads, num_kv_heads, head_dim)
        if head_dim % 4:
            raise ValueError(f"head_dim must be a multiple of 4, got {head_dim}")
        self.base = base
        self.clipped = clipped
        spectrum = inverse_frequencies(head_dim, base, torch.device("cpu"))
        self.num_frequencies = int((spectrum >= 2 * math.pi / training_length).sum())
        columns = min(self.num_frequencies, head_dim // 4)
        # On the CPU whatever the device of the model: a checkpoint without them makes the same again.
        generator = torch.Generator("cpu").manual_seed(seed)
        shape = (2, num_kv_heads, self.num_frequencies, columns)
        drawn = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
        step = math.ceil(self.num_frequencies / columns)
        ones = torch.zeros_like(drawn[0, 0])
        ones[torch.arange(0, self.num_frequencies, step), torch.arange(math.ceil(self.num_frequencies / step))] = 1.0
        self._coefficients_GNP = (ones + gain * math.sqrt(2 / sum(shape[2:])) * drawn).unbind()

    def prepare(self, query_positions: Positions, key_positions: Positions) -> Rotation:
        dtype = angle_dtype(query_positions.stop, key_positions.stop)
        return rotation_by_group(query_positions, key_positions, partial(self._cos_sin, dtype=dtype), self.group)

    def _cos_sin(self, positions: Positions, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return c and s at positions, (G, T, P) or (B, G, T, P) float32."""
        device = positions.ids.device
        angle = angles(positions.ids_for_heads, inverse_frequencies(self.head_dim, self.base, device, dtype))
        angle = angle[..., : self.num_frequencies]
        of_cos, of_sin = (x.to(device) for x in self._coefficients_GNP)
        with torch.autocast(device.type, enabled=False):  # a mixture of cosines, of which TF32 keeps enough
            cos, sin = angle.cos() @ of_cos, angle.sin() @ of_sin
        rest = self.head_dim // 2 - cos.shape[-1]
        ones = cos.new_ones(*cos.shape[:-1], rest)
        still = ones if self.clipped == "ones" else torch.zeros_like(ones)
        return torch.cat([cos, ones], dim=-1), torch.cat([sin, still], dim=-1)
