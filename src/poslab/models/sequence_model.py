"""Transformers with an output layer. Dimension letters: B batch, T tokens, M model dim, V vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from poslab.arguments import Count
from poslab.models.model import Model, Outputs
from poslab.models.pooling import Pooling
from poslab.models.stack_config import StackConfig
from poslab.models.transformer import Number, Transformer


class SequenceModel(Transformer, Model):
    """A transformer with an output layer.

    Args:
        stack, vocab_size, digits: as in `Transformer`.
        outputs: output layer; None means token logits at each token.
        tie_embeddings: True if the output layer of token logits shares the matrix of the token embeddings.
        pooling: hidden state that represents a sequence as a whole; None is the last if the model is causal, else the
            mean. The first token of a causal model sees only itself. The mean is that of tokens, not of registers; with
            registers, `first` is that of the first one, a class token.
        patch_width: number of values of a patch, for data of patches; None has none.
        registers: number of learned vectors that stand before the tokens, without a position; 0 has none.

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
        patch_width: Count | None = None,
        registers: Number = 0,
    ) -> None:
        super().__init__(stack, vocab_size, digits, patch_width=patch_width, num_registers=registers)
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

    def pooled_states(self, *read: Any, **named: Any) -> Tensor:
        if self.pooling == "first" and self.num_registers:
            return self.all_states(*read, **named)[:, 0]
        return super().pooled_states(*read, **named)

    def logits(self, hidden_BTM: Tensor) -> Tensor:
        """Return token logits at each token, (B, T, V), from hidden states."""
        logits_BTV: Tensor = self.output(hidden_BTM)
        return logits_BTV
