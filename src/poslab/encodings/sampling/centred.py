"""Positions of DINOv3: pictures of every size span the same range."""

from __future__ import annotations

import math
from typing import Annotated

from poslab.arguments import NOT_EXTREME, Positive, Range
from poslab.encodings.places import Places
from poslab.encodings.sampling.places import PlaceSampler
from poslab.encodings.sampling.uniform import uniform

Factor = Annotated[float, Range(at_least=1), NOT_EXTREME]


class Centred(PlaceSampler):
    """Centres of patches between -reach and reach on each axis, shifted and stretched at random in training (DINOv3).

        p = reach * ((2 (i + 1/2) / n - 1) + shift) * jitter * rescale    for cell i of n

        shift ~ U(-shift, shift)                            one for each axis
        log jitter ~ U(-log jitter, log jitter)             one for each axis
        log rescale ~ U(-log rescale, log rescale)          one for all axes

    Each forward pass in training draws once, for all rows; evaluation has shift = 0 and jitter = rescale = 1.

    Use it for pictures that are tested at other resolutions: a place then means a share of the picture, not a number of
    patches.

    Args:
        reach: largest coordinate (DINOv3: 2 pi, so that the fastest pair of a rotary encoding turns twice from edge to
            edge; 1 for an encoding that has a factor of its own; above 0).
        shift: largest shift to either side, as a share of reach, at least 0 (DINOv3: 0).
        jitter: largest stretch of an axis, and the inverse of the smallest, at least 1 (DINOv3: 1).
        rescale: the same for both axes together, at least 1 (DINOv3: 2).

    For tokens with places on axes; with rotary, a base of 100. Distances shrink where patches are many, so a bias of
    distance feels the resolution. Costs a few numbers for each token.

    Source: Simeoni et al., "DINOv3" (2025), section 3.2; the order of the three draws is that of its code.
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
