"""Learned parameters of the encoding, and their initial values. Dimension letter: T tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from poslab.encodings import StackEncodings
from poslab.evaluation.content_positions import content_positions, content_positions_picture
from poslab.evaluation.evaluation import Evaluation
from poslab.evaluation.learned_curves import DRAWN, bias_picture, learned_bias
from poslab.evaluation.learned_parameters import learned_parameters, norms_picture, parameters_table, table_norms
from poslab.evaluation.settings import Settings
from poslab.evaluation.side_by_side import titled
from poslab.evaluation.subjects import Subject
from poslab.report.figures import ReportFigure
from poslab.report.page import Section

PLACE = 5


def make(subjects: Sequence[Subject], settings: Settings) -> Evaluation:
    """Return the section, if an encoding has learned something."""
    figures: list[ReportFigure] = []
    for one in subjects:
        figures += titled(one, subjects, _learned(one, settings))
    if not figures:
        return Evaluation()
    text = "The encoding itself after training, beside its initial state unless it was swapped in."
    for one in subjects:
        if not one.swap and _start(one) is None:
            text += f" The initial state of {one.name} is unknown: its run began with the weights of another one, and "
            text += "has not kept it."
    return Evaluation([Section("The encoding", text, figures)])


def _start(one: Subject) -> StackEncodings | None:
    """Return the initial encodings of a run; None if they are unknown.

    Raises:
        ValueError: if the run has kept those of another model.
    """
    if one.start is None and one.recipe.init_from is not None:
        return None
    torch.manual_seed(one.recipe.seed)  # makes those of earlier versions again, which did not keep them
    model = one.recipe.model.build(one.tokenizer.vocab_size, digits=one.tokenizer.digits)
    start = model.encodings.to(one.model.embedding.weight.dtype)
    if one.start is not None:
        try:
            start.load_state_dict(one.start)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise ValueError(f"the checkpoint of {one.run.path} keeps the start of another encoding") from error
    return start


def _learned(one: Subject, settings: Settings) -> Iterator[ReportFigure]:
    encodings = one.model.encodings
    start = None if one.swap else _start(one)
    length = one.model.max_length or 2 * one.training_length
    if len(bias := learned_bias(encodings, length, start, DRAWN)):
        yield bias_picture(bias, one.training_length)
    if len(norms := table_norms(encodings, start)):
        yield norms_picture(norms)
    if len(parameters := learned_parameters(encodings, start)):
        yield parameters_table(parameters)
    tokens_T, labels = one.short_text(settings.text)
    if len(positions := content_positions(one.model, tokens_T)):
        yield content_positions_picture(positions, labels)
