"""With and without: what an encoding is worth on each task, over three seeds, beside what needs no transformer.

    python benchmarks/tasks.py                                  # everything, some hours on two cores
    python benchmarks/tasks.py --tasks topics --encodings none rotary --seeds 1

Each run is one of `python -m src.train`, kept in outputs/tasks; one that is finished is not trained again, and one that
was interrupted goes on. docs/tasks.md is made of benchmarks/figures/tasks.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from task_references import (
    classification_reference,
    copying_reference,
    dictionary_reference,
    lead_reference,
)

from poslab.data.examples.datamodule import ExampleDataModule
from poslab.tasks.choice import data_of

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "outputs" / "tasks"
FIGURES = ROOT / "benchmarks" / "figures" / "tasks.json"
ENCODINGS = ["none", "rotary", "t5", "shaw", "sinusoidal"]
SEEDS = [1, 2, 3]
Reference = Callable[[ExampleDataModule], dict[str, float]]


@dataclass(frozen=True)
class Case:
    """A task in a form that trains within three minutes on two cores.

    Args:
        overrides: of `python -m src.train`.
        figures: that are compared, of those of a test.
        references: figures without a transformer.
    """

    overrides: list[str]
    figures: list[str]
    references: list[Reference] = field(default_factory=list)


CLASSES = ["accuracy", "macro_f1"]
CASES = {
    "topics": Case(["dataset=bbc_topics"], CLASSES, [classification_reference]),
    "film sentiment": Case(["dataset=film_sentiment"], CLASSES, [classification_reference]),
    "question types": Case(["dataset=question_types"], CLASSES, [classification_reference]),
    "translation": Case(["dataset=manual_pages"], ["bleu", "chrf"], [copying_reference, dictionary_reference]),
    "headlines": Case(["dataset=bbc_headlines"], ["rouge_l", "chrf"], [copying_reference, lead_reference]),
    "reversing": Case(["experiment=ruoss2023/small/reverse_string"], ["accuracy", "accuracy_beyond"]),
    "addition": Case(["experiment=kazemnejad2023/small/addition"], ["exact_match", "exact_match_beyond"]),
}


def run_directory(case: str, encoding: str, seed: int) -> Path:
    return RUNS / case.replace(" ", "_") / f"{encoding}_{seed}"


def train(case: str, encoding: str, seed: int) -> dict[str, float]:
    """The figures of a run, which is trained or gone on with unless it is finished."""
    run = run_directory(case, encoding, seed)
    if not (run / "metrics.json").exists():
        resume = [f"resume={run}"] if (run / "config.yaml").exists() else []
        choices = [*CASES[case].overrides, f"encoding={encoding}", f"seed={seed}", f"hydra.run.dir={run}", *resume]
        subprocess.run([sys.executable, "-m", "src.train", *choices], cwd=ROOT, check=True)
    metrics: dict[str, float] = json.loads((run / "metrics.json").read_text())
    kept = [f"test/{name}" for name in CASES[case].figures] + ["train/seconds", "steps", "parameters"]
    return {tag: metrics[tag] for tag in kept if tag in metrics}


def references(case: str) -> dict[str, float]:
    """The figures of a task without a transformer, on the very same split."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = OmegaConf.to_container(compose("train", overrides=CASES[case].overrides), resolve=True)
    assert isinstance(config, dict)
    data = data_of({str(key): value for key, value in config.items()})
    if not isinstance(data, ExampleDataModule):
        return {}
    data.prepare_data()
    data.setup()
    return {name: value for reference in CASES[case].references for name, value in reference(data).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--encodings", nargs="+", default=ENCODINGS)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    arguments = parser.parse_args()
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    for case in arguments.tasks:
        kept = figures.setdefault(case, {"references": {}, "runs": {}})
        kept["references"] = kept["references"] or references(case)
        for seed in arguments.seeds:
            for encoding in arguments.encodings:
                kept["runs"].setdefault(encoding, {})[str(seed)] = train(case, encoding, seed)
                FIGURES.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
