"""Lion: the sign of a momentum."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from poslab.arguments import with_checked_arguments
from poslab.configuration.command_line import pip_install
from poslab.runs.optimizers.optimizer import Decay, OptimizerSettings


@with_checked_arguments
@dataclass(frozen=True, kw_only=True)
class Lion(OptimizerSettings):
    """The sign of a mixture of momentum and gradient, so that every weight moves by the learning rate.

    It keeps one number a weight, where AdamW keeps two. The paper takes a third to a tenth of AdamW's learning rate,
    and 3 to 10 times its weight decay. The optimizer itself is that of the package `lion-pytorch`.

    Args:
        betas: decay rate of the momentum in the update, and of the momentum that is kept, each in [0, 1).

    The others are those of `OptimizerSettings`.

    Source: Chen et al., "Symbolic Discovery of Optimization Algorithms" (NeurIPS 2023).
    """

    betas: tuple[Decay, Decay] = (0.9, 0.99)

    def optimizer(self, model: nn.Module) -> Optimizer:
        try:
            import lion_pytorch
        except ModuleNotFoundError:
            raise ValueError(f"optimizer=lion needs the package lion-pytorch: {pip_install('optimizers')}") from None
        optimizer: Optimizer = lion_pytorch.Lion(self.groups(model), lr=self.lr, betas=(self.betas[0], self.betas[1]))
        return optimizer
