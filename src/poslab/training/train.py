"""A run from its configuration to its final figures."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import distributed

from poslab.checking import micro_batches
from poslab.checkpoint import load_checkpoint
from poslab.configuration import build, encoding_named, with_full_key
from poslab.data.run_data import HELD_OUT, RunData
from poslab.errors import RunInterruptedError, RunStoppedError, full_disk_told
from poslab.models import Model, build_model
from poslab.processes import agreed, external_environment, first_alone, join
from poslab.run_directory import RunDirectory
from poslab.tasks import Task
from poslab.tasks.choice import data_of, task_of
from poslab.training.checkpoints import AtomicCheckpointIO, RunCheckpoints
from poslab.training.console import (
    ConsoleProgress,
    RunConsole,
    closing_facts,
    next_commands,
    test_table,
)
from poslab.training.encoding_curves import EncodingCurves
from poslab.training.environment import environment, peak_memory_mb, reset_peak_memory
from poslab.training.initialise import initialise_from
from poslab.training.interruption import StopOnSignals
from poslab.training.launch import launch
from poslab.training.learner import Learner
from poslab.training.loggers import MetricsCsv, RunTensorBoard
from poslab.training.observation import Observer, ObserveValidations
from poslab.training.resume import Plan
from poslab.training.settings import TrainerSettings


def train(plan: Plan, settings: TrainerSettings, observer: Observer | None = None) -> RunDirectory:
    """Trains a run, or goes on with one, in as many processes as its configuration asks for.

    Args:
        plan: which run, under which configuration, from where; in several processes that of the first counts.
        settings: how it is trained, from a configuration that has been checked.
        observer: is told of every validation, in this process, and may end the run. A run that is observed is one of
            several from which one is to be chosen: it is not tested (`run_test` tests the one).

    Returns:
        The run, which need not be the planned one where several processes planned.

    Raises:
        ValueError: for a mistake that shows only now, such as a text that is too short.
        NonFiniteLossError, RunInterruptedError, RunEndedEarlyError, ProcessDiedError: as `train_here` and `launch` say.
    """
    external = external_environment()
    processes = settings.local_processes * settings.num_nodes
    if external is None and settings.num_nodes > 1:
        raise ValueError(
            f"trainer.num_nodes={settings.num_nodes} needs torchrun or SLURM to start this on every machine"
        )
    if external is not None and external.world_size() != processes:
        raise ValueError(
            f"trainer.devices x trainer.num_nodes is {processes}, and {external.world_size()} processes were started"
        )
    with StopOnSignals() as signals:
        if external is not None:
            join(external, settings.on_gpu)
            plan = agreed(plan)
        run, is_first = plan.run, external is None or external.global_rank() == 0
        if run.is_finished:
            RunConsole(silent=not is_first).print(f"{run.path} is finished already: see {run.metrics_file}")
            return run
        with contextlib.ExitStack() as holding:
            first_alone(lambda: _begin(plan, settings, holding))
            try:
                if external is None and processes > 1:
                    launch(run.path, plan.checkpoint, processes, observer)
                else:
                    with full_disk_told(run.path):
                        train_here(run, plan.config, plan.checkpoint, signals, observer)
            except ValueError:
                if is_first and plan.checkpoint is None and not (run.path / "metrics.csv").exists():
                    run.discard()
                raise
            except (RunStoppedError, RunInterruptedError) as stopped:
                if stopped.resumable and observer is None:
                    RunConsole(silent=not is_first).print(f"go on with: python -m src.train resume={run.path}")
                raise
    return run


def _begin(plan: Plan, settings: TrainerSettings, holding: contextlib.ExitStack) -> None:
    """Makes the run directory, and holds it as long as the stack."""
    holding.enter_context(plan.run.held())
    plan.run.start(plan.config, environment(settings))


def train_here(
    run: RunDirectory,
    config: Mapping[str, Any],
    checkpoint: Path | None,
    signals: StopOnSignals,
    observer: Observer | None = None,
) -> None:
    """Trains, tests and reports a run in this process, which may be one of several that have joined.

    Args:
        run: where the run is kept.
        config: its configuration, which has been checked.
        checkpoint: what it resumes from; None starts anew.
        signals: what may ask it to stop.
        observer: as of `train`; that of the first process is asked.

    Raises:
        ValueError: for a mistake that shows only now, such as a text that is too short.
        NonFiniteLossError: if the loss is no longer a number.
        RunInterruptedError: if it was asked to stop; what it has learned is saved.
        RunEndedEarlyError: if the observer ended it.
    """
    settings: TrainerSettings = build(config, "trainer")
    _quieten_lightning()
    reset_peak_memory()
    L.seed_everything(config["seed"], verbose=False)
    torch.set_flush_denormal(True)  # below 1e-38: an Intel processor takes many times as long over such numbers
    is_first = not distributed.is_initialized() or distributed.get_rank() == 0
    console = RunConsole(run.log_file, silent=not is_first)

    datamodule = prepared_data(config)
    first_step = _first_step(checkpoint, datamodule)
    task = task_of(config, datamodule)
    model = _model(config, datamodule, task)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    precision = settings.resolved_precision + (" (by hardware)" if settings.precision == "auto" else "")
    console.print(f"{type(model).__name__} with {encoding_named(config)}: {parameters:,} parameters, {precision}")
    for line in datamodule.report_lines():
        console.print(line)
    if config["init_from"] and checkpoint is None:
        console.print(f"weights of {config['init_from']}")
        for line in initialise_from(model, config["init_from"]):
            console.print(f"  {line}")
    _require_space(run, parameters)
    if settings.compile:
        model.compile()

    if first_step:
        console.print(f"resuming after step {first_step:,} from {checkpoint}")
    checkpoints = RunCheckpoints(run.checkpoints, settings.save_every, signals)
    tensorboard = RunTensorBoard(run.path, first_step)
    metrics_csv = MetricsCsv(run.path / "metrics.csv", first_step)
    learner = _learner(config, model, task, datamodule, settings)
    trainer = _trainer(
        settings,
        batch_size=datamodule.batch_size,
        directory=run.path,
        callbacks=[
            ConsoleProgress(console),
            signals,
            checkpoints,
            EncodingCurves(datamodule.training_length),
            *([] if observer is None else [ObserveValidations(observer)]),
        ],
        loggers=[tensorboard, metrics_csv],
    )
    if trainer.is_global_zero:
        datamodule.tokenizer.save(run.path)
        run.write_task(task.record())
        metrics_csv.begin()
        if not first_step:  # later it is there already
            split = "test" if observer is None else "validation"
            tensorboard.log_configuration(config, metrics=_headline_tags(task, split, learner.lengths[split]))

    trainer.fit(learner, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
    training = {  # before the test reads the best state, which may be of an earlier step
        "train/tokens_per_second": learner.tokens_per_second,
        "train/seconds": learner.training_seconds,
        "steps": trainer.global_step,
    }
    tested = _tested(trainer, learner, datamodule, run) if observer is None else {}

    metrics = {
        **checkpoints.best_figures,
        **tested,
        **training,
        "memory/peak_mb": peak_memory_mb(trainer.strategy.root_device),
        "parameters": parameters,
    }
    if trainer.is_global_zero:
        tensorboard.log_by_length(metrics)
        tensorboard.close()
        run.finish(metrics)
        if settings.profiler:
            console.print(trainer.profiler.summary())  # type: ignore[attr-defined]
        if observer is None:
            console.print(test_table(task, metrics, datamodule.lengths_asked, checkpoints.best_step))
        console.print(closing_facts(run, metrics))
        if observer is None:
            for line in next_commands(run, config, task):
                console.print(line)


def run_test(run: RunDirectory) -> dict[str, float]:
    """Tests the best checkpoint of a finished run that has not been tested, on one device of this machine.

    Args:
        run: the run; the figures are added to its metrics.json, and as curves over length to its TensorBoard events.

    Returns:
        The test figures by tag; those that are there already if it has been tested.

    Raises:
        ValueError: if its text is no longer what it was trained on.
    """
    config, metrics = run.config(), run.metrics()
    if already := {tag: value for tag, value in metrics.items() if tag.startswith("test/")}:
        return already
    _quieten_lightning()
    torch.set_flush_denormal(True)
    settings: TrainerSettings = dataclasses.replace(build(config, "trainer"), devices=1, num_nodes=1, profiler=None)
    datamodule = prepared_data(config)
    _first_step(run.best_checkpoint, datamodule)
    task = task_of(config, datamodule)
    model = _model(config, datamodule, task)
    tensorboard = RunTensorBoard(run.path, first_step=None)
    learner = _learner(config, model, task, datamodule, settings)
    trainer = _trainer(settings, datamodule.batch_size, run.path, callbacks=[], loggers=[tensorboard])
    tested = _tested(trainer, learner, datamodule, run)
    tensorboard.log_by_length(tested)
    tensorboard.close()
    run.finish({**metrics, **tested})
    return tested


def _tested(trainer: L.Trainer, learner: Learner, datamodule: RunData, run: RunDirectory) -> dict[str, float]:
    """The test figures of a run's best checkpoint, by tag."""
    trainer.test(learner, datamodule=datamodule, ckpt_path=run.best_checkpoint, weights_only=True, verbose=False)
    return {tag: value for tag, value in learner.figures.items() if tag.startswith("test/")}


def _model(config: Mapping[str, Any], datamodule: RunData, task: Task) -> Model:
    """The model of a task, for whose positions the data leaves out what is too long."""
    model = build_model(config, datamodule.vocab_size + task.extra_tokens, task.outputs)
    datamodule.max_length = model.max_length
    return model


def _learner(
    config: Mapping[str, Any], model: Model, task: Task, datamodule: RunData, settings: TrainerSettings
) -> Learner:
    lengths = {split: datamodule.lengths_of(split) for split in HELD_OUT}
    for split, found in lengths.items():
        if not found:
            raise ValueError(f"dataset: there is no {split} example that the model has positions for")
    return Learner(
        model,
        task,
        build(config, "optimizer"),
        batch_size=datamodule.batch_size,
        lengths=lengths,
        longest_trained=datamodule.longest_trained,
        seed=config["seed"],
        log_every=settings.log_every,
    )


def prepared_data(config: Mapping[str, Any]) -> RunData:
    """The data of a configuration, tokenised by the first process alone.

    Raises:
        ValueError: naming the key, if it cannot be had or is too short.
    """
    datamodule = data_of(config)
    try:
        first_alone(datamodule.prepare_data)
        datamodule.setup()
    except ValueError as error:
        raise ValueError(with_full_key(str(error), "dataset", config)) from error
    return datamodule


def _first_step(checkpoint: Path | None, datamodule: RunData) -> int:
    """The step that a run goes on after; ValueError if it was trained on other tokens than these."""
    if checkpoint is None:
        return 0
    state = load_checkpoint(checkpoint)
    if state.get(type(datamodule).__qualname__) != datamodule.state_dict():
        raise ValueError(
            f"resume: the text or its tokenizer is not what {checkpoint} was trained on; "
            f"start a new run from its weights with init_from={checkpoint}"
        )
    step: int = state["global_step"]
    return step


def _trainer(
    settings: TrainerSettings, batch_size: int, directory: Path, callbacks: list[L.Callback], loggers: Sequence[Logger]
) -> L.Trainer:
    processes = settings.local_processes * settings.num_nodes
    accumulate = micro_batches(settings, batch_size, processes)
    return L.Trainer(
        accelerator="gpu" if settings.on_gpu else "cpu",
        devices=settings.local_processes,
        num_nodes=settings.num_nodes,
        strategy=_strategy(settings, processes),
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
        enable_model_summary=False,
        inference_mode=False,  # Lightning leaves it out under gloo: evaluation is then the same everywhere
        deterministic=settings.deterministic,
        profiler=settings.profiler,
    )


def _strategy(settings: TrainerSettings, processes: int) -> Strategy | str:
    if processes == 1:
        return "auto"  # there is nobody to share with
    if settings.strategy == "fsdp":
        return ModelParallelStrategy(
            data_parallel_size=processes, tensor_parallel_size=1, save_distributed_checkpoint=False
        )
    return DDPStrategy(process_group_backend="nccl" if settings.on_gpu else "gloo", gradient_as_bucket_view=True)


def _headline_tags(task: Task, split: str, lengths: Sequence[int]) -> list[str]:
    """What stands beside a run's choices in the HPARAMS tab."""
    names = dict.fromkeys((task.headline, *task.validated, *(task.shown if split == "test" else ())))
    return [f"{split}/{name}" for name in names] + [f"{split}/{task.headline}@{length}" for length in lengths]


def _require_space(run: RunDirectory, parameters: int) -> None:
    """Raises ValueError if the disk cannot hold the run's checkpoints."""
    bytes_per_checkpoint = parameters * 4 * 3  # weights and the two moments of AdamW
    there = sum(file.stat().st_size for file in run.checkpoints.glob("*.ckpt"))
    needed = max(1, 3 - there // bytes_per_checkpoint) * bytes_per_checkpoint + 10_000_000  # best, last, the next; logs
    free = shutil.disk_usage(run.path).free
    if free < needed:
        raise ValueError(
            f"hydra.run.dir={run.path} is on a disk with {free / 1e6:,.0f} MB free, "
            f"and the checkpoints of this run take {needed / 1e6:,.0f} MB"
        )


def _quieten_lightning() -> None:
    """Leaves out what Lightning says of devices, workers and tips; its warnings of other kinds stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=PossibleUserWarning)
    warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`")  # a test needs no callbacks
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
