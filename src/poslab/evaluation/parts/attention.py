"""Attention weights of each head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from torch import Tensor

from poslab.evaluation.attention.maps import attends_to_itself, attention_maps, attention_overview
from poslab.evaluation.attention.offsets import attention_by_offset_plot, attention_on_grids, with_cells
from poslab.evaluation.attention.statistics import attention_by_distance, attention_statistics, distance_plot
from poslab.evaluation.evaluated_run import Ability, EvaluatedRun
from poslab.evaluation.evaluation import Evaluation, named, titled
from poslab.evaluation.opening import short_example
from poslab.evaluation.settings import Settings
from poslab.report.figures import ReportFigure, Section, Table

ORDER = 3
NEEDS: frozenset[Ability] = frozenset({"attention"})

MAX_LAYERS = 6  # most layers for which each gets attention maps with labels

CAPTION = (
    "Means over the queries of examples as large as in training: entropy in nats, distance in tokens or, in a "
    "straight line, in cells, and shares of single tokens and of registers, which have no position. Attended is the "
    "sum of the weights of a query: 1 under a softmax, at most 1 under stick-breaking. Low entropy is attention to few "
    "tokens; a large share on the first token, or on registers, is an attention sink, and one on the previous token a "
    "head that looks one back."
)

SOURCE = (
    "Xiao et al., Efficient Streaming Language Models with Attention Sinks (ICLR 2024); Darcet et al., Vision "
    "Transformers Need Registers (ICLR 2024)"
)


def make(runs: Sequence[EvaluatedRun], settings: Settings) -> Evaluation:
    """Return the section; it leaves out models whose attention cannot be read."""
    evaluation = Evaluation()
    figures: list[ReportFigure] = []
    frames, offsets = {}, {}
    for run in (run for run in runs if run.abilities >= NEEDS):
        for stack in run.model.stacks:
            title, inputs, grids = run.stack_title(stack), run.inputs(), None
            statistics = attention_statistics(run.model, inputs, stack=stack)
            if run.reads_patches and attends_to_itself(stack) and not isinstance(inputs, Tensor):
                grids = attention_on_grids(run.model, inputs, stack=stack)
            if grids is not None:
                offsets[run.name, title] = grids.by_offset
                statistics = with_cells(statistics, grids)
            frames[run.name, title] = statistics
            plots: list[ReportFigure] = []
            if grids is not None and len(grids.axes) > 1:
                plots.append(attention_by_offset_plot(grids))
            # On several axes, a distance in storage matters to encodings that read it.
            reads_storage = not all(encoding.reads_axes for encoding in run.model.stacks[stack].of_layers)
            if attends_to_itself(stack) and (grids is None or len(grids.axes) == 1 or reads_storage):
                plots.append(distance_plot(attention_by_distance(run.model, inputs, stack=stack), run.training_length))
            forward, labels = short_example(run, settings.text)
            plots.append(attention_overview(run.model, forward, stack))
            if stack in labels and len(run.model.stacks[stack].windows) <= MAX_LAYERS:
                plots += attention_maps(run.model, forward, *labels[stack], stack)
            figures += titled(run, runs, named(plots, title))
    if offsets:
        evaluation.frames["attention_by_offset"] = _joined(offsets)
    figures.append(Table("attention_by_head", "Every head in numbers", CAPTION, frame=_joined(frames), source=SOURCE))
    text = "The attention of each head, in examples as large as in training, and token by token in a short text."
    evaluation.sections.append(Section("What the heads look at", text, figures))
    return evaluation


def _joined(frames: Mapping[tuple[str, str], pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of frames by model and stack; there is no column of stacks where each model has only one."""
    table = pd.concat(frames, names=["model", "stack"]).reset_index(["model", "stack"])
    return table if (table["stack"] != "").any() else table.drop(columns="stack")
