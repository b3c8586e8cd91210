"""Images as a language: each pixel is a token."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from poslab.arguments import Count
from poslab.data.bounds import require_integer
from poslab.data.kinds.patched import PIXELS, PatchedArrays
from poslab.data.pictures.hub import HubPictures


class Pixels(HubPictures):
    """Images as text: each pixel is one of a few levels of grey, row after row.

    An image of n pixels has n tokens. Classes are not learned.

    Args:
        levels: of grey, evenly spaced, 2 to 256 (default 16).
        side: as in `PictureSource` (default 14).
        patch: 1, since a token is a pixel.
        others: those of `HubPictures`.

    Source: Chen et al., "Generative Pretraining from Pixels" (2020), without its colours.
    """

    batch_size: Count = 16
    side: int = 14
    sides: Sequence[int] = (7, 14, 28)
    patch: int = 1
    levels: int = 16

    title = "pixels"
    kind: ClassVar[PatchedArrays] = PIXELS
    channels = 1

    def __post_init__(self) -> None:
        if self.patch != 1:
            raise ValueError(f"patch must be 1 where each pixel is a token, got {self.patch}")
        super().__post_init__()
        require_integer("levels", self.levels, least=2, most=256)

    @property
    def symbols(self) -> Sequence[str]:
        return [str(level) for level in range(self.levels)]

    def levels_of(self, picture: np.ndarray) -> np.ndarray:
        """Return the level of each byte x, floor(x levels / 256), as int64 of the same shape."""
        return picture.astype(np.int64) * self.levels // 256
