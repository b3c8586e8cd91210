"""Metrics of tasks without a transformer, to compare trained models with on the same split.

python benchmarks/task_references.py                # of all tasks whose data is installed
python benchmarks/task_references.py bbc_topics
python benchmarks/task_references.py --output benchmarks/figures/task_references.json   # for docs/tasks.md
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ours import configuration

from poslab.data.corpus import TextSplits
from poslab.data.examples.source import ExampleSplits
from poslab.data.source import DataSplits
from poslab.runs.recipe import Recipe
from poslab.tasks.sequence_to_sequence import compare, corpus_scores


def classification_reference(data: ExampleSplits) -> dict[str, float]:
    """Score logistic regression on TF-IDF of words and pairs of words (scikit-learn), trained on the training split."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, f1_score
    from sklearn.pipeline import make_pipeline

    def texts(split: str) -> list[str]:
        return [data.tokenizer.decode(tokens[: data.source.longest]) for tokens in data.examples(split)["tokens"]]

    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2), LogisticRegression(C=10.0, max_iter=2000)
    )
    model.fit(texts("train"), data.examples("train")["label"][:])
    predicted, right = model.predict(texts("test")), data.examples("test")["label"][:]
    return {
        "tf-idf accuracy": 100 * float(accuracy_score(right, predicted)),
        "tf-idf macro_f1": 100 * float(f1_score(right, predicted, average="macro")),
    }


def copying_reference(data: ExampleSplits) -> dict[str, float]:
    """Score the source itself as its target."""
    test = data.examples("test")
    return {f"copying {name}": value for name, value in likeness(test["source"][:], test["target"][:]).items()}


def lead_reference(data: ExampleSplits) -> dict[str, float]:
    """Score the first sentence of the source as its headline."""
    test = data.examples("test")
    leads = [source.strip().split(". ")[0].split("\n")[0] for source in test["source"][:]]
    return {f"lead {name}": value for name, value in likeness(leads, test["target"][:]).items()}


def dictionary_reference(data: ExampleSplits) -> dict[str, float]:
    """Translate word by word, each as IBM's model 1 finds most probable in the training pairs, and score that.

    Source: Brown et al., "The Mathematics of Statistical Machine Translation" (1993), model 1.
    """
    train, test = data.examples("train"), data.examples("test")
    best = dictionary(train["source"][:], train["target"][:])
    predicted = [" ".join(best.get(word, word) for word in source.split()) for source in test["source"][:]]
    return {f"dictionary {name}": value for name, value in likeness(predicted, test["target"][:]).items()}


def dictionary(sources: Sequence[str], targets: Sequence[str], iterations: int = 5) -> dict[str, str]:
    """Return the most probable translation of each source word, by expectation maximisation of IBM's model 1."""
    pairs = [(source.split(), target.split()) for source, target in zip(sources, targets, strict=True)]
    source_words, target_words = _numbered(s for s, _ in pairs), _numbered(t for _, t in pairs)
    links: dict[tuple[int, int], int] = {}
    sentences = []
    for source, target in pairs:
        theirs = [target_words[word] for word in target]
        ours = [source_words[word] for word in source]
        sentences.append(
            np.array([[links.setdefault((f, e), len(links)) for e in ours] for f in theirs], dtype=np.int64)
        )
    of_source = np.array([e for _, e in links])
    p = np.ones(len(links))
    for _ in range(iterations):
        counts = np.zeros(len(links))
        for link_FE in sentences:
            if link_FE.size:
                share = p[link_FE] / p[link_FE].sum(axis=1, keepdims=True)
                np.add.at(counts, link_FE, share)
        totals = np.bincount(of_source, weights=counts)
        p = counts / totals[of_source]
    found: dict[int, tuple[float, int]] = defaultdict(lambda: (0.0, -1))
    for (f, e), number in links.items():
        found[e] = max(found[e], (float(p[number]), f))
    words, names = list(source_words), list(target_words)
    return {words[e]: names[f] for e, (_, f) in found.items()}


def _numbered(texts: Iterable[list[str]]) -> dict[str, int]:
    """Return a number for each word, in the order of their first appearance."""
    return {word: number for number, word in enumerate(dict.fromkeys(word for text in texts for word in text))}


def neighbours_reference(data: TextSplits) -> dict[str, float]:
    """Predict each token as it most often stands between the two beside it, both of which are given."""
    train, test = (np.asarray(data.tokens(split), dtype=np.int64) for split in ("train", "test"))
    size = data.vocab_size
    counts = np.bincount((train[:-2] * size + train[2:]) * size + train[1:-1], minlength=size**3)
    predicted = counts.reshape(size**2, size).argmax(axis=1)[test[:-2] * size + test[2:]]
    return {"neighbours accuracy": 100 * float((predicted == test[1:-1]).mean())}


def previous_reference(data: TextSplits) -> dict[str, float]:
    """Predict each token as it most often follows the one before it."""
    train, test = (np.asarray(data.tokens(split), dtype=np.int64) for split in ("train", "test"))
    size = data.vocab_size
    predicted = (
        np.bincount(train[:-1] * size + train[1:], minlength=size**2).reshape(size, size).argmax(axis=1)[test[:-1]]
    )
    return {"previous accuracy": 100 * float((predicted == test[1:]).mean())}


def likeness(predicted: Sequence[str], right: Sequence[str]) -> dict[str, float]:
    """Return BLEU, chrF and ROUGE-L of texts, 0 to 100, as those that models write are measured."""
    metrics = corpus_scores([compare(*pair) for pair in zip(predicted, right, strict=True)])
    return {name: metrics[name] for name in ("bleu", "chrf", "rouge_l")}


REFERENCES: dict[str, tuple[str, list[Callable[[Any], dict[str, float]]]]] = {
    **{
        name: ("experiment=small", [classification_reference])
        for name in ("bbc_topics", "rotten_tomatoes", "trec", "tweet_eval", "sms_spam")
    },
    "multi30k": ("experiment=small", [copying_reference, dictionary_reference]),
    "bbc_headlines": ("experiment=small", [copying_reference, lead_reference]),
    "dialogue_pairs": ("experiment=small", [copying_reference]),
    "masked_bytes": ("model=encoder", [neighbours_reference]),
    "corrupted_spans": ("model=encoder_decoder", [previous_reference]),
}
"""For each dataset, a choice beside it and its references; the last two are of the default text."""


def prepared(dataset: str, choice: str) -> DataSplits:
    """Return the data that the runs of a task read."""
    own = ["dataset.length_multiples=[1]"] if choice.startswith("model=") else [f"dataset={dataset}"]
    recipe = Recipe.of(configuration([choice, *own]))
    return recipe.source.open(joined=recipe.task.single_sequence)


def main() -> None:
    """Print the references of tasks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="task", help=f"of {', '.join(REFERENCES)}; default: all")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="also write them here")
    arguments = parser.parse_args()
    asked = arguments.tasks or list(REFERENCES)
    if unknown := [task for task in asked if task not in REFERENCES]:
        parser.error(f"task must be one of {', '.join(REFERENCES)}, got {unknown[0]}")
    found: dict[str, dict[str, float]] = {}
    for task in asked:
        choice, references = REFERENCES[task]
        data = prepared(task, choice)
        found[task] = {name: value for reference in references for name, value in reference(data).items()}
        for name, value in found[task].items():
            print(f"{task:18} {name:22} {value:5.1f}", flush=True)
    if arguments.output:
        arguments.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
