"""Positions of M-RoPE: text on the diagonal, pictures at the next position of the text."""

from __future__ import annotations

import torch

from poslab.encodings.places import Places
from poslab.encodings.sampling.places import SequenceSampler, starts, time_axis


class MRope(SequenceSampler):
    """Positions of M-RoPE: a picture starts at the next position of the text, which continues after its longest side.

        p = s + cell    on every axis;    s = sum of max(sizes) over the grids before

    A token of text is a grid of one cell: it has the same number on all axes, one more than the last. After two tokens,
    the patches of a picture of 2 x 3 are at (2, 2), (2, 3), (2, 4), (3, 2) ..., and the next token at (5, 5).

    For sequences of text and pictures, with `mrope` or another rotary encoding that reads axes. A text alone stays as
    it is. The same in training and evaluation. Costs a cumulative sum.

    Trap: after a clip of more frames than a side has patches, Qwen2-VL in transformers lets text continue within
    the clip's times; here it continues after the largest position.

    Source: Wang et al., "Qwen2-VL: Enhancing Vision-Language Model's Perception of the World at Any Resolution" (2024),
    section 2.1.
    """

    def moved(self, places: Places) -> Places:
        start, end = starts(places, places.sizes.amax(-1))
        return places.at(places.cells + start.unsqueeze(-1), end, stop=places.length)


class MRopeReset(SequenceSampler):
    """Positions of M-RoPE whose pictures count height and width from 0 (spatial reset).

        p = s + cell on the axis of time and for text, else cell;    s as under `MRope`

    Use it so that the middle of a picture is at the same height and width wherever in the text it stands.

    For sequences of text and pictures that have an axis `time`. A picture of one cell counts as text.

    Source: Huang et al., "Revisiting Multimodal Positional Encoding in Vision-Language Models" (ICLR 2026).
    """

    def moved(self, places: Places) -> Places:
        start, end = starts(places, places.sizes.amax(-1))
        on_time = torch.arange(len(places.axes), device=start.device) == time_axis(places)
        is_text = (places.sizes == 1).all(-1, keepdim=True)
        coordinates = places.cells + torch.where(is_text | on_time, start.unsqueeze(-1), 0)
        return places.at(coordinates, end, stop=places.length)
