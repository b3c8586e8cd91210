"""Attention of one short text: its rows, and maps of them.

Dimension letters: L layers, H heads, T queries, S keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from poslab.attention.blockwise import BLOCK
from poslab.attention.observed import AttentionInputs, of_encodings, reaching
from poslab.models import ForwardPass, Model
from poslab.report.figures import WIDTH, Plot, new_figure, panel_grid

MAX_TEXT_LENGTH = 64  # tokens whose labels are legible along an axis of `WIDE` inches
MAX_LABEL_LENGTH = 12  # most characters of the label of a token

MAX_QUERIES = 1024
"""Queries of a map; only examples without labels, such as images, have more than `MAX_TEXT_LENGTH`."""

WIDE = 8.0  # inches of plots with the text of each token
MAX_WORDS = 8  # heads above which a row of small maps has room only for their numbers


def attention_overview(model: Model, inputs: Tensor | ForwardPass, stack: str = "self") -> Plot:
    """Draw the attention maps of all layers and heads for one text, small and without labels.

    Arguments and errors are as in `attention_maps`.
    """
    maps_LHTS = _maps(model, inputs, stack)
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
    inputs: Tensor | ForwardPass,
    labels: Sequence[str],
    key_labels: Sequence[str] | None = None,
    stack: str = "self",
) -> list[Plot]:
    """Draw the attention maps of one short text with its tokens along the axes, a plot for each layer.

    Heads are two in a row, or one in a row if the text has more than 32 tokens.

    Args:
        model: in evaluation mode.
        inputs: token ids of the text, (T,), on the device of the model, or a forward pass. The text has at most
            `MAX_TEXT_LENGTH` tokens.
        labels: text of each query; white space is made visible.
        key_labels: text of each key; None: the labels of the queries.
        stack: name of the attention, of `model.stacks`.

    Raises:
        ValueError: for a longer text, or labels that are not one for each token.
    """
    key_labels = labels if key_labels is None else key_labels
    if isinstance(inputs, Tensor) and len(labels) != len(inputs):
        raise ValueError(f"labels must be one for each of the {len(inputs)} tokens, got {len(labels)}")
    maps_LHTS = _maps(model, inputs, stack)
    if maps_LHTS.shape[-2:] != (len(labels), len(key_labels)):
        raise ValueError(f"labels must name {maps_LHTS.shape[-2:]} tokens, got {len(labels), len(key_labels)}")
    queries, keys = ([visible_label(label) for label in texts] for texts in (labels, key_labels))
    longest = max(len(queries), len(keys))
    columns = 2 if longest <= 32 and maps_LHTS.shape[1] > 1 else 1
    size = min(8.0, 0.72 * 72 * WIDE / columns / longest)  # points of a panel's side that each token has
    height = WIDE / columns * min(1.0, len(queries) / len(keys) + 0.25)
    plots = []
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
        plots.append(Plot(name, title, caption, figure, shrinks=False))
    return plots


def _maps(model: Model, inputs: Tensor | ForwardPass, stack: str) -> np.ndarray:
    """Return the attention weights of one example, (L, H, T, S), of its first `MAX_QUERIES`."""
    if isinstance(inputs, Tensor):
        if not 1 <= len(inputs) <= MAX_TEXT_LENGTH:
            raise ValueError(f"tokens must be 1 to {MAX_TEXT_LENGTH} of one text, got {len(inputs)}")
        inputs = inputs.unsqueeze(0)
    blocks = attention_rows(model, inputs, rows=MAX_QUERIES, stack=stack)
    return torch.stack([block.weights[0] for block in blocks if block.start == 0]).float().cpu().numpy()


def _draw_map(panel: Axes, weights_TS: np.ndarray, causal: bool) -> None:
    hidden = np.triu(np.ones_like(weights_TS, dtype=bool), 1) & causal
    # Square roots make small weights visible next to large ones.
    panel.imshow(np.ma.masked_array(np.sqrt(weights_TS), hidden), cmap="Blues", vmin=0, vmax=1)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(length=1.5, pad=1)


def visible_label(token: str) -> str:
    """Return the label of a token: white space as signs, and at most 12 characters."""
    token = token.translate(str.maketrans(" \n\t", "\N{OPEN BOX}\N{RETURN SYMBOL}\N{RIGHTWARDS ARROW}"))
    return token if len(token) <= MAX_LABEL_LENGTH else token[: MAX_LABEL_LENGTH - 1] + "\N{HORIZONTAL ELLIPSIS}"


class RowsOfLayer(NamedTuple):
    """The attention weights of a block of query rows of one layer.

    Args:
        layer: counted from 0.
        start: the first of the queries.
        weights: (B, H, R, S) float32 (float64 for a model in float64). In a causal layer S = start + R: later keys are
            left out, since none of these queries sees them. Else S is all keys. Rows sum to 1 under a softmax, to at
            most 1 under stick-breaking.
    """

    layer: int
    start: int
    weights: Tensor

    @property
    def distance(self) -> Tensor:
        """Tokens from each key to each query of the same text, (R, S); negative for keys ahead."""
        rows, keys = self.weights.shape[-2:]
        device = self.weights.device
        queries = torch.arange(self.start, self.start + rows, device=device)
        return queries.view(rows, 1) - torch.arange(keys, device=device)


def is_readable(model: Model, forward: ForwardPass | None = None) -> bool:
    """Return whether a model attends with contexts (`AttentionContext.attend`), so that its weights can be read.

    The forward pass is of a token of text for None.
    """
    token = torch.zeros(1, 1, dtype=torch.int64, device=next(model.parameters()).device)
    texts = (token, token) if "source" in model.capabilities else (token,)
    return bool(_observed(model, forward or (lambda model: model(*texts))))


def attention_rows(
    model: Model, inputs: Tensor | ForwardPass, rows: int = BLOCK, stack: str = "self"
) -> Iterator[RowsOfLayer]:
    """Return the attention weights of every layer and head, blocks of query rows in order, layer after layer.

        for layer, start, weights_BHRS in attention_rows(model, tokens_BT):
            ...

    The model runs once, on its own attention route; then the definition (as in the blockwise route) makes the weights
    of a block in float32 from the queries and keys of its layer. Memory has both of all layers, (L, B, H + G, T, D),
    and the weights of one block, (B, H, rows, T), never T x T.

    Inputs are token ids (B, T), on the device of the model, or a forward pass; the stack is a name of `model.stacks`.
    ValueError at once, for rows below 1, or a text past the end of the model's encoding.
    """
    if rows < 1:
        raise ValueError(f"rows must be a positive integer, got {rows}")
    return rows_of(capture_attention(model, inputs, stack), rows)


def capture_attention(model: Model, inputs: Tensor | ForwardPass, stack: str = "self") -> list[AttentionInputs]:
    """Return what reaches the attention of every layer in a forward pass, without gradients.

    ValueError for tokens that are not rows of at least one, or a text past the end of the model's encoding.
    """
    if isinstance(inputs, Tensor):
        if inputs.dim() != 2 or inputs.numel() == 0:
            raise ValueError(f"tokens must be rows of at least one token each, got the shape {tuple(inputs.shape)}")
        tokens_BT = inputs  # not the logits, which take much memory for a long text
        captured = _observed(model, lambda model: model.hidden_states(tokens_BT))
    else:
        captured = _observed(model, inputs)
    return of_encodings(captured, model.stacks[stack]) if len(model.stacks) > 1 else captured


def _observed(model: Model, forward: ForwardPass) -> list[AttentionInputs]:
    """Return what reaches attention in a forward pass: every context that a module is given shows it."""
    with reaching(model) as captured, torch.no_grad():
        forward(model)
    return captured


def rows_of(captured: list[AttentionInputs], rows: int) -> Iterator[RowsOfLayer]:
    """Yield the weights of `attention_rows` from what reached the attention of each layer."""
    for layer, reached in enumerate(captured):
        with torch.no_grad():  # never around a yield: it would apply to the caller as well
            q_BHTD, k_BHSD, weighting = reached.rotate_qk()
        num_queries = q_BHTD.shape[2]
        for start in range(0, num_queries, rows):
            with torch.no_grad():
                q_BHRD = q_BHTD[:, :, start : start + rows]
                weights_BHRS, _ = weighting.of_block(q_BHRD, start, num_queries, k_BHSD)
            yield RowsOfLayer(layer, start, weights_BHRS)


def is_causal(model: Model, stack: str) -> bool:
    """Return whether a query of a stack sees no key after itself."""
    return attends_to_itself(stack) and model.stacks[stack].shape.causal


def attends_to_itself(stack: str) -> bool:
    """Return whether queries and keys of a stack are of the same text, so that distances have a meaning."""
    return stack != "cross"
