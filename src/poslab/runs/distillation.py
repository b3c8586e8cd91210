"""Knowledge distillation: a student learns the predictions, hidden states or attention of a teacher.

Dimension letters: B batch, H heads, T queries, S keys, D head dim, M model dim, N options of a distribution,
R relation heads, W width of a relation head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from poslab.arguments import Count, Positive, Range, with_checked_arguments
from poslab.attention.blockwise import in_float32_for_each_head
from poslab.attention.observed import AttentionInputs, of_encodings, reaching
from poslab.models import Model
from poslab.runs.steps import Objective, ObjectiveSums, Teacher
from poslab.tasks.task import Task

Divergence = Literal["forward", "reverse", "jensen_shannon"]
Distance = Literal["cosine", "mse"]


def log_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the log probabilities of logits, (..., N) float32, softened by a temperature.

    An option that is ruled out, whose logit is the smallest number, has the smallest log probability.
    """
    log_p = (logits.float() / temperature).log_softmax(-1)
    return log_p.clamp_min(torch.finfo(log_p.dtype).min)  # minus infinity less itself would be NaN


def kullback_leibler(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return the sum over the N options of p (log p - log q), in nats, (...)."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def jensen_shannon(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return half of KL(p, m) + KL(q, m) with m = (p + q) / 2, in nats, (...); at most log 2."""
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return (kullback_leibler(log_p, log_m) + kullback_leibler(log_q, log_m)) / 2


DIVERGENCES: Mapping[Divergence, Callable[[Tensor, Tensor], Tensor]] = {
    "forward": kullback_leibler,
    "reverse": lambda log_p, log_q: kullback_leibler(log_q, log_p),
    "jensen_shannon": jensen_shannon,
}
"""Divergences by name, each of the log probabilities of the teacher p and of the student q."""

DISTANCES: Mapping[Distance, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": lambda teacher, student: 1 - functional.cosine_similarity(teacher.float(), student.float(), dim=-1),
    "mse": lambda teacher, student: (teacher.float() - student.float()).square().mean(-1),
}
"""Distances by name, (B, T) float32, each of the hidden states (B, T, M) of the teacher and of the student."""

Rotation = Literal["before", "after"]
"""Queries and keys whose relations are meant: before their rotation by position, or after it."""


def last_layer(model: Model, seen: list[AttentionInputs]) -> AttentionInputs:
    """Return what reached the self-attention of the last layer of a model, among all that reached its attention."""
    return of_encodings(seen, model.stacks["self"])[-1] if len(model.stacks) > 1 else seen[-1]


def attention_distance(teacher: AttentionInputs, student: AttentionInputs, divergence: Divergence) -> Tensor:
    """Return the divergence of the attention weights of two layers, a mean over heads, (B, T) float32.

    Models with different numbers of heads are compared by the mean over heads. If the weights of a query sum to less
    than 1, the rest is one more option. Later tokens, which only the student reads, are left out.
    """
    p_BHTS, q_BHTS = (_weights(reached) for reached in (teacher, student))
    q_BHTS = q_BHTS[:, :, : p_BHTS.shape[2], : p_BHTS.shape[3]]
    if p_BHTS.shape[1] != q_BHTS.shape[1]:
        p_BHTS, q_BHTS = (weights.mean(1, keepdim=True) for weights in (p_BHTS, q_BHTS))
    return DIVERGENCES[divergence](_with_rest(p_BHTS), _with_rest(q_BHTS)).mean(1)


def relation_distance(
    teacher: AttentionInputs,
    student: AttentionInputs,
    divergence: Divergence,
    num_relation_heads: int | None,
    rotation: Rotation,
) -> Tensor:
    """Return the divergence of the relations of two layers, a mean over queries, keys and values, (B, T) float32.

        relation of A = softmax(A_r A_r^T / sqrt(W)),   A_r (T, W) the part of A (T, H D) of relation head r

    for A the queries, the keys and the values of all heads, over the keys that a query sees in both models. R, the
    number of relation heads, divides both widths H D; None is the number of heads of the student.

    Source: Wang et al., "MiniLMv2: Multi-Head Self-Attention Relation Distillation" (2021), section 3.1.
    """
    heads, length = num_relation_heads or student.queries.shape[1], teacher.queries.shape[2]
    visible = _visible(teacher, length) & _visible(student, length)

    def distance(of_teacher: Tensor, of_student: Tensor) -> Tensor:
        log_p, log_q = (_relation(part[:, :, :length], heads, visible) for part in (of_teacher, of_student))
        return DIVERGENCES[divergence](log_p, log_q).mean(1)

    parts = zip(_parts(teacher, rotation), _parts(student, rotation), strict=True)
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


UNTOUCHED = "untouched"  # the teacher that is the pretrained model of a run with its own positions

Match = Literal["logits", "hidden", "attention", "relations"]


@with_checked_arguments
@dataclass(frozen=True)
class Distillation(Objective):
    """Learn from a teacher, in addition to the loss of the task.

        loss = 1 / N  [ sum of (1 - w) L_i + w t^2 D(p_i, q_i)  over predictions i that the teacher makes too
                        + sum of L_i  over all others ]

    L_i is the loss of the task, N the number of its predictions in the global batch, w the weight and D the divergence
    of the distributions p_i of the teacher and q_i of the student, softened: softmax(logits / t). The gradient of D
    falls with the square of the temperature t; the factor t^2 keeps its size.

    With `match="hidden"` the distance of hidden states, averaged over the tokens of a sequence that are not padding,
    replaces t^2 D, once for each prediction in the sequence. With `match="attention"` it is the divergence
    D of the attention weights in the last layers of both, and with `match="relations"` of the relations of queries
    with queries, keys with keys and values with values there: neither asks for the same width, depth or encoding.
    Temperature has no effect on them, and the divergence none on hidden states.

    The teacher reads the first `within` tokens of a sequence. It makes the predictions of tokens among them; the
    prediction of a whole sequence, such as a class, only if it has read all of it.

    With `teacher_length` the window of the student is the last part of what the teacher reads: the student learns what
    the teacher predicts with the text before the window, too.

    Args:
        teacher: run directory or checkpoint; `untouched` is the pretrained model of the run with its own positions,
            before any training.
        weight: w, in [0, 1]; 1 is only the teacher.
        match: what the student learns of the teacher; None is logits if the teacher makes the predictions of the task,
            else hidden states.
        temperature: t, positive.
        divergence: D: forward KL(p, q), which covers all that the teacher finds possible; reverse KL(q, p), which keeps
            to what it finds probable; or Jensen-Shannon, which is symmetric.
        distance: of hidden states: 1 less their cosine, 0 to 2, or their mean squared error over the channels.
        relation_heads: parts of the width of queries, keys and values, of which each has relations; a divisor of both
            widths. None is the number of heads of the student. More make finer relations (MiniLMv2: 48).
        rotation: relations of queries and keys `before` their rotation by position, so only of content, or `after`.
        within: most tokens that the teacher reads; None is its training length.
        teacher_length: tokens that the teacher of a language model reads, in a window of training and before it;
            at least the length of the window. None is only the window. Not for attention and relations.

    Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network" (2015), section 2, for t^2; Agarwal et
    al., "On-Policy Distillation of Language Models" (ICLR 2024), for the divergences; Wang et al., "MiniLM" (NeurIPS
    2020) and "MiniLMv2" (2021), for attention and relations.
    """

    terms = ("distillation",)

    teacher: str | None = UNTOUCHED
    weight: Annotated[float, Range(at_least=0, at_most=1)] = 0.5
    match: Match | None = None
    temperature: Positive = 2.0
    divergence: Divergence = "forward"
    distance: Distance = "cosine"
    relation_heads: Count | None = None
    rotation: Rotation = "before"
    within: Count | None = None
    teacher_length: Count | None = None

    def __post_init__(self) -> None:
        if not self.teacher:
            raise ValueError(f"teacher must be a run directory, a checkpoint or {UNTOUCHED}, got {self.teacher!r}")
        if self.teacher_length is not None and self.within is not None:
            raise ValueError("within must be null with teacher_length, all of which the teacher reads")
        if self.teacher_length is not None and self.match in ("attention", "relations"):
            raise ValueError(f"match must be logits or hidden with teacher_length, got {self.match}")

    def matched(self, teacher: Teacher) -> Match:
        """Return what the student learns of a teacher."""
        return self.match or ("logits" if teacher.predicts else "hidden")

    def num_earlier(self, sequence_length: int) -> int:
        return 0 if self.teacher_length is None else self.teacher_length - sequence_length

    def sums(self, task: Task, model: Model, batch: Any, teacher: Teacher | None) -> ObjectiveSums:
        assert teacher is not None
        read = task.first_tokens(batch, teacher.longest)
        logits, compared = self._compared(task, model, batch, teacher, read)
        whole = task.sums(logits, batch)
        is_pooled = task.outputs is not None and task.outputs.pooled
        first = logits if is_pooled else logits[:, : teacher.longest]
        taught = whole if read is batch else task.sums(first, read)
        predictions, weight = task.distributions(first, read)
        if self.matched(teacher) == "logits":
            log_p = log_probabilities(task.distributions(compared, read)[0], self.temperature)
            log_q = log_probabilities(predictions, self.temperature)
            term = self.temperature**2 * (DIVERGENCES[self.divergence](log_p, log_q) * weight).sum()
        else:
            term = _mean_distance(compared, weight, read)
        # The loss of the task stays in the graph at a weight of 1 too: all parameters then have a gradient, as
        # processes that share them expect.
        loss = whole.loss + self.weight * (term - taught.loss)
        return ObjectiveSums(loss, whole, ((term.detach(), taught.counted),))

    def _compared(self, task: Task, model: Model, batch: Any, teacher: Teacher, read: Any) -> tuple[Tensor, Tensor]:
        """Run both models; return the student's logits, and the teacher's or a distance, (B, T), of what is matched."""
        match = self.matched(teacher)
        if match in ("attention", "relations"):
            with torch.no_grad(), reaching(teacher.model) as seen_by_teacher:
                task.logits(teacher.model, read)
            with reaching(model) as seen:
                logits = task.logits(model, batch)
            layers = last_layer(teacher.model, seen_by_teacher), last_layer(model, seen)
            if match == "attention":
                return logits, attention_distance(*layers, self.divergence)
            return logits, relation_distance(*layers, self.divergence, self.relation_heads, self.rotation)
        read_by_teacher = task.with_earlier_tokens(read)
        forward = task.hidden_states if match == "hidden" else task.logits
        with torch.no_grad():
            teacher_output = forward(teacher.model, read_by_teacher)
        if read_by_teacher is not read:
            teacher_output = teacher_output[:, -read.tokens.shape[1] :]
        if match == "logits":
            return task.logits(model, batch), teacher_output
        with recorded_hidden_states(model) as states:
            logits = task.logits(model, batch)
        return logits, DISTANCES[self.distance](teacher_output, states[-1][:, : teacher_output.shape[1]])


def _mean_distance(distance_BT: Tensor, weight: Tensor, read: Any) -> Tensor:
    """Return the sum over sequences of their mean distance, each weighed by its predictions."""
    predictions_B = weight.flatten(1).sum(-1) if weight.dim() > 1 else weight
    if read.real is None:
        return (distance_BT.mean(-1) * predictions_B).sum()
    real_BT = read.real.to(distance_BT.dtype)
    return ((distance_BT * real_BT).sum(-1) / real_BT.sum(-1) * predictions_B).sum()


@contextmanager
def recorded_hidden_states(model: Model) -> Iterator[list[Tensor]]:
    """Yield a list to which the hidden states of each forward pass are added."""
    states: list[Tensor] = []
    compute = model.hidden_states

    def record(*arguments: Any, **keywords: Any) -> Tensor:
        states.append(compute(*arguments, **keywords))
        return states[-1]

    vars(model)["hidden_states"] = record
    try:
        yield states
    finally:
        del vars(model)["hidden_states"]
