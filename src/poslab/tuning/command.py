"""The command of a sweep: checks, trains in workers, shows what goes on, and writes the results."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from poslab.configuration.build import build
from poslab.io.terminal import HarmlessConsole
from poslab.io.writing import refuse_links, write_atomically
from poslab.runs.errors import RunInterruptedError, RunStoppedError
from poslab.tasks import Task
from poslab.tasks.choice import task_of
from poslab.training.components import prepared_data
from poslab.training.settings import TrainerSettings
from poslab.tuning.attributes import MADE_WITH
from poslab.tuning.display import Display, counts
from poslab.tuning.life import Watch, one_at_a_time
from poslab.tuning.results import Results
from poslab.tuning.sampling import try_sampler
from poslab.tuning.storage import (
    STORAGE_ERRORS,
    open_storage,
    quieten_optuna,
    storage_told,
    url_of,
    without_password,
)
from poslab.tuning.study import SweepStudy, make_or_join
from poslab.tuning.sweep import Sweep
from poslab.tuning.trial_configuration import TrialConfigurations
from poslab.tuning.workers import Workers

SECONDS_BETWEEN_LOOKS = 0.5


def run_sweep(sweep: Sweep, conf: Path) -> None:
    """Runs a sweep, or goes on with it, until its budget is finished, and writes its results.

    Args:
        sweep: the sweep.
        conf: the folder of configurations.

    Raises:
        ValueError: for a mistake, before any training.
        RunInterruptedError: if a signal asked for it; the same command goes on.
        DiskError, ProcessDiedError: as `Workers.look_after` does.
        RunStoppedError: if the storage cannot be used any more.
    """
    console = HarmlessConsole()
    quieten_optuna()
    configurations = TrialConfigurations(conf, sweep)
    default = configurations.check()
    config = configurations.of({})
    settings: TrainerSettings = build(config, "trainer", TrainerSettings)
    data = prepared_data(config)
    _check_figures(sweep, task_of(config, data))
    _check_lengths(sweep, config, data.lengths_of("validation"))
    directions = [objective.direction for objective in sweep.all_objectives]
    try_sampler(sweep.sampler, sweep.search_space, default, directions, sweep.trust)
    output = Path(sweep.output)
    if output.is_dir():
        refuse_links(output.absolute())
    if sweep.storage is None:
        _make(output)
    storage = open_storage(sweep)
    _make(output)
    with storage_told(sweep):
        with one_at_a_time(output):
            study = make_or_join(sweep, storage, default, config)
            _claim(output, study.user_attrs[MADE_WITH]["id"])
        workers = Workers(sweep, study, conf, default, config["seed"], settings)
        record = {**sweep.as_plain_data(), "storage": without_password(url_of(sweep))}
        with one_at_a_time(output):
            write_atomically(output / "sweep.yaml", OmegaConf.to_yaml(OmegaConf.create(record)))

        console.print(f"{sweep.name}: {sweep.question}", soft_wrap=True)
        console.print(f"trial 0 is the default; trials are kept in {output}", soft_wrap=True)
        try:
            _train(sweep, study, workers, Display(console, sweep.all_objectives, sweep.workers))
        except (RunInterruptedError, RunStoppedError):
            console.print(f"{counts(study.ledger())}: go on with the same command", soft_wrap=True)
            raise
        with one_at_a_time(output):
            Results(sweep, study, configurations).write(console)


def _make(output: Path) -> None:
    if (output / "config.yaml").exists():
        raise ValueError(f"output must be a directory of its own, not a run directory, got {output}")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"output={output} cannot be made: {error.strerror}") from error


def _claim(output: Path, study: str) -> None:
    """Makes the directory that of a study; ValueError if it is another's."""
    owner = output / ".study"
    found = owner.read_text() if owner.exists() else "" if any((output / "trials").glob("*")) else study
    if found != study:
        raise ValueError(f"output={output} holds the trials of another study: give this one a directory of its own")
    write_atomically(owner, study)


def _check_figures(sweep: Sweep, task: Task) -> None:
    """Raises ValueError for a figure of a validation that the task does not have."""
    for tag in (tag for objective in sweep.all_objectives for tag in objective.figures):
        split, _, name = tag.partition("@")[0].partition("/")
        if split == "validation" and name.removesuffix("_beyond") not in task.validated:
            known = ", ".join(f"validation/{known}" for known in task.validated)
            raise ValueError(f"objectives: there is no {tag} in this task, which has {known}")


def _check_lengths(sweep: Sweep, config: Mapping[str, Any], lengths: Sequence[int]) -> None:
    """Raises ValueError if the data does not have the lengths that an objective looks at."""
    for objective in sweep.all_objectives:
        if missing := set(objective.lengths(config["dataset"]["sequence_length"])) - set(lengths):
            raise ValueError(
                f"{objective.label} looks at lengths of {min(missing):,} tokens, which the validation or the test data "
                "does not have"
            )


def _train(sweep: Sweep, study: SweepStudy, workers: Workers, display: Display) -> None:
    """Keeps the workers at it until the sweep is settled."""
    watch = Watch(study, Path(sweep.output) / "workers")
    ledger, reached = study.ledger(), time.monotonic()
    watch.fail_lost(ledger.running)
    display.begin(ledger)
    with _asked_to_stop() as asked, display:
        try:
            while True:
                try:
                    ledger = study.ledger()
                    reached = time.monotonic()
                    display.update(ledger)
                    workers.look_after(ledger)
                    watch.fail_lost(ledger.running)
                except STORAGE_ERRORS:
                    if time.monotonic() - reached > sweep.lost_after:
                        raise
                    time.sleep(SECONDS_BETWEEN_LOOKS)
                    continue
                if asked or ledger.is_settled:
                    if not workers.alive:
                        break
                else:
                    workers.fill_up(most=ledger.unfinished)
                if asked:
                    workers.ask_to_stop()
                if len(asked) > 1:
                    break
                time.sleep(SECONDS_BETWEEN_LOOKS)
            display.update(study.ledger())
        finally:
            workers.kill()
    if asked:
        raise RunInterruptedError(asked[0])


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """The signals that have come: the first asks the workers to stop after a step, a second one ends them at once."""
    asked: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, _: asked.append(number)) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
