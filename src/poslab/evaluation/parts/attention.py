"""Attention weights of each head.

Dimension letters: B windows, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from poslab.evaluation.attention_pictures import (
    attention_maps,
    attention_overview,
    distance_picture,
    divergence_picture,
    statistics_picture,
)
from poslab.evaluation.attention_rows import is_readable
from poslab.evaluation.attention_statistics import attention_by_distance, attention_divergence, attention_statistics
from poslab.evaluation.evaluation import Evaluation
from poslab.evaluation.settings import Settings
from poslab.evaluation.side_by_side import titled
from poslab.evaluation.subjects import Subject
from poslab.report.figures import ReportFigure, Table
from poslab.report.page import Section

PLACE = 3

LAYERS_OF_MAPS = 6
"""Most layers for which each gets attention maps with labels."""


def make(subjects: Sequence[Subject], settings: Settings) -> Evaluation:
    """Return the section; it leaves out models whose attention cannot be read."""
    subjects = [one for one in subjects if is_readable(one.model)]
    if not subjects:
        return Evaluation()
    figures: list[ReportFigure] = []
    frames = {}
    for one in subjects:
        windows_BT = one.windows(one.training_length)
        frames[one.name] = attention_statistics(one.model, windows_BT)
        maps = [
            statistics_picture(frames[one.name]),
            distance_picture(attention_by_distance(one.model, windows_BT), one.training_length),
        ]
        tokens_T, labels = one.short_text(settings.text)
        maps.append(attention_overview(one.model, tokens_T))
        if len(one.model.attention_sites) <= LAYERS_OF_MAPS:
            maps += attention_maps(one.model, tokens_T, labels)
        figures += titled(one, subjects, maps)
    if len(subjects) > 1 and len({len(one.model.attention_sites) for one in subjects}) == 1:
        shortest = min(one.training_length for one in subjects)
        windows_BT = subjects[0].windows(shortest)
        divergence = attention_divergence({one.name: one.model for one in subjects}, windows_BT)
        figures.append(divergence_picture(divergence))
    figures.append(
        Table(
            name="attention_by_head",
            title="Every head in numbers",
            caption="Means over the queries of windows as long as in training: entropy in nats, distance in "
            "tokens, and the shares of the first token, of the query's own and of the one before it. Attended is the "
            "sum of the weights of a query: 1 under a softmax, at most 1 under stick-breaking.",
            frame=pd.concat(frames, names=["model"]).reset_index("model"),
        )
    )
    text = "The attention of each head, in windows as long as those of training, and token by token in a short text."
    return Evaluation([Section("What the heads look at", text, figures)])
