"""Gradient of a prediction with respect to earlier tokens, or of the middle patch with respect to all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from poslab.evaluation.evaluation import Evaluation
from poslab.evaluation.receptive_field.of_patches import (
    axes_of,
    cells_away,
    cells_away_if_even,
    cumulative_picture,
    effective_field,
    field_maps,
)
from poslab.evaluation.receptive_field.of_tokens import reach, receptive_field, receptive_field_picture
from poslab.evaluation.settings import Settings
from poslab.evaluation.side_by_side import tag, training_lengths
from poslab.evaluation.subject import Ability, Subject
from poslab.report.figures import ReportFigure
from poslab.report.page import Section

PLACE = 4
NEEDS: frozenset[Ability] = frozenset({"gradients"})

PICTURES = 32
"""Test pictures of an effective receptive field."""


def make(subjects: Sequence[Subject], settings: Settings) -> Evaluation:
    """Return the section, and the length of the receptive field, or of patches its mean distance at each size."""
    return _of_patches(subjects, settings) if subjects[0].reads_patches else _of_text(subjects)


def _of_text(subjects: Sequence[Subject]) -> Evaluation:
    evaluation = Evaluation()
    fields = {}
    for one in subjects:
        fields[one.name] = receptive_field(one.model, one.windows(2 * one.training_length, more=1))
        evaluation.metrics[tag(one, subjects, "receptive_field")] = reach(fields[one.name])
    picture = receptive_field_picture(fields, training_lengths(subjects))
    text = "The tokens on which a prediction depends, in windows twice as long as those of training."
    evaluation.sections.append(Section("Receptive field", text, [picture]))
    return evaluation


def _of_patches(subjects: Sequence[Subject], settings: Settings) -> Evaluation:
    evaluation = Evaluation()
    fields: dict[tuple[str, str], pd.DataFrame] = {}
    for one in subjects:
        lengths = settings.lengths or one.data.lengths_of(one.split)
        words = []
        for length in dict.fromkeys([one.trained_lengths[-1], max(lengths)]):
            held = len(one.data.held_out(one.split, length).num_tokens)
            places = np.linspace(0, held - 1, min(PICTURES, held)).astype(int)  # of all classes, if they are in order
            examples = (one.example(length, int(place)) for place in places)
            field = effective_field(one.model, one.task, examples, settings.seed)
            if not len(field):  # each is of one patch, which has nowhere to look
                continue
            fields[one.name, one.place_of(length)] = field
            evaluation.metrics[tag(one, subjects, f"receptive_field@{length}")] = away = cells_away(field)
            words.append(
                f"{away:.1f} cells away {one.place_of(length)} ({cells_away_if_even(field):.1f} if all counted alike)"
            )
        if not words:
            continue
        evaluation.remarks.append(
            f"In {one.name}, what changes the last state of the middle patch is on average {' and '.join(words)}."
        )
    if not fields:
        return evaluation
    frame = pd.concat(fields, names=["model", "length"]).reset_index(["model", "length"])
    evaluation.frames["effective_field"] = frame
    figures: list[ReportFigure] = [] if len(axes_of(next(iter(fields.values())))) < 2 else [field_maps(fields)]
    figures.append(cumulative_picture(fields))
    text = (
        "The patches on which the last state of the middle one depends, at the size of training and at the largest.\n\n"
    )
    text += "\n\n".join(evaluation.remarks)
    evaluation.sections.append(Section("Receptive field", text, figures))
    return evaluation
