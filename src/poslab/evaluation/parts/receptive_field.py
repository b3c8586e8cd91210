"""Gradient of a prediction with respect to earlier tokens, or of the middle patch with respect to all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from poslab.evaluation.evaluated_run import Ability, EvaluatedRun
from poslab.evaluation.evaluation import Evaluation
from poslab.evaluation.receptive_field.of_patches import (
    axes_of,
    cells_away,
    cells_away_if_even,
    cumulative_plot,
    effective_field,
    field_maps,
)
from poslab.evaluation.receptive_field.of_tokens import reach, receptive_field, receptive_field_plot
from poslab.evaluation.settings import Settings
from poslab.evaluation.side_by_side import tag, training_lengths
from poslab.report.figures import ReportFigure
from poslab.report.page import Section

PLACE = 4
NEEDS: frozenset[Ability] = frozenset({"gradients"})

PICTURES = 32
"""Test pictures of an effective receptive field."""


def make(runs: Sequence[EvaluatedRun], settings: Settings) -> Evaluation:
    """Return the section, and the length of the receptive field, or of patches its mean distance at each size."""
    return _of_patches(runs, settings) if runs[0].reads_patches else _of_text(runs)


def _of_text(runs: Sequence[EvaluatedRun]) -> Evaluation:
    evaluation = Evaluation()
    fields = {}
    for run in runs:
        fields[run.name] = receptive_field(run.model, run.windows(2 * run.training_length, more=1))
        evaluation.metrics[tag(run, runs, "receptive_field")] = reach(fields[run.name])
    picture = receptive_field_plot(fields, training_lengths(runs))
    text = "The tokens on which a prediction depends, in windows twice as long as those of training."
    evaluation.sections.append(Section("Receptive field", text, [picture]))
    return evaluation


def _of_patches(runs: Sequence[EvaluatedRun], settings: Settings) -> Evaluation:
    evaluation = Evaluation()
    fields: dict[tuple[str, str], pd.DataFrame] = {}
    for run in runs:
        lengths = settings.lengths or run.data.lengths_of(run.split)
        words = []
        for length in dict.fromkeys([run.trained_lengths[-1], max(lengths)]):
            held = len(run.data.held_out(run.split, length).num_tokens)
            places = np.linspace(0, held - 1, min(PICTURES, held)).astype(int)  # of all classes, if they are in order
            examples = (run.example(length, int(place)) for place in places)
            field = effective_field(run.model, run.task, examples, settings.seed)
            if not len(field):  # each is of one patch, which has nowhere to look
                continue
            fields[run.name, run.place_of(length)] = field
            evaluation.metrics[tag(run, runs, f"receptive_field@{length}")] = away = cells_away(field)
            words.append(
                f"{away:.1f} cells away {run.place_of(length)} ({cells_away_if_even(field):.1f} if all counted alike)"
            )
        if not words:
            continue
        evaluation.remarks.append(
            f"In {run.name}, what changes the last state of the middle patch is on average {' and '.join(words)}."
        )
    if not fields:
        return evaluation
    frame = pd.concat(fields, names=["model", "length"]).reset_index(["model", "length"])
    evaluation.frames["effective_field"] = frame
    figures: list[ReportFigure] = [] if len(axes_of(next(iter(fields.values())))) < 2 else [field_maps(fields)]
    figures.append(cumulative_plot(fields))
    text = (
        "The patches on which the last state of the middle one depends, at the size of training and at the largest.\n\n"
    )
    text += "\n\n".join(evaluation.remarks)
    evaluation.sections.append(Section("Receptive field", text, figures))
    return evaluation
