"""Transformers with an output layer. Dimension letters: B batch, T tokens, M model dim, V vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from poslab.arguments import Count
from poslab.attention import KeyValueCache
from poslab.encodings import Positions
from poslab.models.model import Model, Outputs
from poslab.models.stack_config import StackConfig
from poslab.models.transformer import Transformer

Pooling = Literal["mean", "first", "last"]
"""Hidden state that represents a sequence: the mean over its tokens, or that of its first or last token."""


class SequenceModel(Transformer, Model):
    """A transformer with an output layer.

    Args:
        stack, vocab_size, digits: as in `Transformer`.
        outputs: output layer; None means token logits at each token.
        tie_embeddings: True if the output layer of token logits shares the matrix of the token embeddings.
        pooling: hidden state that represents a sequence as a whole; None is the last if the model is causal, else the
            mean. The first token of a causal model sees only itself.

    Raises:
        ValueError: as `Transformer` does.
    """

    def __init__(
        self,
        stack: StackConfig,
        vocab_size: Count,
        outputs: Outputs | None = None,
        digits: Sequence[int] = (),
        tie_embeddings: bool = True,
        pooling: Pooling | None = None,
    ) -> None:
        super().__init__(stack, vocab_size, digits)
        self.pooling: Pooling | None = None
        if outputs is not None and outputs.pooled:
            self.pooling = pooling or ("last" if self.causal else "mean")
        self.predicts_tokens = outputs is None
        self.output = nn.Linear(stack.d_model, vocab_size if outputs is None else outputs.size, bias=False)
        self.initialize(self.output)
        if tie_embeddings and outputs is None:
            self.output.weight = self.embedding.weight

    @property
    def attention_sites(self) -> Sequence[nn.Module]:
        """Blocks of the stack."""
        return list(self.blocks)

    @property
    def task_output(self) -> nn.Module | None:
        """Output layer, unless it is that of token logits."""
        return None if self.predicts_tokens else self.output

    def logits(self, hidden_BTM: Tensor) -> Tensor:
        """Return token logits at each token, (B, T, V), from hidden states."""
        logits_BTV: Tensor = self.output(hidden_BTM)
        return logits_BTV

    def forward(
        self,
        tokens_BT: Tensor,
        positions: Positions | None = None,
        real: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Return token logits at each token, (B, T, V), or the outputs of the task, (B, T, size) or (B, size).

        Arguments as in `Model.forward`.
        """
        hidden_BTM = self.hidden_states(tokens_BT, positions, real, cache)
        outputs: Tensor = self.output(pooled(hidden_BTM, real, self.pooling) if self.pooling else hidden_BTM)
        return outputs


def pooled(hidden_BTM: Tensor, real: Tensor | None, pooling: Pooling) -> Tensor:
    """Return the hidden state that represents each sequence, (B, M), whatever its padding.

    `real` is (B, T) bool, False at padding, with at least one True in each row; None if there is no padding.
    """
    if pooling == "mean":
        if real is None:
            return hidden_BTM.mean(dim=1)
        weight_BT1 = real.unsqueeze(-1).to(hidden_BTM.dtype)
        return (hidden_BTM * weight_BT1).sum(dim=1) / weight_BT1.sum(dim=1)
    if real is None:
        return hidden_BTM[:, 0 if pooling == "first" else -1]
    place = torch.arange(real.shape[1], device=real.device)
    place_B = real.int().argmax(dim=1) if pooling == "first" else torch.where(real, place, -1).amax(dim=1)
    return hidden_BTM[torch.arange(len(hidden_BTM), device=real.device), place_B]
