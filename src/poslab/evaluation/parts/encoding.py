"""Learned parameters of the encoding, and their initial values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from poslab.encodings import StackEncodings
from poslab.evaluation.encoding.bias_offsets import bias_by_offset, bias_maps
from poslab.evaluation.encoding.content_positions import content_positions, content_positions_plot
from poslab.evaluation.encoding.curves import DRAWN, bias_plot, learned_bias
from poslab.evaluation.encoding.parameters import learned_parameters, norms_plot, parameters_table, table_norms
from poslab.evaluation.evaluated_run import Ability, EvaluatedRun
from poslab.evaluation.evaluation import Evaluation
from poslab.evaluation.settings import Settings
from poslab.evaluation.short_example import short_text, token_labels
from poslab.evaluation.side_by_side import named, remark_on_positions, slug_of, titled
from poslab.report.figures import ReportFigure
from poslab.report.page import Section

PLACE = 5
NEEDS: frozenset[Ability] = frozenset()


def make(runs: Sequence[EvaluatedRun], settings: Settings) -> Evaluation:
    """Return the section, if an encoding has learned something."""
    figures: list[ReportFigure] = []
    for run in runs:
        figures += titled(run, runs, _learned(run, settings))
    if not figures:
        return Evaluation(left_out={"encoding": "no encoding has learned weights or a bias of distance"})
    text = "The encoding itself after training, beside its initial state unless it was swapped in."
    if all(run.directory is None for run in runs):
        text = "The encoding itself, before any training."
    for run in runs:
        if run.directory is not None and not run.swap and _starts(run) is None:
            text += f" The initial state of {run.name} is unknown: its run began with the weights of another one, and "
            text += "has not kept it."
    return Evaluation([Section("The encoding", text + remark_on_positions(runs), figures)])


def _starts(run: EvaluatedRun) -> Mapping[str, StackEncodings] | None:
    """Return the initial encodings of a run by stack; None if they are unknown.

    Raises:
        ValueError: if the run has kept those of another model.
    """
    if run.directory is None or (run.start is None and run.recipe.init_from is not None):
        return None
    torch.manual_seed(run.recipe.seed)  # makes those again that the run did not keep
    size = run.tokenizer.vocab_size + run.task.extra_tokens
    patch_width = run.task.record().patch_width
    model = run.recipe.model.build(size, run.task.outputs, run.tokenizer.digits, patch_width)
    model.to(next(run.model.parameters()).dtype)
    if run.start is not None:
        try:
            model.encodings.load_state_dict(run.start)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise ValueError(f"the checkpoint of {run.place} keeps the start of another encoding") from error
    return model.stacks


def _learned(run: EvaluatedRun, settings: Settings) -> Iterator[ReportFigure]:
    starts = None if run.swap else _starts(run)
    for stack, encodings in run.model.stacks.items():
        title = run.stack_title(stack)
        start = None if starts is None else starts[stack]
        yield from named(_of_stack(run, encodings, start), slug_of(title), title)
        if run.grid is not None and len(run.grid.axes) > 1:
            bias = bias_by_offset(encodings, run.grid.sizes, run.grid.axes, start)
            if bias.groupby(["layers", "head"])["bias"].nunique().gt(1).any():
                yield from named(bias_maps(bias, run.grid.axes), slug_of(title), title)
    if "source" not in run.model.capabilities and not run.reads_patches:
        tokens_T = short_text(run, settings.text)
        if len(positions := content_positions(run.model, tokens_T)):
            yield content_positions_plot(positions, token_labels(run, tokens_T))


def _of_stack(run: EvaluatedRun, encodings: StackEncodings, start: StackEncodings | None) -> Iterator[ReportFigure]:
    length = encodings.max_length or 2 * run.training_length
    bias = learned_bias(encodings, length, start, DRAWN, on_axes=run.grid is not None and len(run.grid.axes) > 1)
    if bias.groupby(["layers", "head"])["bias"].nunique().gt(1).any():  # the same everywhere is no position
        yield bias_plot(bias, run.training_length)
    if len(norms := table_norms(encodings, start)):
        yield norms_plot(norms)
    if len(parameters := learned_parameters(encodings, start)):
        yield parameters_table(parameters)
