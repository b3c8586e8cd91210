"""Tasks that predict tokens, in a text or in a target that is written from a source, and losses in bounded memory.

Dimension letters: B batch, T tokens, S tokens of a source, V vocabulary, N tokens of all rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from poslab.data.batch import IGNORE, TokenBatch
from poslab.encodings import Contiguous, Positions, PositionSampler
from poslab.models import Model
from poslab.tasks.measurement import Observation, Sums
from poslab.tasks.task import Task

OF_TOKENS = ("tokens", "targets", "patches", "segments", "real")  # fields of a batch with something for each token


class TokenPrediction(Task):
    """A task whose targets are tokens, at most one at each position of a text.

    Under a large vocabulary, loss and accuracy follow from a few logits at a time, and only of tokens that count.
    """

    whole_logits: bool = False
    """True if the logits of a batch are made at once for any vocabulary, as some ways to train need."""

    def logits(self, model: Model, batch: Any) -> Tensor:
        return model(batch.tokens, *self.seen(model, batch))

    def sums(self, logits_BTV: Tensor, batch: Any) -> Sums:
        logits_NV, targets_N = logits_BTV.flatten(0, 1).float(), batch.targets.flatten()
        loss = functional.cross_entropy(logits_NV, targets_N, ignore_index=IGNORE, reduction="sum")
        with torch.no_grad():
            correct = (logits_NV.argmax(-1) == targets_N).sum()
            counted = (targets_N != IGNORE).sum()
        return Sums(loss, correct, counted)

    def loss(self, model: Model, batch: Any) -> Sums:
        if not self._in_chunks(model):
            return super().loss(model, batch)
        return _summed(model, self.hidden_states(model, batch), batch.targets)

    def observe(self, model: Model, batch: Any, split: str) -> Observation:
        if type(self).answers is not Task.answers or not self._in_chunks(model):
            return super().observe(model, batch, split)
        return Observation(self.loss(model, batch))

    def observe_rows(self, model: Model, batch: Any, split: str) -> list[Observation]:
        if type(self).answers is not Task.answers or not self._in_chunks(model):
            return super().observe_rows(model, batch, split)
        hidden_BTM = self.hidden_states(model, batch)
        return [Observation(_summed(model, *row)) for row in zip(hidden_BTM, batch.targets, strict=True)]

    def _in_chunks(self, model: Model) -> bool:
        """Return True if losses are computed from hidden states, in chunks."""
        has_parts = type(model).forward is Model.forward and "source" not in model.capabilities
        return not self.whole_logits and has_parts and model.embedding.num_embeddings >= LARGE_VOCABULARY

    def distributions(self, logits_BTV: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        return logits_BTV, (batch.targets != IGNORE).float()

    def first_tokens(self, batch: Any, length: int) -> Any:
        if batch.tokens.shape[1] <= length:
            return batch
        parts = {name: part for name, part in batch._asdict().items() if name in OF_TOKENS and part is not None}
        return batch._replace(**{name: part[:, :length] for name, part in parts.items()})

    def hidden_states(self, model: Model, batch: Any) -> Tensor:
        return model.hidden_states(batch.tokens, *self.seen(model, batch))

    def seen(self, model: Model, batch: Any) -> tuple[Positions | None, Tensor | None]:
        """Return the positions of a batch and its mask, as a model needs them."""
        positions = None if batch.segments is None else Positions.packed(batch.segments)
        # Padding comes last, where no token of a causal model sees it: without a mask its attention is faster.
        return positions, None if "causal" in model.capabilities else batch.real


def _summed(model: Model, hidden_XM: Tensor, targets_X: Tensor) -> Sums:
    """Return the sums over targets, (T,) or (B, T), that are predicted from hidden states."""
    counts_X = targets_X != IGNORE
    return Sums(*summed_loss(model, hidden_XM[counts_X], targets_X[counts_X]), counts_X.sum())


def with_perplexity(loss: float, accuracy: float) -> dict[str, float]:
    """Return a mean loss (nats), its perplexity and an accuracy."""
    perplexity = math.exp(min(loss, 700.0))  # e ** 709 is the largest float64
    return {"loss": loss, "perplexity": perplexity, "accuracy": accuracy}


class PairBatch(NamedTuple):
    """Sources and the targets to be written from them."""

    source: Tensor  # token ids, (B, S) int64
    real_source: Tensor | None  # (B, S) bool, False at padding; None where there is none
    target: Tensor  # input of the decoder, (B, T) int64, which starts with the same token in every row
    targets: Tensor  # the token to predict after each of these, (B, T) int64; `IGNORE` at padding


class TargetPrediction(TokenPrediction):
    """A task whose targets are written from a source: each token is predicted from the right ones before it."""

    headline = "loss"
    validated: ClassVar[tuple[str, ...]] = ("loss", "perplexity", "accuracy")

    @classmethod
    def check(cls, source: Any, positions: PositionSampler | None) -> None:
        if positions is not None and not isinstance(positions, Contiguous):  # not shared with the source
            drawn = type(positions).__name__.lower()
            raise ValueError(f"positions must be contiguous where a target is written of a source, got {drawn}")

    def num_tokens(self, batch: PairBatch | TokenBatch) -> int | Tensor:
        if not isinstance(batch, PairBatch):
            return super().num_tokens(batch)
        sources = batch.source.numel() if batch.real_source is None else batch.real_source.sum()
        return sources + (batch.targets != IGNORE).sum()

    def logits(self, model: Model, batch: PairBatch | TokenBatch) -> Tensor:
        if isinstance(batch, PairBatch):
            return model(batch.source, batch.target, batch.real_source)
        return super().logits(model, batch)

    def first_tokens(self, batch: PairBatch | TokenBatch, length: int) -> Any:
        if not isinstance(batch, PairBatch):
            return super().first_tokens(batch, length)
        if max(batch.source.shape[1], batch.target.shape[1]) <= length:
            return batch
        real = torch.ones_like(batch.source) if batch.real_source is None else batch.real_source
        is_cut_B1 = real[:, length:].any(-1, keepdim=True)
        return PairBatch(
            batch.source[:, :length],
            None if batch.real_source is None else batch.real_source[:, :length],
            batch.target[:, :length],
            batch.targets[:, :length].masked_fill(is_cut_B1, IGNORE),
        )

    def from_means(self, split: str, loss: float, accuracy: float) -> dict[str, float]:
        return with_perplexity(loss, accuracy)


LARGE_VOCABULARY = 2**15
"""Fewest tokens of a vocabulary for which losses are computed in chunks, where the task allows it."""

LOGITS_AT_ONCE = 2**24  # logits in memory at a time, for any number of tokens and any vocabulary

LOGITS_IN_TRAINING = 2**26
"""The same in training, where each chunk takes the time of a sum of the weights' gradients."""


def losses_and_correct(
    head: Callable[[Tensor], Tensor], hidden_NM: Tensor, targets_N: Tensor, vocab_size: int
) -> tuple[Tensor, Tensor]:
    """Return the nats of each target and whether it was the most probable token, both (N,), in bounded memory.

    `head` makes the `vocab_size` logits of a token from its hidden state. The loss of `IGNORE` is 0.
    """
    rows = max(1, LOGITS_AT_ONCE // vocab_size)
    losses, corrects = [], []
    for hidden, targets in zip(hidden_NM.split(rows), targets_N.split(rows), strict=True):
        logits = head(hidden).float()
        losses.append(functional.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="none"))
        corrects.append(logits.argmax(-1) == targets)
    return torch.cat(losses), torch.cat(corrects)


def summed_loss(model: Model, hidden_NM: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the losses of targets, none of which is `IGNORE`, and the number of right predictions.

    The gradient is made in the forward pass, chunk by chunk, so that no logits wait for the backward pass and none are
    computed twice. It can be taken once, and neither by `torch.func` nor with `create_graph`.
    """
    if not torch.is_grad_enabled():
        losses_N, correct_N = losses_and_correct(model.logits, hidden_NM, targets_N, model.embedding.num_embeddings)
        return losses_N.sum(), correct_N.sum()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    loss, correct = _SummedLoss.apply(model, targets_N, hidden_NM, *weights)
    return loss, correct


class _SummedLoss(torch.autograd.Function):
    """The sum of losses, whose gradients by hidden states and by the weights of the head its forward pass makes."""

    @staticmethod
    def forward(
        ctx: Any, model: Model, targets_N: Tensor, hidden_NM: Tensor, *weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        rows = max(1, LOGITS_IN_TRAINING // model.embedding.num_embeddings)
        total, correct = hidden_NM.new_zeros((), dtype=torch.float32), targets_N.new_zeros(())
        by_hidden: list[Tensor] = []
        by_weights: list[Tensor | None] = [None] * len(weights)
        for hidden, targets in zip(hidden_NM.split(rows), targets_N.split(rows), strict=True):
            with torch.enable_grad():
                hidden = hidden.detach().requires_grad_()
                logits = model.logits(hidden).float()
                loss = functional.cross_entropy(logits, targets, reduction="sum")
            of_hidden, *of_weights = torch.autograd.grad(loss, [hidden, *weights], allow_unused=True)
            by_hidden.append(of_hidden)
            by_weights = [_added(total_W, part_W) for total_W, part_W in zip(by_weights, of_weights, strict=True)]
            total, correct = total + loss.detach(), correct + (logits.argmax(-1) == targets).sum()
        ctx.gradients = [torch.cat(by_hidden), *by_weights]
        ctx.dtypes = [x.dtype for x in (hidden_NM, *weights)]
        ctx.mark_non_differentiable(correct)
        return total, correct

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None  # changed in place: a vocabulary has many weights
        scaled = (None if x is None else x.mul_(gradient) for x in gradients)
        return None, None, *(x if x is None else x.to(dtype) for x, dtype in zip(scaled, ctx.dtypes, strict=True))


def _added(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    """Return a sum in float32 at least, since each of many parts would be rounded."""
    if part is None:
        return total
    return part.to(torch.promote_types(part.dtype, torch.float32)) if total is None else total.add_(part)
