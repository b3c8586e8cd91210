"""Attention weights of each head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
from torch import Tensor

from poslab.evaluation.attention.maps import (
    attention_maps,
    attention_overview,
    distance_plot,
    divergence_plot,
    statistics_plot,
)
from poslab.evaluation.attention.offset_plots import attention_offset_plots
from poslab.evaluation.attention.offsets import AttentionOnGrids, attention_on_grids, with_cells
from poslab.evaluation.attention.statistics import (
    attends_to_itself,
    attention_by_distance,
    attention_divergence,
    attention_statistics,
)
from poslab.evaluation.evaluated_run import Ability, EvaluatedRun
from poslab.evaluation.evaluation import Evaluation
from poslab.evaluation.settings import Settings
from poslab.evaluation.short_example import short_example
from poslab.evaluation.side_by_side import named, slug_of, titled
from poslab.report.figures import Plot, ReportFigure, Table
from poslab.report.page import Section

PLACE = 3
NEEDS: frozenset[Ability] = frozenset({"attention"})

LAYERS_OF_MAPS = 6
"""Most layers for which each gets attention maps with labels."""


def make(runs: Sequence[EvaluatedRun], settings: Settings) -> Evaluation:
    """Return the section; it leaves out models whose attention cannot be read."""
    readable = [run for run in runs if run.abilities >= NEEDS]
    evaluation = Evaluation()
    figures: list[ReportFigure] = []
    frames, offsets = {}, {}
    for run in readable:
        for stack in run.model.stacks:
            title = run.stack_title(stack)
            statistics = attention_statistics(run.model, run.readings(), stack=stack)
            grids = _on_grids(run, stack)
            if grids is not None:
                offsets[run.name, title] = grids.by_offset
                statistics = with_cells(statistics, grids)
                evaluation.remarks.append(_sentence(f"{run.name} ({title})" if title else run.name, grids))
            frames[run.name, title] = statistics
            pictures = [statistics_plot(statistics), *_pictures(run, stack, settings, grids)]
            figures += titled(run, runs, named(pictures, slug_of(title), title))
    figures += _divergences(readable)
    caption = (
        "Means over the queries of texts as long as in training: entropy in nats, distance in tokens, and "
        "the shares of the first token, of the query's own and of those beside it. "
    )
    if offsets:
        caption = (
            "Means over the queries of examples as large as in training: entropy in nats, the distance of attended "
            "cells in a straight line, and the shares of the query's own token and of registers, which stand nowhere. "
        )
        evaluation.frames["attention_by_offset"] = _joined(offsets)
    caption += "Attended is the sum of the weights of a query: 1 under a softmax, at most 1 under stick-breaking."
    figures.append(Table("attention_by_head", "Every head in numbers", caption, frame=_joined(frames)))
    text = "The attention of each head, in texts as long as those of training, and token by token in a short run."
    if offsets:
        text = "\n\n".join(
            ["The attention of each head, in examples as large as those of training.", *evaluation.remarks]
        )
    evaluation.sections.append(Section("What the heads look at", text, figures))
    return evaluation


def _joined(frames: Mapping[tuple[str, str], pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of frames by model and stack; there is no column of stacks where each model has only one."""
    table = pd.concat(frames, names=["model", "stack"]).reset_index(["model", "stack"])
    return table if (table["stack"] != "").any() else table.drop(columns="stack")


def _on_grids(run: EvaluatedRun, stack: str) -> AttentionOnGrids | None:
    """Return the attention of a stack between the cells of grids; None for one of texts."""
    read = run.readings()
    if isinstance(read, Tensor) or not run.reads_patches or not attends_to_itself(stack):
        return None
    return attention_on_grids(run.model, read, stack=stack)


def _sentence(name: str, grids: AttentionOnGrids) -> str:
    """Return what the attention of all heads says of cells and of tokens that stand nowhere."""
    away, even = grids.by_head["cells_away"].mean(), grids.cells_away_if_even
    words = f"In {name}, attention goes {away:.1f} cells away on average ({even:.1f} if all cells had the same)"
    if "nowhere" not in grids.by_head:
        return f"{words}."
    most = max(grids.by_head.to_dict("records"), key=lambda row: float(row["nowhere"]))
    return (
        f"{words}, and {100 * grids.by_head['nowhere'].mean():.1f} % of it goes to registers, which stand nowhere (at "
        f"most {100 * most['nowhere']:.1f} %, in head {most['head']} of layer {most['layer']})."
    )


def _pictures(run: EvaluatedRun, stack: str, settings: Settings, grids: AttentionOnGrids | None) -> Iterator[Plot]:
    """Yield the attention of a stack over offsets and distance, and its maps.

    On several axes, a distance in storage matters to encodings that read it.
    """
    if grids is not None:
        yield from attention_offset_plots(grids)
    reads_storage = not all(encoding.reads_axes for encoding in run.model.stacks[stack].of_layers)
    if attends_to_itself(stack) and (grids is None or len(grids.axes) == 1 or reads_storage):
        yield distance_plot(attention_by_distance(run.model, run.readings(), stack=stack), run.training_length)
    short = short_example(run, settings.text)
    yield attention_overview(run.model, short.read, stack)
    if stack in short.labels and len(run.model.stacks[stack].windows) <= LAYERS_OF_MAPS:
        yield from attention_maps(run.model, short.read, *short.labels[stack], stack)


def _divergences(runs: Sequence[EvaluatedRun]) -> Iterator[ReportFigure]:
    """Yield the divergence of models with stacks of the same depth, on texts that all of them read."""
    depths = {tuple((stack, len(own.windows)) for stack, own in run.model.stacks.items()) for run in runs}
    if len(runs) == 1 or len(depths) > 1:
        return
    read = runs[0].readings(min(run.reach for run in runs))
    if not len(read):
        return
    models = {run.name: run.model for run in runs}
    for stack in runs[0].model.stacks:
        title = runs[0].stack_title(stack)
        yield from named([divergence_plot(attention_divergence(models, read, stack=stack))], slug_of(title), title)
