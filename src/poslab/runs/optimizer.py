"""AdamW, and the learning rate over a run."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from poslab.adaptation.parts import is_linear, parameters_of_encodings, unique


@dataclass(frozen=True)
class AdamWithCosine:
    """AdamW with selective weight decay, linear warm-up and a cosine to a small fraction of the learning rate.

    Only the matrices of linear layers decay, or those of their updates of low rank: never norms, token embeddings, or
    anything that an encoding learns (slopes, bias tables, frequencies), where zero means something else than "small".

    Args:
        lr: learning rate after the warm-up; positive.
        encoding_lr_multiplier: learning rate of encoding parameters over `lr`; positive.
        weight_decay: decay of the matrices of linear layers; not negative.
        betas: decay rates of the two moments, each in [0, 1).
        warmup_fraction: share of the steps in which the learning rate rises from 0, in [0, 1].
        final_lr_fraction: learning rate at the end over `lr`, in [0, 1].
        gradient_clip: largest norm of the gradient; null does not clip.

    Source: Loshchilov, Hutter, "Decoupled Weight Decay Regularization" (ICLR 2019).
    """

    lr: float
    encoding_lr_multiplier: float = 5.0
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    warmup_fraction: float = 0.1
    final_lr_fraction: float = 0.02
    gradient_clip: float | None = 1.0

    def __post_init__(self) -> None:
        for name in ("lr", "encoding_lr_multiplier"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {list(self.betas)}")
        for name in ("warmup_fraction", "final_lr_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.gradient_clip is not None and not self.gradient_clip > 0:
            raise ValueError(f"gradient_clip must be positive or null, got {self.gradient_clip}")

    def build(self, model: nn.Module, max_steps: int) -> tuple[torch.optim.AdamW, LambdaLR]:
        """Return the optimizer of a model, and its schedule over a run, stepped once per optimizer step."""
        decaying, other, encoding = parameter_groups(model)
        groups = [
            {"params": decaying, "weight_decay": self.weight_decay},
            {"params": other, "weight_decay": 0.0},
            {"params": encoding, "weight_decay": 0.0, "lr": self.lr * self.encoding_lr_multiplier},
        ]
        groups = [group for group in groups if group["params"]]
        optimizer = torch.optim.AdamW(groups, lr=self.lr, betas=(self.betas[0], self.betas[1]), fused=True)
        return optimizer, LambdaLR(optimizer, lambda step: self.lr_fraction(step, max_steps))

    def lr_fraction(self, step: int, max_steps: int) -> float:
        """Return the learning rate of a step, counted from 0, over `lr`."""
        warmup = round(self.warmup_fraction * max_steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = (step - warmup) / max(1, max_steps - warmup)
        return self.final_lr_fraction + (1 - self.final_lr_fraction) * 0.5 * (1 + math.cos(math.pi * progress))


def parameter_groups(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters that decay, all others, and those of encodings and temperatures, as far as they learn."""
    encoding = parameters_of_encodings(model)
    embedding = unique(p for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters())
    set_apart = {id(p) for p in [*encoding, *embedding]}
    # The parameters of a linear layer, not its weight: that may be a sum of a frozen one and an update.
    linear = unique(p for m in model.modules() if is_linear(m) for p in m.parameters() if p.ndim == 2)
    decaying = [p for p in linear if id(p) not in set_apart]
    placed = {id(p) for p in [*decaying, *encoding]}
    other = unique(p for p in model.parameters() if id(p) not in placed)
    decaying, other, encoding = ([p for p in part if p.requires_grad] for part in (decaying, other, encoding))
    return decaying, other, encoding
