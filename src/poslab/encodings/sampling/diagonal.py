"""Positions of VideoRoPE: frames along the diagonal, each centred on its time."""

from __future__ import annotations

import math

import torch

from poslab.arguments import Positive
from poslab.encodings.places import Places
from poslab.encodings.sampling.places import SequenceSampler, starts, time_axis


class Diagonal(SequenceSampler):
    """Positions of VideoRoPE: the middle of each frame lies on the diagonal of the text before and after it.

        time: s + stride * t,    height: s + stride * t + y - (H - 1) // 2,    width: the same with x and W

    s is the position of the last token of text before the clip, plus 1, and text continues at the time of the last
    frame, plus 1.

    Use it with `videorope`: the text is then as far from the left of a frame as from its right.

    Args:
        stride: distance of two frames in time (paper: 2; above 0).

    For sequences of text and clips that have an axis `time`. A text alone stays as it is. The same in training and
    evaluation. Costs a cumulative sum.

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
