"""A run from its configuration to its final metrics, in one or several processes."""

from __future__ import annotations

import contextlib
import itertools

from poslab.configuration.command_line import assignment, poslab_command, trusting
from poslab.runs.directory import RunDirectory
from poslab.runs.errors import RunInterruptedError, RunStoppedError, RunTakenError, disk_errors
from poslab.runs.processes import broadcast_from_rank0, external_environment, hang_errors, join, rank_zero_first
from poslab.runs.recipe import Recipe
from poslab.training.console import RunConsole
from poslab.training.environment import environment
from poslab.training.fit import train_here
from poslab.training.interruption import StopOnSignals
from poslab.training.launch import launch
from poslab.training.observation import Observer
from poslab.training.resume import Plan, require_free


def train(plan: Plan, recipe: Recipe, observer: Observer | None = None) -> RunDirectory:
    """Train or resume a run, in as many processes as its configuration has.

    Args:
        plan: the run, its configuration and its checkpoint; several processes use that of the first.
        recipe: of its configuration, checked.
        observer: called with every validation, in this process; may end the run. An observed run is not tested, since
            one of several is to be chosen (`run_test` tests that one).

    Returns:
        The run, which may be another than that of this process's plan.

    Raises:
        ValueError: for a mistake that no earlier check finds, such as a text that is too short.
        NonFiniteLossError, RunInterruptedError, RunEndedEarlyError, ProcessDiedError: as `train_here` and `launch`.
    """
    external, settings = external_environment(), recipe.trainer
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
            join(external, settings.on_gpu, settings.hang_after, on_one_machine=settings.num_nodes == 1)
            plan = broadcast_from_rank0(plan)
            recipe = Recipe.of(plan.config)
        run, is_first = plan.run, external is None or external.global_rank() == 0
        if plan.remark is not None:
            RunConsole(silent=not is_first).print(plan.remark)
        if run.is_finished and not plan.is_new:
            RunConsole(silent=not is_first).print(f"{run.path} is finished already: see {run.metrics_file}")
            return run
        with contextlib.ExitStack() as holding:
            begun: list[RunDirectory] = []
            rank_zero_first(lambda: begun.append(_begin(plan, recipe, holding)))
            run = broadcast_from_rank0(begun[0] if begun else run)
            try:
                if external is None and settings.processes > 1:
                    launch(run, plan.checkpoint, settings.processes, settings.hang_after, signals, observer)
                else:
                    with disk_errors(run.path), hang_errors(settings.hang_after):
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
