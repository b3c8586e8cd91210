"""The share of a training step in which its batch is made, in each dataset's default run.

Time is measured by Lightning's own profiler: that in `train_dataloader_next` over that and the time in
`run_training_batch`, without the first two steps. `100,000 rows` is a CSV file of so many short texts with classes,
whose preparation (reading, splitting, learning subwords, tokenising) is measured too. On a faster device a step is
shorter and the share larger; `dataset.num_workers=2` makes batches in other processes.
"""

from __future__ import annotations

import csv
import re
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch.profilers import SimpleProfiler
from ours import configuration
from plan import Plan
from results import Measurement, Results, Row
from turns import seconds_of

from poslab.compiled import library
from poslab.configuration.command_line import CONF
from poslab.runs.recipe import Recipe
from poslab.training.components import learner_of, prepared_data, quieten_lightning, task_and_model_of, trainer_of

MAKING, TRAINING = "[_TrainingEpochLoop].train_dataloader_next", "run_training_batch"
CSV_FILE = "100,000 rows"
ROWS = 100_000


def data(plan: Plan, results: Results) -> Iterator[Measurement]:
    """Yield a written file and every dataset that needs neither a hub nor files."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (CONF / "dataset").glob("[!_]*.yaml")}
    external = re.compile(r"hub|_glue|_example_files|^files:|_target_: null|^path: null", re.IGNORECASE | re.MULTILINE)
    for dataset in [CSV_FILE, *sorted(name for name, text in texts.items() if not external.search(text))]:
        yield {"part": "data", "dataset": dataset}, partial(_rows, dataset, plan.data_steps)


def _rows(dataset: str, steps: int) -> list[Row]:
    """Return seconds of preparation, milliseconds of a step and of making its batch, and the share of the latter."""
    quieten_lightning()
    library.disable()
    with tempfile.TemporaryDirectory() as folder:
        choices = [f"dataset={dataset}"]
        if dataset == CSV_FILE:
            path = write_csv(Path(folder) / "rows.csv")
            choices = ["dataset=classification_file", f"dataset.files={path}", f"dataset.cache_dir={folder}/cache"]
        recipe = Recipe.of(configuration([*choices, f"trainer.max_steps={steps}", "trainer.validations=1"]))
        splits = []
        preparing = seconds_of(lambda: splits.append(prepared_data(recipe)))
        task, model = task_and_model_of(recipe, splits[0])
        trainer = trainer_of(recipe.trainer, splits[0].batch_size, Path(folder), callbacks=[], loggers=[])
        trainer.limit_val_batches = 0
        profiler = trainer.profiler = SimpleProfiler()  # type: ignore[attr-defined]
        trainer.fit(learner_of(recipe, model, task, splits[0]), datamodule=splits[0])
    making, training = (sum(profiler.recorded_durations[action][2:steps]) for action in (MAKING, TRAINING))
    milliseconds = {
        "making_ms": round(1000 * making / (steps - 2), 3),
        "training_ms": round(1000 * training / (steps - 2), 3),
    }
    return [{"preparing_s": round(preparing, 2), **milliseconds, "share": round(making / (making + training), 5)}]


def write_csv(path: Path) -> Path:
    """Write a CSV file of texts of five to forty words, of four classes."""
    generator = torch.Generator().manual_seed(0)
    words = [f"{a}{b}" for a in ("ta", "ri", "mo", "ke", "sul", "pen") for b in ("ra", "lin", "dor", "vek", "os", "")]
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        for row in range(ROWS):
            count = int(torch.randint(5, 41, (), generator=generator))
            numbers = torch.randint(len(words), (count,), generator=generator).tolist()
            rows.writerow([f"{row} " + " ".join(words[number] for number in numbers), f"class {row % 4}"])
    return path
