"""Optimizers: groups of parameters with their learning rates and decay, and the schedule of a run."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from poslab.arguments import Fraction, Range, with_checked_arguments
from poslab.configuration.command_line import pip_install
from poslab.models import Model
from poslab.models.adaptation import is_linear, parameters_of_embeddings, parameters_of_encodings, unique

Schedule = Literal["cosine", "linear", "constant", "warmup_stable_decay"]
"""Shape of the learning rate after the warm-up.

- `cosine`: half a cosine down to the last learning rate (Loshchilov, Hutter, ICLR 2017).
- `linear`: a line down to it.
- `constant`: no change.
- `warmup_stable_decay`: no change, then a line down to it over the last steps (Hu et al., "MiniCPM", COLM 2024).
"""


def fraction_left(schedule: Schedule, progress: float, decay: float) -> float:
    """Return the share of the way from the last learning rate to the highest, in [0, 1].

    `progress` is the share of the steps after the warm-up that are over, and `decay` the share of these steps in which
    `warmup_stable_decay` falls, in (0, 1].
    """
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    if schedule == "linear":
        return 1 - progress
    if schedule == "constant":
        return 1.0
    return min(1.0, (1 - progress) / decay)


PositiveFloat = Annotated[float, Range(above=0)]
"""Positive number. A rate that is far too large ruins a run, which then ends with an error."""

Decay = Annotated[float, Range(at_least=0, below=1)]  # decay rate of a moment or momentum, in [0, 1)


@with_checked_arguments
@dataclass(frozen=True, kw_only=True)
class OptimizerSettings(ABC):
    """Settings of an optimizer and of the learning rate over a run.

    Only the matrices of linear layers and of their low-rank updates decay: never norms, token embeddings, or
    anything that an encoding learns (slopes, bias tables, frequencies), where zero means something else than "small".

    Args:
        lr: learning rate after the warm-up; positive.
        encoding_lr_multiplier: learning rate of encoding parameters over `lr`; positive.
        layer_lr_decay: learning rate of a layer over the rate of the layer after it, in (0, 1]. An encoding counts as
            the last of its layers, token embeddings as the layer before the first; what is outside of layers
            otherwise, such as the output layer, has `lr`.
        weight_decay: decay of the matrices of linear layers; not negative.
        warmup_fraction: share of the steps in which the learning rate rises from 0, in [0, 1].
        schedule: shape of the learning rate after them; see `Schedule`.
        decay_fraction: share of the steps after the warm-up in which `warmup_stable_decay` falls, in (0, 1].
        final_lr_fraction: learning rate at the end over `lr`, in [0, 1]; `constant` does not read it.
        gradient_clip: largest norm of the gradient; null does not clip.
    """

    lr: PositiveFloat
    encoding_lr_multiplier: PositiveFloat = 1.0
    layer_lr_decay: Annotated[float, Range(above=0, at_most=1)] = 1.0
    weight_decay: Annotated[float, Range(at_least=0)] = 0.1
    warmup_fraction: Fraction = 0.1
    schedule: Schedule = "cosine"
    decay_fraction: Annotated[float, Range(above=0, at_most=1)] = 0.2
    final_lr_fraction: Fraction = 0.02
    gradient_clip: PositiveFloat | None = 1.0

    @abstractmethod
    def optimizer(self, model: nn.Module) -> Optimizer:
        """Return the optimizer of a model, with the highest learning rate of each group."""

    def build(self, model: nn.Module, max_steps: int) -> tuple[Optimizer, LambdaLR]:
        """Return the optimizer of a model, and its schedule over a run, stepped once per optimizer step."""
        optimizer = self.optimizer(model)
        return optimizer, LambdaLR(optimizer, lambda step: self.lr_fraction(step, max_steps))

    def lr_fraction(self, step: int, max_steps: int) -> float:
        """Return the learning rate of a step, counted from 0, over `lr`."""
        warmup = round(self.warmup_fraction * max_steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = (step - warmup) / max(1, max_steps - warmup)
        return self.final_lr_fraction + (1 - self.final_lr_fraction) * fraction_left(
            self.schedule, progress, self.decay_fraction
        )

    def groups(self, model: nn.Module, among: Callable[[nn.Parameter], bool] = lambda _: True) -> list[dict[str, Any]]:
        """Return groups of the parameters that learn, among some, each with `params`, `lr` and `weight_decay`."""
        decaying, other, encoding = parameter_groups(model)
        above = _layers_above(model) if self.layer_lr_decay != 1 else {}
        groups = []
        for parameters, weight_decay, lr in (
            (decaying, self.weight_decay, self.lr),
            (other, 0.0, self.lr),
            (encoding, 0.0, self.lr * self.encoding_lr_multiplier),
        ):
            by_depth: dict[int, list[nn.Parameter]] = {}
            for parameter in filter(among, parameters):
                by_depth.setdefault(above.get(id(parameter), 0), []).append(parameter)
            groups += [
                {"params": of_depth, "weight_decay": weight_decay, "lr": lr * self.layer_lr_decay**depth}
                for depth, of_depth in sorted(by_depth.items())
            ]
        return groups


def _layers_above(model: nn.Module) -> dict[int, int]:
    """Return the number of layers above a parameter, by its id; what is not there is above all of them."""
    layers = _layers_of(model)
    embeddings = {id(parameter): len(layers) for parameter in parameters_of_embeddings(model)}
    of_layers = {
        id(parameter): len(layers) - 1 - place for place, layer in enumerate(layers) for parameter in layer.parameters()
    }
    for name, stack in model.stacks.items() if isinstance(model, Model) and layers else ():
        top = len(layers) if name == "encoder" else stack.shape.num_layers  # an encoder comes first, all others last
        for index in range(stack.shape.num_layers):  # the last layer of those that share an encoding counts
            of_layers |= {id(parameter): top - 1 - index for parameter in stack.parameters_of_layer(index)}
    return embeddings | of_layers


def _layers_of(model: nn.Module) -> list[nn.Module]:
    """Return the layers of a model, from the input to the output; none where it declares none."""
    return list(model.attention_sites) if isinstance(model, Model) else []


def parameter_groups(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters that decay, all others, and those in encodings and temperatures, as far as they learn."""
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


@with_checked_arguments
@dataclass(frozen=True, kw_only=True)
class AdamW(OptimizerSettings):
    """Moments of the gradient, with decay apart from them; `betas` are their decay rates, each in [0, 1).

    Source: Loshchilov, Hutter, "Decoupled Weight Decay Regularization" (ICLR 2019).
    """

    betas: tuple[Decay, Decay] = (0.9, 0.95)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.groups(model), lr=self.lr, betas=(self.betas[0], self.betas[1]), fused=True)


@with_checked_arguments
@dataclass(frozen=True, kw_only=True)
class Lion(OptimizerSettings):
    """The sign of a mixture of momentum and gradient, so that every weight moves by the learning rate.

    It keeps one number a weight, where AdamW keeps two. The paper takes a third to a tenth of AdamW's learning rate,
    and 3 to 10 times its weight decay. The optimizer itself comes from the package `lion-pytorch`.

    Args:
        betas: decay rate of the momentum in the update, and of the momentum that is kept, each in [0, 1).

    The others as in `OptimizerSettings`.

    Source: Chen et al., "Symbolic Discovery of Optimization Algorithms" (NeurIPS 2023).
    """

    betas: tuple[Decay, Decay] = (0.9, 0.99)

    def optimizer(self, model: nn.Module) -> Optimizer:
        try:
            import lion_pytorch
        except ModuleNotFoundError:
            raise ValueError(f"optimizer=lion needs the package lion-pytorch: {pip_install('optimizers')}") from None
        return lion_pytorch.Lion(self.groups(model), lr=self.lr, betas=(self.betas[0], self.betas[1]))


class CombinedOptimizer(Optimizer):
    """Several optimizers, each with its own parameters, as one: one step, one list of groups, one state.

    Args:
        optimizers: at least one. Their groups and states belong to this one from then on.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = list(optimizers)
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Share groups and state of the whole with the parts."""
        start = 0
        for optimizer in self.optimizers:
            end = start + len(optimizer.param_groups)
            optimizer.param_groups, optimizer.state = self.param_groups[start:end], self.state
            start = end

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Step each; the closure runs once, before them."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()


@with_checked_arguments
@dataclass(frozen=True, kw_only=True)
class Muon(OptimizerSettings):
    """The matrices of layers move along their momentum with all singular values near 1; AdamW moves all other weights.

    Others are embeddings, norms, biases, output layers, and all that an encoding learns. The update of a matrix has the
    root mean square that AdamW's has (0.2), so that one learning rate and one weight decay fit both. Both optimizers
    are PyTorch's.

    Args:
        momentum: decay rate of the momentum of matrices, in [0, 1).
        betas: decay rates of AdamW's moments, each in [0, 1).

    The others as in `OptimizerSettings`.

    Sources: Jordan et al., "Muon" (2024); of the size of updates: Liu et al., "Muon is Scalable for LLM Training"
    (2025).
    """

    momentum: Decay = 0.95
    betas: tuple[Decay, Decay] = (0.9, 0.95)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        within = {id(parameter) for layer in _layers_of(model) for parameter in layer.parameters()}
        matrices = {id(parameter) for parameter in parameter_groups(model)[0]} & within
        moved = self.groups(model, lambda parameter: id(parameter) in matrices)
        others = self.groups(model, lambda parameter: id(parameter) not in matrices)
        betas = (self.betas[0], self.betas[1])
        optimizers: list[torch.optim.Optimizer] = []
        if moved:
            optimizers.append(torch.optim.Muon(moved, momentum=self.momentum, adjust_lr_fn="match_rms_adamw"))
        if others:
            optimizers.append(torch.optim.AdamW(others, betas=betas, fused=True))
        return CombinedOptimizer(optimizers)
