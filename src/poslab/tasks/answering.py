"""The task of predicting the one right answer: after its input, at the positions that follow it, or in blanks.

Dimension letters: B examples, T tokens, V vocabulary.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from poslab.data.algorithmic.examples import BLANK, AlgorithmicTask, Example
from poslab.data.batch import IGNORE, TokenBatch, mask_or_none, padded
from poslab.data.kinds import BLANKS, SYMBOLS
from poslab.data.tokenizers import SymbolTokenizer
from poslab.models import Model
from poslab.tasks.measurement import ItemSums, Measurement, Observation, Score, ScoreMeans, TaskRecord
from poslab.tasks.sequence_to_sequence import encoded, written
from poslab.tasks.task import Prediction, Search, device_of
from poslab.tasks.token_prediction import TokenPrediction


class Answering(TokenPrediction):
    """Predict the answer to an input, token by token.

    `accuracy` is the share of right symbols among all symbols of answers, `exact_match` the share of answers whose
    symbols are all right, with the end that a decoder writes; both are in per cent. Symbols after the stop of an answer
    count only in the loss. Metrics at lengths beyond the training lengths are averaged too, as `..._beyond`.

    Source: the code of Delétang et al., "Neural Networks and the Chomsky Hierarchy" (ICLR 2023), and of Ruoss et al.,
        "Randomized Positional Encodings" (ACL 2023), for the symbols after the stop.
    """

    headline = "accuracy"
    shown = validated = ("accuracy", "exact_match", "loss")

    def __init__(self, task: AlgorithmicTask, training_lengths: Sequence[int], tokenizer: SymbolTokenizer) -> None:
        self.task = task
        self.training_lengths = training_lengths
        self.tokenizer = tokenizer
        self.stop_id = None if task.stop is None else tokenizer.number(task.stop)

    @classmethod
    def of(cls, data: Any) -> Self:
        return cls(data.source.task, data.source.lengths_trained, data.tokenizer)

    @classmethod
    def restored(cls, record: TaskRecord, tokenizer: Any, source: Any) -> Self:
        if record.outputs is not None or not isinstance(tokenizer, SymbolTokenizer):
            raise ValueError("it has not learned to answer symbols")
        return cls(source.task, source.lengths_trained, tokenizer)

    def answers(self, logits_BTV: Tensor, batch: TokenBatch) -> list[tuple[Score, Score]]:
        """Return the scores of symbols and of whole answers."""
        right_BT, counts_BT = logits_BTV.argmax(-1) == batch.targets, batch.targets != IGNORE
        if self.stop_id is not None:
            stops_BT = batch.targets == self.stop_id
            counts_BT &= stops_BT.cumsum(-1) - stops_BT.int() == 0  # no stop before it
        is_symbol_BT = counts_BT & (batch.targets != self.tokenizer.end_id)
        exact_B, counts_B = (right_BT | ~counts_BT).all(-1), counts_BT.any(-1)
        symbols = (100 * (right_BT & is_symbol_BT).sum(), is_symbol_BT.sum())
        return [(symbols, (100 * (exact_B & counts_B).sum(), counts_B.sum()))]

    def scores(self, observation: Observation) -> ItemSums:
        shares = zip(("accuracy", "exact_match"), *observation.answers, strict=True)
        return {
            **super().scores(observation),
            **{name: (total.item(), int(number)) for name, (total, number) in shares},
        }

    def metrics(self, split: str) -> Measurement:
        return Measurement(self, split, ScoreMeans("accuracy", "exact_match"))

    def over_lengths(self, by_length: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
        beyond = [metrics for length, metrics in by_length.items() if length > max(self.training_lengths)]
        if not beyond:
            return {}
        return {f"{name}_beyond": sum(f[name] for f in beyond) / len(beyond) for name in ("accuracy", "exact_match")}

    def example_prompt(self) -> str | None:
        example = self.task.example(self.training_lengths[0], np.random.default_rng(0))
        return shlex.quote(" ".join(example.input))


class WrittenAnswers(Answering):
    """Write the answer after its input: `input answer output end` is one text, of which output and end are predicted.

    Each symbol is predicted from the right ones before it: an answer all of whose symbols are right there is exactly
    one that greedy decoding writes (unless positions are drawn at random, which decoding does not do).
    """

    kind = SYMBOLS
    needs = frozenset({"causal"})
    generation_options = ("max_new_tokens", "beams")

    def collate(self, rows: Sequence[Example], counts: np.ndarray) -> TokenBatch:
        number = self.tokenizer.number
        answer, end = self.tokenizer.answer_id, self.tokenizer.end_id
        whole, real = padded([np.array([*map(number, e.input), answer, *map(number, e.output), end]) for e in rows])
        tokens, real = whole[:, :-1].contiguous(), real[:, 1:]  # an end is not read
        targets = whole[:, 1:].masked_fill(~real, IGNORE)
        for row, example in enumerate(rows):
            targets[row, : len(example.input)] = IGNORE
        targets[torch.from_numpy(~counts)] = IGNORE
        return TokenBatch(tokens, targets, real=mask_or_none(real.contiguous()))

    def predict(self, model: Model, text: str, search: Search) -> Prediction:
        return written(model, self.tokenizer, [*encoded(self.tokenizer, text), self.tokenizer.answer_id], search)


class FilledBlanks(Answering):
    """Fill the blanks of an input, each from the symbols before it, of which the blanks are filled right."""

    kind = BLANKS
    needs = frozenset({"causal"})

    def collate(self, rows: Sequence[Example], counts: np.ndarray) -> TokenBatch:
        number = self.tokenizer.number
        whole, real = padded([np.array([*map(number, e.input)]) for e in rows])
        is_blank = whole == number(BLANK)
        whole[is_blank] = torch.tensor([number(symbol) for e in rows for symbol in e.output])
        targets = whole[:, 1:].masked_fill(~is_blank[:, 1:], IGNORE)
        targets[torch.from_numpy(~counts)] = IGNORE
        return TokenBatch(whole[:, :-1].contiguous(), targets, real=mask_or_none(real[:, 1:].contiguous()))

    @torch.no_grad()
    def predict(self, model: Model, text: str, search: Search) -> Prediction:
        tokens, blank = encoded(self.tokenizer, text), self.tokenizer.number(BLANK)
        blanks = [position for position, token in enumerate(tokens) if token == blank]
        if not blanks or blanks[0] == 0:
            raise ValueError(f"prompt must have a blank ({BLANK}) where a symbol is to be predicted, and not first")
        for position in blanks:
            before = torch.tensor([tokens[:position]], device=device_of(model))
            tokens[position] = int(model(before)[0, -1].argmax())
        return Prediction(self.tokenizer.decode(tokens[position] for position in blanks))


class AnswersAtPositions(Answering):
    """Predict the answer at the positions after its input: a token `answer` for each symbol of the output.

    Source: Ruoss et al., "Randomized Positional Encodings Boost Length Generalization of Transformers" (ACL 2023).
    """

    kind = SYMBOLS
    needs = frozenset({"bidirectional"})

    def collate(self, rows: Sequence[Example], counts: np.ndarray) -> TokenBatch:
        number, answer = self.tokenizer.number, self.tokenizer.answer_id
        tokens, real = padded([np.array([*map(number, e.input), *[answer] * len(e.output)]) for e in rows])
        targets, there = padded([np.array([*[IGNORE] * len(e.input), *map(number, e.output)]) for e in rows])
        targets = targets.masked_fill(~there, IGNORE)
        targets[torch.from_numpy(~counts)] = IGNORE
        return TokenBatch(tokens, targets, real=mask_or_none(real))

    def first_tokens(self, batch: TokenBatch, length: int) -> TokenBatch:
        if batch.tokens.shape[1] <= length:
            return batch
        real = torch.ones_like(batch.tokens) if batch.real is None else batch.real
        first: TokenBatch = super().first_tokens(batch, length)
        # Each symbol of an answer may depend on every one of the input.
        return first._replace(targets=first.targets.masked_fill(real[:, length:].any(-1, keepdim=True), IGNORE))

    @torch.no_grad()
    def predict(self, model: Model, text: str, search: Search) -> Prediction:
        symbols = tuple(self.tokenizer.symbols[number] for number in encoded(self.tokenizer, text))
        length = len(symbols)
        if not self.task.has_length(length):
            raise ValueError(f"prompt must have a length that the task has, got {length} symbols")
        answer_length = _answer_length(self.task, length)
        if answer_length is None:
            raise ValueError(
                "run must be of a decoder: an encoder needs to know how long the answer is, which the input of this "
                "task does not say"
            )
        example = Example(symbols, (self.tokenizer.symbols[0],) * answer_length)
        tokens = self.collate([example], np.array([True])).tokens.to(device_of(model))
        return Prediction(self.tokenizer.decode(model(tokens)[0, length:].argmax(-1).tolist()))

    def example_prompt(self) -> str | None:
        return None if _answer_length(self.task, self.training_lengths[0]) is None else super().example_prompt()


def _answer_length(task: AlgorithmicTask, length: int) -> int | None:
    """Return the number of symbols that answer an input of that length; None if they differ."""
    generator = np.random.default_rng(0)
    drawn = [task.example(length, generator) for _ in range(8)]
    if {len(example.input) for example in drawn} != {length} or len({len(e.output) for e in drawn}) > 1:
        return None
    return len(drawn[0].output)
