"""Distances of what the attention of two models does, row by row.

Dimension letters: B batch, H heads, T queries, S keys, D head dim, R relation heads, W width of a relation head.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from poslab.attention.blockwise import in_float32_for_each_head
from poslab.attention.observed import AttentionInputs, of_encodings
from poslab.models import Model
from poslab.objectives.divergence import DIVERGENCES, Divergence, log_probabilities

Rotation = Literal["before", "after"]
"""Queries and keys whose relations are meant: before their rotation by position, or after it."""


def last_layer(model: Model, seen: list[AttentionInputs]) -> AttentionInputs:
    """Return what reached the self-attention of the last layer of a model, among all that reached its attention."""
    return of_encodings(seen, model.stacks["self"])[-1] if len(model.stacks) > 1 else seen[-1]


def attention_distance(theirs: AttentionInputs, ours: AttentionInputs, divergence: Divergence) -> Tensor:
    """Return the divergence of the attention weights of two layers, a mean over heads, (B, T) float32.

    Models with different numbers of heads are compared by the mean of the weights over heads. If the
    weights of a query sum to less than 1, the rest is one more option. The student may read more tokens than the
    teacher: later ones are left out.
    """
    p_BHTS, q_BHTS = (_weights(reached) for reached in (theirs, ours))
    q_BHTS = q_BHTS[:, :, : p_BHTS.shape[2], : p_BHTS.shape[3]]
    if p_BHTS.shape[1] != q_BHTS.shape[1]:
        p_BHTS, q_BHTS = (weights.mean(1, keepdim=True) for weights in (p_BHTS, q_BHTS))
    return DIVERGENCES[divergence](_with_rest(p_BHTS), _with_rest(q_BHTS)).mean(1)


def relation_distance(
    theirs: AttentionInputs,
    ours: AttentionInputs,
    divergence: Divergence,
    num_relation_heads: int | None,
    rotation: Rotation,
) -> Tensor:
    """Return the divergence of the relations of two layers, a mean over queries, keys and values, (B, T) float32.

        relation of A = softmax(A_r A_r^T / sqrt(W)),   A_r (T, W) the part of A (T, H D) of relation head r

    for A the queries, the keys and the values of all heads, over the keys that a query sees in both models.

    Args:
        theirs, ours: of the teacher and of the student, which may read more tokens.
        divergence: of the rows.
        num_relation_heads: R, a divisor of both widths H D; None is the number of heads of the student.
        rotation: whether queries and keys are taken before or after it.

    Source: Wang et al., "MiniLMv2: Multi-Head Self-Attention Relation Distillation" (2021), section 3.1.
    """
    heads, length = num_relation_heads or ours.queries.shape[1], theirs.queries.shape[2]
    visible = _visible(theirs, length) & _visible(ours, length)

    def distance(of_theirs: Tensor, of_ours: Tensor) -> Tensor:
        log_p, log_q = (_relation(part[:, :, :length], heads, visible) for part in (of_theirs, of_ours))
        return DIVERGENCES[divergence](log_p, log_q).mean(1)

    parts = zip(_parts(theirs, rotation), _parts(ours, rotation), strict=True)
    return torch.stack([distance(*both) for both in parts]).mean(0)


def _weights(reached: AttentionInputs) -> Tensor:
    """Return the attention weights of a layer by definition, (B, H, T, S) float32."""
    q_BHTD, k_BHSD, weighting = reached.rotate_qk()
    return weighting.of_block(q_BHTD, 0, q_BHTD.shape[2], k_BHSD)[0].float()


def _with_rest(weights_BHTS: Tensor) -> Tensor:
    """Return the logarithms of weights, and of the rest of each row to 1, (B, H, T, S + 1)."""
    rest = (1 - weights_BHTS.sum(-1, keepdim=True)).clamp_min(0)
    return torch.cat([weights_BHTS, rest], dim=-1).clamp_min(torch.finfo(torch.float32).tiny).log()


def _visible(reached: AttentionInputs, length: int) -> Tensor:
    """Return True where a query sees a key among the first tokens, (1 or B, 1, T, T) bool; each sees itself."""
    device, first = reached.queries.device, slice(0, length)
    itself = torch.eye(length, dtype=torch.bool, device=device)[None, None]
    mask = reached.context.visibility.mask(reached.queries.shape[2], reached.keys.shape[2], device, first, first)
    return torch.ones_like(itself) if mask is None else mask | itself


def _parts(reached: AttentionInputs, rotation: Rotation) -> list[Tensor]:
    """Return queries, keys and values of each head, (B, H, T, D) float32 at least."""
    queries, keys = reached.queries, reached.keys
    if rotation == "after":
        queries, keys, _ = reached.rotate_qk()
    return [in_float32_for_each_head(part, reached.queries) for part in (queries, keys, reached.values)]


def _relation(part_BHTD: Tensor, heads: int, visible: Tensor) -> Tensor:
    """Return the log probabilities of a relation, (B, R, T, T)."""
    part_BTW = part_BHTD.transpose(1, 2).flatten(2)
    part_BRTW = part_BTW.unflatten(2, (heads, -1)).transpose(1, 2)
    logits = part_BRTW @ part_BRTW.mT / math.sqrt(part_BRTW.shape[-1])
    return log_probabilities(logits.masked_fill(~visible, -torch.inf))
