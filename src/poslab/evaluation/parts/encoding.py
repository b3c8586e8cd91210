"""Learned parameters of the encoding, and their initial values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from poslab.encodings import StackEncodings
from poslab.evaluation.encoding.bias_offsets import bias_by_offset, bias_maps
from poslab.evaluation.encoding.content_positions import content_positions, content_positions_picture
from poslab.evaluation.encoding.curves import DRAWN, bias_picture, learned_bias
from poslab.evaluation.encoding.parameters import learned_parameters, norms_picture, parameters_table, table_norms
from poslab.evaluation.evaluation import Evaluation
from poslab.evaluation.settings import Settings
from poslab.evaluation.short_reading import short_text, token_labels
from poslab.evaluation.side_by_side import named, remark_on_positions, slug_of, titled
from poslab.evaluation.subject import Ability, Subject
from poslab.report.figures import ReportFigure
from poslab.report.page import Section

PLACE = 5
NEEDS: frozenset[Ability] = frozenset()


def make(subjects: Sequence[Subject], settings: Settings) -> Evaluation:
    """Return the section, if an encoding has learned something."""
    figures: list[ReportFigure] = []
    for one in subjects:
        figures += titled(one, subjects, _learned(one, settings))
    if not figures:
        return Evaluation(left_out={"encoding": "no encoding has learned weights or a bias of distance"})
    text = "The encoding itself after training, beside its initial state unless it was swapped in."
    if all(one.run is None for one in subjects):
        text = "The encoding itself, before any training."
    for one in subjects:
        if one.run is not None and not one.swap and _starts(one) is None:
            text += f" The initial state of {one.name} is unknown: its run began with the weights of another one, and "
            text += "has not kept it."
    return Evaluation([Section("The encoding", text + remark_on_positions(subjects), figures)])


def _starts(one: Subject) -> Mapping[str, StackEncodings] | None:
    """Return the initial encodings of a run by stack; None if they are unknown.

    Raises:
        ValueError: if the run has kept those of another model.
    """
    if one.run is None or (one.start is None and one.recipe.init_from is not None):
        return None
    torch.manual_seed(one.recipe.seed)  # makes those again that the run did not keep
    size = one.tokenizer.vocab_size + one.task.extra_tokens
    patch_width = one.task.record().patch_width
    model = one.recipe.model.build(size, one.task.outputs, one.tokenizer.digits, patch_width)
    model.to(next(one.model.parameters()).dtype)
    if one.start is not None:
        try:
            model.encodings.load_state_dict(one.start)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise ValueError(f"the checkpoint of {one.place} keeps the start of another encoding") from error
    return model.stacks


def _learned(one: Subject, settings: Settings) -> Iterator[ReportFigure]:
    starts = None if one.swap else _starts(one)
    for stack, encodings in one.model.stacks.items():
        title = one.stack_title(stack)
        start = None if starts is None else starts[stack]
        yield from named(_of_stack(one, encodings, start), slug_of(title), title)
        if one.grid is not None and len(one.grid.axes) > 1:
            bias = bias_by_offset(encodings, one.grid.sizes, one.grid.axes, start)
            if bias.groupby(["layers", "head"])["bias"].nunique().gt(1).any():
                yield from named(bias_maps(bias, one.grid.axes), slug_of(title), title)
    if "source" not in one.model.capabilities and not one.reads_patches:
        tokens_T = short_text(one, settings.text)
        if len(positions := content_positions(one.model, tokens_T)):
            yield content_positions_picture(positions, token_labels(one, tokens_T))


def _of_stack(one: Subject, encodings: StackEncodings, start: StackEncodings | None) -> Iterator[ReportFigure]:
    length = encodings.max_length or 2 * one.training_length
    bias = learned_bias(encodings, length, start, DRAWN, on_axes=one.grid is not None and len(one.grid.axes) > 1)
    if bias.groupby(["layers", "head"])["bias"].nunique().gt(1).any():  # the same everywhere is no position
        yield bias_picture(bias, one.training_length)
    if len(norms := table_norms(encodings, start)):
        yield norms_picture(norms)
    if len(parameters := learned_parameters(encodings, start)):
        yield parameters_table(parameters)
