"""Sentence vectors of a pretrained encoder: likeness to the original, and retrieval beyond its length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from poslab.data.datamodule import TextDataModule
from poslab.evaluation.embeddings.sentence_vectors import (
    TEXTS,
    found_own,
    found_picture,
    framed,
    likeness,
    passkey_texts,
    pooling_of,
    sentence_vectors,
)
from poslab.evaluation.evaluation import Evaluation
from poslab.evaluation.extrapolation.length_figures import overview_table
from poslab.evaluation.settings import Settings
from poslab.evaluation.side_by_side import tag
from poslab.evaluation.subject import Ability, Subject
from poslab.models import Model
from poslab.report.figures import Table
from poslab.report.page import Section

PLACE = 2
NEEDS: frozenset[Ability] = frozenset({"embeddings"})

LENGTHS = (256, 512, 1024, 2048, 4096)
"""Tokens of the texts of retrieval, unless the settings name others of at least the first."""

COSINE, BETWEEN, FOUND = "cosine to the original", "cosine of different texts", "pass key nDCG@1 (%)"

DECIMALS = {COSINE: 3, BETWEEN: 3, FOUND: 1}


def make(subjects: Sequence[Subject], settings: Settings) -> Evaluation:
    """Return the section, and for each model the likeness and the share that is found at each length."""
    evaluation = Evaluation()
    able = [one for one in subjects if one.abilities >= NEEDS]
    rows = pd.DataFrame([row for one in able for row in (*_likeness(one, settings), *_retrieval(one, settings))])
    if not len(rows):
        return evaluation
    for one in able:
        for row in rows[rows["model"] == one.name].to_dict("records"):
            name = {COSINE: "cosine", FOUND: "passkey_ndcg"}.get(row["metric"])
            if name is not None:
                evaluation.metrics[tag(one, subjects, f"{name}@{row['length']}")] = row["value"]
    table = overview_table(
        rows,
        "metric",
        {metric: decimals for metric, decimals in DECIMALS.items() if (rows["metric"] == metric).any()},
        f"Columns are tokens of a text; each number is of {TEXTS} texts. Cosines are of the vectors of one text in a "
        "model and in the original, and of different texts in the original: the first means little unless it is well "
        f"above the second. For a pass key, a guess finds {100 / TEXTS:.1f} %.",
    )
    lengths = {one.name: one.pretrained_length or 0 for one in able}
    found = rows[rows["metric"] == FOUND]
    pictures = [found_picture(found, lengths, 100 / TEXTS)] if found["value"].notna().any() else []
    every = Table("embeddings", "Every length of texts", "The numbers of the table at a glance.", frame=rows)
    text = "Vectors of texts (pooled hidden states), as in search by meaning."
    evaluation.sections.append(Section("Sentence vectors", text, [*pictures, every]))
    evaluation.lead = Section("Conclusion", text, [table])
    return evaluation


def _likeness(one: Subject, settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield the cosines at those lengths that both models read; by default 1/16, 1/4 and all of the original's."""
    assert isinstance(one.data, TextDataModule) and one.pretrained_length is not None
    original, pooling = _original(one), pooling_of(one.model, one.recipe)
    tokens = np.asarray(one.data.tokens(one.split))
    around = len(framed(one.tokenizer, tokens[:0]))
    longest = min(one.pretrained_length, one.model.max_length or one.pretrained_length)
    for length in sorted(set(settings.lengths or [one.pretrained_length // part for part in (16, 4, 1)])):
        inside = length - around
        if inside < 1 or length > longest:
            continue
        starts = range(0, len(tokens) - inside + 1, inside)[:TEXTS]
        if len(starts) < 2:
            continue
        texts = [framed(one.tokenizer, tokens[start : start + inside]) for start in starts]
        own, its = (sentence_vectors(model, texts, pooling) for model in (one.model, original))
        for metric, value in zip((COSINE, BETWEEN), likeness(own, its), strict=True):
            yield {"metric": metric, "model": one.name, "length": length, "value": value, "texts": len(texts)}


def _retrieval(one: Subject, settings: Settings) -> Iterator[dict[str, Any]]:
    for length in sorted({n for n in settings.lengths or LENGTHS if n >= LENGTHS[0]}):
        row = {"metric": FOUND, "model": one.name, "length": length, "value": np.nan, "texts": 0}
        if length <= (one.model.max_length or length):
            both = passkey_texts(one.tokenizer, length, TEXTS, settings.seed)
            questions, texts = (sentence_vectors(one.model, part, pooling_of(one.model, one.recipe)) for part in both)
            row |= {"value": 100 * float(found_own(questions, texts).mean()), "texts": TEXTS}
        yield row


def _original(one: Subject) -> Model:
    """Return the untouched model."""
    untouched = one.recipe.model.untouched()
    assert untouched is not None
    return untouched.build(None).to(one.device).eval()
