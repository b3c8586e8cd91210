"""Small models around an encoding under test. Dimension letters: B batch, T tokens, M model dim."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from poslab.attention import MultiHeadAttention, Visibility
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
from poslab.models import Decoder, Encoder, StackConfig

VOCAB_SIZE = 50
DIGITS = tuple(range(25))
"""Half of the tokens, so that even a short text has numbers of several digits."""
BATCH, LENGTH = 2, 20
GRIDS = ((4, 5), (2, 5, 2))
SEGMENTS = torch.tensor([[0] * 8 + [1] * 12, [0] * 3 + [1] * 1 + [2] * 16])
LEFT_PADDED = torch.arange(LENGTH) >= torch.tensor([[6], [0]])
RIGHT_PADDED = torch.arange(LENGTH) < torch.tensor([[20], [13]])


@dataclass(frozen=True)
class Subject:
    """An encoding under test, with small models around it that always have the same weights.

    `sizes` are those of the stack that differ from the usual ones.
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

        They are made once: a check that changes them uses those of `new_stack`. `causal` None is True unless it is
        bidirectional only.
        """
        causal = self.is_causal if causal is None else causal
        if causal not in self._stacks:
            self._stacks[causal] = self.new_stack(causal)
        return self._stacks[causal]

    def new_stack(self, causal: bool | None = None) -> StackEncodings:
        """Return encodings equal to those of `stack`, made anew."""
        shape = self.shape(self.is_causal if causal is None else causal)
        torch.default_generator.manual_seed(0)
        encodings = StackEncodings(self.factory, shape, self.temperature)
        perturb_parameters(encodings)
        return encodings.eval()

    def kinds(self, causal: bool = True) -> list[PositionalEncoding]:
        """Return an encoding for each set of hyperparameters in its stack; layers of one differ in weights alone."""
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
        """Sizes of grids of `LENGTH` cells, on the numbers of axes that it serves; none if it reads no axes."""
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
