"""The task of giving the one right answer: written after its input, or told at places that are left for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from poslab.data.batch import IGNORE, TokenBatch
from poslab.tasks.task import Means, Measurement, Observation, Sums, Task
from poslab.tasks.token_prediction import TokenPrediction, predict_tokens, token_sums


class Answering(TokenPrediction):
    """Give the answer to an input, token by token.

    `accuracy` is the share of symbols of answers that are right, in per cent, `exact_match` that of answers of which
    all are, with the end that a decoder writes. Where a stop ends an answer that is filled up, neither counts what
    follows it, and the loss does. A decoder is given the right symbols before each that it is to predict: an answer all
    of whose symbols are right there is what greedy decoding writes, and no other is (unless positions are drawn at
    random, which decoding does not do).

    Args:
        training_lengths: the lengths that are trained on; figures at longer ones are averaged too, as `..._beyond`.
        end_id: the token that ends an answer, which is no symbol.
        stop_id: the symbol behind which an answer is only filled up; None where there is none.

    Source: of what follows the stop, the code of Delétang et al., "Neural Networks and the Chomsky Hierarchy"
        (ICLR 2023), and of Ruoss et al., "Randomized Positional Encodings" (ACL 2023).
    """

    answers = True
    headline = "accuracy"
    shown = validated = ("accuracy", "exact_match", "loss")

    def __init__(self, training_lengths: Sequence[int], end_id: int, stop_id: int | None = None) -> None:
        self.longest_trained = max(training_lengths)
        self.end_id = end_id
        self.stop_id = stop_id

    def observe(self, model: nn.Module, batch: TokenBatch, split: str) -> Observation:
        logits_BTV = predict_tokens(model, batch)
        sums = token_sums(logits_BTV, batch.targets)
        right_BT, counts_BT = logits_BTV.argmax(-1) == batch.targets, batch.targets != IGNORE
        if self.stop_id is not None:
            stops_BT = batch.targets == self.stop_id
            counts_BT &= stops_BT.cumsum(-1) - stops_BT.int() == 0  # no stop before it
        is_symbol_BT = counts_BT & (batch.targets != self.end_id)
        symbols = Sums(sums.loss, (right_BT & is_symbol_BT).sum(), is_symbol_BT.sum())
        exact_B, counts_B = (right_BT | ~counts_BT).all(-1), counts_BT.any(-1)
        exact = Sums(sums.loss, (exact_B & counts_B).sum(), counts_B.sum())
        return Observation(sums, (symbols, exact))

    def measurement(self, split: str) -> Measurement:
        return AnsweringMeasurement(self, split)

    def figures_over_lengths(self, by_length: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
        beyond = [figures for length, figures in by_length.items() if length > self.longest_trained]
        if not beyond:
            return {}
        return {f"{name}_beyond": sum(f[name] for f in beyond) / len(beyond) for name in ("accuracy", "exact_match")}


class AnsweringMeasurement(Measurement):
    """Loss by token, accuracy by symbol, and the share of answers that are right as a whole, in per cent."""

    def __init__(self, task: Task, split: str) -> None:
        super().__init__(task, split)
        self.symbols = Means()
        self.exact = Means()

    def update(self, observation: Observation) -> None:
        super().update(observation)
        symbols, exact = observation.answers
        self.symbols.update(symbols)
        self.exact.update(exact)

    def figures(self) -> dict[str, float]:
        accuracy, exact_match = self.symbols.compute()[1], self.exact.compute()[1]
        return {**super().figures(), "accuracy": accuracy, "exact_match": exact_match}
