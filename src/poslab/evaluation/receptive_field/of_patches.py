"""Effective receptive field of a patch: the share of each patch in the gradient of the last state of the middle one.

Dimension letters: B pictures, T patches, P numbers of a patch, M model dim, A axes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from poslab.configuration.labels import written
from poslab.evaluation.attention.offset_plots import colour_bar, draw_map, more_is_darker, on_last_axes
from poslab.evaluation.attention.offsets import sums_by_offset
from poslab.evaluation.receptive_field.of_tokens import shares_of
from poslab.models import Model
from poslab.report.figures import LINES, WIDTH, Plot, legend_columns, new_figure, style
from poslab.tasks.task import Task

SOURCE = "Luo et al., Understanding the Effective Receptive Field in Deep Convolutional Neural Networks (NeurIPS 2016)"


def effective_field(model: Model, task: Task, batches: Iterable[Any], seed: int = 1) -> pd.DataFrame:
    """Return the share of each patch in the gradient of the last hidden state of the middle patch.

        s_p = ||g_p|| / sum_n ||g_n||,    g_p = d (v . h_middle) / d x_p

    Here x_p is a patch as the model reads it, h_middle the last hidden state of the cell n // 2 on each axis of n
    cells, and v a direction that is drawn for each picture, so that no channel counts more than another. Shares are
    means over the pictures that have a patch at an offset from the middle one, which is all of them where all have one
    shape.

    Each picture takes the time and memory of a training step.

    Args:
        model: in evaluation mode.
        task: of the model, which reads patches.
        batches: of one picture each, on the device of the model, with their `patches` and `positions`.
        seed: of the directions.

    Returns:
        A column for each axis, which has its name and holds the cell of the patch less that of the middle one,
        `gradient` (s_p) and `pictures` (their number). No rows if each picture is a single patch.

    Source: Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks" (NeurIPS
    2016), section 4; there the gradient is of a single output.
    """
    generator = torch.Generator().manual_seed(seed)
    total: pd.DataFrame | None = None
    for batch in batches:
        places = batch.positions.places
        cells_TA, sizes_TA = (x.expand(1, -1, -1)[0] for x in (places.cells, places.sizes))
        is_middle_T = (cells_TA == sizes_TA // 2).all(-1) & (sizes_TA.prod(-1) > 1)
        middle = int(is_middle_T.int().argmax())
        gradient_TP = _gradient(model, task, batch, middle, generator)
        # A text beside the picture has no gradient: it is not made of patches.
        on_grid_T = (places.grids.expand(1, -1)[0] == places.grids.expand(1, -1)[0, middle]) & (sizes_TA.prod(-1) > 1)
        share_T1 = shares_of(gradient_TP)[on_grid_T].unsqueeze(-1)
        sums = sums_by_offset((cells_TA - cells_TA[middle])[on_grid_T], share_T1, places.axes)
        total = sums if total is None else total.add(sums, fill_value=0)
    assert total is not None, "there must be a picture"
    frame = pd.DataFrame({"gradient": total[0] / total["pairs"], "pictures": total["pairs"].astype(int)})
    return frame.reset_index()


def cells_away(field: pd.DataFrame) -> float:
    """Return the mean distance in cells, in a straight line, of an `effective_field`, weighted by the gradient."""
    weight = field["gradient"] * field["pictures"]
    return float((_distance(field) * weight).sum() / weight.sum())


def cells_away_if_even(field: pd.DataFrame) -> float:
    """Return `cells_away` of a gradient that is the same for all patches."""
    return cells_away(field.assign(gradient=1.0))


def axes_of(field: pd.DataFrame) -> tuple[str, ...]:
    """Return the names of the axes of an `effective_field`."""
    return tuple(field.columns.drop(["gradient", "pictures"]))


def field_maps(fields: Mapping[tuple[str, str], pd.DataFrame]) -> Plot:
    """Draw each `effective_field`, of two axes or more, over the last two, by the name of a model and of a size."""
    axes = axes_of(next(iter(fields.values())))
    models, sizes = (list(dict.fromkeys(names)) for names in zip(*fields, strict=True))
    # As multiples of an even share, so that small and large pictures have one scale.
    even = {key: field.assign(gradient=field["gradient"] * _patches(field)) for key, field in fields.items()}
    others = [field["gradient"][(field[list(axes)] != 0).any(axis=1)] for field in even.values()]
    colours, norm = more_is_darker(max(float(own.max()) for own in others))
    panel = (WIDTH - 0.9) / len(sizes)
    cells = [np.ptp(field[list(axes[-2:])].to_numpy(), axis=0) + 1 for field in fields.values()]
    tallest = max(rows / columns for rows, columns in cells)
    figure = new_figure(WIDTH, 1.3 + len(models) * (0.4 + panel * min(1.6, tallest)))
    panels = figure.subplots(len(models), len(sizes), squeeze=False)
    image = None
    for (row, column), own in np.ndenumerate(panels):
        if (key := (models[row], sizes[column])) not in even:
            own.set_axis_off()
            continue
        image = draw_map(own, on_last_axes(even[key], axes), "gradient", axes[-2:], colours, norm)
        own.set_title("\n".join([*([written(key[0])] if len(models) > 1 else []), key[1]]), fontsize="small")
    figure.supylabel(f"{axes[-2]}: from the middle patch (cells)", fontsize="small")
    colour_bar(
        figure, image, panels, f"{axes[-1]}: from the middle patch (cells)", "gradient, as a multiple of an even share"
    )
    number = max(int(field["pictures"].max()) for field in fields.values())
    here = f" at no offset on {' and '.join(axes[:-2])}" if len(axes) > 2 else ""
    return Plot(
        name="effective_field",
        title="Effective receptive field of the middle patch",
        caption=f"The patches{here} on which the last state of the middle one (the small square) depends, as a mean "
        f"over {number} test examples: 1 is the share that each would have if all counted alike. Darker is more, on a "
        "scale of square roots, on which the middle itself may be off.",
        source=SOURCE,
        figure=figure,
    )


def cumulative_plot(fields: Mapping[tuple[str, str], pd.DataFrame]) -> Plot:
    """Draw the share of the gradient within a distance of the middle patch, by the name of a model and of a size."""
    figure = new_figure(WIDTH, 3.4 + 0.22 * len(fields))
    panel = figure.subplots()
    models, sizes = (list(dict.fromkeys(names)) for names in zip(*fields, strict=True))
    for (model, size), field in fields.items():
        weight = field["gradient"] * field["pictures"]
        within = weight.groupby(_distance(field)).sum().cumsum() / weight.sum()
        label = f"{f'{written(model)}, ' if len(models) > 1 else ''}{size}: {cells_away(field):.1f} cells on average"
        line = LINES[sizes.index(size) % len(LINES)]
        panel.plot(
            within.index, within, color=style(models.index(model))["color"], linestyle=line, linewidth=1.3, label=label
        )
    panel.set(xlim=(0, None), ylim=(0, 1.03))
    panel.set(xlabel="distance from the middle patch (cells)", ylabel="share of the gradient within it")
    labels = panel.get_legend_handles_labels()[1]
    figure.legend(loc="outside lower center", ncols=legend_columns(labels, WIDTH), frameon=False, fontsize="small")
    return Plot(
        name="effective_field_by_distance",
        title="Gradient within a distance",
        caption="Share of the gradient that falls on patches up to this distance from the middle one, in a straight "
        "line; lines end at the farthest patch. A model that reads a larger picture as it read those of training has "
        "lines of one shape.",
        source=SOURCE,
        figure=figure,
    )


def _gradient(model: Model, task: Task, batch: Any, middle: int, generator: torch.Generator) -> Tensor:
    """Return the gradient of the last state of a patch along a direction, (T, P)."""
    with torch.enable_grad():
        patches_BTP = batch.patches.detach().requires_grad_()
        state_M = task.hidden_states(model, batch._replace(patches=patches_BTP))[0, middle].float()
        direction_M = torch.randn(len(state_M), generator=generator).to(state_M.device)
        (gradient_BTP,) = torch.autograd.grad(state_M @ direction_M, patches_BTP)
    return gradient_BTP[0]


def _patches(field: pd.DataFrame) -> float:
    """Return the mean number of patches of a picture: its shares sum to 1, and pictures of other shapes have others."""
    return float(field["pictures"].sum() / (field["gradient"] * field["pictures"]).sum())


def _distance(field: pd.DataFrame) -> pd.Series[float]:
    away = np.linalg.norm(field[list(axes_of(field))], axis=1)
    return pd.Series(away.round(6), index=field.index, name="distance")
