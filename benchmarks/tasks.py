"""With and without: what an encoding is worth on each task, over three seeds, beside what needs no transformer.

    python benchmarks/tasks.py                                  # everything, some hours on two cores
    python benchmarks/tasks.py --tasks topics --encodings none rotary --seeds 1

Each run is one of `python -m src.train`, kept in outputs/tasks; one that is in the figures already is not trained
again, and one that was interrupted goes on. `--workers` trains so many at a time, each on its share of the cores.
docs/tasks.md is made of benchmarks/figures/tasks.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from task_references import (
    classification_reference,
    copying_reference,
    dictionary_reference,
    lead_reference,
    neighbours_reference,
    previous_reference,
)

from poslab.data.composed import resolved
from poslab.data.examples.datamodule import ExampleDataModule
from poslab.data.run_data import RunData
from poslab.runs.recipe import Recipe
from poslab.runs.serving import serve

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "outputs" / "tasks"
FIGURES = ROOT / "benchmarks" / "figures" / "tasks.json"
ENCODINGS = ["none", "rotary", "t5", "shaw", "sinusoidal"]
RANDOMIZED = " positions=randomized positions.max_position=128"
PLAIN_AND_RANDOMIZED = ["sinusoidal", "sinusoidal" + RANDOMIZED, "rotary", "rotary" + RANDOMIZED]
OF_KAZEMNEJAD = ["none", "t5", "alibi", "rotary", "sinusoidal"]
SEEDS = [1, 2, 3]
Reference = Callable[[Any], dict[str, float]]


@dataclass(frozen=True)
class Case:
    """A task in a form that trains within minutes on two cores.

    Args:
        overrides: of `python -m src.train`.
        figures: that are compared, of those of a test.
        references: figures without a transformer.
        encodings: that are compared, each with what else its runs are asked for.
        seeds: of each encoding's runs.
    """

    overrides: list[str]
    figures: list[str]
    references: list[Reference] = field(default_factory=list)
    encodings: list[str] = field(default_factory=lambda: ENCODINGS)
    seeds: list[int] = field(default_factory=lambda: SEEDS)


CLASSES, TEXTS = ["accuracy", "macro_f1"], ["bleu", "chrf", "rouge_l", "exact_match"]
WORDS, LENGTHS = [classification_reference], ["accuracy", "accuracy_beyond", "exact_match", "exact_match_beyond"]
ONCE = {"encodings": ["rotary"], "seeds": [1]}
TRANSLATED = [copying_reference, dictionary_reference]
WITH_ROTARY_ACROSS = ["t5 encoding@model.cross_encoding=rotary"]
TRANSLATING = {"encodings": WITH_ROTARY_ACROSS, "seeds": [1]}
CASES = {
    "topics": Case(["experiment=small", "dataset=bbc_topics"], CLASSES, WORDS),
    "film sentiment": Case(["experiment=small", "dataset=film_sentiment"], CLASSES, WORDS),
    "translation": Case(["experiment=small", "dataset=manual_pages"], TEXTS, TRANSLATED, **TRANSLATING),
    "translation in 1,200 steps": Case(["experiment=small", "dataset=manual_pages", "trainer.max_steps=1200"], TEXTS),
    "reversing": Case(["experiment=small", "dataset=reverse_string"], LENGTHS),
    "sorting": Case(["experiment=small", "dataset=bucket_sort"], LENGTHS),
    **{
        f"{name}, at random positions": Case(
            ["experiment=small", f"dataset={task}", "trainer.max_steps=3000"],
            LENGTHS,
            encodings=PLAIN_AND_RANDOMIZED,
            seeds=[1],
        )
        for name, task in {
            "reversing": "reverse_string",
            "sorting": "bucket_sort",
            "a missing symbol": "missing_duplicate",
        }.items()
    },
    "copying": Case(["experiment=small", "dataset=copy"], LENGTHS, encodings=OF_KAZEMNEJAD, seeds=[1]),
    "addition": Case(["experiment=small", "dataset=addition"], LENGTHS, encodings=OF_KAZEMNEJAD, seeds=[1]),
    "masked bytes": Case(
        ["model=encoder", "dataset.length_multiples=[1]"], ["accuracy", "loss"], [neighbours_reference], **ONCE
    ),
    "corrupted spans": Case(
        ["model=encoder_decoder", "dataset.length_multiples=[1]"], ["accuracy", "loss"], [previous_reference], **ONCE
    ),
    "question types": Case(["experiment=small", "dataset=question_types"], CLASSES, WORDS, **ONCE),
    "tweet sentiment": Case(["experiment=small", "dataset=tweet_sentiment"], CLASSES, WORDS, **ONCE),
    "unwanted messages": Case(["experiment=small", "dataset=sms_spam"], CLASSES, WORDS, **ONCE),
    "headlines": Case(
        ["experiment=small", "dataset=bbc_headlines"], TEXTS, [copying_reference, lead_reference], WITH_ROTARY_ACROSS
    ),
    "messages": Case(["experiment=small", "dataset=gettext_messages"], TEXTS, TRANSLATED, **TRANSLATING),
    "dialogue": Case(["experiment=small", "dataset=dialogue_pairs"], TEXTS, [copying_reference], **ONCE),
    "dialogue of films": Case(["experiment=small", "dataset=movie_dialogue"], TEXTS, [copying_reference], **ONCE),
}


def run_directory(case: str, encoding: str, seed: int) -> Path:
    return RUNS / re.sub("[ ,]+", "_", case) / f"{re.sub('[ =.@]', '_', encoding)}_{seed}"


def composed(choices: list[str]) -> dict[str, Any]:
    """Return the configuration of `python -m src.train` with these choices."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return resolved(compose("train", overrides=choices))


def choices_of(case: str, encoding: str, seed: int) -> list[str]:
    """Return the overrides of a run."""
    return [*CASES[case].overrides, *f"encoding={encoding}".split(), f"seed={seed}"]


def check(case: str, encoding: str, seed: int) -> None:
    """Raise ValueError if the directory of a run holds one with other choices, as from before a preset changed."""
    run = run_directory(case, encoding, seed)
    kept = run / "config.yaml"
    if kept.exists() and OmegaConf.to_container(OmegaConf.load(kept)) != composed(choices_of(case, encoding, seed)):
        raise ValueError(f"{run} has other choices than {case} under {encoding}: remove it")


def train(case: str, encoding: str, seed: int, threads: int) -> dict[str, float]:
    """Return the figures of a run, which is trained or resumed unless it is finished."""
    run = run_directory(case, encoding, seed)
    if not (run / "metrics.json").exists():
        resume = [f"resume={run}"] if (run / "config.yaml").exists() else []
        choices = [*choices_of(case, encoding, seed), f"hydra.run.dir={run}"]
        run.mkdir(parents=True, exist_ok=True)
        with (run / "console.log").open("a") as console:
            subprocess.run(
                [sys.executable, "-m", "src.train", *choices, *resume],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": str(threads)},
                stdout=console,
                stderr=subprocess.STDOUT,
                check=True,
            )
    metrics: dict[str, float] = json.loads((run / "metrics.json").read_text())
    kept = {f"test/{name}" for name in CASES[case].figures} | {"train/seconds", "steps", "parameters"}
    return {tag: value for tag, value in metrics.items() if tag.partition("@")[0] in kept}


def samples(case: str, count: int = 10) -> list[tuple[str, str, str]]:
    """Return source, right target and output of the first run, at equal distances in the test split."""
    data = prepared(case)
    assert isinstance(data, ExampleDataModule)
    test = data.examples("test")
    write = serve(run_directory(case, CASES[case].encodings[0], CASES[case].seeds[0]))
    chosen = [test[index * len(test) // count] for index in range(count)]
    return [(example["source"], example["target"], write(example["source"]).text) for example in chosen]


def references(case: str) -> dict[str, float]:
    """Return the figures of a task without a transformer, on the very same split."""
    data = prepared(case)
    return {name: value for reference in CASES[case].references for name, value in reference(data).items()}


def prepared(case: str) -> RunData:
    """Return the data that the runs of a task read."""
    data = Recipe.of(composed(CASES[case].overrides)).data()
    data.prepare_data()
    data.setup()
    return data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--encodings", nargs="+", help="instead of those of each task")
    parser.add_argument("--seeds", nargs="+", type=int, help="instead of those of each task")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time")
    arguments = parser.parse_args()
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    threads = max(1, (os.cpu_count() or 1) // arguments.workers)
    runs = []
    for case in arguments.tasks:
        kept = figures.setdefault(case, {"references": {}, "runs": {}})
        kept["references"] = kept["references"] or references(case)
        encodings, seeds = arguments.encodings or CASES[case].encodings, arguments.seeds or CASES[case].seeds
        runs += [
            (case, encoding, seed)
            for encoding in encodings
            for seed in seeds
            if str(seed) not in kept["runs"].get(encoding, {})
        ]
    for run in runs:
        check(*run)
    runs.sort(key=lambda run: run[2])  # one seed of all tasks comes before a second of any
    with ThreadPoolExecutor(arguments.workers) as workers:
        trained = workers.map(lambda run: train(*run, threads), runs)
        for (case, encoding, seed), found in zip(runs, trained, strict=True):
            figures[case]["runs"].setdefault(encoding, {})[str(seed)] = found
            FIGURES.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            print(case, encoding, seed, found, flush=True)
    for case in arguments.tasks:
        first = figures[case]["runs"].get(CASES[case].encodings[0], {})
        is_shown = CASES[case].figures == TEXTS and CASES[case].references
        if is_shown and str(CASES[case].seeds[0]) in first and "samples" not in figures[case]:
            figures[case]["samples"] = samples(case)
    FIGURES.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
