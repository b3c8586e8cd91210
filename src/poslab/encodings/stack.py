"""Encodings of all layers of a stack, made from one choice. Dimension letters: B batch, T tokens, M model dim."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from poslab.encodings.base import PositionalEncoding
from poslab.encodings.layers import LayerPattern, encoding_of
from poslab.encodings.positions import Positions
from poslab.encodings.sampling.base import PositionSampler
from poslab.encodings.shape import StackShape
from poslab.encodings.temperature import Temperature
from poslab.encodings.tokens import Tokens

WINDOW, CHUNK, TEMPERATURE, SINK = "window", "chunk", "temperature", "sink"
"""Names, for `StackEncodings.require_hooks`, of the effects of a stack that are not hooks."""

EncodingFactory = Callable[..., PositionalEncoding] | LayerPattern
"""An encoding class, a partial of one with its hyperparameters, or a pattern of layers with these."""

TemperatureFactory = Callable[..., Temperature]
"""A `Temperature` class, or a partial of one."""


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """Draw random numbers from a separate stream, whose seed follows from PyTorch's generator without moving it.

    Weights that a model makes after its encodings are then the same under every encoding, for the same seed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), device="cpu")))
        yield


class StackEncodings(nn.Module):
    """Encodings of a stack: one instance for all layers where parameters are shared, else one per layer.

    Args:
        factory: makes the encodings, with hyperparameters bound; gets its other arguments from the shape. A pattern of
            layers has windows, chunks, temperatures and sinks too.
        shape: stack of the encodings.
        temperature: makes the factor on the logits of each layer; None for none, or for a pattern's.

    Raises:
        ValueError: for an encoding that this stack cannot have.
    """

    def __init__(
        self, factory: EncodingFactory, shape: StackShape, temperature: TemperatureFactory | None = None
    ) -> None:
        super().__init__()
        self.shape = shape
        self.temperature_factory = temperature
        self.pattern = pattern = LayerPattern.of(factory)
        if temperature is not None and any(spec.temperature for spec in pattern.specs):
            raise ValueError("temperature must be null where kinds of layers have their own temperatures")
        self.specs = pattern.of_layers(shape.num_layers)
        """Specification of each layer."""
        self.windows = [spec.window for spec in self.specs]
        """For each layer, the number of last tokens that a token sees; None for all."""
        self.chunks = [spec.chunk for spec in self.specs]
        """For each layer, the number of tokens of a chunk, the only one that a token sees; None for no chunks."""
        self.distinct = nn.ModuleList()
        self._indices: list[int] = []
        """Index into `distinct` for each layer."""
        self.temperatures = nn.ModuleDict()
        self.sinks = nn.ParameterDict()
        """Logit of the attention sink of each head, (H,), at 0 before training, by the number of the layer."""
        with own_random_numbers():
            self._make()
        if sum("embed" in instance.hooks for instance in self) > 1:
            raise ValueError("encodings must have at most one that mixes position into embeddings, which is done once")

    @property
    def kinds_without_layer(self) -> list[int]:
        """Kinds of layers of the pattern, counted from 0, of which the stack has none."""
        num_layers = self.shape.num_layers
        used = {self.pattern.kind(layer, num_layers) for layer in range(num_layers)}
        return sorted(set(range(len(self.pattern.kinds))) - used)

    def _make(self) -> None:
        """Make the encodings, temperatures and sinks of all layers."""
        shared: dict[int, int] = {}
        for maker in map(encoding_of, self.specs):
            if id(maker) not in shared:
                instance = _made(maker, self.shape)
                self.distinct.append(instance)
                if instance.shared_by_layers:
                    shared[id(maker)] = len(self.distinct) - 1
            self._indices.append(shared.get(id(maker), len(self.distinct) - 1))
        if self.pattern.embedding is not None:
            instance = _made(self.pattern.embedding, self.shape)
            if instance.hooks - {"remap_positions"} != {"embed"}:
                raise ValueError(f"embedding must act only on embeddings, which {type(instance).__name__} does not")
            self.distinct.append(instance)
        for layer, spec in enumerate(self.specs):
            temperature = None if spec.mixer else spec.temperature or self.temperature_factory
            if temperature is not None:
                self._require_softmax(layer, "temperature needs")
                self.temperatures[str(layer)] = self.shape.fill(temperature, "temperature")
        for layer, spec in enumerate(self.specs):
            if spec.sinks:
                self._require_softmax(layer, "sinks need")
                self.sinks[str(layer)] = nn.Parameter(torch.zeros(self.shape.num_heads))

    def _require_softmax(self, layer: int, subject: str) -> None:
        encoding = self.layer(layer)
        if "weights" in encoding.hooks:
            raise ValueError(f"{subject} a softmax, which {type(encoding).__name__} replaces")

    def layer(self, index: int) -> PositionalEncoding:
        """Return the encoding of layer `index`, counted from 0."""
        return self.distinct[self._indices[index]]  # type: ignore[return-value]

    @property
    def of_layers(self) -> list[PositionalEncoding]:
        """Encodings of the layers, each once, however many layers share it."""
        return list(dict.fromkeys(map(self.layer, range(self.shape.num_layers))))

    def temperature(self, index: int) -> Temperature | None:
        """Return the temperature of layer `index`, if there is one."""
        if str(index) not in self.temperatures:
            return None
        return self.temperatures[str(index)]  # type: ignore[return-value]

    def sinks_of(self, index: int) -> Tensor | None:
        """Return the logit of the sink of each head of layer `index`, (H,), if it has any."""
        return self.sinks.get(str(index), None)

    def parameters_of_layer(self, index: int) -> list[nn.Parameter]:
        """Return the parameters of encoding, temperature and sinks of layer `index`; other layers may share them."""
        learned: list[nn.Parameter] = [*self.layer(index).parameters()]
        if (temperature := self.temperature(index)) is not None:
            learned += temperature.parameters()
        if str(index) in self.sinks:
            learned.append(self.sinks[str(index)])
        return learned

    def __iter__(self) -> Iterator[PositionalEncoding]:
        return iter(self.distinct)  # type: ignore[arg-type]

    @property
    def keeps_pretrained_positions(self) -> bool:
        """True if the positions of a pretrained model stay in place.

        Raises:
            ValueError: if that is true of only some layers.
        """
        kinds = {encoding.keeps_pretrained_positions for encoding in self}
        if len(kinds) > 1:
            raise ValueError("encoding must be pretrained in all layers or in none")
        return kinds == {True}

    @property
    def max_length(self) -> int | None:
        """Smallest `max_length` of the encodings; None if none ends."""
        return first_end([encoding.max_length for encoding in self])

    @property
    def max_patches(self) -> int | None:
        """Smallest `max_patches` of the encodings; None if none ends."""
        return first_end([encoding.max_patches for encoding in self])

    def end_with(self, sampler: PositionSampler | None, of_patches: bool = False) -> int | None:
        """Return the number of tokens, or of patches, at which these or a sampler end; None if neither does."""
        end_of_encodings = self.max_patches if of_patches else self.max_length
        return first_end([end_of_encodings, None if sampler is None else sampler.max_length])

    def require_hooks(self, called: Collection[str]) -> None:
        """Raise an error for attention layers or a model that do not apply everything that this stack has.

        Args:
            called: as in `PositionalEncoding.require_hooks`, with `window` and `chunk` where the attention applies
                `windows` and `chunks`, `temperature` where it multiplies its logits, and `sink` where it adds `sinks`.

        Raises:
            ValueError: as each encoding does; for windows, chunks, temperatures or sinks that are not called.
        """
        present = {
            WINDOW: any(self.windows),
            CHUNK: any(self.chunks),
            TEMPERATURE: len(self.temperatures) > 0,
            SINK: len(self.sinks) > 0,
        }
        for encoding in self:
            encoding.require_hooks(called if isinstance(called, str) else set(called) - present.keys())
        if lost := [name for name, is_there in present.items() if is_there and name not in called]:
            raise ValueError(
                f"encoding has a {' and a '.join(lost)}, which this attention does not call: call it, attend with "
                "poslab.attention.attend, or choose an encoding that does without"
            )

    def embed(self, x_BTM: Tensor, positions: Positions, tokens: Tokens | None = None) -> Tensor:
        """Return token embeddings with the position of every encoding mixed in; arguments as in an encoding."""
        for encoding in self:
            x_BTM = encoding.embed(x_BTM, positions, tokens)
        return x_BTM

    def remap_positions(self, positions: Positions, tokens: Tokens | None = None) -> Positions:
        """Return the positions of tokens for attention, moved by every encoding; arguments as in an encoding."""
        for encoding in self:
            positions = encoding.remap_positions(positions, tokens)
        return positions

    def prepare(self, query_positions: Positions, key_positions: Positions, tokens: Tokens | None = None) -> list[Any]:
        """Return the tables of each layer, for moved positions; layers that share an encoding share its tables.

        Args:
            query_positions, key_positions: of the last tokens and of all that they may see.
            tokens: as in `remap_positions`.
        """
        keys = self.remap_positions(key_positions, tokens)
        queries = keys if query_positions is key_positions else self.remap_positions(query_positions, tokens)
        tables = [encoding.prepare(queries, keys) for encoding in self]
        return [tables[index] for index in self._indices]


def first_end(ends: Sequence[int | None]) -> int | None:
    """Return the smallest end; None if nothing ends."""
    there = [end for end in ends if end is not None]
    return min(there) if there else None  # torch.compile cannot read min(..., default=None)


def _made(maker: Callable[..., Any], shape: StackShape) -> PositionalEncoding:
    """Return the encoding that a factory makes; raise ValueError if it does not suit the stack."""
    made = shape.fill(maker)
    name = type(made).__name__
    if not isinstance(made, PositionalEncoding):
        raise ValueError(
            f"encoding must be a class of encodings, a partial of one, or a LayerPattern, got {maker}, "
            f"which makes {name}"
        )
    if made.causal_only and not shape.causal:
        form = made.bidirectional_form
        other = f"the bidirectional form of {name} is {form}"
        if not form:
            other = f"{name} has no bidirectional form, and needs model=decoder"
        raise ValueError(f"encoding {name} is causal, and this attention is not: {other}")
    if made.bidirectional_only and shape.causal:
        raise ValueError(f"encoding {name} is bidirectional, and this attention is causal: {name} needs model=encoder")
    return made
