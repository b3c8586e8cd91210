"""The symbols of an answer that count: those up to the stop where more fill it up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.data.algorithmic.chomsky import StackManipulation
from poslab.data.algorithmic.examples import Example
from poslab.data.algorithmic.recall import FlipFlop
from poslab.data.batch import IGNORE
from poslab.data.tokenizers import SymbolTokenizer
from poslab.tasks.answering import AnswersAtPositions, FilledBlanks, WrittenAnswers
from poslab.tasks.task import Search
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


@pytest.mark.parametrize("kind", [AnswersAtPositions, WrittenAnswers])
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


class LastWritten(nn.Module):
    """A model that predicts the bit behind the last `w` that it reads, or the opposite."""

    capabilities = frozenset({"causal"})

    def __init__(self, tokenizer: SymbolTokenizer, opposite: bool = False) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.opposite = nn.Parameter(torch.tensor(float(opposite)))

    def forward(self, tokens_BT: Tensor, *_: Tensor | None) -> Tensor:
        logits_BTV = torch.zeros(*tokens_BT.shape, self.tokenizer.vocab_size)
        for row, tokens in enumerate(tokens_BT.tolist()):
            symbols = [self.tokenizer.decode([token]) for token in tokens]
            for position in range(1, len(tokens)):
                write = max(earlier for earlier in range(position) if symbols[earlier] == "w")
                logits_BTV[row, position, tokens[write + 1] if not self.opposite else 1 - tokens[write + 1]] = 1
        return logits_BTV


@pytest.mark.parametrize("opposite", [False, True])
def test_blanks_are_filled_one_after_another_and_their_bits_alone_are_scored(opposite):
    data, task = opened(composed("dataset=flip_flop", "dataset.test_lengths=[32]"))
    assert type(task) is FilledBlanks
    model = LastWritten(data.tokenizer, opposite)
    examples = data.splits.examples("test", 32)
    assert len(examples) == 256
    measurement = task.metrics("test")
    measurement.update(task.observe(model, task.collate(examples, np.ones(256, dtype=bool)), "test"))
    metrics = measurement.compute()
    assert (metrics["accuracy"], metrics["exact_match"]) == ((0, 0) if opposite else (100, 100))
    assert measurement.counts.numbers[0] == sum(len(example.output) for example in examples)
    answer = task.predict(model, "w 1 i 0 r __ w 0 i 1 r __", Search()).text
    assert answer == ("0 1" if opposite else "1 0")


@pytest.mark.parametrize("prompt", ["w 1 i 0 r", "__ w 1 r __"])
def test_a_prompt_without_a_blank_or_with_one_at_its_beginning_is_refused(prompt):
    task = FilledBlanks(FlipFlop(), [4], SymbolTokenizer(FlipFlop().symbols))
    with pytest.raises(ValueError, match=r"^prompt must have a blank \(__\)"):
        task.predict(LastWritten(task.tokenizer), prompt, Search())


def test_blanks_are_refused_for_a_model_that_sees_what_follows():
    with pytest.raises(ValueError, match=r"^model must .*got encoder"):
        opened(composed("dataset=flip_flop", "model=encoder"))
