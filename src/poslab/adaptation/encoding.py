"""Training of positional encodings alone, and of all else."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from poslab.adaptation.base import Adaptation
from poslab.adaptation.parts import parameters_of_encodings
from poslab.models import Model


class EncodingOnly(Adaptation):
    """Only positional encodings and temperatures learn: tables, slopes, frequencies.

    Attention sinks are an option of attention, which an encoding neither has nor reads, and stay as the run begins.
    """

    def learning(self, model: Model) -> Sequence[nn.Parameter]:
        parameters = parameters_of_encodings(model)
        if not parameters:
            names = sorted({type(one).__name__ for stack in model.stacks.values() for one in stack})
            raise ValueError(f"adapt=encoding needs an encoding that has parameters, got {' and '.join(names)}")
        return parameters


class FreezeEncoding(Adaptation):
    """All weights learn, attention sinks too, but those of positional encodings and temperatures."""

    def learning(self, model: Model) -> Sequence[nn.Parameter]:
        frozen = {id(parameter) for parameter in parameters_of_encodings(model)}
        return [parameter for parameter in model.parameters() if id(parameter) not in frozen]
