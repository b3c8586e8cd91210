"""The symbols of an answer that count: those up to the stop where more fill it up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.data.algorithmic.context_free.stack_manipulation import StackManipulation
from poslab.data.algorithmic.task import Example
from poslab.data.batch import IGNORE
from poslab.data.tokenizers import SymbolTokenizer
from poslab.tasks.answering import AnswersAtPlaces, WrittenAnswers
from tests.training.runs import composed, opened

SYMBOLS = SymbolTokenizer(StackManipulation().symbols)
EXAMPLES = [
    Example(("0", "1", "POP", "POP"), (".", "0", "0", "0", "0")),
    Example(("0", "1", "1", "POP"), ("1", "0", ".", "0", "0")),
    Example(("0", "1", "PUSH1", "POP"), ("1", "0", ".", "0", "0")),
]


class Predicting(nn.Module):
    """A model that predicts these tokens, whatever it reads."""

    capabilities = frozenset({"causal"})

    def __init__(self, tokens_BT: Tensor) -> None:
        super().__init__()
        self.logits_BTV = functional.one_hot(tokens_BT.clamp_min(0), SYMBOLS.vocab_size).float()

    def forward(self, *_: Tensor | None) -> Tensor:
        return self.logits_BTV


@pytest.mark.parametrize("kind", [AnswersAtPlaces, WrittenAnswers])
@pytest.mark.parametrize(
    ("stop_id", "accuracy", "exact_match"), [(SYMBOLS.number("."), 600 / 7, 200 / 3), (None, None, 0)]
)
def test_what_follows_the_first_stop_counts_in_the_loss_alone(kind, stop_id, accuracy, exact_match):
    task = kind(StackManipulation(), [4], SYMBOLS)
    task.stop_id = stop_id
    batch = task.collate(EXAMPLES, np.array([True, True, True]))
    stops = batch.targets == SYMBOLS.number(".")
    follows = (stops.cumsum(1) > 0) & ~stops & (batch.targets != IGNORE)
    predicted = torch.where(follows, SYMBOLS.number("1"), batch.targets)
    first_of_last_answer = (batch.targets[2] != IGNORE).int().argmax()
    predicted[2, first_of_last_answer] = SYMBOLS.number("0")
    measurement = task.metrics("test")
    observation = task.observe(Predicting(predicted), batch, "test")
    measurement.update(observation)
    metrics = measurement.compute()
    assert observation.sums.counted == (batch.targets != IGNORE).sum()
    assert metrics["exact_match"] == pytest.approx(exact_match)
    assert accuracy is None or metrics["accuracy"] == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("dataset", "stop"),
    [("binary_addition", "."), ("binary_multiplication", "."), ("stack_manipulation", "."), ("reverse_string", None)],
)
def test_the_task_knows_the_stop_of_its_answers(dataset, stop):
    data, task = opened(composed(f"dataset={dataset}"))
    assert task.stop_id == (None if stop is None else data.tokenizer.number(stop))
