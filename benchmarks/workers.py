"""Costs and gains of workers: `python benchmarks/workers.py sweep`, and the same for a `comparison`.

Equal runs (the same model, steps and text; only the frequency base differs) are trained by one worker and then by two,
each with one core and one thread, as the commands start them. Printed are:

- the wall time of the whole command, from its start to the end of its last run, and the ratio of two to one;
- the time between two runs of a worker: from the moment that the last figures of one are written until the next begins
  its first step, for which the text is opened, the model made and the loggers opened.
"""

from __future__ import annotations

import argparse
import itertools
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

RUN = (
    "encoding: rotary, trainer.max_steps: {steps}, trainer.validations: 2, trainer.log_every: 1, trainer: cpu, "
    "dataset.sequence_length: 128, dataset.length_multiples: [1], model.d_model: 64, "
    "model.num_layers: 2, model.num_heads: 4"
)

SWEEP = f"""
question: How long do equal trials take?
train: {{{{{RUN}}}}}
space: {{{{encoding.base: {{{{float: [1000, 100000], log: true}}}}}}}}
objectives: [validation/bits_per_byte@1x]
n_trials: {{runs}}
sampler: {{{{_target_: optuna.samplers.TPESampler}}}}
pruner: null
"""

COMPARISON = f"""
question: How long do equal runs take?
baseline: base_1000
encodings: [{{encodings}}]
cases: {{{{text: {{{{train: {{{{{RUN.partition(", ")[2]}}}}}, lengths: [1x]}}}}}}}}
metrics: {{{{bits_per_byte@1x: {{{{direction: minimize}}}}}}}}
seeds: 1
"""


def main() -> None:
    """Run the command with one worker and with two, and print their times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("of", choices=("sweep", "comparison"))
    parser.add_argument("--runs", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=600, help="of each run (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _run(arguments.of, folder / "first", 1, arguments.steps, 2)  # the text is tokenised, files are in memory
        seconds = {n: _run(arguments.of, folder / str(n), n, arguments.steps, arguments.runs) for n in (1, 2)}
        gaps = _gaps(folder / "1")
    print(f"one worker {seconds[1]:.1f} s, two workers {seconds[2]:.1f} s: {seconds[2] / seconds[1]:.3f} of it")
    print(f"between two runs: median {statistics.median(gaps):.3f} s, longest {max(gaps):.3f} s")


def _run(of: str, output: Path, workers: int, steps: int, runs: int) -> float:
    """Return the seconds from the start of the command to the end of its last run."""
    bases = [f"{{name: base_{base}, encoding: rotary, encoding.base: {base}}}" for base in range(1000, 1000 + runs)]
    file = output.with_suffix(".yaml")
    text = SWEEP if of == "sweep" else COMPARISON
    file.write_text(text.format(steps=steps, runs=runs, encodings=", ".join(bases)))
    cores = sorted(os.sched_getaffinity(0))[:workers]
    module = "src.sweep" if of == "sweep" else "src.compare"
    command = [sys.executable, "-m", module, f"{of}={file}", f"output={output}", f"workers={workers}"]
    began = time.time()
    subprocess.run(
        command,
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    if of == "sweep":
        trials = optuna.load_study(study_name=None, storage=f"sqlite:///{output / 'study.db'}").trials
        ends = [trial.datetime_complete.timestamp() for trial in trials if trial.datetime_complete is not None]
    else:
        ends = [scores.stat().st_mtime for scores in output.glob("runs/*/*/*/scores.parquet")]
    assert len(ends) == runs
    return max(ends) - began


def _gaps(output: Path) -> list[float]:
    """Return the seconds between the runs of a single worker."""
    spans = []
    for metrics in output.glob("*/**/metrics.json"):
        run = metrics.parent
        scores = run / "scores.parquet"  # of the test of a comparison's run, after its training
        first, *_ = sorted(run.glob("events.out.*"))
        steps = [event.wall_time for event in EventFileLoader(str(first)).Load() if event.step in (1, 2)]
        first_step, second_step = steps[0], next(x for x in steps if x - steps[0] > 1e-3)
        end = (scores if scores.exists() else metrics).stat().st_mtime
        spans.append((first_step - (second_step - first_step), end))
    spans.sort()
    # The best trial of a sweep is written again when it is tested, after the last one has ended.
    return [begin - end for (_, end), (begin, _) in itertools.pairwise(spans) if begin >= end]


if __name__ == "__main__":
    main()
