"""Muon for the matrices of layers, AdamW for all other weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from poslab.arguments import with_checked_arguments
from poslab.runs.optimizers.combined_optimizer import CombinedOptimizer
from poslab.runs.optimizers.optimizer import Decay, OptimizerSettings, matrices_of_layers


@with_checked_arguments
@dataclass(frozen=True, kw_only=True)
class Muon(OptimizerSettings):
    """The matrices of layers move along their momentum with all singular values near 1; AdamW moves all other weights.

    Others are embeddings, norms, biases, output layers, and all that an encoding learns. The update of a matrix has the
    root mean square that AdamW's has (0.2), so that one learning rate and one weight decay serve both. Both optimizers
    are PyTorch's.

    Args:
        momentum: decay rate of the momentum of matrices, in [0, 1).
        betas: decay rates of AdamW's moments, each in [0, 1).

    The others are those of `OptimizerSettings`.

    Sources: Jordan et al., "Muon" (2024); of the size of updates: Liu et al., "Muon is Scalable for LLM Training"
    (2025).
    """

    momentum: Decay = 0.95
    betas: tuple[Decay, Decay] = (0.9, 0.95)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        matrices = {id(parameter) for parameter in matrices_of_layers(model)}
        moved = self.groups(model, lambda parameter: id(parameter) in matrices)
        others = self.groups(model, lambda parameter: id(parameter) not in matrices)
        betas = (self.betas[0], self.betas[1])
        optimizers: list[torch.optim.Optimizer] = []
        if moved:
            optimizers.append(torch.optim.Muon(moved, momentum=self.momentum, adjust_lr_fn="match_rms_adamw"))
        if others:
            optimizers.append(torch.optim.AdamW(others, betas=betas, fused=True))
        return CombinedOptimizer(optimizers)
