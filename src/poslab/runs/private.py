"""Differentially private training: clipped gradients of single rows, and noise (DP-SGD).

Dimension letters: B rows of a batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.utils._pytree import tree_map

from poslab.arguments import Count, Positive, Range, with_checked_arguments
from poslab.configuration.command_line import pip_install
from poslab.encodings import PositionSampler
from poslab.models import Model
from poslab.runs.steps import Gradients, Objective, ObjectiveSums, RunInfo, Step, Teacher
from poslab.tasks.measurement import Sums
from poslab.tasks.task import Task


@with_checked_arguments
@dataclass(frozen=True)
class Private(Step):
    """Private training of rows: a window of text, or an example.

        g = 1 / L  [ sum over rows i of the batch of  g_i min(1, C / |g_i|)  +  N(0, (sigma C)^2) ]

    g_i is the gradient of the mean loss of row i, |g_i| its norm over all parameters that learn, C the bound `clip`,
    and L the expected number of rows in a batch (`dataset.batch_size`). Each step draws every one of the N rows of
    training with probability L / N, independently. sigma is the smallest multiplier with which all steps of the run
    together are (epsilon, delta)-private by the accountant of Opacus (PRV).

    The guarantee is about a row, not about a document or an author with several rows, and about the weights: recorded
    metrics of training such as `train/loss` are exact. Draws and noise follow from the seed, so that a run can resume:
    with the seed, anyone can compute them. The generators are not cryptographic.

    Args:
        epsilon: bound on the privacy loss of the whole run; smaller is more private.
        delta: probability with which the bound may fail; below one over the number of rows.
        clip: C.
        chunk: rows whose gradients are in memory at once; fewer take less memory and more time.

    Source: Abadi et al., "Deep Learning with Differential Privacy" (CCS 2016), algorithm 1; Gopi, Lee, Wutschitz,
    "Numerical Composition of Differential Privacy" (NeurIPS 2021), for the accountant.
    """

    epsilon: Positive = 8.0
    delta: Annotated[float, Range(above=0, below=1)] = 1e-5
    clip: Positive = 1.0
    chunk: Count = 16

    draws_independently: ClassVar[bool] = True

    def check(self, config: Mapping[str, Any], model: Model, processes: int, lengths_vary: bool) -> None:
        if processes > 1:
            raise ValueError(f"step=private needs a single process, got {processes}: trainer.devices=1")
        if config["trainer"].get("compile") not in (None, False, "auto"):
            raise ValueError("trainer.compile must be false with step=private, which takes gradients row by row")
        stacks = model.stacks.values()
        if lengths_vary and any(encoding.depends_on_length for stack in stacks for encoding in stack):
            raise ValueError(
                "step=private needs an encoding that does not depend on the length of a text: in a padded batch, the "
                "gradient of a row would depend on the longest row"
            )
        samplers = (module for module in model.modules() if isinstance(module, PositionSampler))
        for sampler in samplers if lengths_vary else ():
            if sampler.reads_longest_row:
                raise ValueError(
                    f"positions must not be {type(sampler).__name__.lower()} with step=private on rows of several "
                    "lengths: the positions of a row would depend on the longest row of its batch"
                )
        if config["trainer"].get("activation_checkpointing"):
            raise ValueError(
                "trainer.activation_checkpointing must be false with step=private: a smaller step.chunk saves memory"
            )
        if config["trainer"].get("precision") == "16-mixed":
            raise ValueError(
                "trainer.precision must not be 16-mixed with step=private: the scale of the loss would change the "
                "clipping; choose bf16-mixed or 32-true"
            )
        if config["trainer"].get("precision") == "bf16-true":
            raise ValueError(
                "trainer.precision must not be bf16-true with step=private: sums of gradients would be rounded by more "
                "than the noise allows for; choose bf16-mixed or 32-true"
            )
        if config.get("dataset", {}).get("overfit"):
            raise ValueError("dataset.overfit must be false with step=private, which draws every row in each step")
        if (config.get("objective") or {}).get("teacher_length"):
            raise ValueError(
                "objective.teacher_length must be null with step=private: the gradient of a row would depend on the "
                "text of the rows before it"
            )
        if (config.get("start") or {}).get("batches"):
            raise ValueError(
                "start must not be fitted with step=private: it reads rows of training without clipping or noise"
            )
        if config["optimizer"].get("gradient_clip") is not None:
            raise ValueError(
                "optimizer.gradient_clip must be null with step=private, which clips the gradient of each row"
            )
        try:
            _accountant()
        except ImportError as error:
            raise ValueError(f"step=private needs the package opacus: {pip_install('private')}") from error

    def begin(self, run: RunInfo) -> Gradients:
        if run.num_rows is None:
            raise ValueError("step=private needs a fixed set of rows, which this dataset is not")
        if run.batch_size > run.num_rows:
            raise ValueError(
                f"dataset.batch_size must be at most the {run.num_rows:,} rows of training, got {run.batch_size}"
            )
        if self.delta >= 1 / run.num_rows:
            raise ValueError(
                f"step.delta must be below one over the {run.num_rows:,} rows of training ({1 / run.num_rows:.2g}), "
                f"got {self.delta:g}"
            )
        gradients = PrivateGradients(self, run)
        gradients.sigma  # noqa: B018, raises now rather than after the first step
        return gradients


class PrivateGradients(Gradients):
    """Gradients of rows, clipped, summed and made noisy; the run has a number of rows."""

    def __init__(self, settings: Private, run: RunInfo) -> None:
        assert run.num_rows is not None
        self.settings = settings
        self.run = run
        self.rate = run.batch_size / run.num_rows  # probability with which a row is in a batch
        self._pending: dict[nn.Parameter, Tensor] = {}

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise over the bound of a row's gradient."""
        return noise_multiplier(self.settings.epsilon, self.settings.delta, self.rate, max(1, self.run.max_steps))

    def sums(
        self, objective: Objective, task: Task, model: Model, batch: Any, teacher: Teacher | None
    ) -> ObjectiveSums:
        """Return the sums over a batch, detached, and keep the sum of its clipped gradients for `backward`."""
        parameters = {f"model.{name}": p for name, p in model.named_parameters() if p.requires_grad}
        frozen = {name: p.detach() for name, p in parameters.items()}
        rows = _OfRow(objective, task, model, teacher)
        row_dims = tree_map(lambda x: 0 if isinstance(x, Tensor) else None, batch)
        gradients_of = vmap(grad(rows.mean_loss, has_aux=True), in_dims=(None, row_dims), randomness="different")
        total = {name: torch.zeros_like(p) for name, p in frozen.items()}
        sums: list[Tensor] = []
        for start in range(0, len(next(x for x in batch if isinstance(x, Tensor))), self.settings.chunk):
            some = slice(start, start + self.settings.chunk)
            chunk = tree_map(lambda x, some=some: x[some] if isinstance(x, Tensor) else x, batch)
            of_rows, numbers = gradients_of(frozen, chunk)
            norm_B = torch.stack([g.reshape(len(g), -1).norm(dim=1) for g in of_rows.values()]).norm(dim=0)
            share_B = (self.settings.clip / norm_B.clamp_min(1e-12)).clamp(max=1)
            for name, gradient in of_rows.items():
                total[name] += torch.tensordot(share_B.to(gradient.dtype), gradient, dims=1)
            sums.append(numbers.sum(0))
        self._pending = {parameters[name]: gradient for name, gradient in total.items()}
        loss, own_loss, correct, counted, *terms = torch.stack(sums).sum(0)
        return ObjectiveSums(loss, Sums(own_loss, correct, counted), tuple(zip(terms[::2], terms[1::2], strict=True)))

    def backward(self, loss: Tensor) -> None:
        for parameter, gradient in self._pending.items():
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        self._pending = {}

    def finish(self, parameters: list[nn.Parameter], counted: Tensor, step: int) -> None:
        # Of NumPy: torch's generator keeps 32 bits of a seed, so that two steps of a long run would have one noise.
        generator = np.random.default_rng((self.run.seed, step, NOISE))
        for parameter in parameters:
            noise = torch.from_numpy(generator.standard_normal(tuple(parameter.shape), np.float32)).to(parameter)
            clipped = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = (clipped + self.sigma * self.settings.clip * noise) / self.run.batch_size

    def metrics(self, steps: int) -> dict[str, float]:
        spent = _accountant()
        spent.history = [(self.sigma, self.rate, steps)]
        epsilon = float(spent.get_epsilon(self.settings.delta)) if steps else 0.0
        return {"epsilon": epsilon, "delta": self.settings.delta}


NOISE = 0x401E  # makes the seeds of noise differ from the seeds of dropout


class _OfRow(nn.Module):
    """The mean loss of one row as a function of the parameters."""

    def __init__(self, objective: Objective, task: Task, model: Model, teacher: Teacher | None) -> None:
        super().__init__()
        self.objective = objective
        self.task = task
        self.model = model
        self.teacher = teacher

    def mean_loss(self, parameters: Mapping[str, Tensor], row: Any) -> tuple[Tensor, Tensor]:
        """Return the mean over the predictions of a row, and sums: loss, the task's loss, correct, counted, terms."""
        batch = tree_map(lambda x: x.unsqueeze(0) if isinstance(x, Tensor) else x, row)
        sums: ObjectiveSums = functional_call(self, dict(parameters), (batch,))
        numbers = [sums.loss, *sums.task, *(number for term in sums.terms for number in term)]
        together = torch.stack([torch.as_tensor(number).detach().to(sums.loss) for number in numbers])
        return sums.loss / sums.task.counted.clamp(min=1), together

    def forward(self, batch: Any) -> ObjectiveSums:
        return self.objective.sums(self.task, self.model, batch, self.teacher)


@cache
def noise_multiplier(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """Return the smallest noise, over the bound, with which `steps` (at least 1) are private: a search of some seconds.

    What they spend of epsilon is at most 0.01 or 1% below it, whichever is less. `rate` is the probability with which a
    row is in a batch. ValueError if the accountant finds none.
    """
    _accountant()
    from opacus.accountants.utils import get_noise_multiplier

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            sigma: float = get_noise_multiplier(
                target_epsilon=epsilon,
                target_delta=delta,
                sample_rate=rate,
                steps=steps,
                accountant="prv",
                epsilon_tolerance=min(0.01, epsilon / 100),
            )
        except (ValueError, RuntimeError, OverflowError, MemoryError) as error:
            raise ValueError(
                f"step.epsilon={epsilon:g} with step.delta={delta:g} is out of the accountant's range for {steps:,} "
                f"steps with a share of {rate:.2g} of the rows: {error}"
            ) from error
    return sigma


def _accountant() -> Any:
    """Return a new accountant of Opacus; ImportError without Opacus."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what Opacus imports
        from opacus.accountants import PRVAccountant

    return PRVAccountant()
