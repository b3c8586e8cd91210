"""The data, learner, callbacks, loggers and trainer of a run, as its recipe says."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.strategies.model_parallel import _load_raw_module_state, _rekey_optimizer_state_if_needed
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

from poslab.compiled import library
from poslab.configuration.build import full_keys, nearest
from poslab.data.run_data import RunData
from poslab.data.source import HELD_OUT, default_cache
from poslab.io.files import locked_folder
from poslab.models import Model
from poslab.models.blocks import Block
from poslab.runs.checkpoint import load_checkpoint
from poslab.runs.processes import external_environment, rank_zero_first
from poslab.runs.recipe import Recipe
from poslab.runs.steps import ContextParallel, RunInfo, Standard, TaskLoss, Teacher
from poslab.runs.trainer_settings import TrainerSettings
from poslab.tasks.task import Task
from poslab.tasks.token_prediction import TokenPrediction
from poslab.training.checkpoints import AtomicCheckpointIO
from poslab.training.learner import Learner
from poslab.training.loggers import RunLogger, client_errors, columns
from poslab.training.utilisation import flops_per_token


def prepared_data(recipe: Recipe) -> RunData:
    """Return the data of a run, prepared only by the first process; ValueError if it cannot be had or is too short."""
    datamodule = recipe.data()
    datamodule.draws_independently = recipe.step.draws_independently
    datamodule.processes_per_window = recipe.trainer.context_parallel
    datamodule.num_earlier = recipe.objective.num_earlier(recipe.source.sequence_length)
    with full_keys("dataset", recipe.config):
        rank_zero_first(datamodule.prepare_data)
        datamodule.setup()
    return datamodule


MIN_PAIRS = 50_000_000
"""Fewest pairs of a query and a key, over all steps, for which `trainer.kernel=auto` compiles attention.

The first such run compiles for about 15 seconds, and all later ones of the machine use what it made: a small comparison
has dozens.
"""


def begin_kernel(settings: TrainerSettings, datamodule: RunData, say: Callable[[str], None]) -> None:
    """Use the compiled attention or not, as `trainer.kernel` says; what another run of this process did is forgotten.

    ValueError for `trainer.kernel=compiled` where it cannot be compiled.
    """
    library.disable()
    pairs = settings.max_steps * datamodule.batch_size * datamodule.longest_trained**2
    if settings.on_gpu or settings.kernel == "torch" or (settings.kernel == "auto" and pairs < MIN_PAIRS):
        return
    folder = default_cache() / "kernels"

    def compile_once() -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked_folder(folder):  # the workers of a comparison begin together
                if not library.is_compiled(folder):
                    say("attention is being compiled for this machine, once")
                    library.compile_kernel(folder)
        except OSError as error:  # a mistake of the user to the other processes too, which go on without it
            raise library.NoKernelError(f"{folder} cannot be used: {error.strerror}") from error

    try:
        rank_zero_first(compile_once)
        library.load_kernel(folder)
    except ValueError as error:
        if settings.kernel == "compiled":
            raise ValueError(f"trainer.kernel=compiled is not possible: {error}") from error
        say(f"attention is not compiled: {error}")


MIN_FLOPS = 5e14
"""Least arithmetic of a training, 6 N D, for which `trainer.compile=auto` compiles on a CPU.

On an EPYC blocks took 40 s of a core to compile and won 2% to 9% of a step: the break-even lay at 0.6e14 to 3.8e14.
"""


def with_compile(recipe: Recipe, model: Model, datamodule: RunData) -> TrainerSettings:
    """Return the settings of the trainer with `compile=auto` decided, as a function of only the recipe and its data.

    All encodings of a model have the same choice, N being the number of its parameters without the encodings'.
    """
    settings = recipe.trainer
    if settings.compile != "auto":
        return settings
    of_encodings = sum(weight.numel() for stack in model.stacks.values() for weight in stack.parameters())
    size = sum(weight.numel() for weight in model.parameters()) - of_encodings
    flops = 6.0 * size * settings.max_steps * datamodule.batch_size * datamodule.longest_trained
    can_compile = (
        bool(model.attention_sites)
        and all(isinstance(site, Block) for site in model.attention_sites)
        and isinstance(recipe.step, Standard)
        and isinstance(recipe.objective, TaskLoss)
        and settings.context_parallel == 1
    )
    pays = can_compile and (settings.on_gpu or flops >= MIN_FLOPS)
    if pays and not settings.on_gpu:
        from torch._inductor import config

        pays = shutil.which(config.cpp.cxx[-1]) is not None  # its C++ compiler
    return dataclasses.replace(settings, compile="blocks" if pays else False)


def first_step_of(checkpoint: Path | None, datamodule: RunData) -> int:
    """Return the step that a run resumes after; ValueError if it was trained on other tokens than these."""
    if checkpoint is None:
        return 0
    state = load_checkpoint(checkpoint)
    if state.get(type(datamodule).__qualname__) != datamodule.state_dict():
        raise ValueError(
            f"resume: the text or its tokenizer is not what {checkpoint} was trained on; "
            f"start a new run from its weights with init_from={checkpoint}"
        )
    return state["global_step"]


def task_and_model_of(recipe: Recipe, datamodule: RunData) -> tuple[Task, Model]:
    """Return the task of data that is set up and the model that learns it, and connect the data to both."""
    task, tokenizer = recipe.task.of(datamodule), datamodule.tokenizer
    with full_keys("model", recipe.config):
        size = datamodule.vocab_size + task.extra_tokens
        model = recipe.model.build(size, task.outputs, tokenizer.digits, task.record().patch_width)
    datamodule.connect(task, model.max_length)
    return task, model


def learner_of(
    recipe: Recipe, model: Model, task: Task, datamodule: RunData, teacher: Teacher | None = None
) -> Learner:
    """Return the learner of a task, in which the weights learn that the recipe chooses; only training needs a teacher.

    ValueError if the model has positions for no example that is held out.
    """
    lengths = {split: datamodule.lengths_of(split) for split in HELD_OUT}
    for split, of_split in lengths.items():
        if not of_split:
            raise ValueError(f"dataset: there is no {split} example that the model has positions for")
    recipe.adapt.apply(model)
    settings = recipe.trainer
    # Gradients of rows go through torch.func, weights that devices share and a compiled model through its `forward`,
    # and a scale of the loss through its backward pass.
    if isinstance(task, TokenPrediction) and (
        not isinstance(recipe.step, Standard)
        or settings.strategy == "fsdp"
        or settings.compile is True
        or settings.resolved_precision == "16-mixed"
    ):
        task.whole_logits = True
    shared = settings.context_parallel
    situation = RunInfo(datamodule.batch_size, recipe.trainer.max_steps, recipe.seed, datamodule.splits.num_rows)
    return Learner(
        model,
        task,
        recipe.objective if shared == 1 else ContextParallel(shared),
        recipe.optimizer,
        recipe.step.begin(situation),
        batch_size=datamodule.batch_size,
        lengths=lengths,
        longest_trained=datamodule.longest_trained,
        seed=recipe.seed,
        log_every=recipe.trainer.log_every,
        teacher=teacher,
        flops_per_token=flops_per_token(model, datamodule.longest_trained),
    )


def callbacks_of(recipe: Recipe, learner: Learner, standard: Sequence[L.Callback] = ()) -> list[L.Callback]:
    """Return the callbacks that a recipe asks for, besides those that every run has (`standard`).

    ValueError if one monitors a metric that validations do not have, or two have states of the same name.
    """
    callbacks, tags = recipe.callbacks(), learner.tags("validation")
    at_lengths = {f"{tag}@{length}" for tag in tags for length in learner.lengths["validation"]}
    saved = {callback.state_key: "a callback that every run has" for callback in standard}
    for name, callback in callbacks.items():
        key = callback.state_key
        if is_overridden("state_dict", callback, L.Callback):
            if key in saved:
                raise ValueError(f"callbacks.{name} must differ from {saved[key]}: both would be saved as {key}")
            saved[key] = f"callbacks.{name}"
        monitor = getattr(callback, "monitor", None)
        if monitor is not None and monitor not in tags and monitor not in at_lengths:
            raise ValueError(
                f"callbacks.{name}.monitor must be one of {', '.join(tags)}, got {monitor}{nearest(monitor, tags)}"
            )
    # Last, for an average leaves the model when its turn comes: all others then see what is validated.
    return sorted(callbacks.values(), key=lambda callback: isinstance(callback, WeightAveraging))


def loggers_of(recipe: Recipe, directory: Path, first_step: int | None) -> list[Logger]:
    """Return the loggers of a run, all of which record in its directory unless they were given another.

    `first_step` is the step that the run resumes after; None where a finished run is tested.
    """
    loggers: list[Logger] = []
    for name, make in recipe.loggers().items():
        with client_errors(name):
            if isinstance(make.func, type) and issubclass(make.func, RunLogger):
                loggers.append(make(directory, first_step))
            elif "save_dir" in inspect.signature(make.func).parameters:
                loggers.append(make(**{"save_dir": directory, **make.keywords}))
            else:
                loggers.append(make())
    return loggers


def begin_recording(loggers: Sequence[Logger], config: Mapping[str, Any]) -> None:
    """Begin to record a run; ValueError that names the logger if its client fails, such as without a server."""
    for logger in loggers:
        with client_errors(type(logger).__name__):
            if isinstance(logger, RunLogger):
                logger.begin(config)
            else:
                logger.log_hyperparams(columns(config))


def trainer_of(
    settings: TrainerSettings, batch_size: int, directory: Path, callbacks: list[L.Callback], loggers: Sequence[Logger]
) -> L.Trainer:
    """Return the trainer of a run, which keeps the global batch whatever the number of devices."""
    accumulate = settings.micro_batches(batch_size)
    return L.Trainer(
        accelerator="gpu" if settings.on_gpu else "cpu",
        devices=settings.local_processes,
        num_nodes=settings.num_nodes,
        strategy=_strategy(settings),
        precision=settings.resolved_precision,  # type: ignore[arg-type]
        max_steps=settings.max_steps,
        max_epochs=1,
        accumulate_grad_batches=accumulate,
        val_check_interval=settings.validate_every * accumulate,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # the datamodule shares out the windows itself, each once
        callbacks=callbacks,
        logger=loggers,
        plugins=[AtomicCheckpointIO(), external_environment() or LightningEnvironment()],
        default_root_dir=directory,
        enable_progress_bar=False,
        inference_mode=False,  # Lightning leaves it out under gloo: evaluation is then the same everywhere
        deterministic=settings.deterministic,
        profiler=settings.profiler,
        **{"enable_model_summary": False, **(settings.lightning or {})},
    )


def _strategy(settings: TrainerSettings) -> Strategy | str:
    if settings.processes == 1:
        return "auto"  # there is nobody to share with
    if settings.strategy == "fsdp":
        return ShardedStrategy(
            data_parallel_size=settings.processes, tensor_parallel_size=1, save_distributed_checkpoint=False
        )
    return DDPStrategy(process_group_backend="nccl" if settings.on_gpu else "gloo", gradient_as_bucket_view=True)


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy for FSDP2, with whole checkpoints read by Poslab instead of `torch.load`."""

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        checkpoint = self.checkpoint_io.load_checkpoint(self.broadcast(checkpoint_path))
        assert self.model is not None
        _load_raw_module_state(checkpoint.pop("state_dict"), self.model)
        options = StateDictOptions(broadcast_from_rank0=True, full_state_dict=True)
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=False):  # none in a test
            by_name = _rekey_optimizer_state_if_needed(state, self.model)
            set_optimizer_state_dict(self.model, optimizer, optim_state_dict=by_name, options=options)
        return checkpoint


def quieten_lightning() -> None:
    """Silence Lightning on devices, workers and tips; its other warnings stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=PossibleUserWarning)
    warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`")  # a test needs no callbacks
    # of a first step whose gradients overflow, under a scale of the loss
    warnings.filterwarnings("ignore", message=r"Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`")
    warnings.filterwarnings("ignore", message="Total length of .* is zero")  # trainer.max_steps=0
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
