"""Knowledge distillation: a student learns the predictions or the hidden states of a teacher.

Dimension letters: B batch, T tokens, M model dim.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from poslab.arguments import Count, Positive, Range, with_checked_arguments
from poslab.attention.observed import reaching
from poslab.models import Model
from poslab.objectives.attention_match import Rotation, attention_distance, last_layer, relation_distance
from poslab.objectives.divergence import DISTANCES, DIVERGENCES, Distance, Divergence, log_probabilities
from poslab.objectives.objective import Objective, ObjectiveSums, Teacher
from poslab.tasks.task import Task

UNTOUCHED = "untouched"
"""The teacher that is the pretrained model of a run with its own positions."""

Match = Literal["logits", "hidden", "attention", "relations"]


@with_checked_arguments
@dataclass(frozen=True)
class Distillation(Objective):
    """Learn from a teacher, beside the loss of the task.

        loss = 1 / N  [ sum of (1 - w) L_i + w t^2 D(p_i, q_i)  over predictions i that the teacher makes too
                        + sum of L_i  over all others ]

    L_i is the loss of the task, N the number of its predictions in the global batch, w the weight and D the divergence
    of the distributions p_i of the teacher and q_i of the student, softened: softmax(logits / t). The gradient of D
    falls with the square of the temperature t; the factor t^2 keeps its size.

    With `match="hidden"` the distance of hidden states, averaged over the tokens of a sequence that are not padding,
    stands in place of t^2 D, once for each prediction in the sequence. With `match="attention"` that is the divergence
    D of the attention weights in the last layers of both, and with `match="relations"` that of the relations of queries
    with queries, keys with keys and values with values there (`attention_match.py`): neither asks for the same width,
    depth or encoding. Temperature has no effect on them, and the divergence none on hidden states.

    The teacher reads the first `within` tokens of a sequence. It makes the predictions of tokens among them; that of a
    whole sequence, such as a class, only if it has read all of it.

    With `teacher_length` the window of the student is the last part of what the teacher reads: the student learns what
    the teacher predicts with the text before the window, too.

    Args:
        teacher: run directory or checkpoint; `untouched` is the pretrained model of the run with its own positions,
            before any training.
        weight: w, in [0, 1]; 1 is the teacher alone.
        match: what the student learns of the teacher; None is logits if the teacher makes the predictions of the task,
            else hidden states.
        temperature: t, positive.
        divergence: D: forward KL(p, q), which covers all that the teacher holds possible; reverse KL(q, p), which keeps
            to what it holds probable; or Jensen-Shannon, which is symmetric.
        distance: of hidden states: 1 less their cosine, or their mean squared error.
        relation_heads: parts of the width of queries, keys and values, of which each has relations; a divisor of both
            widths. None is the number of heads of the student. More make finer relations (MiniLMv2: 48).
        rotation: relations of queries and keys `before` their rotation by position, so of content alone, or `after`.
        within: most tokens that the teacher reads; None is its training length.
        teacher_length: tokens that the teacher of a language model reads, those of a window of training and the ones
            before it; at least the length of the window. None is the window alone. Not for attention and relations.

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
        own = task.sums(logits, batch)
        is_pooled = task.outputs is not None and task.outputs.pooled
        first = logits if is_pooled else logits[:, : teacher.longest]
        taught = own if read is batch else task.sums(first, read)
        ours, weight = task.distributions(first, read)
        if self.matched(teacher) == "logits":
            log_p = log_probabilities(task.distributions(compared, read).logits, self.temperature)
            log_q = log_probabilities(ours, self.temperature)
            term = self.temperature**2 * (DIVERGENCES[self.divergence](log_p, log_q) * weight).sum()
        else:
            term = _mean_distance(compared, weight, read)
        # The loss of the task stays in the graph at a weight of 1 too: all parameters then have a gradient, as
        # processes that share them expect.
        loss = own.loss + self.weight * (term - taught.loss)
        return ObjectiveSums(loss, own, ((term.detach(), taught.counted),))

    def _compared(self, task: Task, model: Model, batch: Any, teacher: Teacher, read: Any) -> tuple[Tensor, Tensor]:
        """Run both models; return the logits of the student, and those of the teacher or a distance from it, (B, T).

        The distance is that of what the student learns in place of logits; `read` is the part of the batch that the
        teacher reads.
        """
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
            theirs = forward(teacher.model, read_by_teacher)
        if read_by_teacher is not read:
            theirs = theirs[:, -read.tokens.shape[1] :]
        if match == "logits":
            return task.logits(model, batch), theirs
        with recorded_hidden_states(model) as states:
            logits = task.logits(model, batch)
        return logits, DISTANCES[self.distance](theirs, states[-1][:, : theirs.shape[1]])


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
