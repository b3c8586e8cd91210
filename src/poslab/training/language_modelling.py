"""The task of predicting the next token: its loss, and what is measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import Metric

from poslab.data.batch import IGNORE, TokenBatch
from poslab.encodings import Positions


class TokenSums(NamedTuple):
    """Sums over the predicted tokens of a batch, each a scalar tensor."""

    loss: Tensor  # nats
    correct: Tensor
    tokens: Tensor


class LanguageModelling:
    """Predict each token from those before it, in its own document.

    Args:
        bytes_per_token: bytes of text per predicted token of each split (`train`, `validation`, `test`), which turn
            nats per token into bits per byte.
    """

    def __init__(self, bytes_per_token: Mapping[str, float]) -> None:
        self.bytes_per_token = bytes_per_token

    def sums(self, model: nn.Module, batch: TokenBatch) -> TokenSums:
        """Loss (in nats), correct predictions and number of predicted tokens of a batch."""
        positions = None if batch.segments is None else Positions.packed(batch.segments)
        logits_NV = model(batch.tokens, positions).flatten(0, 1).float()
        targets_N = batch.targets.flatten()
        loss = functional.cross_entropy(logits_NV, targets_N, ignore_index=IGNORE, reduction="sum")
        with torch.no_grad():
            correct = (logits_NV.argmax(-1) == targets_N).sum()
            tokens = (targets_N != IGNORE).sum()
        return TokenSums(loss, correct, tokens)

    def figures(self, split: str, loss: float, accuracy: float) -> dict[str, float]:
        """What is reported of a mean loss (nats per token) and an accuracy on a split."""
        return {
            "loss": loss,
            "bits_per_byte": loss / math.log(2) / self.bytes_per_token[split],
            "perplexity": math.exp(min(loss, 700.0)),  # e ** 709 is the largest float64
            "accuracy": accuracy,
        }


class TokenMeans(Metric):
    """Mean loss and accuracy over all tokens of all batches and processes, each token counted once."""

    full_state_update = False

    loss: Tensor
    correct: Tensor
    tokens: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in TokenSums._fields:
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, sums: TokenSums) -> None:
        # `.double()` also on the state: a model that is moved to bfloat16 takes its metrics along.
        self.loss = self.loss.double() + sums.loss
        self.correct = self.correct.double() + sums.correct
        self.tokens = self.tokens.double() + sums.tokens

    def compute(self) -> tuple[float, float]:
        """Nats per token, and the share of tokens that were predicted rightly."""
        return (self.loss / self.tokens).item(), (self.correct / self.tokens).item()
