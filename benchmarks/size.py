"""The size of what is measured, the same for us and for peers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Of a decoder and a batch, by default as `model.d_model=256 model.num_layers=4 model.num_heads=4` on bytes."""

    d_model: int = 256
    num_layers: int = 4
    num_heads: int = 4
    sequence_length: int = 512
    batch_size: int = 8
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

    def __str__(self) -> str:
        return (
            f"{self.num_layers} layers of {self.d_model}, {self.num_heads} heads, {self.batch_size} windows of "
            f"{self.sequence_length:,}"
        )
