"""What attention under an encoding gives, on each of the ways to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from poslab.attention import AttentionContext, MultiHeadAttention, Route, Visibility
from poslab.attention.blockwise import by_blocks
from poslab.attention.cache import LayerCache
from poslab.encodings import PositionalEncoding, Positions, StackEncodings, Tokens
from poslab.models import Decoder
from poslab.testing.subject import LENGTH, Case, Subject, some_tokens


def output_and_gradients(subject: Subject, case: Case, route: Route = "auto") -> list[Tensor]:
    """Of all layers of a stack together: the output, and what flows back to inputs and parameters."""
    encodings, attention = subject.stack(case.causal), subject.attention
    x, visibility = subject.inputs.clone().requires_grad_(), case.visibility(case.positions)
    outputs = [
        attention(x, context_of(encodings, layer, case.positions, visibility, route))
        for layer in range(len(encodings.windows))
    ]
    y = torch.stack(outputs).sum(0)
    return [y, *_gradients(y, [x, *attention.parameters(), *encodings.parameters()])]


def output_by_blocks(
    subject: Subject, encoding: PositionalEncoding, case: Case, asking: slice, block: int = LENGTH
) -> list[Tensor]:
    """Where some of the tokens ask all, cut into blocks of query rows: the output, and what flows back."""
    attention, keys = subject.attention, case.positions
    x_BSM = subject.inputs.clone().requires_grad_()
    segments = None if keys.segments is None else keys.segments[:, asking]
    queries = Positions(keys.ids[..., asking], keys.stop - (LENGTH - asking.stop), keys.contiguous, segments)
    tables, state = encoding.prepare(queries, keys), encoding.state(x_BSM, keys, None)
    q_BHTD = attention.query(x_BSM[:, asking]).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
    k_BGSD, v_BGSD = attention.key_value(x_BSM).unflatten(-1, (2, attention.num_kv_heads, -1)).permute(2, 0, 3, 1, 4)
    y = by_blocks(
        encoding.rotate_query(q_BHTD, tables),
        encoding.rotate_key(k_BGSD, tables),
        v_BGSD,
        encoding,
        tables,
        case.visibility(queries),
        attention.head_dim**-0.5 * encoding.scale(tables),
        state,
        block,
    )
    return [y, *_gradients(y, [x_BSM, *encoding.parameters()])]


def attended(
    subject: Subject,
    encodings: StackEncodings,
    positions: Positions,
    causal: bool = True,
    inputs: Tensor | None = None,
) -> list[Tensor]:
    """The output of each layer's attention over the same inputs, position mixed in where its own encoding does so."""
    inputs = subject.inputs if inputs is None else inputs
    tokens, outputs = Tokens(some_tokens(*inputs.shape[:2])), []
    for layer in range(len(encodings.windows)):
        x = encodings.layer(layer).embed(inputs, positions, tokens)
        context = context_of(encodings, layer, positions, Visibility(causal))
        outputs.append(subject.attention(x, context))
    return outputs


def last_rows(attention: MultiHeadAttention, encodings: StackEncodings, layer: int, x_1SM: Tensor) -> Tensor:
    """The output of a layer at the last 8 of many tokens, which are read from a cache."""
    length = x_1SM.shape[1]
    cache, encoding = LayerCache(), encodings.layer(layer)
    before = Positions.range(length - 8)
    rest, whole = Positions.range(8, length - 8), Positions.range(length)
    k_BGSD, v_BGSD = (
        attention.key_value(x_1SM[:, :-8]).unflatten(-1, (2, attention.num_kv_heads, attention.head_dim))
    ).permute(2, 0, 3, 1, 4)
    state = encoding.state(x_1SM[:, :-8], before, None)
    cache.append(k_BGSD, v_BGSD, *([] if state is None else [state]))
    tables = encoding.prepare(rest, whole)
    context = AttentionContext(encoding, tables, whole, Visibility(), encodings.temperature(layer), cache=cache)
    output: Tensor = attention(x_1SM[:, -8:], context)
    return output


def decoded_in_parts(decoder: Decoder, tokens_BT: Tensor, parts: list[int], start: int) -> Tensor:
    """The logits of all tokens, read part by part; only the first part is told where it is."""
    cache, logits, place = decoder.new_cache(), [], 0
    with torch.no_grad():
        for count in parts:
            positions = None if place else Positions.range(count, start)
            logits.append(decoder(tokens_BT[:, place : place + count], positions, cache=cache))
            place += count
    return torch.cat(logits, dim=1)


def context_of(
    encodings: StackEncodings, layer: int, positions: Positions, visibility: Visibility, route: Route = "auto"
) -> AttentionContext:
    """Of one layer of a stack whose tokens attend to each other."""
    tables = encodings.prepare(positions, positions)[layer]
    return AttentionContext(encodings.layer(layer), tables, positions, visibility, encodings.temperature(layer), route)


def _gradients(y: Tensor, sources: list[Tensor]) -> list[Tensor]:
    """What flows back to the sources from random weights on the output; a zero where nothing does."""
    gradients = torch.autograd.grad(weighted_sum(y), sources, allow_unused=True)
    return [torch.zeros(()) if gradient is None else gradient for gradient in gradients]


def weighted_sum(y: Tensor) -> Tensor:
    """A number that all of an output is part of, under random weights."""
    return (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(8))).sum()


def tensors_of(tables: Any) -> Iterator[Tensor]:
    """All tensors in the tables of a stack, in order."""
    if isinstance(tables, Tensor):
        yield tables
    elif isinstance(tables, list | tuple):
        for part in tables:
            yield from tensors_of(part)
    elif isinstance(tables, dict):
        yield from tensors_of(list(tables.values()))
    elif hasattr(tables, "__dict__"):
        yield from tensors_of(list(vars(tables).values()))


def assert_near(actual: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """Within an absolute tolerance, and as large a part of larger numbers."""
    allowed = tolerance * (1 + expected.abs())
    error = ((actual - expected).abs() / allowed).max().item() if actual.numel() else 0.0
    assert error <= 1, f"{what}: off by up to {error * tolerance:.2g}, allowed {tolerance:.2g}"
