"""AdamW."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from poslab.arguments import with_checked_arguments
from poslab.runs.optimizers.optimizer import Decay, OptimizerSettings


@with_checked_arguments
@dataclass(frozen=True, kw_only=True)
class AdamW(OptimizerSettings):
    """Moments of the gradient, with decay apart from them.

    Args:
        betas: decay rates of the two moments, each in [0, 1).

    The others are those of `OptimizerSettings`.

    Source: Loshchilov, Hutter, "Decoupled Weight Decay Regularization" (ICLR 2019).
    """

    betas: tuple[Decay, Decay] = (0.9, 0.95)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.groups(model), lr=self.lr, betas=(self.betas[0], self.betas[1]), fused=True)
