"""V2PE: patches that advance the position by less than a token of text."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch

from poslab.arguments import NOT_EXTREME, Range
from poslab.encodings.positions import Positions
from poslab.encodings.sampling.places import SequenceSampler


class V2PE(SequenceSampler):
    """Variable visual positions (V2PE): a token of text is 1 after the last token, a patch only a stride.

        p_i = p_(i-1) + (1 if token i is text else stride),    the first at 0

    Use it when pictures have so many patches that a model would run out of the positions that it was trained on.

    Args:
        stride: distance of a patch from the last token, in (0, 1] (paper: 1/256 to 1).

    There is one axis: it moves the order in storage, which every encoding reads, and coordinates on all axes alike.
    Positions are real numbers, so a learned table refuses them, and a bias of distance goes blockwise. A text alone
    stays as it is. The same in training and evaluation: the authors draw a stride for each text in training. A picture
    of one cell counts as text.

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
