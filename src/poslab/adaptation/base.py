"""Contract of adaptations, which choose the weights of a model that learn."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from poslab.arguments import CheckedArguments
from poslab.models import Model


class Adaptation(CheckedArguments):
    """Base class of choices of the weights that learn.

    The other weights keep their values: they get no gradient, and no optimizer has a state for them. The output layer
    of a task (`Model.task_output`) learns under every choice, because it belongs to no model that was trained before.
    """

    def learning(self, model: Model) -> Sequence[nn.Parameter]:
        """Return the parameters that learn, and add those that the model lacks.

        Raises:
            ValueError: if the model has none.
        """
        raise NotImplementedError

    def apply(self, model: Model) -> None:
        """Freeze the weights of a model that do not learn, after the weights that it begins with have been loaded.

        Raises:
            ValueError: if the model has nothing to learn under this choice.
        """
        output = () if model.task_output is None else model.task_output.parameters()
        learning = {id(parameter) for parameter in (*self.learning(model), *output)}
        for parameter in model.parameters():
            if id(parameter) not in learning:
                parameter.requires_grad_(False)


def num_learning(model: nn.Module) -> int:
    """Return the number of parameters of a model that learn."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
