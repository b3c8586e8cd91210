"""Pictures of attention: over distance, by layer and head, and as maps of one short text.

Dimension letters: L layers, H heads, T queries, S keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from poslab.evaluation.attention.rows import attention_rows
from poslab.evaluation.attention.statistics import is_causal
from poslab.models import ForwardPass, Model
from poslab.report.figures import WIDTH, Plot, Style, new_figure, panel_grid, style, without_marker

MAX_TEXT_LENGTH = 64
"""Tokens whose labels are legible along an axis of `WIDE` inches."""

MAX_LABEL_LENGTH = 12
"""Most characters of the label of a token."""

MAX_QUERIES = 1024
"""Queries of a map; only examples without labels, such as pictures, have more than `MAX_TEXT_LENGTH`."""

WIDE = 8.0

MAX_WORDS = 8
"""Heads above which a row of small maps has room for their numbers alone."""

BINS_PER_OCTAVE = 4
"""Bins over which distances are averaged, since single ones are noise."""

MIN_ATTENTION = 1e-6
"""Lower end of the axis of attention: smaller weights do not affect any output."""

_STATISTICS = {
    "entropy": "entropy (nats)",
    "mean_distance": "mean attended distance (tokens)",
    "cells_away": "mean attended distance (cells)",
    "nowhere": "share on registers (%)",
    "first_token": "share on the first token (%)",
    "last_token": "share on the last token (%)",
    "previous_token": "share on the previous token (%)",
    "own_token": "share on its own token (%)",
    "next_token": "share on the next token (%)",
    "attended": "sum of the weights",
}


def distance_plot(by_distance: pd.DataFrame, training_length: int | None = None) -> Plot:
    """Draw the means of `attention_by_distance`, a panel for each layer, a line for each head, and the training length.

    None as the training length, in tokens, draws no line there.
    """
    layers = sorted(by_distance["layer"].unique())
    both_ways = by_distance["distance"].min() < 0
    figure, panels = distance_panels([f"layer {layer}" for layer in layers], "mean attention")
    for panel, layer in zip(panels.flat, layers, strict=False):
        for head, own in by_distance[by_distance["layer"] == layer].groupby("head"):
            distance, attention = _binned(own["distance"].to_numpy(), own["attention"].to_numpy())
            panel.plot(distance, attention, linewidth=1.2, label=str(head), **head_style(int(str(head))))
        panel.set(yscale="log", xlim=(None if both_ways else 0, None))
        for end in (-1, 1) if both_ways else (1,):
            if training_length is not None:
                panel.axvline(end * training_length, color="0.6", linestyle=":")
    panels[0, 0].set_ylim(max(MIN_ATTENTION, by_distance["attention"].min() / 2), 1.2)
    head_legend(figure, panels[0, 0])
    return Plot(
        name="attention_by_distance",
        title="Attention against distance",
        caption="Each line is one head: the mean attention to a token at this distance (0 is the query's own token). A "
        "straight line falls as a power of distance, a bend downwards is a horizon, and a rise at the far end is the "
        f"first token.{' Tokens ahead of the query are on the left.' if both_ways else ''} A dotted line is the "
        "training length.",
        figure=figure,
    )


def statistics_plot(statistics: pd.DataFrame) -> Plot:
    """Draw every statistic of `attention_statistics` as a map of layers and heads."""
    shown = {name: title for name, title in _STATISTICS.items() if name in statistics}
    if np.allclose(statistics["attended"], 1.0, atol=1e-3):
        del shown["attended"]  # a softmax always sums to 1
    tables = statistics.pivot(index="layer", columns="head")
    num_layers, num_heads = tables["entropy"].shape
    columns = 2 if num_heads <= 4 else 1
    figure, panels = panel_grid(len(shown), columns, WIDTH, height=0.9 + 0.28 * max(num_layers, 3))
    for panel, (name, title) in zip(panels.flat, shown.items(), strict=False):
        values = tables[name].to_numpy() * (100 if "%" in title else 1)
        deepest = max(10.0, values.max()) if "%" in title else None  # keeps shares of a few per cent pale
        heat_map(panel, values, written=num_heads <= 8, deepest=deepest)
        panel.set_title(fill(title, 48 // columns), fontsize="medium")
        panel.set_xlabel("head", fontsize="small")
        panel.set_ylabel("layer", fontsize="small")
    caption = "Each cell is one head. Low entropy is attention to a few tokens; "
    source = "Xiao et al., Efficient Streaming Language Models with Attention Sinks (ICLR 2024), for the first token"
    if "cells_away" in statistics:
        caption += "the distance is in cells, which are the places of patches, in a straight line."
        caption += " A large share on registers is an attention sink." * ("nowhere" in statistics)
        source = "Darcet et al., Vision Transformers Need Registers (ICLR 2024)" if "nowhere" in statistics else ""
    else:
        caption += "a large share on the first token is an attention sink, one on the previous token a head that looks "
        caption += "one back."
    return Plot("attention_statistics", "What the heads attend to", caption, figure, source=source)


def divergence_plot(divergence: pd.DataFrame) -> Plot:
    """Draw the divergence of each pair of models, from `attention_divergence`, as the mean over layers."""
    names = list(dict.fromkeys([*divergence["first"], *divergence["second"]]))
    means = divergence.groupby(["first", "second"])["divergence"].mean().unstack(fill_value=0)
    half = means.reindex(index=names, columns=names, fill_value=0.0).to_numpy()
    side = 1.6 + 0.6 * len(names)
    figure = new_figure(min(side + 1.8, WIDTH), side + 1.0)
    panel = figure.subplots()
    heat_map(panel, half + half.T, written=True)
    shown = [fill(name, 20) for name in names]
    panel.set_xticks(range(len(names)), shown, rotation=45, ha="right", parse_math=False)
    panel.set_yticks(range(len(names)), shown, parse_math=False)
    return Plot(
        name="attention_divergence",
        title="How differently the models attend",
        caption="Jensen-Shannon divergence in bits between the attention of two models on the same texts, as a mean "
        "over queries and layers: 0 is the same attention, 1 attention to no token in common. Heads are averaged "
        "first.",
        source="Lin, Divergence Measures Based on the Shannon Entropy (1991)",
        figure=figure,
    )


def attention_overview(model: Model, read: Tensor | ForwardPass, stack: str = "self") -> Plot:
    """Draw the attention maps of all layers and heads for one text, small and without labels.

    Arguments and errors are those of `attention_maps`.
    """
    maps_LHTS = _maps(model, read, stack)
    num_layers, num_heads, num_queries, num_keys = maps_LHTS.shape
    figure = new_figure(WIDTH, 0.5 + 0.94 * WIDTH * num_layers / num_heads * min(1.0, num_queries / num_keys))
    words = ("head ", "layer ") if num_heads <= MAX_WORDS else ("", "")
    panels = figure.subplots(num_layers, num_heads, squeeze=False)
    for (layer, head), panel in np.ndenumerate(panels):
        _draw_map(panel, maps_LHTS[layer, head], is_causal(model, stack))
        panel.set(xticks=[], yticks=[])
        if layer == 0:
            panel.set_title(f"{words[0]}{head}", fontsize="small")
        if head == 0:
            panel.set_ylabel(f"{words[1]}{layer}", fontsize="small")
    return Plot(
        name="attention_overview",
        title="Attention maps of all heads",
        caption="Each square is one head on one example: rows are queries, columns keys (darker is more, on a scale of "
        "square roots). A diagonal line is attention at a fixed distance, a vertical one attention to one token from "
        "everywhere.",
        figure=figure,
    )


def attention_maps(
    model: Model,
    read: Tensor | ForwardPass,
    labels: Sequence[str],
    key_labels: Sequence[str] | None = None,
    stack: str = "self",
) -> list[Plot]:
    """Draw the attention maps of one short text with its tokens along the axes, a picture for each layer.

    Heads stand two in a row, or one in a row if the text has more than 32 tokens.

    Args:
        model: in evaluation mode.
        read: token ids of the text, (T,), on the device of the model, or what has the model read it. The text has at
            most `MAX_TEXT_LENGTH` tokens.
        labels: text of each query; white space is made visible.
        key_labels: text of each key; None: those of the queries.
        stack: name of the attention, of `model.stacks`.

    Raises:
        ValueError: for a longer text, or labels that are not one for each token.
    """
    key_labels = labels if key_labels is None else key_labels
    if isinstance(read, Tensor) and len(labels) != len(read):
        raise ValueError(f"labels must be one for each of the {len(read)} tokens, got {len(labels)}")
    maps_LHTS = _maps(model, read, stack)
    if maps_LHTS.shape[-2:] != (len(labels), len(key_labels)):
        raise ValueError(f"labels must be those of {maps_LHTS.shape[-2:]} tokens, got {len(labels), len(key_labels)}")
    queries, keys = ([visible_label(label) for label in own] for own in (labels, key_labels))
    longest = max(len(queries), len(keys))
    columns = 2 if longest <= 32 and maps_LHTS.shape[1] > 1 else 1
    size = min(8.0, 0.72 * 72 * WIDE / columns / longest)  # points of a panel's side that each token has
    height = WIDE / columns * min(1.0, len(queries) / len(keys) + 0.25)
    pictures = []
    for layer, maps_HTS in enumerate(maps_LHTS):
        figure, panels = panel_grid(len(maps_HTS), columns, WIDE, height)
        for head, (panel, weights) in enumerate(zip(panels.flat, maps_HTS, strict=False)):
            _draw_map(panel, weights, is_causal(model, stack))
            panel.set_xticks(range(len(keys)), keys, rotation=90, fontsize=size, parse_math=False)
            panel.set_yticks(range(len(queries)), queries, fontsize=size, parse_math=False)
            panel.set_title(f"layer {layer}, head {head}", fontsize="medium")
        caption = "Each row is a query, each column a key; darker is more, on a scale of square roots."
        if is_causal(model, stack):
            caption += " The model uses a row to predict the token after it."
        name, title = f"attention_layer_{layer}", f"Attention of layer {layer}"
        pictures.append(Plot(name, title, caption, figure, shrinks=False))
    return pictures


def _maps(model: Model, read: Tensor | ForwardPass, stack: str) -> np.ndarray:
    """Return the attention weights of one example, (L, H, T, S), of its first `MAX_QUERIES`."""
    if isinstance(read, Tensor):
        if not 1 <= len(read) <= MAX_TEXT_LENGTH:
            raise ValueError(f"tokens must be 1 to {MAX_TEXT_LENGTH} of one text, got {len(read)}")
        read = read.unsqueeze(0)
    blocks = attention_rows(model, read, rows=MAX_QUERIES, stack=stack)
    return torch.stack([block.weights[0] for block in blocks if block.start == 0]).float().cpu().numpy()


def _draw_map(panel: Axes, weights_TS: np.ndarray, causal: bool) -> None:
    hidden = np.triu(np.ones_like(weights_TS, dtype=bool), 1) & causal
    # Square roots make small weights visible beside large ones.
    panel.imshow(np.ma.masked_array(np.sqrt(weights_TS), hidden), cmap="Blues", vmin=0, vmax=1)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(length=1.5, pad=1)


def heat_map(panel: Axes, values: np.ndarray, written: bool, deepest: float | None = None) -> None:
    """Draw numbers of at least 0, (rows, columns) with NaN for gaps, as colours.

    Args:
        panel: to draw in.
        values: the numbers.
        written: shows each number in its cell, instead of a colour scale beside them.
        deepest: number of the deepest colour; None is the largest.
    """
    deepest = float(np.nanmax(values)) if deepest is None else deepest
    image = panel.imshow(values, cmap="Blues", aspect="auto", vmin=0, vmax=deepest)
    panel.set_xticks(range(values.shape[1]))
    panel.set_yticks(range(values.shape[0]))
    panel.tick_params(length=0, labelsize="small")
    if not written:
        panel.figure.colorbar(image, ax=panel)
        return
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value > 0.6 * deepest else "black"
        panel.text(column, row, _short(value), ha="center", va="center", fontsize="small", color=colour)


def visible_label(token: str) -> str:
    """Return the label of a token: white space as signs, and at most 12 characters."""
    token = token.translate(str.maketrans(" \n\t", "\N{OPEN BOX}\N{RETURN SYMBOL}\N{RIGHTWARDS ARROW}"))
    return token if len(token) <= MAX_LABEL_LENGTH else token[: MAX_LABEL_LENGTH - 1] + "\N{HORIZONTAL ELLIPSIS}"


def distance_panels(names: Sequence[str], quantity: str, height: float = 2.5) -> tuple[Figure, np.ndarray]:
    """Return a figure with a panel of this height for each name, (rows, columns), whose x axes are distances."""
    columns = min(2, len(names))
    labels = {"xlabel": "distance (tokens)", "ylabel": quantity}
    figure, panels = panel_grid(len(names), columns, WIDTH, height, margin=1.0, sharex=True, sharey=True, **labels)
    for panel, name in zip(panels.flat, names, strict=False):
        panel.set_xscale("symlog", linthresh=1, linscale=0.5)
        panel.set_title(name, fontsize="medium")
    return figure, panels


def head_style(head: int) -> Style:
    """Return the colour and line of a head."""
    return without_marker(style(head))


def head_legend(figure: Figure, panel: Axes) -> None:
    """Add the heads drawn in a panel as the legend of a figure."""
    lines = panel.get_legend_handles_labels()
    figure.legend(*lines, title="head", loc="outside lower center", ncols=8, frameon=False)


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _binned(distance: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means over distances of about equal logarithm and sign; 0 and the nearest distances stay apart."""
    away = np.abs(distance)
    bins = np.where(away, np.sign(distance) * (1 + np.floor(BINS_PER_OCTAVE * np.log2(np.maximum(away, 1)))), 0)
    of_bin = pd.DataFrame({"distance": distance, "values": values}).groupby(bins).mean()
    return of_bin["distance"].to_numpy(), of_bin["values"].to_numpy()
