"""Samplers that move tokens on several axes, such as patches. Dimension letters: B batch, T tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor

from poslab.arguments import NOT_EXTREME, Count, Factor, Positive, Range
from poslab.encodings.places import Places
from poslab.encodings.positions import Positions
from poslab.encodings.sampling.base import PositionSampler
from poslab.encodings.sampling.randomized import uniform


class PlaceSampler(PositionSampler):
    """Base class of samplers that move tokens on their axes, and leave their order in storage.

    Encodings that do not read axes do not feel them.

    Raises:
        ValueError: in `forward`, for tokens without places on axes.
    """

    def forward(self, positions: Positions, batch_size: int) -> Positions:
        if positions.places is None:
            raise ValueError(
                f"positions must not be {type(self).__name__} for a text: it moves patches of images on their axes; "
                "choose contiguous"
            )
        return replace(positions, places=self.moved(positions.places))

    def moved(self, places: Places) -> Places:
        """Return the same tokens at other coordinates."""
        raise NotImplementedError

    def stop(self, length: int) -> int:
        return length


class SequenceSampler(PlaceSampler):
    """Base class of samplers for sequences of text and images; others are unchanged."""

    def forward(self, positions: Positions, batch_size: int) -> Positions:
        return positions if positions.places is None else super().forward(positions, batch_size)


def starts(places: Places, extent: Tensor) -> tuple[Tensor, Tensor]:
    """Return the start of the grid of each token, and of the text behind the row: sums of extents.

    Args:
        places: of a sequence of grids.
        extent: (T,) or (B, T), the length of the grid of each token along the sequence.

    Returns:
        (T,) or (B, T), and (1,) or (B, 1).
    """
    grids = places.grids
    if places.without_position is not None:
        grids, extent = grids.masked_fill(places.without_position, -1), extent.masked_fill(places.without_position, 0)
    is_first = torch.ones_like(grids, dtype=torch.bool)
    is_first[..., 1:] = grids[..., 1:] != grids[..., :-1]
    ends = (extent * is_first).cumsum(-1)
    return ends - extent, ends[..., -1:]


def time_axis(places: Places) -> int:
    """Return the number of the axis `time`; raise ValueError if there is none."""
    if "time" not in places.axes:
        raise ValueError(f"positions must have the axis time, got {', '.join(places.axes)}")
    return places.axes.index("time")


class Centred(PlaceSampler):
    """Centres of patches between -reach and reach on each axis, shifted and stretched at random in training (DINOv3).

        p = reach * ((2 (i + 1/2) / n - 1) + shift) * jitter * rescale    for cell i of n

        shift ~ U(-shift, shift)                            one for each axis
        log jitter ~ U(-log jitter, log jitter)             one for each axis
        log rescale ~ U(-log rescale, log rescale)          one for all axes

    Each forward pass in training draws once, for all rows; evaluation has shift = 0 and jitter = rescale = 1.

    Use it for images that are tested at other resolutions: a place then means a share of the image, not a number of
    patches.

    Args:
        reach: largest coordinate (DINOv3: 2 pi, so that the fastest pair of a rotary encoding turns twice from edge to
            edge; 1 for an encoding that has its own factor; above 0).
        shift: largest shift to either side, as a share of reach, at least 0 (DINOv3: 0).
        jitter: largest stretch of an axis, and the inverse of the smallest, at least 1 (DINOv3: 1).
        rescale: the same for both axes together, at least 1 (DINOv3: 2).

    For tokens with places on axes; with rotary, a base of 100. Distances shrink where patches are many, so a bias of
    distance feels the resolution. Costs a few numbers for each token.

    Source: Simeoni et al., "DINOv3" (2025), section 3.2; the order of the three draws follows its code.
    """

    fits_grids = True

    def __init__(
        self,
        reach: Positive = 2 * math.pi,
        shift: Annotated[float, Range(at_least=0), NOT_EXTREME] = 0.0,
        jitter: Factor = 1.0,
        rescale: Factor = 2.0,
    ) -> None:
        super().__init__()
        self.reach = reach
        self.shift = shift
        self.jitter = jitter
        self.rescale = rescale

    def moved(self, places: Places) -> Places:
        coordinates = 2 * ((places.cells + 0.5) / places.sizes) - 1
        if self.training:
            axes, device = len(places.axes), coordinates.device
            coordinates = coordinates + uniform((axes,), self.shift, device)
            coordinates = coordinates * uniform((axes,), math.log(self.jitter), device).exp()
            coordinates = coordinates * uniform((1,), math.log(self.rescale), device).exp()
        return places.at(self.reach * coordinates)


class InterpolatedPositions(PlaceSampler):
    """Cells scaled to the grid of training, so that a larger image has positions between the trained ones (EVA-02).

        p = s + i * n_train / n    for cell i of n

    s is 0 in an image without text. Text behind it continues after its largest position, as under `MRope`.

    Use it for images that are tested at higher resolutions than in training, or to load such a model.

    Args:
        grid: cells of the grid of training on each axis (EVA-02: 16, 16).

    For tokens with places on axes. On the grid of training positions are unchanged. The same in training and
    evaluation. Position interpolation of a text is `rope_linear`. Costs a product for each token.

    Raises:
        ValueError: for positions on another number of axes.

    Source: Fang et al., "EVA-02: A Visual Representation for Neon Genesis" (2023); the formula follows its code.
    """

    fits_grids = True

    def __init__(self, grid: Sequence[Count] = (16, 16)) -> None:
        super().__init__()
        self.grid = tuple(grid)

    def moved(self, places: Places) -> Places:
        if len(self.grid) != len(places.axes):
            raise ValueError(f"grid must have a number for each axis, {', '.join(places.axes)}, got {list(self.grid)}")
        scale = places.sizes.new_tensor(self.grid) / places.sizes
        start, end = starts(places, ((places.sizes - 1) * scale).amax(-1) + 1)
        return places.at(places.cells * scale + start.unsqueeze(-1), end)


class MRope(SequenceSampler):
    """Positions of M-RoPE: an image starts at the next position of the text, which continues after its longest side.

        p = s + cell    on every axis;    s = sum of max(sizes) over the grids before

    A token of text is a grid of one cell: it has the same number on all axes, one more than the last. After two tokens,
    the patches of an image of 2 x 3 are at (2, 2), (2, 3), (2, 4), (3, 2) ..., and the next token at (5, 5).

    For sequences of text and images, with `mrope` or another rotary encoding that reads axes. A text without images
    is unchanged. The same in training and evaluation. Costs a cumulative sum.

    Trap: after a clip of more frames than a side has patches, Qwen2-VL in transformers lets text continue within
    the clip's times; here it continues after the largest position.

    Source: Wang et al., "Qwen2-VL: Enhancing Vision-Language Model's Perception of the World at Any Resolution" (2024),
    section 2.1.
    """

    def moved(self, places: Places) -> Places:
        start, end = starts(places, places.sizes.amax(-1))
        return places.at(places.cells + start.unsqueeze(-1), end, stop=places.length)


class MRopeReset(SequenceSampler):
    """Positions of M-RoPE whose images count height and width from 0 (spatial reset).

        p = s + cell on the axis of time and for text, else cell;    s as under `MRope`

    Use it so that the middle of an image is at the same height and width wherever in the text it is.

    For sequences of text and images that have an axis `time`. An image of one cell counts as text.

    Source: Huang et al., "Revisiting Multimodal Positional Encoding in Vision-Language Models" (ICLR 2026).
    """

    def moved(self, places: Places) -> Places:
        start, end = starts(places, places.sizes.amax(-1))
        on_time = torch.arange(len(places.axes), device=start.device) == time_axis(places)
        is_text = (places.sizes == 1).all(-1, keepdim=True)
        coordinates = places.cells + torch.where(is_text | on_time, start.unsqueeze(-1), 0)
        return places.at(coordinates, end, stop=places.length)


class Diagonal(SequenceSampler):
    """Positions of VideoRoPE: the middle of each frame lies on the diagonal of the text before and after it.

        time: s + stride * t,    height: s + stride * t + y - (H - 1) // 2,    width: the same with x and W

    s is the position of the last token of text before the clip, plus 1, and text continues at the time of the last
    frame, plus 1.

    Use it with `videorope`: the text is then as far from the left of a frame as from its right.

    Args:
        stride: distance of two frames in time (paper: 2; above 0).

    For sequences of text and clips that have an axis `time`. A text without images is unchanged. The same in training
    and evaluation. Costs a cumulative sum.

    Source: Wei et al., "VideoRoPE: What Makes for Good Video Rotary Position Embedding?" (ICML 2025), section 4.
    """

    def __init__(self, stride: Positive = 2.0) -> None:
        super().__init__()
        self.stride = stride

    def moved(self, places: Places) -> Places:
        time = time_axis(places)
        start, end = starts(places, self.stride * (places.sizes[..., time] - 1) + 1)
        on_diagonal = (start + self.stride * places.cells[..., time]).unsqueeze(-1)
        from_middle = places.cells - (places.sizes - 1) // 2
        across = from_middle.masked_fill(torch.arange(len(places.axes), device=start.device) == time, 0)
        return places.at(on_diagonal + across, end, stop=math.ceil(max(1.0, self.stride) * places.length))


class V2PE(SequenceSampler):
    """Variable visual positions (V2PE): a token of text is 1 after the last token, a patch only a stride.

        p_i = p_(i-1) + (1 if token i is text else stride),    the first at 0

    Use it when images have so many patches that a model would run out of the positions that it was trained on.

    Args:
        stride: distance of a patch from the last token, in (0, 1] (paper: 1/256 to 1).

    There is one axis: it moves the order in storage, which every encoding reads, and coordinates on all axes alike.
    Positions are real numbers, so a learned table raises an error for them, and a bias of distance goes blockwise. A
    text without images is unchanged. The same in training and evaluation: the authors draw a stride for each text in
    training. An image of one cell counts as text.

    Source: Ge et al., "V2PE: Improving Multimodal Long-Context Capability of Vision-Language Models with Variable
    Visual Position Encoding" (2024), section 3.2.
    """

    real = True

    def __init__(self, stride: Annotated[float, Range(above=0, at_most=1), NOT_EXTREME] = 0.25) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, positions: Positions, batch_size: int) -> Positions:
        places = positions.places
        if places is None:
            return positions
        is_text = (places.sizes <= 1).all(-1)
        # Two counts, not a sum of strides: it would be rounded in a long sequence.
        ids = is_text.cumsum(-1) + self.stride * (~is_text).cumsum(-1).to(torch.float32)
        ids = ids - ids[..., :1]
        moved = places.at(ids.unsqueeze(-1).expand(places.cells.shape), stop=positions.stop)
        return replace(positions, ids=ids, contiguous=False, places=moved)
