from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from poslab.arguments import Count
from poslab.attention import KeyValueCache, Route
from poslab.encodings import EncodingFactory, Positions, PositionSampler, TemperatureFactory
from poslab.models.transformer import Ratio, Share, Transformer

Pooling = Literal["mean", "first", "last"]
"""Which hidden state stands for a sequence: the mean over its tokens, that of its first or of its last token."""


class Outputs(NamedTuple):
    """What a task reads of a model.

    Args:
        size: how many numbers.
        pooled: of each sequence as a whole; otherwise of each of its tokens.
    """

    size: int
    pooled: bool


class SequenceModel(Transformer):
    """A transformer with an output layer.

    Args:
        tie_embeddings: whether the output layer shares the matrix of the token embeddings, where it gives tokens.
        pooling: which hidden state stands for a sequence that is read as a whole; None is the last where the model is
            causal, else the mean. The first token of a causal model has seen nothing but itself.
        outputs: what is read of the hidden states; None is the logits of a token at each token.
        others: those of `Transformer`.

    Raises:
        ValueError: as `Transformer` does.
    """

    def __init__(
        self,
        vocab_size: Count,
        encoding: EncodingFactory,
        d_model: Count,
        num_layers: Count,
        num_heads: Count,
        num_kv_heads: Count | None = None,
        head_dim: Count | None = None,
        mlp_ratio: Ratio = 8 / 3,
        qk_norm: bool = False,
        dropout: Share = 0.0,
        tie_embeddings: bool = True,
        pooling: Pooling | None = None,
        window: Count | None = None,
        attention: Route = "auto",
        positions: PositionSampler | None = None,
        temperature: TemperatureFactory | None = None,
        outputs: Outputs | None = None,
        digits: Sequence[int] = (),
    ) -> None:
        super().__init__(
            vocab_size=vocab_size,
            encoding=encoding,
            d_model=d_model,
            num_layers=num_layers,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            mlp_ratio=mlp_ratio,
            qk_norm=qk_norm,
            dropout=dropout,
            window=window,
            attention=attention,
            positions=positions,
            temperature=temperature,
            digits=digits,
        )
        self.pooling: Pooling | None = None
        if outputs is not None and outputs.pooled:
            self.pooling = pooling or ("last" if self.causal else "mean")
        self.output = nn.Linear(d_model, vocab_size if outputs is None else outputs.size, bias=False)
        self.initialize(self.output)
        if tie_embeddings and outputs is None:
            self.output.weight = self.embedding.weight

    def forward(
        self,
        tokens_BT: Tensor,
        positions: Positions | None = None,
        real: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Logits of a token at each token, (B, T, V), or the outputs that were asked for, (B, T, size) or (B, size).

        Args:
            tokens_BT: token ids.
            positions, real, cache: as of `hidden_states`.
        """
        hidden_BTM = self.hidden_states(tokens_BT, positions, real, cache)
        outputs: Tensor = self.output(pooled(hidden_BTM, real, self.pooling) if self.pooling else hidden_BTM)
        return outputs


def pooled(hidden_BTM: Tensor, real: Tensor | None, pooling: Pooling) -> Tensor:
    """The hidden state that stands for each sequence, (B, M), whatever its padding.

    Args:
        hidden_BTM: of all tokens.
        real: (B, T) bool, False at padding, of which each row has at least one True; None has no padding.
        pooling: which.
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
