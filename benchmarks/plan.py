"""The sizes, lengths and turns that are measured on a CPU and on a GPU, and tiny ones that show that it runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from poslab.configuration.command_line import CONF

COMPARISON = CONF.parent / "comparisons" / "every_encoding.yaml"
PRECISIONS = ("32-true", "bf16-mixed")


@dataclass(frozen=True)
class Size:
    """Size of a decoder and a batch, of Poslab and its peers alike; by default four layers of width 256 on bytes."""

    d_model: int = 256
    num_layers: int = 4
    num_heads: int = 4
    sequence_length: int = 512
    batch_size: int = 4
    vocab_size: int = 257

    @property
    def head_dim(self) -> int:
        """Dimension of a head."""
        return self.d_model // self.num_heads

    @property
    def mlp_hidden(self) -> int:
        """Inner width of a gated feed-forward layer: 8/3 of d_model, up to a multiple of 32, as our decoder has it."""
        return -(-(8 * self.d_model // 3) // 32) * 32

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.batch_size * self.sequence_length

    def of_length(self, length: int) -> Size:
        """Return this size with texts of another length, and as many tokens in a batch."""
        return replace(self, sequence_length=length, batch_size=max(1, self.tokens // length))


def text_encodings() -> list[str]:
    """Return the choices of conf/encoding for texts, which `comparison=every_encoding` compares."""
    choices = yaml.safe_load(Path(COMPARISON).read_text(encoding="utf-8"))["encodings"]
    return [choice if isinstance(choice, str) else choice["name"] for choice in choices]


@dataclass(frozen=True)
class Plan:
    """Everything that `run.py` and `gpu.py` measure.

    Args:
        device: `cpu` or `cuda`.
        size: of whole decoders.
        decoder_lengths: T of steps beside whole decoders of others.
        long_length: T at which encodings are measured again of which a peer materialises a T x T tensor.
        layer: one attention layer and its batch.
        layer_lengths, layer_precisions: of attention layers.
        shapes: (B, H, T, D) of attention alone.
        bias_shapes: (B, H, T, D) of attention under a bias of distance.
        sides: of square pictures.
        blockwise_lengths: T at which the blockwise route is timed, and two at which its memory is compared.
        text_length: tokens of a long text.
        data_steps: steps whose batches are timed.
        encodings: choices of conf/encoding.
        turns: of attention alone and of whole decoders; half as many of each encoding.
        limit: seconds of a call above which it is left out.
    """

    device: str = "cpu"
    size: Size = Size()
    decoder_lengths: tuple[int, ...] = (128, 256, 512, 1024)
    long_length: int = 2048
    layer: Size = Size(d_model=512, num_layers=1, num_heads=8, batch_size=1)
    layer_lengths: tuple[int, ...] = (512, 1024, 2048, 4096)
    layer_precisions: tuple[str, ...] = ("float32",)
    shapes: tuple[tuple[int, int, int, int], ...] = (
        *((32, 4, 128, 16), (16, 4, 128, 64), (8, 4, 256, 64), (8, 4, 512, 64)),
        *((4, 4, 1024, 64), (2, 4, 2048, 64), (1, 4, 4096, 64)),
    )
    bias_shapes: tuple[tuple[int, int, int, int], ...] = (
        *((8, 8, 512, 64), (4, 8, 1024, 64), (2, 8, 2048, 64), (1, 8, 4096, 64)),
    )
    sides: tuple[int, ...] = (16, 32, 64)
    blockwise_lengths: tuple[int, int, int] = (2048, 4096, 8192)
    text_length: int = 32_768
    data_steps: int = 12
    encodings: tuple[str, ...] = tuple(text_encodings())
    turns: int = 8
    limit: float = 12.0

    @property
    def few_turns(self) -> int:
        """Turns of each of many encodings."""
        return max(2, self.turns // 2)


CPU = Plan()
GPU = Plan(
    device="cuda",
    size=Size(d_model=768, num_layers=12, num_heads=12, sequence_length=2048, batch_size=8),
    decoder_lengths=(512, 2048, 8192),
    long_length=8192,
    layer=Size(d_model=1024, num_layers=1, num_heads=16, batch_size=1),
    layer_lengths=(2048, 8192, 32_768),
    layer_precisions=("bfloat16",),
    limit=10.0,
)
TINY = Plan(
    size=Size(d_model=64, num_layers=1, num_heads=2, sequence_length=32, batch_size=2),
    decoder_lengths=(32,),
    long_length=64,
    layer=Size(d_model=64, num_layers=1, num_heads=2, batch_size=1),
    layer_lengths=(64, 128),
    shapes=((2, 2, 64, 16),),
    bias_shapes=((2, 2, 64, 16),),
    sides=(8,),
    blockwise_lengths=(192, 256, 512),
    text_length=256,
    data_steps=4,
    turns=2,
)
