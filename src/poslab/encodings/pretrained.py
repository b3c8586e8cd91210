"""The positions of a pretrained model, unchanged."""

from __future__ import annotations

from torch import Tensor

from poslab.encodings.base import PositionalEncoding
from poslab.encodings.shape import StackShape


class PretrainedPositions(PositionalEncoding):
    """The positions of a pretrained model, unchanged: the control wherever an encoding replaces them.

    No parameters but the model's. Causal and bidirectional. Learned rows end where the model's do.

    Raises:
        ValueError: for a Poslab model, which has only the positions of its encoding.
    """

    keeps_pretrained_positions = True

    def __init__(self, shape: StackShape) -> None:
        super().__init__()
        if shape.pretrained is None:
            raise ValueError("encoding=pretrained keeps the positions of a pretrained model: it needs model=pretrained")
        self.max_length = shape.pretrained.max_length
        self._spectrum = shape.pretrained.spectrum

    @property
    def is_pure_rotation(self) -> bool:
        return self._spectrum is not None

    def spectrum(self, length: int) -> Tensor | None:
        """Return the inverse frequencies of the model's rotation, under full attention if it has several."""
        return None if self._spectrum is None else self._spectrum(length)
