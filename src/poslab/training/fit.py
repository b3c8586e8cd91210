"""A run from its configuration to its final metrics, in one or several processes."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import distributed
from torch.utils.checkpoint import checkpoint as recomputed

from poslab.configuration.command_line import assignment, poslab_command, trusting
from poslab.configuration.labels import choice_of
from poslab.data.corpus import TextSplits
from poslab.data.run_data import RunData
from poslab.models import Model
from poslab.models.adaptation import Full, num_learning
from poslab.runs import processes
from poslab.runs.directory import CHECKPOINT, RunDirectory
from poslab.runs.distillation import Distillation
from poslab.runs.errors import RunInterruptedError, RunStoppedError, RunTakenError
from poslab.runs.recipe import Recipe, recipe_of
from poslab.runs.trainer_settings import TrainerSettings, environment, peak_memory_mb, reset_peak_memory
from poslab.training import components
from poslab.training.checking import warnings_of_pretrained
from poslab.training.checkpoints import RunCheckpoints, StopOnSignals
from poslab.training.console import ConsoleProgress, RunConsole, closing_facts, conclusion, next_commands, test_table
from poslab.training.initialise import begin_encoding, initialise_from
from poslab.training.launch import Observer, ObserveValidations, launch
from poslab.training.learner import Learner
from poslab.training.loggers import EncodingCurves, RecordStartingPoint, RunLogger, RunTensorBoard
from poslab.training.resume import Plan, require_free
from poslab.training.teacher import teacher_of


def train(plan: Plan, recipe: Recipe, observer: Observer | None = None) -> RunDirectory:
    """Train or resume a run, in as many processes as its configuration has; return it, perhaps not the planned one.

    Several processes use the plan of the first. The observer is called with every validation, in this process, and may
    end the run. An observed run is not tested, since one of several is to be chosen (`run_test` tests that one).

    Raises:
        ValueError: for a mistake that no earlier check finds, such as a text that is too short.
        NonFiniteLossError, RunInterruptedError, RunEndedEarlyError, ProcessDiedError: as `train_here` and `launch`.
    """
    external, settings = processes.external_environment(), recipe.trainer
    if external is None and settings.num_nodes > 1:
        raise ValueError(
            f"trainer.num_nodes={settings.num_nodes} needs torchrun or SLURM to start this on every machine"
        )
    if external is not None and external.world_size() != settings.processes:
        raise ValueError(
            f"trainer.devices x trainer.num_nodes is {settings.processes}, and {external.world_size()} processes were "
            "started"
        )
    is_whole = external is None and observer is None  # neither a process of several, nor a worker of a sweep
    with StopOnSignals(second_sigterm_ends=is_whole) as signals:
        if external is not None:
            processes.join(external, settings.on_gpu, settings.hang_after, on_one_machine=settings.num_nodes == 1)
            plan = processes.broadcast_from_rank0(plan)
            recipe = Recipe.of(plan.config)
        run, is_first = plan.run, external is None or external.global_rank() == 0
        if plan.remark is not None:
            RunConsole(silent=not is_first).print(plan.remark)
        if run.is_finished and not plan.is_new:
            RunConsole(silent=not is_first).print(f"{run.path} is finished already: see {run.metrics_file}")
            return run
        with contextlib.ExitStack() as holding:
            begun: list[RunDirectory] = []
            processes.rank_zero_first(lambda: begun.append(_begin(plan, recipe, holding)))
            run = processes.broadcast_from_rank0(begun[0] if begun else run)
            try:
                if external is None and settings.processes > 1:
                    launch(run, plan.checkpoint, settings.processes, settings.hang_after, signals, observer)
                else:
                    with processes.disk_errors(run.path), processes.hang_errors(settings.hang_after):
                        train_here(run, recipe, plan.checkpoint, signals, observer)
            except ValueError:
                if is_first and plan.checkpoint is None and not run.task_file.exists():
                    run.discard()
                raise
            except (RunStoppedError, RunInterruptedError) as stopped:
                if stopped.resumable and observer is None:
                    resume = poslab_command("train", assignment("resume", run.path), *trusting(run.trust))
                    RunConsole(silent=not is_first).print(f"resume with: {resume}")
                raise
    return run


def _begin(plan: Plan, recipe: Recipe, holding: contextlib.ExitStack) -> RunDirectory:
    """Make the run directory, and hold it as long as the stack; return it.

    Runs that begin in the same second have the same directory: the first takes it, the next has `_2` behind it.
    """
    path = plan.run.path
    for number in itertools.count(1):
        run = plan.run if number == 1 else RunDirectory(path.with_name(f"{path.name}_{number}"), plan.run.trust)
        try:
            with contextlib.ExitStack() as held:
                held.enter_context(run.held())
                if plan.is_new:
                    require_free(run)
                run.start(plan.config, {**environment(recipe.trainer), "choices": plan.choices})
                holding.enter_context(held.pop_all())
                return run
        except RunTakenError:
            if not plan.may_move:
                raise
    raise AssertionError("the numbers do not end")


def train_here(
    run: RunDirectory,
    recipe: Recipe,
    checkpoint: Path | None,
    signals: StopOnSignals,
    observer: Observer | None = None,
    callbacks: Sequence[L.Callback] = (),
) -> None:
    """Train, test and report a run in this process, which may be one of several; only the first calls the observer.

    Raises:
        ValueError: for a mistake that no earlier check finds, such as a text that is too short.
        NonFiniteLossError: if the loss is not finite.
        RunInterruptedError: after a signal; the run is saved.
        RunEndedEarlyError: if the observer ended it.
    """
    settings, began = recipe.trainer, time.monotonic()
    components.quieten_lightning()
    reset_peak_memory()
    L.seed_everything(recipe.seed, verbose=False)
    processes.set_up_cpu()
    is_first = not distributed.is_initialized() or distributed.get_rank() == 0
    console = RunConsole(run.log_file, silent=not is_first)

    datamodule = components.prepared_data(recipe)
    components.begin_kernel(settings, datamodule, console.print)
    first_step = components.first_step_of(checkpoint, datamodule)
    task, model = components.task_and_model_of(recipe, datamodule)
    settings = components.with_compile(recipe, model, datamodule)
    precision = settings.resolved_precision + (" (by hardware)" if settings.precision == "auto" else "")
    size = f"{_num_parameters(model):,} parameters"
    console.print(f"{type(model).__name__} with {recipe.encoding_name}: {size}, {precision}")
    if absent := model.encodings.kinds_without_layer:
        kinds = " or ".join(map(str, absent))
        console.print(f"layers: none is of kind {kinds}: their pattern needs more (model.num_layers)")
    for warning in warnings_of_pretrained(recipe, model):
        console.print(f"warning: {warning}")
    for line in datamodule.report_lines():
        console.print(line)
    if recipe.init_from and checkpoint is None:
        console.print(f"weights of {recipe.init_from}")
        classes = getattr(task.record(), "classes", ())
        for line in initialise_from(model, recipe.init_from, datamodule.tokenizer, classes):
            console.print(f"  {line}")
    if recipe.start.needs_earlier and checkpoint is None:
        for line in begin_encoding(recipe, model, task, datamodule):
            console.print(f"start={choice_of(recipe.config, 'start').name}: {line}")
    teacher = None
    if isinstance(recipe.objective, Distillation):
        teacher = teacher_of(recipe, recipe.objective, task, datamodule.tokenizer)
        console.print(
            f"teacher: {type(teacher.model).__name__} with {_num_parameters(teacher.model):,} parameters, "
            f"which reads {teacher.longest:,} tokens ({teacher.source})"
        )
        set_up_passes(teacher.model, settings)
    set_up_passes(model, settings)
    if recipe.trainer.compile == "auto" and settings.compile:
        console.print("blocks are compiled (trainer.compile=auto)")

    if first_step:
        console.print(f"resuming after step {first_step:,} from {checkpoint}")
    hashes = run.config_hashes() if is_first else None
    checkpoints = RunCheckpoints(run.checkpoints, settings.save_every, signals, hashes)
    learner = components.learner_of(recipe, model, task, datamodule, teacher)
    if not isinstance(recipe.adapt, Full):
        console.print(f"adapt={choice_of(recipe.config, 'adapt').name}: {num_learning(model):,} parameters learn")
    _require_space(run, model)
    loggers = components.loggers_of(recipe, run.path, first_step)
    standard = [ConsoleProgress(console), signals, checkpoints, EncodingCurves()]
    standard += [RecordStartingPoint(run.start_file, recipe.source.split_version), *callbacks]
    standard += [] if observer is None else [ObserveValidations(observer)]
    try:
        trainer = components.trainer_of(
            settings,
            batch_size=datamodule.batch_size,
            directory=run.path,
            callbacks=[*standard, *components.callbacks_of(recipe, learner, standard)],
            loggers=loggers,
        )
    except MisconfigurationException as error:  # such as a second progress bar
        raise ValueError(f"callbacks: {error}") from error

    try:
        if trainer.is_global_zero:
            datamodule.tokenizer.save(run.path)
            task.record().write(run.task_file)
            components.begin_recording(loggers, recipe.config)
        if settings.max_steps == 0:
            trainer.validate(learner, datamodule=datamodule, verbose=False)
            checkpoints.best_metrics = learner.validation_metrics
        trainer.fit(learner, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
    except (MisconfigurationException, ValueError) as error:
        if checkpoint is None and trainer.is_global_zero and trainer.global_step == 0:
            of_loggers = (file for pattern in ("*_id", "events.out.tfevents.*") for file in run.path.glob(pattern))
            for file in (run.task_file, run.metrics_csv, run.tokenizer_file, *of_loggers):
                file.unlink(missing_ok=True)
        if isinstance(error, MisconfigurationException):  # what Lightning can say only of data that is loaded
            raise ValueError(f"trainer: {error}") from error
        raise
    training = {  # before the test loads the best state, which may be of an earlier step
        **{f"train/{name}": value for name, value in learner.speeds.items()},
        "train/seconds": learner.training_seconds,
        "steps": trainer.global_step,
        **{f"train/{name}": value for name, value in learner.gradients.metrics(trainer.global_step).items()},
    }
    tested = _tested(trainer, learner, datamodule, run) if observer is None else {}
    metrics = {
        **checkpoints.best_metrics,
        **tested,
        **training,
        "memory/peak_mb": peak_memory_mb(trainer.strategy.root_device),
        "parameters": _num_parameters(model),
    }
    if not trainer.is_global_zero:
        return
    for logger in loggers:
        if isinstance(logger, RunLogger):
            logger.finish(metrics)
    run.finish(metrics)
    if settings.profiler:
        console.print(trainer.profiler.summary())  # type: ignore[attr-defined]
    if observer is None:
        lengths, trained = datamodule.splits.lengths, datamodule.longest_trained
        console.print(test_table(task, metrics, lengths, trained, checkpoints.best_step))
        unigram = datamodule.splits.unigram_loss if isinstance(datamodule.splits, TextSplits) else None
        console.print(conclusion(recipe.encoding_name, task, metrics, trained, unigram))
    console.print(closing_facts(metrics, time.monotonic() - began))
    console.print(f"written to   {run.path}")
    if observer is None:
        for line in next_commands(run, recipe, task):
            console.print(line)


def _num_parameters(model: Model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def run_test(run: RunDirectory) -> dict[str, float]:
    """Test the best checkpoint of a finished run on one device of this machine, unless it has been tested.

    The test metrics by tag are returned, and added to metrics.json and, as curves over length, to TensorBoard's events.
    ValueError if its text has changed since training.
    """
    metrics = run.metrics()
    if already := {tag: value for tag, value in metrics.items() if tag.startswith("test/")}:
        return already
    components.quieten_lightning()
    processes.set_up_cpu()
    recipe = recipe_of(run)
    settings = dataclasses.replace(recipe.trainer, devices=1, num_nodes=1, context_parallel=1, profiler=None)
    settings.require_devices()
    datamodule = components.prepared_data(recipe)
    components.begin_kernel(settings, datamodule, lambda _: None)
    components.first_step_of(run.best_checkpoint, datamodule)
    task, model = components.task_and_model_of(recipe, datamodule)
    makers = recipe.loggers().values()
    loggers = [RunTensorBoard(run.path, None)] if any(make.func is RunTensorBoard for make in makers) else []
    learner = components.learner_of(recipe, model, task, datamodule)
    trainer = components.trainer_of(settings, datamodule.batch_size, run.path, callbacks=[], loggers=loggers)
    tested = _tested(trainer, learner, datamodule, run)
    for logger in loggers:
        logger.finish(tested)
    run.finish({**metrics, **tested})
    return tested


def _tested(trainer: L.Trainer, learner: Learner, datamodule: RunData, run: RunDirectory) -> dict[str, float]:
    """Return the test metrics of a run's best checkpoint by tag, with their numbers of examples."""
    trainer.test(learner, datamodule=datamodule, ckpt_path=run.best_checkpoint, weights_only=True, verbose=False)
    tested = {tag: value for tag, value in learner.metrics.items() if tag.startswith("test/")}
    if counts := datamodule.num_examples("test"):
        tested["test/examples"] = sum(counts.values())
        tested |= {f"test/examples@{length}": count for length, count in counts.items()}
    return tested


def set_up_passes(model: Model, settings: TrainerSettings) -> None:
    """Let a model compute as the trainer's settings say: which changes no number but for rounding."""
    if settings.activation_checkpointing:
        for block in model.attention_sites:
            block.forward = functools.partial(recomputed, block.forward, use_reentrant=False)
    for part in model.attention_sites if settings.compile == "blocks" else [model] if settings.compile else []:
        part.compile()


def _require_space(run: RunDirectory, model: Model) -> None:
    """Raise ValueError if the run's checkpoints do not fit on the disk."""
    # Weights, and the two moments of AdamW of those that learn.
    bytes_per_checkpoint = 4 * (_num_parameters(model) + 2 * num_learning(model))
    there = sum(file.stat().st_size for file in run.checkpoints.glob(f"*{CHECKPOINT}"))
    needed = max(1, 3 - there // bytes_per_checkpoint) * bytes_per_checkpoint + 10_000_000  # best, last, the next; logs
    free = shutil.disk_usage(run.path).free
    if free < needed:
        raise ValueError(
            f"hydra.run.dir={run.path} is on a disk with {free / 1e6:,.0f} MB free, "
            f"and the checkpoints of this run take {needed / 1e6:,.0f} MB"
        )
