"""The LightningModule of every task: steps, gradients, measurements and records."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from poslab.data.batch import Batch
from poslab.models import Model
from poslab.runs.errors import NonFiniteLossError
from poslab.runs.optimizers import OptimizerSettings
from poslab.runs.steps import Gradients, Objective, Teacher
from poslab.runs.trainer_settings import MIXED, peak_memory_mb
from poslab.tasks.task import Task
from poslab.training.utilisation import products_per_second

MOST = 4096  # numbers of each tensor that are hashed


def hash_of(tensors: Iterable[Tensor]) -> str:
    """Return a hash of the shapes, the dtypes and the first numbers of tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        flat = tensor.detach().flatten()[:MOST].cpu()
        digest.update(str((tuple(tensor.shape), tensor.dtype)).encode())
        digest.update(flat.to(torch.float64 if flat.is_floating_point() else torch.int64).numpy().tobytes())
    return digest.hexdigest()[:16]


class Learner(L.LightningModule):
    """A model that learns a task.

    The loss of a step is a sum over tokens or examples divided by their number in the *global* batch, so that devices,
    micro-batches and padding change nothing. The randomness of a step (dropout) depends only on the seed, the step and
    the process, so that a resumed run needs no state of random generators. Processes that share a window begin alike,
    and `ContextParallel` parts them.

    Args:
        batch_size: windows or examples in the global batch.
        lengths: of the loaders of `validation` and `test`, in their order: tokens of a window, or lengths of examples.
        longest_trained: the largest length in training.
        log_every: optimizer steps between two records of training metrics.
        teacher: model that the objective learns from; None if it has none.
        flops_per_token: of the model in training; None if they are not known.
    """

    def __init__(
        self,
        model: Model,
        task: Task,
        objective: Objective,
        optimizer: OptimizerSettings,
        gradients: Gradients,
        *,
        batch_size: int,
        lengths: Mapping[str, Sequence[int]],
        longest_trained: int,
        seed: int,
        log_every: int,
        teacher: Teacher | None = None,
        flops_per_token: float | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.task = task
        self.objective = objective
        self.teacher = teacher
        self._teacher_hash = None if teacher is None else hash_of(teacher.model.state_dict().values())
        self.optimizer_settings = optimizer
        self.gradients = gradients
        self.batch_size = batch_size
        self.lengths = lengths
        self.seed = seed
        self.log_every = log_every
        self.longest_trained = longest_trained
        self.flops_per_token = flops_per_token
        self.measurements = {f"{split}@{length}": task.metrics(split) for split in lengths for length in lengths[split]}
        if task.aggregate_lengths:
            self.measurements |= {split: task.metrics(split) for split in lengths}
        self.metrics: dict[str, float] = {}  # newest metrics by tag, such as `validation/loss@512`
        self.stop_requested = False
        """Set from outside, such as by a signal; all processes stop together after the step."""
        self.stopping = False
        self._tokens_read = torch.zeros((), dtype=torch.float64)
        self._predicted = torch.zeros((), dtype=torch.float64)
        """Predictions that counted since training began or resumed; only a run with a teacher adds them up."""
        self._taught = torch.zeros((), dtype=torch.float64)
        """Predictions that the teacher has taught, also before the run was resumed."""
        self.training_seconds = 0.0

    def configure_model(self) -> None:
        """Shard the model among processes if the strategy does (FSDP2): block by block, then the rest."""
        if self.device_mesh is None or isinstance(self.model, FSDPModule):
            return
        mesh = self.device_mesh["data_parallel"]
        for site in self.model.attention_sites:
            fully_shard(site, mesh=mesh)
        fully_shard(self.model, mesh=mesh)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer, schedule = self.optimizer_settings.build(self.model, self.trainer.max_steps)
        if self._leaves_out_overflows:  # its gradients lose their scale before they are clipped, not in its step
            optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def tags(self, split: str) -> list[str]:
        """Return the tags of a split's metrics, and of its headline metric at each length."""
        task = self.task
        names = dict.fromkeys((task.headline, *task.validated, *(task.shown if split == "test" else ())))
        by_length = [f"{split}/{task.headline}@{length}" for length in self.lengths[split]]
        return [*(f"{split}/{name}" for name in names), *by_length]

    # Training

    def on_train_start(self) -> None:
        if self.teacher is not None:
            self.teacher.model.to(self.device, next(self.model.parameters()).dtype)
        if self.flops_per_token is not None:
            _ = self._products_per_second  # measured now, in no time of training
        self._counted_until = time.perf_counter()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            # loss, correct, counted, tokens read, requests to stop, and each term of the objective with its number
            self._step_sums = torch.zeros(5 + 2 * len(self.objective.terms), device=self.device)
        entropy = (self.seed, batch_idx, self.trainer.global_rank // self.objective.processes_per_window)
        # `torch.manual_seed` also notes, for devices that are not there, where it was called: a millisecond.
        seed = torch.manual_seed if torch.accelerator.is_available() else torch.default_generator.manual_seed
        seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        sums = self.gradients.sums(self.objective, self.task, self.model, batch, self.teacher)
        self._step_sums[:3] += torch.stack([sums.task.loss.detach(), sums.task.correct, sums.task.counted])
        self._step_sums[3] += self.task.num_tokens(batch) / self.objective.processes_per_window
        if sums.terms:
            self._step_sums[5:] += torch.stack([number for term in sums.terms for number in term])
        # As if each row counted once; the end of the step corrects it to the mean over all that count.
        rows = self.batch_size / (self.trainer.world_size * self.trainer.accumulate_grad_batches)
        return sums.loss / rows

    def backward(self, loss: Tensor, *_: Any, **__: Any) -> None:
        self.gradients.backward(loss)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Add up the sums of the step over micro-batches and processes, and finish its gradients."""
        self._step_sums[4] = float(self.stop_requested)
        self._step_sums = self.trainer.strategy.reduce(self._step_sums, reduce_op="sum")
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.gradients.finish(parameters, self._step_sums[2], self.trainer.global_step)

    def configure_gradient_clipping(self, optimizer: Optimizer, *_: Any, **__: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.optimizer_settings.gradient_clip or math.inf)
        self._gradient_norm = norm.full_tensor() if isinstance(norm, DTensor) else norm

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """End an optimizer step before any callback sees it, which the module's `on_train_batch_end` would not."""
        step, last_step = self.trainer.global_step, self.trainer.max_steps
        # Reading a tensor makes a GPU wait, so a single process reads metrics only when it records them.
        self.stopping = self.stop_requested if self.trainer.world_size == 1 else self._step_sums[4].item() > 0
        assert self.trainer.val_check_batch is not None
        validates = step * self.trainer.accumulate_grad_batches % self.trainer.val_check_batch == 0
        if step % self.log_every == 0 or validates or step in (1, last_step):
            self._record_step(step)
        self._tokens_read = self._tokens_read + self._step_sums[3].double()
        if self.teacher is not None:
            self._predicted = self._predicted + self._step_sums[2].double()
            self._taught = self._taught + self._step_sums[6::2].sum().double()
            if validates and self._predicted.item() and not self._taught.item():  # private steps may draw no row
                raise ValueError(
                    f"objective.within: the teacher has taught nothing by step {step}, since no example was within the "
                    f"{self.teacher.longest} tokens that it reads"
                )
        now = time.perf_counter()
        self.training_seconds += now - self._counted_until
        self._counted_until = now
        if step == last_step:
            self.trainer.should_stop = True  # makes Lightning validate after this step
        scheduler.step()

    def require_finite(self) -> None:
        """Raise NonFiniteLossError if this step has spoilt the model, which must then not be saved."""
        loss, counted, norm = self._step_sums[0].item(), self._step_sums[2].item(), float(self._gradient_norm)
        if not math.isfinite(loss) or not (math.isfinite(norm) or self._leaves_out_overflows):
            raise NonFiniteLossError(
                f"the loss at step {self.trainer.global_step} is {loss / max(1, counted):.4g} with a gradient norm of "
                f"{norm:.4g}: try a smaller optimizer.lr (now {self.optimizer_settings.lr:g}) or a longer "
                "optimizer.warmup_fraction"
            )

    @property
    def _leaves_out_overflows(self) -> bool:
        """True if a step whose gradients overflow is left out, as under a scale of the loss (16-mixed)."""
        return getattr(self.trainer.precision_plugin, "scaler", None) is not None

    def _record_step(self, step: int) -> None:
        self.require_finite()
        loss, correct, counted, _, _, *terms = self._step_sums.tolist()
        # a step that draws rows independently may have none
        metrics = self.task.from_means("train", loss / counted, 100 * correct / counted) if counted else {}
        for name, total, number in zip(self.objective.terms, terms[::2], terms[1::2], strict=True):
            if number:
                metrics[name] = total / number
        if math.isfinite(self._gradient_norm):
            metrics["gradient_norm"] = float(self._gradient_norm)
        settings = self.optimizer_settings
        metrics["learning_rate"] = settings.lr * settings.lr_fraction(step - 1, self.trainer.max_steps)
        metrics |= self.gradients.metrics(step)
        if self.training_seconds:
            metrics |= self.speeds
        self.record({f"train/{name}": value for name, value in metrics.items()})

    @property
    def validation_metrics(self) -> dict[str, float]:
        """Newest metrics of a validation, by tag."""
        return {tag: value for tag, value in self.metrics.items() if tag.startswith("validation/")}

    @cached_property
    def _products_per_second(self) -> float:
        precision = self.trainer.precision
        dtype = torch.bfloat16 if precision == "bf16-true" else MIXED.get(str(precision), torch.float32)
        return products_per_second(self.device, dtype, torch.get_num_threads())

    @property
    def speeds(self) -> dict[str, float]:
        """Tokens per second of training, without padding, and the utilisation of the machine in per cent (MFU).

        The time includes waiting for data, but no validation.
        """
        tokens_read = self._tokens_read.item()
        speeds = {"tokens_per_second": tokens_read / self.training_seconds if self.training_seconds else 0.0}
        if self.flops_per_token is not None and tokens_read:
            flops_per_second = self.flops_per_token * speeds["tokens_per_second"] / self.trainer.world_size
            speeds["mfu"] = 100 * flops_per_second / self._products_per_second
        return speeds

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        tokens, taught = int(self._tokens_read.item()), self._taught.item()
        checkpoint["trained"] = {"tokens": tokens, "seconds": self.training_seconds, "taught": taught}
        checkpoint["teacher"] = self._teacher_hash

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.teacher is not None and checkpoint.get("teacher") not in (None, self._teacher_hash):
            raise ValueError(f"resume: the teacher {self.teacher.source} has other weights than when this run began")
        self._tokens_read = torch.tensor(checkpoint["trained"]["tokens"], dtype=torch.float64)
        self._taught = torch.tensor(checkpoint["trained"].get("taught", 1.0), dtype=torch.float64)
        self.training_seconds = checkpoint["trained"]["seconds"]
        # Lightning counts micro-batches, of which a step may have had another number on other devices.
        micro_batches = checkpoint["global_step"] * self.trainer.accumulate_grad_batches
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for counts in (progress["total"], progress["current"]):
            more = micro_batches - counts["ready"]
            counts.update({name: number + more for name, number in counts.items()})

    # Evaluation

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._observe("validation", batch, dataloader_idx)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._observe("test", batch, dataloader_idx)

    def on_validation_start(self) -> None:
        self._begin("validation")

    def on_test_start(self) -> None:
        self._begin("test")

    def _begin(self, split: str) -> None:
        for name, measurement in self.measurements.items():
            if name.partition("@")[0] == split:
                measurement.begin(self.device)

    def _observe(self, split: str, batch: Batch, index: int) -> None:
        observation = self.task.observe(self.model, batch, split)
        length = self.lengths[split][index]
        self.measurements[f"{split}@{length}"].update(observation)
        # The best checkpoint is not chosen by lengths beyond the training lengths.
        longest_that_chooses = max(self.longest_trained, min(self.lengths[split]))
        if self.task.aggregate_lengths and (split == "test" or length <= longest_that_chooses):
            self.measurements[split].update(observation)

    def on_validation_end(self) -> None:
        self._counted_until = time.perf_counter()  # leaves validation, and the save after it, out of training time

    def on_validation_epoch_end(self) -> None:
        self._record_evaluation("validation")
        self.record({"memory/peak_mb": peak_memory_mb(self.device)})
        if not math.isfinite(self.metrics["validation/loss"]):
            raise NonFiniteLossError(f"the validation loss at step {self.trainer.global_step} is not finite")

    def on_test_epoch_end(self) -> None:
        self._record_evaluation("test")

    def _record_evaluation(self, split: str) -> None:
        """Record the metrics of each length, and under the plain tag the metrics of the split."""
        by_length = {length: self.measurements[f"{split}@{length}"].compute() for length in self.lengths[split]}
        whole = (
            self.measurements[split].compute() if self.task.aggregate_lengths else by_length[self._trained(by_length)]
        )
        whole = {**whole, **self.task.over_lengths(by_length)}
        recorded = {f"{split}/{name}": value for name, value in whole.items()}
        for length, metrics in by_length.items():
            recorded |= {f"{split}/{name}@{length}": value for name, value in metrics.items()}
        self.log_dict(recorded, logger=False)  # for callbacks, such as one that stops early
        self.record(recorded)

    def _trained(self, lengths: Collection[int]) -> int:
        """Return the longest of some lengths that was trained on; the shortest if none was."""
        return max((length for length in lengths if length <= self.longest_trained), default=min(lengths))

    def record(self, metrics: dict[str, float]) -> None:
        """Keep metrics, and write them to every logger at the present step."""
        self.metrics |= metrics
        for logger in self.loggers:
            logger.log_metrics(metrics, step=self.trainer.global_step)
