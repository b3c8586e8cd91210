"""Sentence vectors of a pretrained encoder: likeness to the original, and retrieval beyond its length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from poslab.data.text_splits import TextSplits
from poslab.evaluation.by_length import overview_table
from poslab.evaluation.embeddings.sentence_vectors import (
    TEXTS,
    found_own,
    found_plot,
    framed,
    likeness,
    passkey_texts,
    pooling_of,
    sentence_vectors,
)
from poslab.evaluation.evaluated_run import Ability, EvaluatedRun
from poslab.evaluation.evaluation import Evaluation
from poslab.evaluation.settings import Settings
from poslab.evaluation.side_by_side import tag
from poslab.models import Model
from poslab.report.figures import Table
from poslab.report.page import Section

PLACE = 2
NEEDS: frozenset[Ability] = frozenset({"embeddings"})

LENGTHS = (256, 512, 1024, 2048, 4096)
"""Tokens of the texts of retrieval, unless the settings name others of at least the first."""

COSINE, BETWEEN, FOUND = "cosine to the original", "cosine of different texts", "pass key nDCG@1 (%)"

DECIMALS = {COSINE: 3, BETWEEN: 3, FOUND: 1}


def make(runs: Sequence[EvaluatedRun], settings: Settings) -> Evaluation:
    """Return the section, and for each model the likeness and the share that is found at each length."""
    evaluation = Evaluation()
    able = [run for run in runs if run.abilities >= NEEDS]
    rows = pd.DataFrame([row for run in able for row in (*_likeness(run, settings), *_retrieval(run, settings))])
    if not len(rows):
        return evaluation
    for run in able:
        for row in rows[rows["model"] == run.name].to_dict("records"):
            name = {COSINE: "cosine", FOUND: "passkey_ndcg"}.get(row["metric"])
            if name is not None:
                evaluation.metrics[tag(run, runs, f"{name}@{row['length']}")] = row["value"]
    table = overview_table(
        rows,
        "metric",
        {metric: decimals for metric, decimals in DECIMALS.items() if (rows["metric"] == metric).any()},
        f"Columns are tokens of a text; each number is of {TEXTS} texts. Cosines are of the vectors of one text in a "
        "model and in the original, and of different texts in the original: the first means little unless it is well "
        f"above the second. For a pass key, a guess finds {100 / TEXTS:.1f} %.",
    )
    lengths = {run.name: run.pretrained_length or 0 for run in able}
    found = rows[rows["metric"] == FOUND]
    pictures = [found_plot(found, lengths, 100 / TEXTS)] if found["value"].notna().any() else []
    every = Table("embeddings", "Every length of texts", "The numbers of the table at a glance.", frame=rows)
    text = "Vectors of texts (pooled hidden states), as in search by meaning."
    evaluation.sections.append(Section("Sentence vectors", text, [*pictures, every]))
    evaluation.lead = Section("Conclusion", text, [table])
    return evaluation


def _likeness(run: EvaluatedRun, settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield the cosines at those lengths that both models read; by default 1/16, 1/4 and all of the original's."""
    assert isinstance(run.data.splits, TextSplits) and run.pretrained_length is not None
    original, pooling = _original(run), pooling_of(run.model, run.recipe)
    tokens = np.asarray(run.data.splits.tokens(run.split))
    around = len(framed(run.tokenizer, tokens[:0]))
    longest = min(run.pretrained_length, run.model.max_length or run.pretrained_length)
    for length in sorted(set(settings.lengths or [run.pretrained_length // part for part in (16, 4, 1)])):
        inside = length - around
        if inside < 1 or length > longest:
            continue
        starts = range(0, len(tokens) - inside + 1, inside)[:TEXTS]
        if len(starts) < 2:
            continue
        texts = [framed(run.tokenizer, tokens[start : start + inside]) for start in starts]
        own, its = (sentence_vectors(model, texts, pooling) for model in (run.model, original))
        for metric, value in zip((COSINE, BETWEEN), likeness(own, its), strict=True):
            yield {"metric": metric, "model": run.name, "length": length, "value": value, "texts": len(texts)}


def _retrieval(run: EvaluatedRun, settings: Settings) -> Iterator[dict[str, Any]]:
    for length in sorted({n for n in settings.lengths or LENGTHS if n >= LENGTHS[0]}):
        row = {"metric": FOUND, "model": run.name, "length": length, "value": np.nan, "texts": 0}
        if length <= (run.model.max_length or length):
            both = passkey_texts(run.tokenizer, length, TEXTS, settings.seed)
            questions, texts = (sentence_vectors(run.model, part, pooling_of(run.model, run.recipe)) for part in both)
            row |= {"value": 100 * float(found_own(questions, texts).mean()), "texts": TEXTS}
        yield row


def _original(run: EvaluatedRun) -> Model:
    """Return the untouched model."""
    untouched = run.recipe.model.untouched()
    assert untouched is not None
    return untouched.build(None).to(run.device).eval()
