"""The text of docs/tasks.md around its comparison: `python docs/make.py --comparison FOLDER`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from pages.comparison import ComparisonPage, Part, means
from poslab.report.sentences import listed
from poslab.report.text_tables import markdown

INTRODUCTION = """\
# Tasks

<!-- `python docs/make.py --comparison` makes this page from a comparison. Do not edit it by hand. -->

The models are small and the steps are few. The figures show that a task is learned and how encodings differ there, not
the best possible result. All of them are from 0 to 100. [Papers](papers.md) has tasks at random positions, copying and
counting."""

REFERENCES = Path(__file__).resolve().parents[2] / "benchmarks" / "figures" / "task_references.json"

DATASETS = {
    "topics": "bbc_topics",
    "film_sentiment": "film_sentiment",
    "tweet_sentiment": "tweet_sentiment",
    "question_types": "question_types",
    "unwanted_messages": "sms_spam",
    "masked_bytes": "masked_bytes",
    "corrupted_spans": "corrupted_spans",
    "translation": "gettext_messages",
    "headlines": "bbc_headlines",
    "dialogue": "dialogue_pairs",
}
"""Datasets of the cases that a method without a transformer can serve, by the names of the references."""


def beside_references(folder: Path) -> pd.DataFrame:
    """Return a row for each case and its metric: the mean under rotary, and those of methods without a transformer.

    Args:
        folder: of the comparison.
    """
    of, references = means(folder), json.loads(REFERENCES.read_text(encoding="utf-8"))
    rows = []
    for case, dataset in DATASETS.items():
        for metric in ("accuracy", "bleu", "rouge_l"):
            found = {
                name.removesuffix(f" {metric}"): value
                for name, value in references[dataset].items()
                if name.endswith(f" {metric}")
            }
            if found and (metric, case, "rotary") in of:
                rows.append([case, metric, of[metric, case, "rotary"], found])
    return pd.DataFrame(rows, columns=["case", "metric", "rotary", "references"])


def _table(folder: Path) -> Iterator[str]:
    """Yield the table of methods without a transformer."""
    table = beside_references(folder)
    table["without a transformer"] = [
        ", ".join(f"{way} {value:.1f}" for way, value in found.items()) for found in table.pop("references")
    ]
    yield "### Beside methods without a transformer"
    yield REFERENCES_TEXT
    yield markdown(table.assign(rotary=table["rotary"].map("{:.1f}".format)))


def _behind(folder: Path) -> Iterator[str]:
    """Yield which cases a simple method does better or as well."""
    table = beside_references(folder)
    best = table["references"].map(lambda found: max(found.values()))
    behind = table[table["rotary"] <= best]["case"].drop_duplicates()
    if len(behind):
        yield f"The score of a method without a transformer is not below the mean of rotary on {listed(list(behind))}."


REFERENCES_TEXT = """\
All methods use the same training and test examples, cut at the same place (`python benchmarks/task_references.py`):

- **tf-idf**: logistic regression on words and pairs of words (scikit-learn).
- **neighbours**: the byte that most often stands between the same two bytes in the training text. These two are given,
  while the model does not see neighbours that are masked too.
- **previous**: the byte that most often follows the same byte in the training text. That byte is given, while the model
  does not see the others of the span.
- **copying**: the source itself.
- **dictionary**: translation word by word (IBM's model 1, learned from the training pairs).
- **lead**: the first sentence of the source."""

PARTS = {
    "tasks": Part(
        "What an encoding is worth",
        """\
Three seeds, without tuning, in runs of a minute or a few. Texts have one of several classes (`topics`,
`film_sentiment`, `tweet_sentiment`, `question_types`, `unwanted_messages`). An encoder finds masked bytes, and an
encoder-decoder spans that are cut out. Encoder-decoders translate short messages of programs into French, and write
headlines and replies. `reversing` and `sorting` have at most 10 symbols in training and 25 in the test, and their
figure is the accuracy of symbols; chance is 50 and 20 %. A test leaves out what training has seen: of five bits to be
reversed a single example remains, which is half of `accuracy@trained`, so that its interval is wide. The runs were
timed beside other work, and their speeds are not shown.""",
        "larger models, longer training, tuned learning rates, and other languages",
        ("accuracy", "accuracy@beyond", "accuracy@trained", "bleu", "rouge_l"),
        ("differences_*", "curves_reversing_*", "curves_sorting_*"),
        _behind,
        _table,
    ),
}

PAGE = ComparisonPage("tasks", INTRODUCTION, PARTS)
