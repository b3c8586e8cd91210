"""Transformers that read a source and write a target.

Dimension letters: B batch, S source tokens, T target tokens, N tokens so far, R kept rows, M model dim, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from poslab.arguments import CheckedArguments, Count
from poslab.attention import KeyValueCache, choose_route
from poslab.encodings import EncodingFactory, NoPosition, Positions, StackEncodings
from poslab.models.blocks import StackConfig
from poslab.models.contexts import Memory
from poslab.models.model import Model
from poslab.models.transformer import Transformer


class SourceStack(Transformer):
    """Stack of an encoder-decoder that reads the source."""

    causal = False


class TargetStack(Transformer):
    """Stack of an encoder-decoder that writes the target, with cross-attention to the source."""

    causal = True


class EncoderDecoder(CheckedArguments, Model):
    """A transformer that reads a source with a bidirectional stack and writes a target with a causal one.

    Each stack has its own encodings, of the same kind. They share the token embeddings, which are the output layer too.

    Args:
        stack: configuration of each of the two stacks.
        vocab_size: number of tokens V.
        digits: ids of the tokens that are one digit each, for encodings that need them.
        cross_encoding: factory of the encoding of the cross-attention; None is no position there, as in T5, whose
            position biases are only in both self-attentions. An encoding that is mixed into embeddings, or has a state
            of each token, does not support attention between two sequences. The windows of a pattern do not act there,
            and chunks and temperatures raise an error.

    Raises:
        ValueError: as `Transformer` does, and for a `cross_encoding` that does not support two sequences.

    Source: Vaswani et al., "Attention Is All You Need" (2017); Raffel et al., "Exploring the Limits of Transfer
    Learning with a Unified Text-to-Text Transformer" (2020), section 2.1.
    """

    capabilities = frozenset({"source", "cache"})

    def __init__(
        self,
        stack: StackConfig,
        vocab_size: Count,
        digits: Sequence[int] = (),
        cross_encoding: EncodingFactory | None = None,
    ) -> None:
        super().__init__()
        self.encoder = SourceStack(stack, vocab_size, digits)
        self.decoder = TargetStack(stack, vocab_size, digits, cross_attention=True)
        shape = replace(self.encoder.shape, causal=False)
        self.cross_encodings = StackEncodings(cross_encoding or NoPosition, shape)
        for instance in self.cross_encodings:
            if unfit := sorted({"embed", "state"} & instance.hooks):
                reason = "is mixed into embeddings" if "embed" in unfit else "has a state of each token"
                name = type(instance).__name__
                raise ValueError(f"cross_encoding {name} {reason}, and does not support attention to another sequence")
            choose_route(instance, stack.attention)
        cross = self.cross_encodings
        kept = {"windows": any(cross.windows), "chunks": any(cross.chunks), "temperatures": len(cross.temperatures)}
        if lost := " and ".join(name for name, is_there in kept.items() if is_there):
            raise ValueError(f"cross_encoding must not have {lost}: attention to another sequence has none")
        self.route = stack.attention
        self.output = nn.Linear(stack.d_model, vocab_size, bias=False)
        self.encoder.initialize(self.output)
        self.decoder.initialize(self.output)
        self.decoder.embedding.weight = self.encoder.embedding.weight
        self.output.weight = self.encoder.embedding.weight
        self.add_layers(stack.d_model)

    def add_layers(self, d_model: int) -> None:
        """Add the layers that a subclass needs to predict the next token."""

    @property
    def encodings(self) -> StackEncodings:  # type: ignore[override]
        """Encodings of the stack that reads the source."""
        return self.encoder.encodings

    @property
    def stacks(self) -> dict[str, StackEncodings]:
        """Encodings of the target's self-attention, of the cross-attention, and of the source."""
        return {"self": self.decoder.encodings, "cross": self.cross_encodings, "encoder": self.encoder.encodings}

    @property
    def attention_sites(self) -> Sequence[nn.Module]:
        """Blocks of both stacks."""
        return [*self.encoder.blocks, *self.decoder.blocks]

    @property
    def max_length(self) -> int | None:
        """Number of positions at which the encoding of either stack ends; None if neither does."""
        return self.encoder.max_length

    def forward(  # type: ignore[override]
        self, source_BS: Tensor, target_BT: Tensor, real_source: Tensor | None = None
    ) -> Tensor:
        """Return logits of the token after each of the target, (B, T, V).

        Args:
            source_BS, target_BT: token ids; the target starts with the token that begins all targets.
            real_source: (B, S) bool, False at padding; None: none. Padding of the target comes last, where none of its
                other tokens sees it.
        """
        memory = self.read(source_BS, real_source)
        return self.target_logits(self.decoder.hidden_states(target_BT, memory=memory), target_BT, memory)

    def target_logits(self, hidden_BTM: Tensor, written_BN: Tensor, memory: Memory) -> Tensor:
        """Return logits of the token after each of the last T of a target, (B, T, V), given its N tokens so far."""
        return self.output(hidden_BTM)

    def read(self, source_BS: Tensor, real: Tensor | None = None, cache: KeyValueCache | None = None) -> Memory:
        """Return the memory of a source, to which the decoder attends; padding as in `forward`.

        A cache keeps its keys and values, for a target that is written token by token.
        """
        states = self.encoder.hidden_states(source_BS, real=real)
        positions = Positions.range(source_BS.shape[1], device=source_BS.device)
        return Memory(source_BS, states, self.cross_encodings, positions, real, self.route, cache)

    def begin(self, source_BS: Tensor, real: Tensor | None = None) -> TargetDecoding:
        """Return the decoding of an empty target."""
        return TargetDecoding(self, self.read(source_BS, real, self.decoder.new_cache()), self.decoder.new_cache())


@dataclass
class TargetDecoding:
    """A target that is written token by token, each read once; `cache` contains the tokens so far."""

    model: EncoderDecoder
    memory: Memory
    cache: KeyValueCache

    def next_logits(self, tokens_BT: Tensor) -> Tensor:
        """Return logits of the token that follows these new ones, (B, V)."""
        hidden_BTM = self.model.decoder.hidden_states(tokens_BT, cache=self.cache, memory=self.memory)
        assert self.cache.tokens is not None
        return self.model.target_logits(hidden_BTM[:, -1:], self.cache.tokens, self.memory)[:, 0]

    def select(self, rows_R: Tensor) -> None:
        """Keep these rows, each any number of times."""
        self.cache.select(rows_R)
        assert self.memory.cache is not None
        self.memory.cache.select(rows_R)
        real = self.memory.real
        self.memory = replace(
            self.memory,
            tokens=self.memory.tokens[rows_R],
            states=self.memory.states[rows_R],
            real=None if real is None else real[rows_R],
        )
