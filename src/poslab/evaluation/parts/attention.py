"""Attention weights of each head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from poslab.evaluation.attention_pictures import (
    attention_maps,
    attention_overview,
    distance_picture,
    divergence_picture,
    statistics_picture,
)
from poslab.evaluation.attention_statistics import (
    attends_to_itself,
    attention_by_distance,
    attention_divergence,
    attention_statistics,
)
from poslab.evaluation.evaluation import Evaluation
from poslab.evaluation.settings import Settings
from poslab.evaluation.short_reading import short_reading
from poslab.evaluation.side_by_side import named, slug_of, titled
from poslab.evaluation.subjects import Ability, Subject
from poslab.report.figures import Picture, ReportFigure, Table
from poslab.report.page import Section

PLACE = 3
NEEDS: frozenset[Ability] = frozenset({"attention"})

LAYERS_OF_MAPS = 6
"""Most layers for which each gets attention maps with labels."""


def make(subjects: Sequence[Subject], settings: Settings) -> Evaluation:
    """Return the section; it leaves out models whose attention cannot be read."""
    readable = [one for one in subjects if one.abilities >= NEEDS]
    figures: list[ReportFigure] = []
    frames = {}
    for one in readable:
        for stack in one.model.stacks:
            title = one.stack_title(stack)
            frames[one.name, title] = attention_statistics(one.model, one.readings(), stack=stack)
            pictures = [statistics_picture(frames[one.name, title]), *_pictures(one, stack, settings)]
            figures += titled(one, subjects, named(pictures, slug_of(title), title))
    figures += _divergences(readable)
    table = pd.concat(frames, names=["model", "stack"]).reset_index(["model", "stack"])
    figures.append(
        Table(
            name="attention_by_head",
            title="Every head in numbers",
            caption="Means over the queries of texts as long as in training: entropy in nats, distance in tokens, and "
            "the shares of the first token, of the query's own and of those beside it. Attended is the sum of the "
            "weights of a query: 1 under a softmax, at most 1 under stick-breaking.",
            frame=table if (table["stack"] != "").any() else table.drop(columns="stack"),
        )
    )
    text = "The attention of each head, in texts as long as those of training, and token by token in a short one."
    return Evaluation([Section("What the heads look at", text, figures)])


def _pictures(one: Subject, stack: str, settings: Settings) -> Iterator[Picture]:
    """Yield the attention of a stack over distance, and its maps."""
    if attends_to_itself(stack):
        yield distance_picture(attention_by_distance(one.model, one.readings(), stack=stack), one.training_length)
    short = short_reading(one, settings.text)
    yield attention_overview(one.model, short.read, stack)
    if stack in short.labels and len(one.model.stacks[stack].windows) <= LAYERS_OF_MAPS:
        yield from attention_maps(one.model, short.read, *short.labels[stack], stack)


def _divergences(subjects: Sequence[Subject]) -> Iterator[ReportFigure]:
    """Yield the divergence of models with stacks of the same depth, on texts that all of them read."""
    depths = {tuple((stack, len(own.windows)) for stack, own in one.model.stacks.items()) for one in subjects}
    if len(subjects) == 1 or len(depths) > 1:
        return
    read = subjects[0].readings(min(one.reach for one in subjects))
    if not len(read):
        return
    models = {one.name: one.model for one in subjects}
    for stack in subjects[0].model.stacks:
        title = subjects[0].stack_title(stack)
        yield from named([divergence_picture(attention_divergence(models, read, stack=stack))], slug_of(title), title)
