"""Gradient of a prediction with respect to earlier tokens, or of the middle patch with respect to all.

Dimension letters: B windows or images of a batch, N windows, T tokens or patches, P numbers of a patch, M model dim, V
vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.configuration.labels import written
from poslab.evaluation.attention.offsets import at_no_offset, offset_maps, sums_by_offset
from poslab.evaluation.evaluated_run import Ability, EvaluatedRun
from poslab.evaluation.evaluation import Evaluation, tag, training_lengths
from poslab.evaluation.settings import Settings
from poslab.models import Model
from poslab.report.figures import WIDTH, Plot, ReportFigure, Section, Table, legend_columns, new_figure, style
from poslab.tasks.task import Task

ORDER = 4
NEEDS: frozenset[Ability] = frozenset({"gradients"})

SHARE = 0.99  # share of the gradient within the receptive field (the paper's)
TOKENS_AT_ONCE = 4096  # tokens of a batch, which has at least one window
MAX_IMAGES = 32  # test images of an effective receptive field

SOURCE = (
    "Chi et al., Dissecting Transformer Length Extrapolation via the Lens of Receptive Field Analysis (ACL 2023), the "
    "section on the empirical receptive field"
)
SOURCE_OF_PATCHES = (
    "Luo et al., Understanding the Effective Receptive Field in Deep Convolutional Neural Networks (NeurIPS 2016)"
)


def make(runs: Sequence[EvaluatedRun], settings: Settings) -> Evaluation:
    """Return the section, and the length of the receptive field, or of patches its mean distance at each size."""
    return _of_patches(runs, settings) if runs[0].reads_patches else _of_text(runs)


def _of_text(runs: Sequence[EvaluatedRun]) -> Evaluation:
    evaluation, fields = Evaluation(), {}
    for run in runs:
        fields[run.name] = receptive_field(run.model, run.windows(2 * run.training_length, more=1))
        evaluation.metrics[tag(run, runs, "receptive_field")] = reach(fields[run.name])
    text = "The tokens on which a prediction depends, in windows twice as long as in training."
    plot = receptive_field_plot(fields, training_lengths(runs))
    evaluation.sections.append(Section("Receptive field", text, [plot]))
    return evaluation


def _of_patches(runs: Sequence[EvaluatedRun], settings: Settings) -> Evaluation:
    evaluation = Evaluation()
    fields: dict[tuple[str, str], pd.DataFrame] = {}
    for run in runs:
        lengths = settings.lengths or run.data.lengths_of(run.split)
        for length in dict.fromkeys([run.trained_lengths[-1], max(lengths)]):
            held = len(run.data.held_out(run.split, length).num_tokens)
            numbers = np.linspace(0, held - 1, min(MAX_IMAGES, held)).astype(int)  # of all classes, if in order
            examples = (run.example(length, int(number)) for number in numbers)
            field = effective_field(run.model, run.task, examples, settings.seed)
            if len(field):  # otherwise each is of one patch
                fields[run.name, run.at_length(length)] = field
                evaluation.metrics[tag(run, runs, f"receptive_field@{length}")] = cells_away(field)
    if not fields:
        return evaluation
    evaluation.frames["effective_field"] = pd.concat(fields, names=["model", "length"]).reset_index(["model", "length"])
    rows = [
        (model, size, cells_away(field), cells_away(field.assign(gradient=1.0)))
        for (model, size), field in fields.items()
    ]
    table = Table(
        name="effective_field_distance",
        title="Distance of the gradient",
        caption="Mean distance in cells, in a straight line, of the patches on which the middle one depends.",
        source=SOURCE_OF_PATCHES,
        frame=pd.DataFrame(rows, columns=["model", "size", "cells away", "if all counted alike"]),
    )
    has_maps = len(axes_of(next(iter(fields.values())))) > 1
    figures: list[ReportFigure] = [*([field_plot(fields)] if has_maps else []), table]
    text = "The patches on which the last state of the middle one depends, at the size of training and at the largest."
    evaluation.sections.append(Section("Receptive field", text, figures))
    return evaluation


def receptive_field(model: Model, windows: Tensor) -> pd.DataFrame:
    """Return the share of each token in the gradient of the prediction after the last one, as a mean over windows.

        s_d = ||g_d|| / sum_n ||g_n||,    cumulative_d = s_0 + ... + s_d

    where g_d is the gradient of the loss of the next token with respect to the embedding of the token d positions
    before the last one.

        frame = receptive_field(model, windows)
        frame["cumulative"][99]     # the share of the last 100 tokens

    Each window takes the time and memory of a training step, with the logits of its last token only.

    Args:
        model: in evaluation mode.
        windows: (N, T + 1) token ids, on the device of the model: T are context, and the last is predicted.

    Returns:
        Columns `distance` (0, ..., T - 1), `gradient` (s_d) and `cumulative`.

    Raises:
        ValueError: for windows of another shape, or past the end of the model's encoding.

    Source: Chi et al., "Dissecting Transformer Length Extrapolation via the Lens of Receptive Field Analysis"
    (ACL 2023), the section on the empirical receptive field, which uses the gradient of the prediction of the next
    token; this is the gradient of its loss.
    """
    if windows.dim() != 2 or len(windows) == 0 or windows.shape[1] < 2:
        raise ValueError(f"windows must be rows of at least two tokens each, got the shape {tuple(windows.shape)}")
    length = windows.shape[1] - 1
    total_T = torch.zeros(length, dtype=torch.float64, device=windows.device)
    for window_BT in windows.split(max(1, TOKENS_AT_ONCE // length)):
        total_T += _shares(_gradients(model, window_BT[:, :-1], window_BT[:, -1])).sum(0)
    gradient = pd.Series((total_T.flip(0) / len(windows)).cpu().numpy())
    return pd.DataFrame({"distance": range(length), "gradient": gradient, "cumulative": gradient.cumsum()})


def reach(field: pd.DataFrame) -> int:
    """Return the length of a `receptive_field`: the number of last tokens with 99% of the gradient."""
    short = field["cumulative"] < SHARE - 1e-9  # sums are rounded
    return min(int(short.sum()) + 1, len(field))


def receptive_field_plot(fields: Mapping[str, pd.DataFrame], training_lengths: Mapping[str, int]) -> Plot:
    """Draw the cumulative gradient of each `receptive_field` over the number of last tokens.

    Fields and training lengths, in tokens, are by the name of the model.
    """
    figure = new_figure(WIDTH, 4.2)
    panel = figure.subplots()
    for number, (name, field) in enumerate(fields.items()):
        look, length = style(number), reach(field)
        label = f"{written(name)}: {100 * SHARE:.0f}% within {length:,} of {len(field):,} tokens"
        panel.plot(
            field["distance"] + 1, field["cumulative"], label=label, color=look["color"], linestyle=look["linestyle"]
        )
        panel.plot(
            [length], [field["cumulative"][length - 1]], marker=look["marker"], markersize=5, color=look["color"]
        )
    panel.axhline(SHARE, color="0.6", linewidth=0.8)
    for training_length in sorted(set(training_lengths.values())):
        panel.axvline(training_length, color="0.6", linestyle=":", label=f"training length, {training_length:,}")
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter("{x:g}")
    panel.set(xlim=(1, None), ylim=(0, 1.03))
    panel.set(xlabel="last tokens of the context", ylabel="cumulative share of the gradient")
    labels = panel.get_legend_handles_labels()[1]
    figure.legend(loc="outside lower center", ncols=legend_columns(labels, WIDTH), frameon=False, fontsize="small")
    return Plot(
        name="receptive_field",
        title="Empirical receptive field",
        caption="Share of a prediction's gradient that falls on the last tokens of a window, over their number; lines "
        f"end where the window does. A line that reaches {100 * SHARE:.0f}% (the dot) before the training length "
        "belongs to a model that uses a longer text like texts of training; one that climbs beyond it uses "
        "distances that it has not learned.",
        source=SOURCE,
        figure=figure,
    )


def _shares(gradient: Tensor) -> Tensor:
    """Return the norms of gradients (..., T, M) as shares of their sum over the T tokens, (..., T) float64."""
    norms = gradient.double().norm(dim=-1)
    return norms / norms.sum(-1, keepdim=True)


def _gradients(model: Model, tokens_BT: Tensor, next_B: Tensor) -> Tensor:
    """Return the gradient of the loss of the next token with respect to the embeddings, (B, T, M)."""
    embedded: list[Tensor] = []

    def leaf(_: nn.Module, __: Any, x_BTM: Tensor) -> Tensor:
        embedded.append(x_BTM.detach().requires_grad_())
        return embedded[-1]

    with model.embedding.register_forward_hook(leaf), torch.enable_grad():
        logits_BV = model.logits(model.hidden_states(tokens_BT)[:, -1])
        loss = functional.cross_entropy(logits_BV.float(), next_B, reduction="sum")  # windows are independent
    (gradient_BTM,) = torch.autograd.grad(loss, embedded)
    return gradient_BTM


def effective_field(model: Model, task: Task, batches: Iterable[Any], seed: int = 1) -> pd.DataFrame:
    """Return the share of each patch in the gradient of the last hidden state of the middle patch.

        s_p = ||g_p|| / sum_n ||g_n||,    g_p = d (v . h_middle) / d x_p

    Here x_p is a patch as the model reads it, h_middle the last hidden state of the cell n // 2 on each axis of n
    cells, and v a direction that is drawn for each image, so that no channel counts more than another. Shares are means
    over the images that have a patch at an offset from the middle one, which is all of them where all have one shape.

    Each image takes the time and memory of a training step. Batches are of one image each, on the device of the model.

    Returns:
        A column for each axis, which has its name and is the cell of the patch less the middle cell,
        `gradient` (s_p) and `examples` (their number). No rows if each image is a single patch.

    Source: Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks" (NeurIPS
    2016), section 4; there the gradient is of a single output.
    """
    generator = torch.Generator().manual_seed(seed)
    total: pd.DataFrame | None = None
    for batch in batches:
        grid = batch.positions.places
        cells_TA, sizes_TA = (x.expand(1, -1, -1)[0] for x in (grid.cells, grid.sizes))
        is_middle_T = (cells_TA == sizes_TA // 2).all(-1) & (sizes_TA.prod(-1) > 1)
        middle = int(is_middle_T.int().argmax())
        with torch.enable_grad():
            patches_BTP = batch.patches.detach().requires_grad_()
            state_M = task.hidden_states(model, batch._replace(patches=patches_BTP))[0, middle].float()
            direction_M = torch.randn(len(state_M), generator=generator).to(state_M.device)
            (gradient_BTP,) = torch.autograd.grad(state_M @ direction_M, patches_BTP)
        # A text next to the image has no gradient: it is not made of patches.
        on_grid_T = (grid.grids.expand(1, -1)[0] == grid.grids.expand(1, -1)[0, middle]) & (sizes_TA.prod(-1) > 1)
        share_T1 = _shares(gradient_BTP[0])[on_grid_T].unsqueeze(-1)
        sums = sums_by_offset((cells_TA - cells_TA[middle])[on_grid_T], share_T1, grid.axes)
        total = sums if total is None else total.add(sums, fill_value=0)
    assert total is not None, "there must be an image"
    frame = pd.DataFrame({"gradient": total[0] / total["pairs"], "examples": total["pairs"].astype(int)})
    return frame.reset_index()


def cells_away(field: pd.DataFrame) -> float:
    """Return the mean distance in cells, in a straight line, of an `effective_field`, weighted by the gradient."""
    weight, distance = field["gradient"] * field["examples"], np.linalg.norm(field[list(axes_of(field))], axis=1)
    return float((pd.Series(distance.round(6), index=field.index) * weight).sum() / weight.sum())


def axes_of(field: pd.DataFrame) -> tuple[str, ...]:
    """Return the names of the axes of an `effective_field`."""
    return tuple(field.columns.drop(["gradient", "examples"]))


def field_plot(fields: Mapping[tuple[str, str], pd.DataFrame]) -> Plot:
    """Draw each `effective_field`, of two axes or more, over the last two, by the name of a model and of a size."""
    axes = axes_of(next(iter(fields.values())))
    frames = []
    for (model, size), field in fields.items():
        # As multiples of an even share, so that small and large images have one scale: shares of an image sum to 1.
        patches = field["examples"].sum() / (field["gradient"] * field["examples"]).sum()
        frames.append(field.assign(gradient=field["gradient"] * patches, model=written(model), size=size))
    frame = pd.concat(frames, ignore_index=True)
    most = float(frame["gradient"][(frame[list(axes)] != 0).any(axis=1)].max())  # the middle may be off the scale
    quantity = "gradient, as a multiple of an even share"
    return Plot(
        name="effective_field",
        title="Effective receptive field of the middle patch",
        caption=f"The patches{at_no_offset(axes).removeprefix(',')} on which the last state of the middle one (the "
        f"small square) depends, as a mean over {frame['examples'].max()} test examples: 1 is the share that each "
        "would have if all counted alike. Darker is more, on a scale of square roots.",
        source=SOURCE_OF_PATCHES,
        figure=offset_maps(
            frame, "gradient", ("model", "size"), axes, quantity, offset="from the middle patch", most=most
        ),
    )
