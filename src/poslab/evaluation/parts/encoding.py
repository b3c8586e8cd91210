"""Learned parameters of the encoding, and their initial values.

Dimension letters: B batch, H heads, T tokens, S keys up to the query, D head dim.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from poslab.encodings import StackEncodings
from poslab.evaluation import learned_bias
from poslab.evaluation.attention.maps import MAX_TEXT_LENGTH, WIDE, capture_attention, visible_label
from poslab.evaluation.attention.statistics import head_legend, head_style
from poslab.evaluation.evaluated_run import Ability, EvaluatedRun
from poslab.evaluation.evaluation import Evaluation, named, remark_on_positions, titled
from poslab.evaluation.opening import short_text, token_labels
from poslab.evaluation.settings import Settings
from poslab.models import Model
from poslab.report.figures import WIDTH, Plot, ReportFigure, Section, new_figure

ORDER = 5
NEEDS: frozenset[Ability] = frozenset()


def make(runs: Sequence[EvaluatedRun], settings: Settings) -> Evaluation:
    """Return the section, if an encoding has learned something."""
    figures: list[ReportFigure] = []
    for run in runs:
        figures += titled(run, runs, _learned(run, settings))
    if not figures:
        return Evaluation(left_out={"encoding": "no encoding has learned weights or a bias of distance"})
    text = "The encoding itself after training, next to its initial state unless it was swapped in."
    if all(run.directory is None for run in runs):
        text = "The encoding itself, before any training."
    for run in runs:
        if run.directory is not None and not run.swap and _starts(run) is None:
            text += f" The initial state of {run.name} is unknown: its run started from weights of another, and "
            text += "has not kept it."
    return Evaluation([Section("The encoding", text + remark_on_positions(runs), figures)])


def _starts(run: EvaluatedRun) -> Mapping[str, StackEncodings] | None:
    """Return the initial encodings of a run by stack; None if they are unknown.

    ValueError if the run has kept the encodings of another model.
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
            raise ValueError(f"the checkpoint of {run.location} keeps the start of another encoding") from error
    return model.stacks


def _learned(run: EvaluatedRun, settings: Settings) -> Iterator[ReportFigure]:
    starts = None if run.swap else _starts(run)
    on_axes = run.grid is not None and len(run.grid.axes) > 1
    for stack, encodings in run.model.stacks.items():
        start = None if starts is None else starts[stack]
        figures: list[ReportFigure] = []
        length = encodings.max_length or 2 * run.training_length
        bias = learned_bias.learned_bias(encodings, length, start, learned_bias.MAX_POINTS, on_axes=on_axes)
        if learned_bias.varies(bias):
            figures.append(learned_bias.bias_plot(bias, run.training_length))
        if len(norms := learned_bias.table_norms(encodings, start)):
            figures.append(learned_bias.norms_plot(norms))
        if len(parameters := learned_bias.learned_parameters(encodings, start)):
            figures.append(learned_bias.parameters_table(parameters))
        if run.grid is not None and on_axes:
            bias = learned_bias.bias_by_offset(encodings, run.grid.sizes, run.grid.axes, start)
            figures += learned_bias.bias_maps(bias, run.grid.axes) if learned_bias.varies(bias) else []
        yield from named(figures, run.stack_title(stack))
    if "source" not in run.model.capabilities and not run.reads_patches:
        tokens_T = short_text(run, settings.text)
        if len(positions := content_positions(run.model, tokens_T)):
            yield content_positions_plot(positions, token_labels(run, tokens_T))


def content_positions(model: Model, tokens_T: Tensor) -> pd.DataFrame:
    """Return how far each key is from the last token for encodings that read the content (their `content_positions`).

    For CoPE it is the count at the key: the number of tokens that matter from the query back to it. For forget gates
    (FoX) it is the forgetting between key and query, in nats.

    Returns:
        Columns `layer`, `head`, `key` and `position`, a row for each layer, head and visible key; no rows of layers
        whose encoding has no such positions.

    Source: Golovneva et al., "Contextual Position Encoding" (2024), section 4; Lin et al., "Forgetting Transformer"
    (ICLR 2025), section 3.
    """
    length = len(tokens_T)
    columns = ["layer", "head", "key", "position"]
    frames = [pd.DataFrame(columns=columns)]
    for layer, reached in enumerate(capture_attention(model, tokens_T.unsqueeze(0))):
        with torch.no_grad():
            q_BHTD, k_BHSD, weighting = reached.rotate_qk()
            rows = weighting.rows(slice(length - 1, length), length, k_BHSD)
            q_BH1D = q_BHTD[:, :, -1:].to(k_BHSD.dtype)
            position_BH1S = reached.context.encoding.content_positions(q_BH1D, k_BHSD[:, :, rows.keys], rows)
        if position_BH1S is None:
            continue
        position_HS = position_BH1S[0, :, 0].float().cpu()
        visible = torch.ones(length, dtype=torch.bool) if rows.visible is None else rows.visible[0, 0, 0].cpu()
        index = itertools.product([layer], range(len(position_HS)), visible.nonzero().flatten().tolist())
        frame = pd.DataFrame(index, columns=columns[:-1])
        frames.append(frame.assign(position=position_HS[:, visible].flatten().numpy()))
    return pd.concat(frames[1:] or frames, ignore_index=True)


def content_positions_plot(positions: pd.DataFrame, labels: Sequence[str]) -> Plot:
    """Draw `content_positions`, of at least one row, over the keys, a panel for each layer and a line for each head.

    The labels, the text of each token, are shown for up to `MAX_TEXT_LENGTH` tokens.
    """
    layers = sorted(positions["layer"].unique())
    shown = [visible_label(label) for label in labels]
    has_labels = len(shown) <= MAX_TEXT_LENGTH
    figure = new_figure(WIDE if has_labels else WIDTH, 1.6 + 1.9 * len(layers))
    panels = figure.subplots(len(layers), 1, sharex=True, squeeze=False)[:, 0]
    for panel, layer in zip(panels, layers, strict=True):
        for head, line in positions[positions["layer"] == layer].groupby("head"):
            panel.plot(line["key"], line["position"], linewidth=1.2, label=str(head), **head_style(int(str(head))))
        panel.set_title(f"layer {layer}", fontsize="medium")
        panel.set(ylabel="position", ylim=(0, None))
    if has_labels:
        size = min(8.0, 400 / len(shown))
        panels[-1].set_xticks(range(len(shown)), shown, rotation=90, fontsize=size, parse_math=False)
    panels[-1].set_xlabel("token")
    head_legend(figure, panels[0])
    return Plot(
        name="content_positions",
        title="Positions by content",
        caption="Distance of each token from the last one, for each head: the number of tokens between them that "
        "matter (CoPE) or the nats forgotten (forget gates). A steep step is a token that counts or makes the head "
        "forget, a flat part one that does not.",
        source="Golovneva et al., Contextual Position Encoding (2024); Lin et al., Forgetting Transformer (ICLR 2025)",
        figure=figure,
        shrinks=not has_labels,
    )
