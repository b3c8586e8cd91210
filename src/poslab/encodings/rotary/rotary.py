"""Rotary position embedding (RoPE). Dimension letters: B batch, H heads, T queries, S keys, D head dim."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from poslab.arguments import Count, PositiveFraction, check_arguments, check_names
from poslab.encodings.base import PositionalEncoding
from poslab.encodings.frequencies import Base, angle_dtype, inverse_frequencies, products
from poslab.encodings.positions import Positions
from poslab.encodings.rotary.allocations import Allocation
from poslab.encodings.rotary.rotation import Rotation, check_width, rotate_blocks, rotate_half_split, rotate_interleaved
from poslab.encodings.rotary.scalings import Scaling

Layout = Literal["half_split", "interleaved", "blocks"]
"""Channels of a pair: m and m + r / 2, or 2m and 2m + 1, or half-split within the block of each axis."""

FactorOn = Literal["logits", "rotated"]
"""Channels of queries and keys that an attention factor scales: all of them, or those that are rotated."""


class Rotary(PositionalEncoding):
    """Rotary position embedding (RoPE): queries and keys rotate by an angle proportional to their position.

        logit(i, j) = (R(i) q_i) . (R(j) k_j) / sqrt(D) = q_i . R(j - i) k_j / sqrt(D)

    R(p) rotates channel pair m by `p * base ** (-2m / r)`, where r = fraction * D channels rotate and the rest stay. A
    scaling replaces the frequencies, and may have an attention factor a:

        logit(i, j) = a^2 q_i . R'(j - i) k_j / sqrt(D)

    Without an allocation p is the number in storage. An allocation is for coordinates on several axes, as of patches:
    it says which axis each pair reads, and at which frequency,

        R(p) rotates pair m by p[axis(m)] * theta_w(k(m)),    theta_w(k) = base ** (-2k / w)

    so that the logit depends on the difference on each axis. A token without coordinates stays at 0 on all axes.

    Use it when you have no reason for another: most language models have it, and scalings can stretch it later. By
    itself it extrapolates badly: beyond the training length, set a `window` of it in the model, or use sliding windows.

    Args:
        head_dim: head dimension D.
        base: frequency base (paper: 10,000; above 1). A larger base rotates more slowly and reaches further.
        fraction: share of the head that rotates, in (0, 1] (paper: 1; GPT-NeoX: 0.25). `fraction * D` must be even. In
            a pretrained rotary model, base and fraction come from the model unless they are given.
        layout: channels of a pair: "half_split" is (m, m + r / 2), as in Llama and GPT-NeoX, "interleaved" is
            (2m, 2m + 1), as in RoFormer, GPT-J and Cohere, "blocks" is half-split within the block of each axis of an
            axial allocation, as in Gemma 4's vision tower. They differ only in the order of channels of queries and
            keys; weights that were trained under one need their channels reordered under another.
        scaling: one of `scalings`, `yarn` or `longrope` with its hyperparameters bound, or a function like them, for
            the spectrum of the channels that rotate, or of each axis; None leaves the frequencies (paper).
        allocation: one of `allocations` with its hyperparameters bound, or a function like them; None reads the order
            only in storage.
        factor_on: what an attention factor scales: "logits", or only the channels that are "rotated", as in the code of
            transformers. They differ if a fraction rotates. In a pretrained rotary model it is "rotated" unless given.

    Precision: angles are products in float32 up to position 2^20 (`Positions.stop`), where they are off by up to 0.1
    radians, as in most code, and are made in float64 for texts past it: cosines and sines are then exact to 4e-7 at
    every position below 2^30. All encodings of rotations and sinusoids have this bound.

    Causal and bidirectional. No parameters. Tables are float32 whatever the dtype of the model. Costs two products for
    each number of queries and keys, and tables of r numbers for each position, which all layers share. Without a
    scaling, little is claimed beyond the training length.

    The attention factor scales whole logits, as in YaRN's paper, and a rotation stays a rotation. Code that multiplies
    cosines and sines by it (transformers and most others) does the same if all channels rotate; where only a fraction
    does, that leaves the share of the other channels in the logit unscaled, as `factor_on="rotated"` does.

    A scaling that depends on the length reads `Positions.stop` of the keys as the length so far: a shift of all
    positions then matters, and a longer text rotates its earlier tokens differently. Trap: for packed or padded rows
    that is the width of the row, and under `positions=shifted` or `randomized` the largest that these may reach in
    training; transformers uses the largest id. Under an allocation, the length of an axis is its largest size (the side
    of the largest image), and in sequences of text and images of the sequence.

    Raises:
        ValueError: for an argument out of its range, also of the scaling and the allocation; for positions on
            a number of axes that the allocation does not support.

    Examples:
        >>> import torch
        >>> from poslab.encodings import Positions, Rotary
        >>> rotary, positions = Rotary(head_dim=64), Positions.range(128)
        >>> tables = rotary.prepare(positions, positions)
        >>> q_BHTD = torch.randn(2, 8, 128, 64)
        >>> rotary.rotate_query(q_BHTD, tables).shape
        torch.Size([2, 8, 128, 64])

    Source: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding" (2021), section 3.2; the
    fraction from Black et al., "GPT-NeoX-20B" (2022), section 2.1.1.
    """

    of_pretrained = ("base", "fraction", "layout", "factor_on")

    def __init__(
        self,
        head_dim: Count,
        base: Base = 10_000.0,
        fraction: PositiveFraction = 1.0,
        layout: Layout = "half_split",
        scaling: Scaling | None = None,
        allocation: Allocation | None = None,
        factor_on: FactorOn = "logits",
    ) -> None:
        super().__init__()
        rotary_dim = int(fraction * head_dim)
        if rotary_dim < 2 or rotary_dim % 2:
            raise ValueError(
                f"fraction must rotate an even, positive number of the head's {head_dim} channels, "
                f"got {fraction}, which rotates {rotary_dim}"
            )
        for function in (scaling, allocation):
            _check_bound(function)
        self.head_dim = head_dim
        self.base = base
        self.rotary_dim = rotary_dim
        self.layout = layout
        self.scaling = scaling
        self.allocation = allocation
        self.factor_on: FactorOn = "logits" if rotary_dim == head_dim else factor_on
        self.reads_axes = allocation is not None
        self._rotate = rotate_interleaved if layout == "interleaved" else rotate_half_split
        self._needs = set() if scaling is None else {"base", "length"} & set(inspect.signature(scaling).parameters)
        self.depends_on_length = "length" in self._needs
        self.relative = not self.depends_on_length
        self.scaled_frequencies(1)  # raises now if a hyperparameter of the scaling or the allocation is wrong

    @property
    def is_pure_rotation(self) -> bool:
        return self.hooks <= {"rotate_query", "rotate_key", "scale"}  # a subclass may do more

    def spectrum(self, length: int) -> Tensor:
        """Return the inverse frequencies of the pairs on a text, (r / 2,) float32."""
        return self.scaled_frequencies(length)[0].to(torch.float32)

    def spectrum_on_axes(self, lengths: Sequence[int]) -> Tensor | None:
        if self.allocation is None:
            return None
        axes, frequencies, _ = self._allocated(lengths, None)
        axes = axes if len(lengths) > 1 else [0] * len(axes)
        on_axes = torch.zeros(len(lengths), 1, len(axes), dtype=torch.float32)
        on_axes[axes, 0, range(len(axes))] = frequencies.to(torch.float32)
        return on_axes

    def scaled_frequencies(self, length: int, device: torch.device | None = None) -> tuple[Tensor, float]:
        """Return the inverse frequencies, (r / 2,), and the attention factor at this length of the text.

        They are float32, and float64 for a length past 2^20 (`angle_dtype`).
        """
        if self.allocation is not None:
            _, frequencies, attention_factor = self._allocated((length,), device)
            return frequencies, attention_factor
        return self._scaled(self.rotary_dim, length, device)

    def _scaled(self, width: int, length: int, device: torch.device | None) -> tuple[Tensor, float]:
        """Return the scaled spectrum of so many channels, and the attention factor, at a length."""
        frequencies = self._unscaled(width, device, angle_dtype(length))
        if self.scaling is None:
            return frequencies, 1.0
        known = {"base": self.base, "length": length}
        return self.scaling(frequencies, **{name: known[name] for name in known if name in self._needs})

    def _unscaled(self, width: int, device: torch.device | None, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the spectrum of so many channels before any scaling, (width / 2,)."""
        return inverse_frequencies(width, self.base, device, dtype)

    def _allocated(self, lengths: Sequence[int], device: torch.device | None) -> tuple[list[int], Tensor, float]:
        """Return the axis and the scaled frequency of each pair that rotates, and the attention factor."""
        assert self.allocation is not None
        widths, pairs = self.allocation(self.rotary_dim // 2, len(lengths))
        if len(lengths) == 1:  # a text is at the same position on all axes
            lengths = [*lengths] * len(widths)
        scaled = [self._scaled(width, length, device) for width, length in zip(widths, lengths, strict=True)]
        starts = [sum(widths[:axis]) // 2 for axis in range(len(widths))]
        places = torch.tensor([starts[axis] + k for axis, k in pairs], device=device)
        frequencies = torch.cat([frequencies for frequencies, _ in scaled]).index_select(0, places)
        return [axis for axis, _ in pairs], frequencies, scaled[0][1]

    def prepare(self, query_positions: Positions, key_positions: Positions) -> Rotation:
        axes, blocks, device = None, 1, key_positions.ids.device
        if self.allocation is None:
            frequencies, attention_factor = self.scaled_frequencies(key_positions.stop, device)
        else:
            axes, frequencies, attention_factor = self._allocated(key_positions.lengths, device)
            if self.layout == "blocks":
                blocks = max(axes) + 1
                if axes != [axis for axis in range(blocks) for _ in range(len(axes) // blocks)]:
                    raise ValueError(
                        "layout must not be blocks unless each axis has a block of equally many pairs, as under axial"
                    )
        query_cos_sin = _cos_sin(query_positions, frequencies, axes)
        same = key_positions is query_positions
        key_cos_sin = query_cos_sin if same else _cos_sin(key_positions, frequencies, axes)
        return self.rotation(query_cos_sin, key_cos_sin, attention_factor, blocks)

    def rotation(
        self, queries: tuple[Tensor, Tensor], keys: tuple[Tensor, Tensor], attention_factor: float, blocks: int = 1
    ) -> Rotation:
        """Return the tables of cosines and sines, with an attention factor where `factor_on` has it."""
        if self.factor_on == "rotated":
            return Rotation(*queries, *keys, 1.0, blocks, attention_factor)
        return Rotation(*queries, *keys, attention_factor**2, blocks)

    def rotate_query(self, q_BHTD: Tensor, tables: Rotation) -> Tensor:
        return self._rotated(q_BHTD, *_times(tables.channel_scale, tables.query_cos, tables.query_sin), tables.blocks)

    def rotate_key(self, k_BHSD: Tensor, tables: Rotation) -> Tensor:
        return self._rotated(k_BHSD, *_times(tables.channel_scale, tables.key_cos, tables.key_sin), tables.blocks)

    def _rotated(self, x: Tensor, cos: Tensor, sin: Tensor, blocks: int) -> Tensor:
        check_width(x, self.head_dim)
        return self._rotate(x, cos, sin) if blocks == 1 else rotate_blocks(x, cos, sin, blocks)

    def scale(self, tables: Rotation) -> float:
        return tables.logit_scale


def _times(scale: float, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    return (cos, sin) if scale == 1.0 else (cos * scale, sin * scale)


def _check_bound(function: object) -> None:
    """Raise ValueError for an argument of a partial, or of one within it, that its function does not take."""
    if isinstance(function, partial):
        check_names(function)
        for argument in function.keywords.values():
            _check_bound(argument)
        parameters = inspect.signature(function.func, eval_str=True).parameters
        check_arguments({name: v for name, v in function.keywords.items() if name in parameters}, parameters)


def _cos_sin(positions: Positions, frequencies: Tensor, axes: list[int] | None) -> tuple[Tensor, Tensor]:
    """Return the cosine and sine of position times frequency, (..., T, r / 2) float32; pair m reads `axes[m]`."""
    coordinates = positions.ids_for_heads.unsqueeze(-1)
    if axes is not None:
        coordinates = positions.coordinates_for_heads
        if coordinates.shape[-1] > 1:
            coordinates = coordinates.index_select(-1, torch.tensor(axes, device=coordinates.device))
    angle = products(coordinates, frequencies)
    return angle.cos(), angle.sin()
