"""Losses of tokens from hidden states, in bounded memory: logits of a few tokens at a time.

Dimension letters: N tokens, M model dim, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from poslab.data.batch import IGNORE
from poslab.models import Model

LARGE_VOCABULARY = 2**15
"""Fewest tokens of a vocabulary for which losses are computed in chunks, where the task allows it."""

LOGITS_AT_ONCE = 2**24
"""Logits in memory at a time, for any number of tokens and any vocabulary."""

LOGITS_IN_TRAINING = 2**26
"""The same in training, where each chunk takes the time of a sum of the weights' gradients."""


def losses_and_correct(
    head: Callable[[Tensor], Tensor], hidden_NM: Tensor, targets_N: Tensor, vocab_size: int
) -> tuple[Tensor, Tensor]:
    """Return the nats of each target and whether it was the most probable token, both (N,), in bounded memory.

    Args:
        head: makes the logits of tokens from their hidden states.
        hidden_NM: input of the head.
        targets_N: token ids; the loss of `IGNORE` is 0.
        vocab_size: number of logits of a token.
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
