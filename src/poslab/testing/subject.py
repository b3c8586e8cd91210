"""Small models around an encoding under test. Dimension letters: B batch, T tokens, M model dim."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from poslab.attention import AttentionContext, MultiHeadAttention, Route, Visibility
from poslab.attention.attend import rotate_qk
from poslab.attention.blockwise import Weighting, by_blocks
from poslab.attention.cache import LayerCache
from poslab.encodings import (
    EncodingFactory,
    LayerPattern,
    PositionalEncoding,
    Positions,
    StackEncodings,
    StackShape,
    TemperatureFactory,
    Tokens,
)
from poslab.encodings.layers import encoding_of
from poslab.models import Decoder, Encoder, Model, StackConfig

VOCAB_SIZE = 50
DIGITS = tuple(range(25))  # half of the tokens, so that even a short text has numbers of several digits
BATCH, LENGTH = 2, 20
GRIDS = ((4, 5), (2, 5, 2))
SEGMENTS = torch.tensor([[0] * 8 + [1] * 12, [0] * 3 + [1] * 1 + [2] * 16])
LEFT_PADDED = torch.arange(LENGTH) >= torch.tensor([[6], [0]])
RIGHT_PADDED = torch.arange(LENGTH) < torch.tensor([[20], [13]])


@dataclass(frozen=True)
class Subject:
    """An encoding under test, with small models around it that always have the same weights.

    `sizes` are the sizes of the stack that differ from the usual ones.
    """

    factory: EncodingFactory
    temperature: TemperatureFactory | None = None
    sizes: dict[str, Any] = field(default_factory=dict)
    _stacks: dict[bool, StackEncodings] = field(default_factory=dict, init=False, repr=False)
    """Stacks that checks share, by `causal`."""

    def shape(self, causal: bool = True) -> StackShape:
        """Return the shape of the stack that the encoding is built into."""
        pattern = len(self.factory.repeating) if isinstance(self.factory, LayerPattern) else 1
        usual = {"d_model": 32, "num_layers": max(2, pattern), "num_heads": 4, "num_kv_heads": 2, "head_dim": 8}
        return StackShape(**{**usual, **self.sizes}, causal=causal, digits=DIGITS)

    def stack(self, causal: bool | None = None) -> StackEncodings:
        """Return its encodings in evaluation mode, with parameters moved away from their initial values.

        They are made once: a check that changes them uses `new_stack`. `causal` None is True unless it is
        bidirectional only.
        """
        causal = self.is_causal if causal is None else causal
        if causal not in self._stacks:
            self._stacks[causal] = self.new_stack(causal)
        return self._stacks[causal]

    def new_stack(self, causal: bool | None = None) -> StackEncodings:
        """Return encodings equal to `stack`, made again."""
        shape = self.shape(self.is_causal if causal is None else causal)
        torch.default_generator.manual_seed(0)
        encodings = StackEncodings(self.factory, shape, self.temperature)
        perturb_parameters(encodings)
        return encodings.eval()

    def kinds(self, causal: bool = True) -> list[PositionalEncoding]:
        """Return an encoding for each set of hyperparameters in its stack; layers of one differ only in weights."""
        return list({repr(encoding): encoding for encoding in self.stack(causal).of_layers}.values())

    @functools.cached_property
    def attention(self) -> MultiHeadAttention:
        """Attention layer."""
        shape = self.shape()
        torch.default_generator.manual_seed(1)
        return MultiHeadAttention(shape.d_model, shape.num_heads, shape.num_kv_heads, shape.head_dim)

    @functools.cached_property
    def inputs(self) -> Tensor:
        """Inputs, (B, T, M)."""
        return torch.randn(BATCH, LENGTH, self.shape().d_model, generator=torch.Generator().manual_seed(7))

    def model(self, num_layers: int | None = None, **arguments: Any) -> Decoder | Encoder:
        """Return a decoder in evaluation mode, or an encoder if it is bidirectional only."""
        others = ("causal", "digits", "pretrained")
        sizes = {name: size for name, size in vars(self.shape()).items() if name not in others}
        sizes["num_layers"] = num_layers or sizes["num_layers"]
        kind = Decoder if self.is_causal else Encoder
        torch.default_generator.manual_seed(2)
        stack = StackConfig(encoding=self.factory, temperature=self.temperature, **sizes, **arguments)
        model = kind(stack, VOCAB_SIZE, digits=DIGITS)
        perturb_parameters(model.encodings)
        return model.eval()

    @functools.cached_property
    def depends_on_length(self) -> bool:
        """True if any of its encodings depends on the length."""
        return any(encoding.depends_on_length for encoding in self.stack())

    @functools.cached_property
    def grids(self) -> list[tuple[int, ...]]:
        """Sizes of grids of `LENGTH` cells, on the numbers of axes that it supports; none if it reads no axes."""
        if not any(encoding.reads_axes for encoding in self.stack()):
            return []
        return [sizes for sizes in GRIDS if self._serves(Positions.grid(*sizes))]

    def _serves(self, positions: Positions) -> bool:
        encodings = self.stack(self.directions[-1])
        try:
            encodings.embed(self.inputs, positions, Tokens(some_tokens()))
            encodings.prepare(positions, positions, Tokens(some_tokens()))
        except ValueError:
            return False
        return True

    @functools.cached_property
    def directions(self) -> list[bool]:
        """Values of `causal` to check: True unless it is bidirectional only, and False unless it is causal only."""
        pattern = LayerPattern.of(self.factory)
        makers = [*map(encoding_of, pattern.specs), *([] if pattern.embedding is None else [pattern.embedding])]
        made = [self.shape().fill(maker) for maker in makers]
        causal = [] if any(encoding.bidirectional_only for encoding in made) else [True]
        return causal + ([] if any(encoding.causal_only for encoding in made) else [False])

    @property
    def is_causal(self) -> bool:
        """True unless it is bidirectional only."""
        return self.directions[0]


@dataclass(frozen=True)
class AttentionCase:
    """Tokens that attend to each other: positions, rules of visibility, and True at those that are not padding."""

    positions: Positions
    causal: bool
    window: int | None = None
    real: Tensor | None = None

    def visibility(self, queries: Positions) -> Visibility:
        """Return the visibility of all tokens to the last ones, which are at the positions of `queries`."""
        return Visibility.between(queries, self.positions, causal=self.causal, window=self.window, real_keys=self.real)


def cases(causal: bool) -> Iterator[AttentionCase]:
    """Yield whole texts, windows, padding, packed documents, and positions in any order."""
    yield AttentionCase(Positions.range(LENGTH), causal)
    yield AttentionCase(Positions.range(LENGTH), causal, window=4)
    yield AttentionCase(Positions.range(LENGTH, 300), causal)
    yield AttentionCase(Positions.packed(SEGMENTS), causal)
    for real in (LEFT_PADDED, RIGHT_PADDED):
        yield AttentionCase(Positions.padded(real), causal, real=real)
    scattered = torch.randperm(97, generator=torch.Generator().manual_seed(3))[:LENGTH]
    yield AttentionCase(Positions(torch.stack([scattered, scattered + 7]), 104), causal)
    yield AttentionCase(Positions(torch.arange(LENGTH) * 0.7 + 0.1, LENGTH), causal)


def perturb_parameters(encodings: StackEncodings) -> None:
    """Move all parameters away from their initial values, which may be zero."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in encodings.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def some_tokens(batch: int = BATCH, length: int = LENGTH) -> Tensor:
    """Return token ids, (batch, length)."""
    return torch.randint(VOCAB_SIZE, (batch, length), generator=torch.Generator().manual_seed(6))


def output_and_gradients(subject: Subject, case: AttentionCase, route: Route = "auto") -> list[Tensor]:
    """Return the summed output of all layers of a stack, and the gradients of inputs and parameters."""
    encodings, attention = subject.stack(case.causal), subject.attention
    x, visibility = subject.inputs.clone().requires_grad_(), case.visibility(case.positions)
    contexts = (context_of(encodings, i, case.positions, visibility, route) for i in range(len(encodings.windows)))
    y = torch.stack([attention(x, context) for context in contexts]).sum(0)
    return [y, *_gradients(y, [x, *attention.parameters(), *encodings.parameters()])]


def output_by_blocks(
    subject: Subject, encoding: PositionalEncoding, case: AttentionCase, rows: slice, block: int = LENGTH
) -> list[Tensor]:
    """Return the output of these rows of queries, which attend to all tokens, by blocks of them, and its gradients."""
    attention, keys = subject.attention, case.positions
    x_BSM = subject.inputs.clone().requires_grad_()
    segments = None if keys.segments is None else keys.segments[:, rows]
    places = None if keys.places is None else keys.places.take(rows)
    queries = Positions(keys.ids[..., rows], keys.stop - (LENGTH - rows.stop), keys.contiguous, segments, places)
    visibility = case.visibility(queries)
    tables, state = encoding.prepare(queries, keys), encoding.state(x_BSM, keys, None)
    layer_tables = tables if state is None else encoding.with_state(tables, state[:, :, rows], state)
    k_BGSD, v_BGSD = attention.keys_and_values(attention.key_value(x_BSM))
    q_BHTD, k_BGSD, scale = rotate_qk(attention.queries(x_BSM[:, rows]), k_BGSD, encoding, layer_tables, visibility)
    weighting = Weighting(encoding, tables, visibility, scale, state)
    y = by_blocks(q_BHTD, k_BGSD, encoding.rotate_value(v_BGSD, layer_tables), weighting, block)
    y = encoding.rotate_output(y, layer_tables)
    return [y, *_gradients(y, [x_BSM, *encoding.parameters()])]


def attended(
    subject: Subject,
    encodings: StackEncodings,
    positions: Positions,
    causal: bool | None = None,
    inputs: Tensor | None = None,
    real: Tensor | None = None,
) -> list[Tensor]:
    """Return each layer's attention output over the same inputs, with the layer's own encoding mixed in by `embed`.

    Tokens where `real` is False are not seen; `causal` None is the stack's.
    """
    causal = encodings.shape.causal if causal is None else causal
    inputs = subject.inputs if inputs is None else inputs
    tokens, outputs = Tokens(some_tokens(*inputs.shape[:2])), []
    for layer in range(len(encodings.windows)):
        x = encodings.layer(layer).embed(inputs, positions, tokens)
        context = context_of(encodings, layer, positions, Visibility(causal, real_keys=real))
        outputs.append(subject.attention(x, context))
    return outputs


def last_rows(attention: MultiHeadAttention, encodings: StackEncodings, layer: int, x_1SM: Tensor) -> Tensor:
    """Return the output of a layer at the last 8 of many tokens, which read the others from a cache."""
    length = x_1SM.shape[1]
    cache, encoding = LayerCache(), encodings.layer(layer)
    before = Positions.range(length - 8)
    rest, whole = Positions.range(8, length - 8), Positions.range(length)
    keys_and_values = attention.keys_and_values(attention.key_value(x_1SM[:, :-8]))
    state = encoding.state(x_1SM[:, :-8], before, None)
    cache.append(*keys_and_values, *([] if state is None else [state]))
    tables, visibility = encoding.prepare(rest, whole), Visibility(encodings.shape.causal)
    context = AttentionContext(encoding, tables, whole, visibility, encodings.temperature(layer), cache=cache)
    return attention(x_1SM[:, -8:], context)


def decoded_in_parts(decoder: Model, tokens_BT: Tensor, parts: list[int], first: Positions) -> Tensor:
    """Return the logits of all tokens, read part by part; only the first part is given its positions."""
    cache, logits, start = decoder.new_cache(), [], 0
    with torch.no_grad():
        for count in parts:
            positions = None if start else first
            logits.append(decoder(tokens_BT[:, start : start + count], positions, cache=cache))
            start += count
    return torch.cat(logits, dim=1)


def context_of(
    encodings: StackEncodings, layer: int, positions: Positions, visibility: Visibility, route: Route = "auto"
) -> AttentionContext:
    """Return the context of one layer of a stack that attends to itself."""
    encoding = encodings.layer(layer)
    tables = encoding.prepare(positions, positions)
    return AttentionContext(encoding, tables, positions, visibility, encodings.temperature(layer), route)


def _gradients(y: Tensor, sources: list[Tensor]) -> list[Tensor]:
    """Return the gradients of a randomly weighted sum of the output; zero for a source without one."""
    gradients = torch.autograd.grad(weighted_sum(y), sources, allow_unused=True)
    return [torch.zeros(()) if gradient is None else gradient for gradient in gradients]


def weighted_sum(y: Tensor) -> Tensor:
    """Return the sum of all numbers of an output under random weights."""
    return (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(8))).sum()


def tensors_of(tables: Any) -> Iterator[Tensor]:
    """Yield all tensors in the tables of a stack, in order."""
    if isinstance(tables, Tensor):
        yield tables
    elif isinstance(tables, list | tuple):
        for part in tables:
            yield from tensors_of(part)
    elif isinstance(tables, dict):
        yield from tensors_of(list(tables.values()))
    elif hasattr(tables, "__dict__"):
        yield from tensors_of(list(vars(tables).values()))


def assert_near(actual: Tensor, expected: Tensor, tolerance: float, compared: str) -> None:
    """Raise AssertionError unless `actual` is within an absolute tolerance, relative where numbers exceed 1."""
    allowed = tolerance * (1 + expected.abs())
    error = ((actual - expected).abs() / allowed).max().item() if actual.numel() else 0.0
    assert error <= 1, f"{compared}: off by up to {error * tolerance:.2g}, allowed {tolerance:.2g}"


def assert_all_near(actual: list[Tensor], expected: list[Tensor], tolerance: float, compared: str) -> None:
    """Raise AssertionError unless outputs and gradients are near, in relation to the largest number of each tensor.

    A gradient is a sum over tokens: it is rounded as its largest terms are, however small the sum is.
    """
    for ours, exact in zip(actual, expected, strict=True):
        largest = max(1.0, exact.abs().max().item())
        assert_near(ours / largest, exact / largest, tolerance, compared)


class Float64(TorchDispatchMode):
    """Mode that runs every operation of float32 or less in float64."""

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = tree_map(_doubled, (args, kwargs or {}))
        return operator(*args, **kwargs)

    def __enter__(self) -> Any:
        self._default_dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.set_default_dtype(self._default_dtype)


def _doubled(value: Any) -> Any:
    """Return float64 for a shorter dtype, or a tensor of one cast to it; other values as they are."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.double()
    return torch.float64 if isinstance(value, torch.dtype) and value.is_floating_point else value
