"""A student learns what the attention of a teacher does: the loss is a loop over heads, queries and keys."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from poslab.data.batch import TokenBatch
from poslab.encodings import Alibi, EncodingFactory, Forgetting, Rotary
from poslab.evaluation.attention.maps import attention_rows, capture_attention
from poslab.models import Decoder, Model
from poslab.runs.distillation import Distillation
from poslab.runs.steps import Teacher
from poslab.tasks.language_modelling import LanguageModelling
from tests.stacked import stacked

TASK = LanguageModelling({"train": 1.0})
TOKENS = torch.randint(40, (2, 7), generator=torch.Generator().manual_seed(0))
BATCH = TokenBatch(TOKENS[:, :-1], TOKENS[:, 1:])


def model_of(encoding: EncodingFactory, seed: int, width: int = 32, layers: int = 2, heads: int = 4) -> Model:
    torch.manual_seed(seed)
    return stacked(Decoder, 40, encoding, width, layers, heads).eval()


def term_of(student: Model, teacher: Model, longest: int = 64, **settings) -> torch.Tensor:
    """The mean of what is learned of a teacher over the predictions that it makes too."""
    sums = Distillation(teacher="a run", **settings).sums(TASK, student, BATCH, Teacher(teacher, longest, "a run"))
    ((total, number),) = sums.terms
    return total / number


def kl(p: np.ndarray, q: np.ndarray) -> float:
    """The sum of p (log p - log q) over options that p has."""
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True) if a > 0)


@pytest.mark.parametrize(("heads", "longest"), [(4, 64), (2, 64), (4, 5)], ids=["alike", "fewer heads", "shorter"])
def test_attention_is_a_loop_over_its_rows(heads, longest):
    student, teacher = model_of(Alibi, 1, 16, 1, heads), model_of(Rotary, 2)
    length = min(longest, 6)
    weights = []
    for model, tokens in ((teacher, BATCH.tokens[:, :length]), (student, BATCH.tokens)):
        *_, (_, _, last_BHTS) = attention_rows(model, tokens)
        rows_BHTS = last_BHTS[:, :, :length, :length]
        weights.append((rows_BHTS if heads == 4 else rows_BHTS.mean(1, keepdim=True)).double().numpy())
    theirs, ours = weights
    expected = np.mean([kl(theirs[place], ours[place]) for place in np.ndindex(theirs.shape[:3])])
    assert term_of(student, teacher, longest, match="attention").item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("rotation", ["before", "after"])
@pytest.mark.parametrize("relation_heads", [None, 8])
def test_relations_are_a_loop_over_parts_heads_and_queries(rotation, relation_heads):
    student, teacher = model_of(Rotary, 1, 16, 1, 2), model_of(Rotary, 2)
    heads, distances = relation_heads or 2, []
    last = [capture_attention(model, BATCH.tokens)[-1] for model in (teacher, student)]
    for part in range(3):
        cut = []
        for reached in last:
            queries, keys = (reached.queries, reached.keys) if rotation == "before" else reached.rotate_qk()[:2]
            whole = (queries, keys, reached.values)[part].transpose(1, 2).flatten(2).double().numpy()
            cut.append(whole.reshape(2, 6, heads, -1))
        for row, head, query in np.ndindex(2, heads, 6):
            rows = []
            for one in cut:
                logits = [
                    one[row, query, head] @ one[row, key, head] / math.sqrt(one.shape[-1]) for key in range(query + 1)
                ]
                rows.append(np.exp(logits) / np.exp(logits).sum())
            distances.append(kl(*rows))
    found = term_of(student, teacher, match="relations", rotation=rotation, relation_heads=relation_heads)
    assert found.item() == pytest.approx(np.mean(distances), rel=1e-4)


@pytest.mark.parametrize("match", ["attention", "relations"])
def test_a_copy_has_nothing_to_learn_and_another_model_learns_by_gradients(match):
    teacher = model_of(Forgetting, 2)
    assert term_of(model_of(Forgetting, 2), teacher, match=match).item() == pytest.approx(0, abs=1e-6)
    student = model_of(Forgetting, 1)
    sums = Distillation(teacher="a run", weight=1.0, match=match).sums(
        TASK, student, BATCH, Teacher(teacher, 64, "a run")
    )
    sums.loss.backward()
    learned = dict(student.named_parameters())
    moved = {name for name, p in learned.items() if p.grad is not None and p.grad.abs().max() > 0}
    assert any("blocks.1" in name for name in moved)
    assert (match == "attention") == any(name.startswith("encodings.distinct.1") for name in moved)
    assert all(p.grad is None for p in teacher.parameters())
