"""Gradient of a prediction with respect to earlier tokens."""

from __future__ import annotations

from collections.abc import Sequence

from poslab.evaluation.evaluation import Evaluation
from poslab.evaluation.receptive_field import reach, receptive_field, receptive_field_picture
from poslab.evaluation.settings import Settings
from poslab.evaluation.side_by_side import tag, training_lengths
from poslab.evaluation.subjects import Ability, Subject
from poslab.report.page import Section

PLACE = 4
NEEDS: frozenset[Ability] = frozenset({"next_tokens"})


def make(subjects: Sequence[Subject], settings: Settings) -> Evaluation:
    """Return the section, and the length of the receptive field."""
    evaluation = Evaluation()
    fields = {}
    for one in subjects:
        fields[one.name] = receptive_field(one.model, one.windows(2 * one.training_length, more=1))
        evaluation.metrics[tag(one, subjects, "receptive_field")] = reach(fields[one.name])
    picture = receptive_field_picture(fields, training_lengths(subjects))
    text = "The tokens on which a prediction depends, in windows twice as long as those of training."
    evaluation.sections.append(Section("Receptive field", text, [picture]))
    return evaluation
