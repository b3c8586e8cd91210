"""The plots of docs/encodings.md, which `python docs/make.py encodings` draws.

What an encoding does to attention is shown as its own hooks compute it, for one query and all keys. Queries and keys
are equal vectors whose logit is 1 without an encoding, so that a curve shows position and nothing else.

Dimension letters: H heads, S key positions, T positions, D head dim, M model dim, N curves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import matplotlib
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from pages.documented_choices import TRAINING_LENGTH
from poslab.encodings import (
    PositionalEncoding,
    Positions,
    PositionSampler,
    QueryRows,
    Rotary,
    StackEncodings,
    StackShape,
    Temperature,
    Tokens,
)
from poslab.encodings.sampling.places import PlaceSampler, SequenceSampler

MakeStack = Callable[[bool], StackEncodings]
"""Makes the encodings of a stack that is causal or not, with fresh parameters from torch's global generator."""

QUERIES = (100, 400, 1_000)
SEEDS = 8
STICK_LOGITS = (0.0, -2.0, -4.0)
NEAR = (32, 128)
"""A plot ends at the first of these distances beyond which a curve hardly changes."""

FLOOR = -40.0
"""A change of the logit below this leaves nothing of a key, and is not drawn."""

AVERAGED = 33
"""Distances in the running mean of a rotation."""

GREY = "0.6"
QUERY_COLOURS = ("tab:blue", "tab:orange", "tab:green")
DISTANCE_LABEL = "distance = query position - key position"
CHANGE_LABEL = "change of the logit"

matplotlib.use("agg")

styled = matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
"""Decorator of what draws; settings of matplotlib at large stay as they are."""


@styled
def draw_encoding(kind: str, make: MakeStack, shape: StackShape) -> Figure:
    """Draw an encoding.

    Args:
        kind: one of `PICTURES`.
        make: makes its stack.
        shape: of the stack in a decoder.
    """
    torch.manual_seed(0)
    return PICTURES[kind](make, shape)


def logit_change(
    encoding: PositionalEncoding,
    shape: StackShape,
    query: int,
    num_keys: int,
    *,
    causal: bool = True,
    direction_HD: Tensor | None = None,
) -> Tensor:
    """Return the logits of one query and all keys under an encoding, less the 1 that they are without it, (H, S).

    Args:
        encoding: of one layer.
        shape: of its stack.
        query: position of the query.
        num_keys: S; the keys are at 0, 1, 2, ...
        causal: whether the query sees no key ahead of it.
        direction_HD: of all queries and keys; None is the same in all channels.
    """
    if direction_HD is None:
        direction_HD = torch.ones(shape.num_heads, shape.head_dim)
    vector_HD = functional.normalize(direction_HD, dim=-1) * shape.head_dim**0.25
    vectors_BHSD = vector_HD[None, :, None].repeat(1, 1, num_keys, 1)
    positions, row = Positions.range(num_keys), slice(query, query + 1)
    tables = encoding.prepare(positions, positions)
    state_BHSE = encoding.state(torch.randn(1, num_keys, shape.d_model), positions, None)
    scale = shape.head_dim**-0.5 * encoding.scale(tables)
    rows = QueryRows(
        tables,
        row,
        query,
        scale,
        (torch.arange(num_keys) <= query).expand(1, 1, 1, -1) if causal else None,
        None if state_BHSE is None else state_BHSE[:, :, row],
        state_BHSE,
    )
    turning = tables if state_BHSE is None else encoding.with_state(tables, state_BHSE, state_BHSE)
    q_BHRD = encoding.rotate_query(vectors_BHSD, turning)[:, :, row]
    return encoding.logits(q_BHRD, encoding.rotate_key(vectors_BHSD, turning), rows)[0, :, 0] - 1


def change_by_distance(
    encoding: PositionalEncoding, shape: StackShape, furthest: int, causal: bool, direction_HD: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return distances (S,) up to the furthest, on both sides unless causal, and `logit_change` at each, (H, S)."""
    num_keys = furthest + 1 if causal else 2 * furthest + 1
    change_HS = logit_change(encoding, shape, furthest, num_keys, causal=causal, direction_HD=direction_HD)
    return furthest - torch.arange(num_keys), change_HS


def changes_by_content(
    make: Callable[[], PositionalEncoding], shape: StackShape, furthest: int, causal: bool
) -> tuple[Tensor, Tensor]:
    """Return the distances (S,), and `change_by_distance` of all heads of several draws of weights and tokens, (N, S).

    Args:
        make: draws an encoding of one layer.
        shape: of its stack.
        furthest: distance, on both sides unless causal.
        causal: whether the query sees no key ahead of it.
    """
    changes = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        encoding = make()
        for parameter in encoding.parameters():
            if parameter.dim() > 1 and not parameter.any():  # a table that begins at zero would show nothing
                torch.nn.init.normal_(parameter, std=shape.head_dim**-0.5)
        direction_HD = torch.randn(shape.num_heads, shape.head_dim)
        distance_S, change_HS = change_by_distance(encoding, shape, furthest, causal, direction_HD)
        changes.append(change_HS.detach())
    return distance_S, torch.cat(changes)


def position_products(encoding: PositionalEncoding, shape: StackShape, query: int) -> Tensor:
    """Return the products of what is added at 0, ..., query and at the query, over the last product, (T,)."""
    one_number = Tokens(torch.full((1, query + 1), shape.digits[0]))
    added_TM = encoding.embed(torch.zeros(1, query + 1, shape.d_model), Positions.range(query + 1), one_number)[0]
    products_T = added_TM @ added_TM[-1]
    return products_T / products_T[-1]


def bias_curves(make: MakeStack, shape: StackShape) -> Figure:
    """Draw a curve for each head."""
    causal = make(True).layer(0).causal_only or not make(True).layer(0).hooks
    distance_S, change_HS = change_by_distance(make(causal).layer(0), shape, TRAINING_LENGTH, causal)
    figure, axes = _axes(DISTANCE_LABEL, CHANGE_LABEL)
    _heads(axes, distance_S, change_HS)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    _zoom(axes, distance_S, change_HS)
    return figure


def rotation_curve(make: MakeStack, shape: StackShape) -> Figure:
    """Draw the mean over channels, next to the mean of the plain rotation."""
    furthest = 4 * TRAINING_LENGTH
    distance_S, change_HS = change_by_distance(make(True).layer(0), shape, furthest, causal=True)
    _, plain_HS = change_by_distance(Rotary(shape.head_dim), shape, furthest, causal=True)
    figure, axes = _axes(DISTANCE_LABEL, CHANGE_LABEL)
    if not torch.equal(change_HS, plain_HS):
        _with_running_mean(axes, distance_S, plain_HS[0], GREY, "rotary")
    _with_running_mean(axes, distance_S, change_HS[0].detach(), "tab:blue", "this encoding")
    axes.axvline(TRAINING_LENGTH, color="black", linestyle=":", linewidth=1, label="training length")
    _legend(axes)
    return figure


def content_band(make: MakeStack, shape: StackShape) -> Figure:
    """Draw the mean and the spread over random weights and tokens, and one head of one draw."""
    causal = make(True).layer(0).causal_only
    distance_S, change_NS = changes_by_content(lambda: make(causal).layer(0), shape, TRAINING_LENGTH, causal)
    figure, axes = _axes(DISTANCE_LABEL, CHANGE_LABEL)
    _band(axes, distance_S, change_NS)
    _legend(axes)
    _zoom(axes, distance_S, change_NS)
    return figure


def query_curves(make: MakeStack, shape: StackShape) -> Figure:
    """Draw the first head, for queries at several positions."""
    encoding = make(True).layer(0)
    figure, axes = _axes(DISTANCE_LABEL, CHANGE_LABEL)
    for query, colour in reversed([*zip(_queries(encoding), QUERY_COLOURS, strict=True)]):
        change_S = logit_change(encoding, shape, query, query + 1)[0].detach()
        axes.plot(query - torch.arange(query + 1), change_S, color=colour, linewidth=1, label=f"query at {query:,}")
    _legend(axes)
    return figure


def embedding_curves(make: MakeStack, shape: StackShape) -> Figure:
    """Draw the inner products of position parts, for queries at several positions."""
    encoding = make(True).eval().layer(0)
    figure, axes = _axes(DISTANCE_LABEL, "inner product of positions")
    for query, colour in reversed([*zip(_queries(encoding), QUERY_COLOURS, strict=True)]):
        products_T = position_products(encoding, shape, query).detach()
        axes.plot(query - torch.arange(query + 1), products_T, color=colour, linewidth=1, label=f"query at {query:,}")
    _legend(axes)
    return figure


def neighbour_curve(make: MakeStack, shape: StackShape) -> Figure:
    """Draw the length of what one embedding adds to a token at each distance, over its mean length."""
    encoding, furthest = make(False).layer(0), NEAR[1]
    distance_T = furthest - torch.arange(2 * furthest + 1)
    alone_TTM = torch.eye(len(distance_T)).unsqueeze(-1) * torch.randn(shape.d_model)
    embedded_TTM = encoding.embed(alone_TTM, Positions.range(len(distance_T))).detach()
    length_T = (embedded_TTM - alone_TTM)[:, furthest].norm(dim=-1)
    figure, axes = _axes(DISTANCE_LABEL, "length of what is added")
    axes.plot(distance_T, length_T / length_T[length_T > 0].mean(), color="tab:blue")
    return figure


def stick_curves(make: MakeStack, shape: StackShape) -> Figure:
    """Draw the attention weights of equal keys, which no softmax makes."""
    encoding, furthest = make(True).layer(0), NEAR[0]
    distance_S = furthest - torch.arange(furthest + 1)
    visible = (distance_S > 0).expand(1, 1, 1, -1)
    figure, axes = _axes(DISTANCE_LABEL, "attention weight")
    for logit, colour in zip(STICK_LOGITS, QUERY_COLOURS, strict=True):
        weights_BHRS = encoding.weights(torch.full((1, 1, 1, furthest + 1), logit), visible)
        axes.plot(distance_S[:-1], weights_BHRS[0, 0, 0, :-1], ".-", color=colour, label=f"all logits {logit:g}")
    axes.axhline(1 / furthest, color=GREY, linewidth=0.9, label=f"softmax over {furthest} keys")
    _legend(axes)
    return figure


def layer_panels(make: MakeStack, shape: StackShape) -> Figure:
    """Draw a panel for each kind of layer, as far as it sees."""
    stack, furthest = make(True), 2 * TRAINING_LENGTH
    kinds: dict[tuple[str, int | None], list[int]] = {}
    for layer, window in enumerate(stack.windows):
        kinds.setdefault((type(stack.layer(layer)).__name__, window), []).append(layer)
    figure, panels = pyplot.subplots(1, len(kinds), figsize=(6.4, 3.2), dpi=100, layout="constrained", sharex=True)
    for panel, ((name, window), layers) in zip(panels, kinds.items(), strict=True):
        if "state" in stack.layer(layers[0]).hooks:
            layer = partial(_layer, make, layers[0])
            draw, (distance_S, changes) = _band, changes_by_content(layer, shape, furthest, causal=True)
        else:
            draw, (distance_S, changes) = (
                _heads,
                change_by_distance(stack.layer(layers[0]), shape, furthest, causal=True),
            )
        seen = distance_S < (furthest + 1 if window is None else window)
        draw(panel, distance_S[seen], changes[:, seen])
        _legend(panel)
        if window is not None:
            panel.axvspan(window, furthest, color="0.92", linewidth=0)
            panel.text((window + furthest) / 2, panel.get_ylim()[0], "not seen", ha="center", va="bottom", color="0.4")
        which = ", ".join(str(layer + 1) for layer in layers)
        panel.set_title(f"layer{'s' if len(layers) > 1 else ''} {which}: {name}", fontsize=9)
        panel.set_xlabel("distance")
    panels[0].set_ylabel(CHANGE_LABEL)
    return figure


def _layer(make: MakeStack, number: int) -> PositionalEncoding:
    return make(True).layer(number)


@styled
def draw_temperature(temperature: Temperature) -> Figure:
    """Draw the factor on the logits against the number of visible keys."""
    visible_BT = torch.arange(1.0, 8 * TRAINING_LENGTH + 1)[None]
    factor_T = temperature(visible_BT).detach()[0, 0, :, 0]
    figure, axes = _axes("visible keys", "factor on the logits")
    axes.plot(visible_BT[0], factor_T, color="tab:blue")
    axes.axhline(1, color=GREY, linewidth=0.9, label="no temperature")
    axes.axvline(TRAINING_LENGTH, color="black", linestyle=":", linewidth=1, label="training length")
    _legend(axes)
    return figure


@styled
def draw_positions(sampler: PositionSampler) -> Figure:
    """Draw how far three training texts are moved, or where patches are."""
    if isinstance(sampler, PlaceSampler):
        return draw_places(sampler)
    figure, axes = _axes("index of a token in its text", "drawn position - index")
    for seed, colour in enumerate(QUERY_COLOURS):
        torch.manual_seed(seed)
        places = Positions.range(TRAINING_LENGTH)
        moved_T = sampler.train()(places, 1).ids.reshape(-1) - places.ids
        axes.plot(places.ids, moved_T, color=colour, linewidth=1, label=f"draw {seed + 1}")
    _show_flatness(axes)
    _legend(axes)
    return figure


def draw_places(sampler: PlaceSampler) -> Figure:
    """Draw the coordinates of an image, or of an image between words, on each axis."""
    figure, axes = _axes("index of a token in storage", "coordinate")
    picture = torch.tensor([[6, 6]])
    if isinstance(sampler, SequenceSampler):
        word = torch.ones(6, 3, dtype=torch.int64)
        picture = torch.cat([word, torch.tensor([[1, 5, 5]]), word])
    positions = Positions.grids(picture, int(picture.prod(-1).sum()), picture.amax(0).tolist())
    torch.manual_seed(0)
    places = sampler.train()(positions, 1).places
    assert places is not None
    coordinates = places.coordinates.reshape(-1, len(places.axes))
    for axis, (name, colour) in enumerate(zip(places.axes, QUERY_COLOURS, strict=False)):
        axes.plot(positions.ids, coordinates[:, axis], color=colour, linewidth=1, marker=".", markersize=3, label=name)
    _legend(axes)
    return figure


PICTURES: dict[str, Callable[[MakeStack, StackShape], Figure]] = {
    "bias": bias_curves,
    "rotation": rotation_curve,
    "content": content_band,
    "queries": query_curves,
    "embedding": embedding_curves,
    "neighbours": neighbour_curve,
    "stick": stick_curves,
    "layers": layer_panels,
}


def _axes(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure, axes = pyplot.subplots(figsize=(6.4, 3.2), dpi=100, layout="constrained")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes


def _heads(axes: Axes, distance_S: Tensor, change_HS: Tensor) -> None:
    """Draw a curve for each head, or one where all are alike."""
    change_HS = change_HS.detach()
    if torch.allclose(change_HS, change_HS[:1].expand_as(change_HS), atol=1e-5):
        axes.plot(distance_S, change_HS[0], color="tab:blue", label="all heads")
    else:
        colours = matplotlib.colormaps["viridis"](torch.linspace(0, 0.9, len(change_HS)).numpy())
        for head, (change_S, colour) in enumerate(zip(change_HS, colours, strict=True), 1):
            axes.plot(distance_S, change_S, color=colour, linewidth=1.2, label=f"head {head}")
    _show_flatness(axes)


def _band(axes: Axes, distance_S: Tensor, change_NS: Tensor) -> None:
    """Draw the mean and the spread of heads, and one of them."""
    low_S, high_S = change_NS.quantile(torch.tensor([0.1, 0.9]), dim=0)
    axes.plot(distance_S, change_NS[0], color="tab:orange", linewidth=0.6, alpha=0.5, label="one head")
    axes.fill_between(distance_S, low_S, high_S, color="tab:blue", alpha=0.3, linewidth=0, label="middle 8 of 10 heads")
    axes.plot(distance_S, change_NS.mean(0), color="tab:blue", label="mean of heads")


def _with_running_mean(axes: Axes, distance_S: Tensor, change_S: Tensor, colour: str, label: str) -> None:
    """Draw a curve that waves too fast to be seen in a pale colour, and its mean over neighbouring distances."""
    axes.plot(distance_S, change_S, color=colour, linewidth=0.6, alpha=0.4)
    mean_S = change_S.unfold(0, AVERAGED, 1).mean(-1)
    axes.plot(distance_S[AVERAGED // 2 : -(AVERAGED // 2)], mean_S, color=colour, label=label)


def _show_flatness(axes: Axes) -> None:
    """Keep an axis from magnifying rounding errors of a flat curve."""
    low, high = axes.get_ylim()
    if high - low < 0.2:
        axes.set_ylim(low - 0.5, high + 0.5)


def _legend(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize=8)


def _zoom(axes: Axes, distance_S: Tensor, change_NS: Tensor) -> None:
    """Leave out changes below the floor, and far distances at which nothing changes any more."""
    change_NS = change_NS.detach().clamp_min(FLOOR)
    if change_NS.min() <= FLOOR:
        axes.set_ylim(FLOOR, float(change_NS.max()) + 1)
    tolerance = 0.02 * (change_NS.max() - change_NS.min())
    for nearest in NEAR:
        far_NS = [change_NS[:, side] for side in (distance_S > nearest, distance_S < -nearest) if side.any()]
        if all((far.amax(1) - far.amin(1) <= tolerance).all() for far in far_NS):
            axes.set_xlim(-nearest if distance_S[-1] < 0 else 0, nearest)
            return


def _queries(encoding: PositionalEncoding) -> Sequence[int]:
    """Return the positions of queries, within what the encoding is defined for."""
    end = encoding.max_length
    return QUERIES if end is None else [query * (end - 1) // QUERIES[-1] for query in QUERIES]
