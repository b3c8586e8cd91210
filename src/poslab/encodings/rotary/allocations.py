"""Allocations of rotary frequencies: which channel pair rotates with the position on which axis, and how fast.

An allocation is a pure function of the number of pairs of a head that may rotate and of the number of axes. It returns
the `Spectra` of the axes and what each pair reads of them. Its other arguments are hyperparameters; one out of its
range raises ValueError, and so do positions on a number of axes that it does not support. A text is on one axis, and
its position is that on every axis of a function that needs several.

Letters: r channels of a head rotate in P = r / 2 pairs; A axes; theta_w(k) = base ** (-2k / w) is the spectrum of a
width w. Under allocations that hand out one spectrum, theta_r(m) to pair m, tokens at equal coordinates on all axes
rotate as under `Rotary` without an allocation, bit for bit. None has parameters; all support causal and bidirectional
attention, and cost what `Rotary` costs and a gather of r / 2 numbers for each position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Annotated, NamedTuple

from poslab.arguments import Count, Range


class Spectra(NamedTuple):
    """Spectra of A axes, and the frequency that each pair of channels has of them.

    `widths` has the number of channels w of the spectrum of each axis, and `pairs` the axis of each pair and the number
    k of its frequency theta_w(k). If there are fewer pairs than a head has, the last channels of the head stay still.
    """

    widths: list[int]
    pairs: list[tuple[int, int]]


Allocation = Callable[..., Spectra]
"""Maps the number of pairs that may rotate and the number of axes to `Spectra`."""


def axial(pairs: int, axes: int) -> Spectra:
    """Give every axis a block of pairs, and its own whole spectrum (axial rotary).

        pair a n + k reads axis a at theta_2n(k),    n = P // A

    P - A n pairs stay still. On one axis it is `Rotary`.

    Use it for images, sound and clips when you have no reason for another: most vision towers and diffusion models
    have it. Choose the base for the length of a side: 10,000 is for thousands of positions.

    Which axis has the first block is a matter of the order of channels. In the towers of Qwen-VL, in DINOv3 and here it
    is the height; in rope-vit, Llama 4 and Gemma 4 it is the width, and their weights need the blocks of queries and
    keys swapped. The first position (Llama 4: 1) matters only next to tokens without coordinates.

    Source: Heo et al., "Rotary Position Embedding for Vision Transformer" (ECCV 2024), section 3.2.
    """
    n = pairs // axes
    _check_enough(pairs, axes)
    return Spectra([2 * n] * axes, [(axis, k) for axis in range(axes) for k in range(n)])


def axial_widths(pairs: int, axes: int, widths: Sequence[Count]) -> Spectra:
    """Give each axis its own block width (the axial rotary of diffusion transformers).

        the pairs of block a read axis a at theta_w(k),    w = widths[a],  k < w / 2

    Use it where one axis matters less than others, or to load such a model.

    Args:
        widths: channels of each block, even, r together (FLUX.1, Qwen-Image: 16, 56, 56; FLUX.2: four of 32).

    A text rotates in all blocks, so it is not as under `Rotary`.

    Source: the code of FLUX.1 (Black Forest Labs, 2024).
    """
    _check_axes("widths", len(widths), axes)
    if sum(widths) != 2 * pairs or any(width % 2 for width in widths):
        raise ValueError(f"widths must be even numbers whose sum is {2 * pairs}, got {list(widths)}")
    return Spectra(list(widths), [(axis, k) for axis, width in enumerate(widths) for k in range(width // 2)])


def odd_even(pairs: int, axes: int) -> Spectra:
    """Deal one spectrum out to the axes alternately, and give each axis its share as a block (Pixtral).

        the pairs of block a read axis a at theta_r(a), theta_r(a + A), theta_r(a + 2A), ...

    Of two axes, the first has the even frequencies and the second the odd ones. On one axis it is `Rotary`.

    Use it to load Pixtral; `alternating` is the same with the pairs in another order.

    Source: Agrawal et al., "Pixtral 12B" (2024), section 2; the frequencies follow its code.
    """
    _check_enough(pairs, axes)
    return Spectra([2 * pairs] * axes, [(axis, k) for axis in range(axes) for k in range(axis, pairs, axes)])


def alternating(pairs: int, axes: int) -> Spectra:
    """Let the pairs of one spectrum read the axes alternately.

        pair m reads axis m mod A at theta_r(m)

    Use it when text and images share a head and every axis should have fast and slow frequencies.

    Source: the code of HunyuanImage 3 (Tencent, 2025).
    """
    _check_enough(pairs, axes)
    return Spectra([2 * pairs] * axes, [(m % axes, m) for m in range(pairs)])


def sections(pairs: int, axes: int, sections: Sequence[Count] = (2, 3, 3)) -> Spectra:
    """Cut one spectrum into a section for each axis, the first axis the fastest (M-RoPE).

        pair m reads axis a at theta_r(m),    m in section a

    Use it for sequences of text and images, or to load Qwen2-VL and Qwen2.5-VL. Time, the first axis, then has the
    fastest frequencies, of many turns within a long video; `interleaved_sections` and `space_first` avoid that.

    Args:
        sections: pairs of each axis, or numbers in their proportion (Qwen2-VL: 16, 24, 24 of 64 pairs, as 2, 3, 3).

    Source: Wang et al., "Qwen2-VL: Enhancing Vision-Language Model's Perception of the World at Any Resolution" (2024),
    section 2.1.
    """
    counts = in_proportion(pairs, axes, sections)
    order = [axis for axis, count in enumerate(counts) for _ in range(count)]
    return Spectra([2 * pairs] * len(counts), list(zip(order, range(pairs), strict=True)))


def interleaved_sections(pairs: int, axes: int, sections: Sequence[Count] = (6, 5, 5)) -> Spectra:
    """Deal one spectrum out to the axes alternately until each has its number of pairs (interleaved M-RoPE).

        pair m reads axis a at theta_r(m) if m mod A = a and m < A s_a, for the axes a > 0, else axis 0

    Use it for sequences of text and images, or to load Qwen3-VL and later: every axis has fast and slow frequencies.

    Args:
        sections: pairs s_a of each axis, or numbers in their proportion (Qwen3-VL: 24, 20, 20 of 64 pairs, as 6, 5, 5;
            Qwen3.5: 11, 11, 10 of 32).

    Trap: code of others cuts sections that do not fit, so that (8, 12, 12) of 32 pairs become 11, 11, 10; here that is
    an error.

    Source: Huang et al., "Revisiting Multimodal Positional Encoding in Vision-Language Models" (ICLR 2026).
    """
    counts = in_proportion(pairs, axes, sections)
    num_axes = len(counts)
    if any(num_axes * (counts[axis] - 1) + axis >= pairs for axis in range(1, num_axes) if counts[axis]):
        raise ValueError(f"sections must leave one in {num_axes} of {pairs} pairs to each axis, got {counts} pairs")
    axis_of = [m % num_axes if m < num_axes * counts[m % num_axes] else 0 for m in range(pairs)]
    return Spectra([2 * pairs] * num_axes, list(zip(axis_of, range(pairs), strict=True)))


def space_first(pairs: int, axes: int, time_share: Annotated[float, Range(above=0, below=1)] = 0.25) -> Spectra:
    """Give time the slowest frequencies, and let the axes of space alternate over the faster ones (VideoRoPE).

        pair m reads axis 1 + m mod (A - 1) at theta_r(m) if m < P - P_t, else axis 0;    P_t = time_share * P

    Use it for video: what is slow does not come around within the clip, so that far frames are not taken for near ones.

    Args:
        time_share: share of the pairs that read the first axis, rounded, in (0, 1) (paper: 0.25, 16 of 64 pairs).

    Trap: some other code leaves pair 0 to time.

    Source: Wei et al., "VideoRoPE: What Makes for Good Video Rotary Position Embedding?" (ICML 2025), section 4.
    """
    if axes == 1:
        return axial(pairs, axes)
    slow = round(time_share * pairs)
    if not 0 < slow <= pairs - (axes - 1):
        raise ValueError(f"time_share must leave pairs to each of {axes} axes, got {time_share} of {pairs} pairs")
    axis_of = [1 + m % (axes - 1) if m < pairs - slow else 0 for m in range(pairs)]
    return Spectra([2 * pairs] * axes, list(zip(axis_of, range(pairs), strict=True)))


META = (0, 0, 1, 2, 1, 2, 1, 2)
"""Axes of the eight pairs that MM-RoPE repeats: time, time, and three times height and width."""


def meta(pairs: int, axes: int) -> Spectra:
    """Repeat eight pairs that read time, time, height, width, height, width, height, width (MM-RoPE).

        pair m reads axis META[m mod 8] at theta_r(m)

    Use it for video, as `interleaved_sections`, with time faster than space in every part of the spectrum.

    Source: Yuan et al., "Lumos-1: On Autoregressive Video Generation from a Unified Model Perspective" (2025),
    section 3.
    """
    _check_axes("meta", 3, axes)
    return Spectra([2 * pairs] * 3, [(META[m % len(META)], m) for m in range(pairs)])


def in_proportion(number: int, axes: int, sections: Sequence[int]) -> list[int]:
    """Return the number of pairs, or heads, of each axis: shares of a number in proportion to the sections."""
    _check_axes("sections", len(sections), axes)
    if not sections:
        raise ValueError("sections must have a number for each axis, got none")
    ends = [round(number * end / sum(sections)) for end in accumulate(sections)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _check_axes(name: str, needed: int, axes: int) -> None:
    if axes not in (1, needed):
        raise ValueError(f"{name} must have a number for each axis, got {needed} for positions on {axes} axes")


def _check_enough(pairs: int, axes: int) -> None:
    if pairs < axes:
        raise ValueError(f"fraction must rotate a pair of channels for each of {axes} axes, got {pairs} pairs")
