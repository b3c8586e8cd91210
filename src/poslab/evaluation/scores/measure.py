"""Scores of a trained run on each held-out item of its data, whatever its task."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from poslab.data.source import HeldOut
from poslab.evaluation.evaluated_run import EvaluatedRun, on_device
from poslab.evaluation.opening import open_run
from poslab.evaluation.scores.items import ItemScores, MeasuredRun
from poslab.evaluation.scores.tokens import TextWindows, TokenScores, context_gain, sampled_units, score_tokens
from poslab.models import Model
from poslab.runs.checkpoint import checkpoint_digest, checkpoint_file
from poslab.runs.loading import device_named
from poslab.runs.processes import set_up_cpu
from poslab.tasks.language_modelling import LanguageModelling
from poslab.tasks.measurement import Observation

Scored = Iterator[tuple[str, ItemScores | float]]  # metric, and the scores of its items or only its value


def measure(
    run: str | Path,
    lengths: Sequence[int | None] | None = None,
    split: str = "test",
    device: torch.device | str = "cpu",
    trust: str | Sequence[str] = (),
    known: MeasuredRun | None = None,
    keep: Callable[[MeasuredRun], None] = lambda measured: None,
    check_cancelled: Callable[[], None] = lambda: None,
) -> MeasuredRun:
    """Score a run on each held-out item, in the precision of its training.

    The items do not depend on encoding and seed, and the score of one not on the others of its batch. Metrics are the
    same as in metrics.json, unless padding matters there: positions that are drawn, and frequencies that depend on the
    length, follow the width of a test's batches, and here only the item.

    A language model has `bits_per_byte` and, in windows that move by half of their length, `sliding_bits_per_byte`; in
    windows beyond the training length also `context_gain`, unless all documents are shorter than half of one. Its items
    are documents (`sampled_units`). ValueError as of `load`, if the data is missing or has changed, or for a length
    that it does not have.

    Args:
        run: run directory, for its best checkpoint by validation, or one of its checkpoints.
        lengths: of windows or examples, also beyond the run's own test if the data has them; None among them
            is the whole split, where lengths are of different examples. Only None is all of the run's own.
        device: of the model; `auto` is a GPU if there is one.
        known: scores of the same checkpoint on the same split at other lengths, which are returned too.
        keep: called with all scores so far once the scores of a length are complete, and not known.
        check_cancelled: called before each batch; may raise an error to stop.
    """
    opened, measured = open_to_measure(run, split, device, trust, known)
    with opened.autocast():
        return scored(opened, lengths, measured, keep, check_cancelled)


def open_to_measure(
    run: str | Path, split: str, device: torch.device | str, trust: str | Sequence[str], known: MeasuredRun | None
) -> tuple[EvaluatedRun, MeasuredRun]:
    """Return an opened run and its known scores; arguments and errors are as in `measure`."""
    set_up_cpu()
    digest = checkpoint_digest(checkpoint_file(run))  # before the weights: scores must not seem newer than they are
    opened = open_run(run, split, device=device_named(str(device)), trust=trust)
    return opened, known or MeasuredRun(opened.recipe.encoding_name, split, {}, {}, digest)


def scored(
    run: EvaluatedRun,
    lengths: Sequence[int | None] | None,
    measured: MeasuredRun,
    keep: Callable[[MeasuredRun], None] = lambda measured: None,
    check_cancelled: Callable[[], None] = lambda: None,
) -> MeasuredRun:
    """Return the scores of a run on each held-out item, joined to those measured so far.

    Other arguments are as of `measure`. ValueError for a length that the data does not have.
    """
    task, data, split = run.task, run.data, run.split
    if lengths is None:
        lengths = [*data.lengths_of(split), *([None] if task.aggregate_lengths else [])]
    if None in lengths and not task.aggregate_lengths:
        raise ValueError("lengths must be numbers, at each of which the whole split is read, got None")
    for length in lengths:
        if length is not None:
            data.held_out(split, length)  # raises ValueError before anything is measured
    score: Callable[[Any, MeasuredRun], Scored]
    score = (_TextScores if isinstance(task, LanguageModelling) else _RowScores)(run, check_cancelled)
    with torch.no_grad():
        for length in lengths:
            results = {(metric, length): result for metric, result in score(length, measured)}
            scores = {key: result for key, result in results.items() if isinstance(result, ItemScores)}
            values = {key: result for key, result in results.items() if not isinstance(result, ItemScores)}
            measured = measured.joined(MeasuredRun(measured.encoding, split, scores, values, measured.checkpoint))
            keep(measured)
    return measured


def fitting(model: Model, items: HeldOut) -> np.ndarray:
    """Return the numbers of the items that the model has positions for."""
    most = model.max_length
    return np.flatnonzero(items.num_tokens <= most) if most is not None else np.arange(len(items.num_tokens))


@dataclass(frozen=True)
class _TextScores:
    """The scores of a text; token scores in windows of the training length are kept for the gain of context."""

    run: EvaluatedRun
    check_cancelled: Callable[[], None]

    def __call__(self, length: int | None, _: MeasuredRun) -> Scored:
        """Yield the scores in windows of a length, each of which reads the whole text."""
        run, trained = self.run, self.run.data.longest_trained
        assert length is not None and run.text is not None
        if not len(fitting(run.model, run.data.held_out(run.split, length))):
            return
        units = sampled_units(run.tokens, run.tokenizer.end_id)
        bits, identity = 1 / math.log(2) / run.text.bytes_per_token, run.data.identity(run.split, length)
        protocols = self._trained if length == trained else self._read(length)
        for metric, scores in zip(("bits_per_byte", "sliding_bits_per_byte"), protocols, strict=True):
            sums, counts = scores.by_unit(units, bits)
            yield metric, ItemScores(metric, length, sums, counts, identity)
        if length > trained:
            sizes, sliding = run.tokenizer.sizes(run.tokens[1:]), (trained, self._trained[1])
            gain = context_gain(run.tokens, run.tokenizer.end_id, sizes, sliding, (length, protocols[1]), identity)
            if gain is not None:
                yield gain.metric, gain

    @cached_property
    def _trained(self) -> tuple[TokenScores, TokenScores]:
        return self._read(self.run.data.longest_trained)

    def _read(self, length: int) -> tuple[TokenScores, TokenScores]:
        """Return the scores of tokens under both protocols: windows that they share are read once."""
        run = self.run
        assert run.text is not None
        boundary = run.tokenizer.end_id if run.text.documents_apart else None
        apart, sliding = (TextWindows(len(run.tokens), length, hop) for hop in (length, max(1, length // 2)))
        scores = score_tokens(run.model, run.tokens, apart, boundary, self.check_cancelled)
        return scores, score_tokens(run.model, run.tokens, sliding, boundary, self.check_cancelled, known=scores)


@dataclass(frozen=True)
class _RowScores:
    """The scores of a task whose items are rows of batches; results on items are kept for the whole split."""

    run: EvaluatedRun
    check_cancelled: Callable[[], None]
    _observed: dict[int, list[Observation | None]] = field(default_factory=dict)

    def __call__(self, length: int | None, measured: MeasuredRun) -> Scored:
        """Yield the scores at a length; None is the whole split, which may follow from those measured so far."""
        lengths = self.run.data.lengths_of(self.run.split) if length is None else [length]
        are_known = all(n in measured.lengths or n in self._observed for n in lengths)
        are_means = not any(at in lengths for _, at in measured.values)  # all metrics over the items
        if length is None and are_known and are_means:
            yield from self._pooled({n: measured.at(n) for n in lengths if n in measured.lengths})
            return
        for n in lengths:
            if n not in self._observed:
                self._observed[n] = self._observe(self.run.data.held_out(self.run.split, n))
        chosen = {n: self._observed[n] for n in lengths if any(self._observed[n])}
        if not chosen:
            return
        rows = [row for of_length in chosen.values() for row in of_length]
        metrics = self._metrics(rows)
        if length is None:
            by_length = {n: self._metrics(of_length) for n, of_length in chosen.items()}
            metrics |= self.run.task.over_lengths(by_length)
        identity = " ".join(self.run.data.identity(self.run.split, n) for n in chosen)
        scores = [None if row is None else self.run.task.scores(row) for row in rows]
        names = list(next(filter(None, scores)))
        for metric in names:
            sums, counts = zip(*((0.0, 0) if row is None else row[metric] for row in scores), strict=True)
            yield metric, ItemScores(metric, length, np.array(sums, np.float64), np.array(counts), identity)
        for metric in metrics.keys() - names:
            yield metric, metrics[metric]

    def _pooled(self, by_length: Mapping[int, Mapping[str, ItemScores]]) -> Scored:
        """Yield the scores of the whole split from the items of each length, by metric."""
        for metric in dict.fromkeys(metric for scores in by_length.values() for metric in scores):
            parts = [scores[metric] for scores in by_length.values()]
            sums, counts = np.concatenate([x.sums for x in parts]), np.concatenate([x.counts for x in parts])
            yield metric, ItemScores(metric, None, sums, counts, " ".join(part.identity for part in parts))
        values = {n: {metric: items.value for metric, items in scores.items()} for n, scores in by_length.items()}
        yield from self.run.task.over_lengths(values).items()

    def _observe(self, items: HeldOut) -> list[Observation | None]:
        """Return the results on each item; None for one that the model has no positions for."""
        # Under some, a row has other positions, or other frequencies, where it is padded.
        reads_width = self.run.recipe.model.positions is not None or any(
            encoding.depends_on_length for stack in self.run.model.stacks.values() for encoding in stack
        )
        rows_at_once = self.run.recipe.trainer.micro_batch_size or self.run.data.batch_size
        most_tokens = rows_at_once * self.run.data.training_length  # what trains fits
        if reads_width and self.run.task.decodes_in_test:
            most_tokens = 0  # one at a time: the texts that are read and written differ in length, each for itself
        rows: list[Observation | None] = [None] * len(items.num_tokens)
        for numbers in batches_of(items.num_tokens, fitting(self.run.model, items), most_tokens, equal=reads_width):
            self.check_cancelled()
            batch = on_device(items.__getitems__(numbers), self.run.device)
            for number, row in zip(
                numbers, self.run.task.observe_rows(self.run.model, batch, self.run.split), strict=True
            ):
                rows[number] = row
        return rows

    def _metrics(self, rows: Sequence[Observation | None]) -> dict[str, float]:
        """Return the metrics of rows together, as a test does."""
        measurement = self.run.task.metrics(self.run.split)
        measurement.begin(self.run.device)
        for row in filter(None, rows):
            measurement.update(row)
        return measurement.compute()


def batches_of(num_tokens: np.ndarray, chosen: np.ndarray, most_tokens: int, equal: bool) -> Iterator[list[int]]:
    """Yield items of about the same number of tokens, or of an equal one, as many as have `most_tokens` together."""
    batch: list[int] = []
    for number in chosen[np.argsort(num_tokens[chosen], kind="stable")].tolist():
        width = num_tokens[number]
        if batch and ((len(batch) + 1) * width > most_tokens or (equal and width != num_tokens[batch[0]])):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
