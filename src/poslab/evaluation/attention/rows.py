"""Attention weights of a model, some query rows at a time, for any encoding and any attention route.

Dimension letters: B batch, H heads, G key-value heads, T tokens, R queries of a block, S keys, D head dim, E numbers of
a token's state, L layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from poslab.attention.blockwise import BLOCK
from poslab.attention.observed import AttentionInputs, of_encodings, reaching
from poslab.encodings import Positions
from poslab.models import ForwardPass, Model


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

    Args:
        model: in evaluation mode.
        forward: a forward pass; None is one of a token of text.
    """
    token = torch.zeros(1, 1, dtype=torch.int64, device=next(model.parameters()).device)
    texts = (token, token) if "source" in model.capabilities else (token,)
    return bool(_observed(model, forward or (lambda model: model(*texts))))


def attention_rows(
    model: Model,
    inputs: Tensor | ForwardPass,
    positions: Positions | None = None,
    rows: int = BLOCK,
    stack: str = "self",
) -> Iterator[RowsOfLayer]:
    """Return the attention weights of every layer and head, blocks of query rows in order, layer after layer.

        for layer, start, weights_BHRS in attention_rows(model, tokens_BT):
            ...

    The model runs once, on its own attention route; then the definition (that of the blockwise route) makes the weights
    of a block in float32 from the queries and keys of its layer. Memory holds those of all layers, (L, B, H + G, T, D),
    and the weights of one block, (B, H, rows, T), never T x T.

    Args:
        model: in evaluation mode.
        inputs: token ids (B, T), on the device of the model, or a forward pass.
        positions: of token ids; None is 0, 1, ...
        rows: queries of a block, at least 1.
        stack: name of the attention, of `model.stacks`.

    Raises:
        ValueError: at once, for a value outside of these, or a text past the end of the model's encoding.
    """
    if rows < 1:
        raise ValueError(f"rows must be a positive integer, got {rows}")
    return rows_of(capture_attention(model, inputs, positions, stack), rows)


def capture_attention(
    model: Model, inputs: Tensor | ForwardPass, positions: Positions | None = None, stack: str = "self"
) -> list[AttentionInputs]:
    """Return what reaches the attention of every layer in a forward pass, without gradients.

    Raises:
        ValueError: for tokens that are not rows of at least one, or a text past the end of the model's encoding.
    """
    if isinstance(inputs, Tensor):
        if inputs.dim() != 2 or inputs.numel() == 0:
            raise ValueError(f"tokens must be rows of at least one token each, got the shape {tuple(inputs.shape)}")
        tokens_BT = inputs  # not the logits, which take much memory for a long text
        captured = _observed(model, lambda model: model.hidden_states(tokens_BT, positions))
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
        with torch.no_grad():  # never around a yield: it would hold for the caller as well
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
