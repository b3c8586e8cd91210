"""Costs and gains of a sweep's workers: `python benchmarks/sweep_workers.py`.

Equal trials (the same model, steps and text; only the frequency base differs) are run by one worker and then by two,
each with one core and one thread, as `python -m src.sweep` starts them. Printed are:

- the wall time of the whole command, from its start to the end of its last trial, and the ratio of two to one;
- the time between two trials of a worker: from the moment that the figures of one are written until the next begins its
  first step, for which the text is opened, the model made and the loggers opened.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

ROOT = Path(__file__).resolve().parent.parent

QUESTION = """
question: How long do equal trials take?
train: {{encoding: rotary, trainer.max_steps: {steps}, trainer.validations: 2, trainer.log_every: 1, trainer: cpu}}
space: {{encoding.base: {{float: [1000, 100000], log: true}}}}
objectives: [validation/bits_per_byte@1x]
n_trials: {trials}
sampler: {{_target_: optuna.samplers.TPESampler}}
pruner: null
"""


def main() -> None:
    """Run both sweeps, and print their times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=60, help="of each trial (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "equal.yaml"
        file.write_text(QUESTION.format(steps=arguments.steps, trials=arguments.trials))
        _run(file, Path(folder) / "first", workers=1, trials=1)  # the text is tokenised, files are in memory
        seconds = {workers: _run(file, Path(folder) / str(workers), workers, arguments.trials) for workers in (1, 2)}
        gaps = _gaps(Path(folder) / "1")
    print(f"one worker {seconds[1]:.1f} s, two workers {seconds[2]:.1f} s: {seconds[2] / seconds[1]:.3f} of it")
    print(f"between two trials: median {statistics.median(gaps):.3f} s, longest {max(gaps):.3f} s")


def _run(sweep: Path, output: Path, workers: int, trials: int) -> float:
    """Seconds from the start of the command to the end of its last trial."""
    cores = sorted(os.sched_getaffinity(0))[:workers]
    command = [sys.executable, "-m", "src.sweep", f"sweep={sweep}", f"output={output}", f"workers={workers}"]
    began = time.time()
    subprocess.run(
        [*command, f"n_trials={trials}"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{output / 'study.db'}")
    ends = [trial.datetime_complete.timestamp() for trial in study.trials if trial.datetime_complete is not None]
    assert len(ends) == trials
    return max(ends) - began


def _gaps(output: Path) -> list[float]:
    """Seconds between the trials of a single worker."""
    ends, beginnings = [], []
    for run in sorted((output / "trials").iterdir()):
        ends.append((run / "metrics.json").stat().st_mtime)
        first, *_ = sorted(run.glob("events.out.*"))
        steps = [event.wall_time for event in EventFileLoader(str(first)).Load() if event.step in (1, 2)]
        first_step, second_step = steps[0], next(x for x in steps if x - steps[0] > 1e-3)
        beginnings.append(first_step - (second_step - first_step))
    # The best trial is written again when it is tested, after the last one has ended.
    return [b - e for e, b in zip(ends, beginnings[1:], strict=False) if b >= e]


if __name__ == "__main__":
    main()
