"""Multi-Head RoPE: rotary whose heads each read one axis.

Dimension letters: B batch, H query heads, G key-value heads, T tokens, D head dim, A axes, P channel pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from torch import Tensor

from poslab.arguments import Count, PositiveFraction
from poslab.encodings.frequencies import Base
from poslab.encodings.positions import Positions
from poslab.encodings.rotary.allocations import Spectra, in_proportion
from poslab.encodings.rotary.rotary import Rotary
from poslab.encodings.rotary.rotation import Rotation
from poslab.encodings.rotary.scalings import Scaling


class MHRoPE(Rotary):
    """Multi-Head RoPE (MHRoPE): rotary whose heads each rotate with the position on only one axis.

        logit_h(i, j) = q_i . R(j_a - i_a) k_j / sqrt(D),    a the axis of head h

    R is the rotation of `Rotary`, so that each axis has the whole spectrum. The heads of the first axis come first. On
    a text, and wherever coordinates are equal on all axes, every head rotates as under `Rotary`, bit for bit.

    Use it when a model of many heads has text and images, with `positions=mrope_reset`: an axis loses no frequency
    to another one, as it does under an allocation.

    Args:
        head_dim: head dimension D.
        num_heads: query heads H.
        num_kv_heads: key-value heads G, at least 2, and one for each axis; the query heads of a group rotate as
            their keys do.
        sections: key-value heads of each axis, or numbers in their proportion (paper: 2, 3, 3 of 8 for time, height and
            width); None shares them as evenly as possible among the axes that positions have.
        base, fraction, layout, scaling: as in `Rotary`.

    Causal and bidirectional. No parameters. Costs what rotary costs, and on several axes tables for each head.

    Trap: the authors' code may leave over heads that do not rotate; here every head reads an axis.

    Raises:
        ValueError: for an argument out of its range, and for positions on other axes than the sections have, or on
            more axes than there are heads.

    Source: Huang et al., "Revisiting Multimodal Positional Encoding in Vision-Language Models" (ICLR 2026).
    """

    def __init__(
        self,
        head_dim: Count,
        num_heads: Count,
        num_kv_heads: Count,
        sections: Sequence[Count] | None = None,
        base: Base = 10_000.0,
        fraction: PositiveFraction = 1.0,
        layout: Literal["half_split", "interleaved"] = "half_split",
        scaling: Scaling | None = None,
    ) -> None:
        allocation = partial(_by_head, num_kv_heads=num_kv_heads, sections=sections)
        super().__init__(head_dim, base, fraction, layout, scaling, allocation)
        allocation(1, 2 if sections is None else len(sections))  # raises now if there are too few heads
        self.group = num_heads // num_kv_heads

    def spectrum_on_axes(self, lengths: Sequence[int]) -> Tensor | None:
        on_axes = super().spectrum_on_axes(lengths)
        assert on_axes is not None
        return on_axes.unflatten(-1, (-1, self.rotary_dim // 2)).squeeze(1)

    def prepare(self, query_positions: Positions, key_positions: Positions) -> Rotation:
        tables = super().prepare(query_positions, key_positions)
        query_cos, query_sin, key_cos, key_sin = map(self._of_heads, tables[:4])
        if key_cos is not tables.key_cos:
            query_cos, query_sin = (x.repeat_interleave(self.group, dim=-3) for x in (query_cos, query_sin))
        return Rotation(query_cos, query_sin, key_cos, key_sin, tables.logit_scale)

    def _of_heads(self, table: Tensor) -> Tensor:
        """Return a table by head, (..., G, T, P), of one with the pairs of all; a text has one for all heads."""
        pairs = self.rotary_dim // 2
        if table.shape[-1] == pairs:
            return table
        by_head = table.unflatten(-1, (-1, pairs)).movedim(-2, -3)
        return by_head if by_head.dim() == 3 else by_head.squeeze(1)


def _by_head(pairs: int, axes: int, num_kv_heads: Count, sections: Sequence[Count] | None) -> Spectra:
    """Return the spectra of the axes, and what the pairs of all heads read of them, head after head.

    All heads are alike on a text, and the frequencies of one are returned.
    """
    if axes == 1:
        return Spectra([2 * pairs], [(0, k) for k in range(pairs)])
    counts = in_proportion(num_kv_heads, axes, [1] * axes if sections is None else sections)
    if 0 in counts:
        raise ValueError(f"num_kv_heads must leave a head to each of {axes} axes, got {num_kv_heads} as {counts}")
    axis_of_heads = [axis for axis, count in enumerate(counts) for _ in range(count)]
    return Spectra([2 * pairs] * axes, [(axis, k) for axis in axis_of_heads for k in range(pairs)])
