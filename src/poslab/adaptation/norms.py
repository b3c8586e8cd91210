"""Training of norms alone."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from poslab.adaptation.base import Adaptation
from poslab.adaptation.parts import parameters_of_norms
from poslab.models import Model


class NormsOnly(Adaptation):
    """Only norms learn, at most a few vectors of each layer.

    Source: Frankle, Schwab, Morcos, "Training BatchNorm and Only BatchNorm" (ICLR 2021), who train them in networks of
    random weights.
    """

    def learning(self, model: Model) -> Sequence[nn.Parameter]:
        parameters = parameters_of_norms(model)
        if not parameters:
            raise ValueError(f"adapt=norms trains norms alone, and {type(model).__name__} has no norm with parameters")
        return parameters
