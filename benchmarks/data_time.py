"""Does data keep training waiting? The share of a step in which its batch is made, in each dataset's default run.

    python benchmarks/data_time.py                          # every dataset that is installed here
    python benchmarks/data_time.py --datasets bbc_headlines reverse_string --steps 50

Time is measured by Lightning's own profiler: that in `train_dataloader_next` over that and the time in
`run_training_batch`, without the first two steps. `100,000 rows` is a CSV file of so many short texts with classes,
whose preparation (reading, splitting, learning subwords, tokenising) is measured too. On a faster device a step is
shorter and the share larger; `dataset.num_workers=2` makes batches beside it.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.profilers import SimpleProfiler
from machine import machine
from ours import CONF, configuration

from poslab.runs.recipe import Recipe
from poslab.training.components import learner_of, prepared_data, quieten_lightning, task_and_model_of, trainer_of

MAKING, TRAINING = "[_TrainingEpochLoop].train_dataloader_next", "run_training_batch"
ROWS = "100,000 rows"


def datasets() -> list[str]:
    """Return those that need neither a hub nor a file of the user's own, and a file that is written here."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (CONF / "dataset").glob("[!_]*.yaml")}
    own = re.compile(r"hub|_glue|_example_files|^files:", re.IGNORECASE | re.MULTILINE)
    return [ROWS, *sorted(name for name, text in texts.items() if not own.search(text))]


def measured(overrides: list[str], steps: int, folder: Path) -> dict[str, float]:
    """Return seconds of preparation, milliseconds of a step and of making its batch, and the share of the latter."""
    recipe = Recipe.of(configuration([*overrides, f"trainer.max_steps={steps}", "trainer.validations=1"]))
    begin = time.perf_counter()
    data = prepared_data(recipe)
    preparing = time.perf_counter() - begin
    task, model = task_and_model_of(recipe, data)
    trainer = trainer_of(recipe.trainer, data.batch_size, folder, callbacks=[], loggers=[])
    trainer.limit_val_batches = 0
    profiler = trainer.profiler = SimpleProfiler()  # type: ignore[attr-defined]
    trainer.fit(learner_of(recipe, model, task, data), datamodule=data)
    making, training = (sum(profiler.recorded_durations[action][2:steps]) for action in (MAKING, TRAINING))
    return {
        "preparing_s": preparing,
        "making_ms": 1000 * making / (steps - 2),
        "training_ms": 1000 * training / (steps - 2),
        "share": making / (making + training),
    }


def file_of_rows(path: Path) -> Path:
    """Write a CSV file of 100,000 texts of five to forty words, of four classes."""
    generator = torch.Generator().manual_seed(0)
    words = [f"{a}{b}" for a in ("ta", "ri", "mo", "ke", "sul", "pen") for b in ("ra", "lin", "dor", "vek", "os", "")]
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        for row in range(100_000):
            count = int(torch.randint(5, 41, (), generator=generator))
            numbers = torch.randint(len(words), (count,), generator=generator).tolist()
            rows.writerow([f"{row} " + " ".join(words[number] for number in numbers), f"class {row % 4}"])
    return path


def main() -> None:
    """Measure and print the share of each dataset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=datasets())
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    arguments = parser.parse_args()
    quieten_lightning()
    figures: dict[str, Any] = {"machine": machine(), "datasets": {}}
    for name in arguments.datasets:
        with tempfile.TemporaryDirectory() as folder:
            if name == ROWS:
                file = file_of_rows(Path(folder) / "rows.csv")
                choices = ["dataset=classification_file", f"dataset.files={file}", f"dataset.cache_dir={folder}/cache"]
            else:
                choices = [f"dataset={name}"]
            found = measured(choices, arguments.steps, Path(folder))
        figures["datasets"][name] = found
        print(
            f"{name:28} {100 * found['share']:6.2f} % of a step: {found['making_ms']:.1f} of "
            f"{found['making_ms'] + found['training_ms']:.0f} ms; prepared in {found['preparing_s']:.1f} s",
            flush=True,
        )
        if arguments.output:
            arguments.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
