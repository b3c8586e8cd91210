"""Attention weights of a model, some query rows at a time, for any encoding and any attention route.

Dimension letters: B batch, H heads, G key-value heads, T tokens, R queries of a block, S keys of a block, N tokens of a
source, D head dim, E numbers of a token's state, M model dim, L layers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from poslab.attention import AttentionContext, MultiHeadAttention
from poslab.attention.attend import as_they_meet
from poslab.attention.blockwise import BLOCK, in_float32_for_each_head, weights_of_block
from poslab.encodings import Positions
from poslab.models import Model

Reading = Callable[[Model], object]
"""A forward pass of a model over texts without padding, such as `lambda model: model(tokens_BT)`."""


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


class LayerInput(NamedTuple):
    """Input of a layer's attention, (B, T, M), its context, and the states of a source to attend to, (B, N, M)."""

    attention: MultiHeadAttention
    inputs: Tensor
    context: AttentionContext
    memory: Tensor | None = None

    def projected(self) -> tuple[Tensor, Tensor, float | Tensor, Tensor | None]:
        """Return queries, keys of each head, their scale and the encoding's state, as the definition reads them."""
        context = self.context
        q_BHTD, k_BGSD, _, state_BHSE = self.attention.project(self.inputs, context, self.memory)
        q_BHTD, k_BGSD, scale = as_they_meet(
            q_BHTD, k_BGSD, context.encoding, context.tables, context.visibility, context.temperature
        )
        return q_BHTD, in_float32_for_each_head(k_BGSD, q_BHTD), scale, state_BHSE


def is_readable(model: Model) -> bool:
    """Return whether the blocks of a model attend with `MultiHeadAttention`, of which weights can be read."""
    return any(isinstance(x, MultiHeadAttention) for site in model.attention_sites for x in site.modules())


def attention_rows(
    model: Model, read: Tensor | Reading, positions: Positions | None = None, rows: int = BLOCK, stack: str = "self"
) -> Iterator[RowsOfLayer]:
    """Return the attention weights of every layer and head, blocks of query rows in order, layer after layer.

        for layer, start, weights_BHRS in attention_rows(model, tokens_BT):
            ...

    The model runs once, on its own attention route; then the definition (that of the blockwise route) makes the weights
    of a block in float32 from the input of its layer. Memory holds the inputs of all layers, (L, B, T, M), and the
    weights of one block, (B, H, rows, T), never T x T.

    Args:
        model: in evaluation mode.
        read: token ids (B, T), on the device of the model, or what has the model read.
        positions: of token ids; None is 0, 1, ...
        rows: queries of a block, at least 1.
        stack: name of the attention, of `model.stacks`.

    Raises:
        ValueError: at once, for a value outside of these, or a text past the end of the model's encoding.
    """
    if rows < 1:
        raise ValueError(f"rows must be a positive integer, got {rows}")
    return _rows_of(layer_inputs(model, read, positions, stack), rows)


def layer_inputs(
    model: Model, read: Tensor | Reading, positions: Positions | None = None, stack: str = "self"
) -> list[LayerInput]:
    """Return the input of every layer's attention while the model reads, without gradients.

    Raises:
        ValueError: for tokens that are not rows of at least one, or a text past the end of the model's encoding.
    """
    if isinstance(read, Tensor) and (read.dim() != 2 or read.numel() == 0):
        raise ValueError(f"tokens must be rows of at least one token each, got the shape {tuple(read.shape)}")
    seen: list[LayerInput] = []

    def note(attention: Any, arguments: tuple[Any, ...]) -> None:
        seen.append(LayerInput(attention, *arguments))

    with contextlib.ExitStack() as hooks, torch.no_grad():
        for attention in (x for x in model.modules() if isinstance(x, MultiHeadAttention)):
            hooks.enter_context(attention.register_forward_pre_hook(note))
        if isinstance(read, Tensor):
            model.hidden_states(read, positions)  # not the logits, which take much memory for a long text
        else:
            read(model)
    if len(model.stacks) == 1:
        return seen
    own = {id(encoding) for encoding in model.stacks[stack]}
    return [one for one in seen if id(one.context.encoding) in own]


def _rows_of(inputs: list[LayerInput], rows: int) -> Iterator[RowsOfLayer]:
    for layer, reached in enumerate(inputs):
        context = reached.context
        with torch.no_grad():  # never around a yield: it would hold for the caller as well
            q_BHTD, k_BHSD, scale, state_BHSE = reached.projected()
        num_queries = q_BHTD.shape[2]
        for start in range(0, num_queries, rows):
            with torch.no_grad():
                q_BHRD = q_BHTD[:, :, start : start + rows]
                under = (context.encoding, context.tables, context.visibility, scale, state_BHSE)
                weights_BHRS, _ = weights_of_block(q_BHRD, start, num_queries, k_BHSD, *under)
            yield RowsOfLayer(layer, start, weights_BHRS)
