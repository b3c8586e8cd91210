"""Training of all weights."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from poslab.adaptation.base import Adaptation
from poslab.models import Model


class Full(Adaptation):
    """All weights of the model learn, the default."""

    def learning(self, model: Model) -> Sequence[nn.Parameter]:
        return list(model.parameters())
