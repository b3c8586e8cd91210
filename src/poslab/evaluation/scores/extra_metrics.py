"""Metrics of a trained run that its task does not have, measured where a comparison names them.

| metric | runs | items |
|---|---|---|
| `passkey_accuracy@1024`, `passkey_loss@1024`, the same of other tasks of retrieval | next tokens | prompts |
| `passkey_ndcg@1024` | classes | questions, each answered by one text of that length |
| `cosine` | classes, pretrained | test texts: the vector of each, and the vector in the untouched model |
| `probe_accuracy` | classes | test texts, classified by a linear probe of frozen vectors |

Dimension letters: N texts, M model dim.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from poslab.data.batch import IGNORE
from poslab.data.corpus import TextSplits
from poslab.data.examples.source import ExampleSplits
from poslab.data.run_data import RunData
from poslab.evaluation import embeddings
from poslab.evaluation.evaluated_run import EvaluatedRun, on_device
from poslab.evaluation.retrieval import TASKS, Haystack, Prompt, RetrievalTask, score_answers
from poslab.evaluation.scores.items import ItemScores, MeasuredRun
from poslab.evaluation.scores.measure import batches_of, fitting, open_to_measure
from poslab.models import Model
from poslab.runs.recipe import Recipe
from poslab.tasks.classification import ClassBatch, Classification, MultiLabelClassification
from poslab.tasks.task import device_of

DEPTHS, PROMPTS = (0.0, 0.5, 1.0), 10
"""Depths of the hidden fact in the prompts of retrieval, and prompts of each."""

PROBED = 512
"""Most training texts from which a probe learns: the first ones of the run's training, the same under every encoding
of a seed."""

SEED = 0
"""Seed of prompts and of texts with pass keys, the same for all runs."""


ExtraScores = Iterator[tuple[str, np.ndarray, np.ndarray, str]]
"""Metric, sums and counts of its items, and the identity of the items."""


@dataclass(frozen=True)
class ExtraMetrics:
    """Metrics that one measurement gives.

    Args:
        serves: returns whether the runs of a recipe have them.
        score: yields them for a run, at a length that its model has positions for; calls a function before each batch.
        texts: makes its texts, from the data, the split and a length that the tag of the metric names; raises
            ValueError for one without room. None if they are the texts of the test.
        open_ended: the metrics that are not shares from 0 to 100.
    """

    names: tuple[str, ...]
    serves: Callable[[Recipe], bool]
    score: Callable[[EvaluatedRun, int, Callable[[], None]], ExtraScores]
    texts: Callable[[RunData, str, int], Any] | None = None
    open_ended: frozenset[str] = frozenset()


def _prompts(task: RetrievalTask, data: RunData, split: str, length: int) -> list[list[Prompt]]:
    """Return the prompts of retrieval for each depth; as many of one where a task has none."""
    assert isinstance(data.splits, TextSplits)
    haystack = Haystack(data.tokenizer, np.asarray(data.splits.tokens(split)))
    if not task.has_depth:
        return [task.prompts(haystack, length, 0.0, PROMPTS * len(DEPTHS), SEED)]
    return [task.prompts(haystack, length, depth, PROMPTS, SEED) for depth in DEPTHS]


def _retrieval(task: RetrievalTask, run: EvaluatedRun, length: int, check_cancelled: Callable[[], None]) -> ExtraScores:
    prompts, scores = _prompts(task, run.data, run.split, length), []
    for of_depth in prompts:
        check_cancelled()
        scores.append(score_answers(run.model, of_depth))
    identity = _digest(prompt.tokens for of_depth in prompts for prompt in of_depth)
    correct, loss, tokens = (
        np.concatenate([frame[column].to_numpy() for frame in scores]) for column in ("correct", "loss", "tokens")
    )
    yield f"{task.name}_accuracy", 100.0 * correct, np.ones(len(correct), np.int64), identity
    yield f"{task.name}_loss", loss, tokens, identity


def _passkeys(data: RunData, split: str, length: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return questions, and the text that answers each."""
    return embeddings.passkey_texts(data.tokenizer, length, embeddings.TEXTS, SEED)


def _search(run: EvaluatedRun, length: int, check_cancelled: Callable[[], None]) -> ExtraScores:
    questions, texts = _passkeys(run.data, run.split, length)
    pooling = embeddings.pooling_of(run.model, run.recipe)
    vectors = (embeddings.sentence_vectors(run.model, part, pooling, check_cancelled) for part in (questions, texts))
    is_nearest = embeddings.nearest_answers(*vectors)
    yield "passkey_ndcg", 100.0 * is_nearest, np.ones(len(is_nearest), np.int64), _digest([*questions, *texts])


def _likeness(run: EvaluatedRun, _: int, check_cancelled: Callable[[], None]) -> ExtraScores:
    untouched = run.recipe.model.untouched()
    assert untouched is not None
    original = untouched.build(None, run.task.outputs).to(run.device).eval()
    adapted, before = (_test_vectors(run, model, check_cancelled) for model in (run.model, original))
    both = adapted.counts & before.counts
    cosines = np.where(both, (adapted.vectors * before.vectors).sum(1), 0.0)
    yield "cosine", cosines, both.astype(np.int64), adapted.identity


def _probe(run: EvaluatedRun, _: int, check_cancelled: Callable[[], None]) -> ExtraScores:
    assert isinstance(run.data.splits, ExampleSplits)
    rows = run.data.batch_size
    batches = max(1, min(PROBED, run.data.splits.facts.num_examples["train"]) // rows)
    vectors, classes = [], []
    for batch in run.data.first_batches(batches):
        check_cancelled()
        assert isinstance(batch, ClassBatch)
        real = (batch.classes != IGNORE).numpy()
        vectors.append(_vectors(run, run.model, on_device(batch, run.device))[real])
        classes.append(batch.classes.numpy()[real])
    classify = embeddings.fitted_probe(np.concatenate(vectors), np.concatenate(classes))
    test = _test_vectors(run, run.model, check_cancelled)
    right = test.counts & (classify(test.vectors) == test.classes)
    yield "probe_accuracy", 100.0 * right, test.counts.astype(np.int64), test.identity


def _classifies(recipe: Recipe) -> bool:
    return issubclass(recipe.task, Classification) and not issubclass(recipe.task, MultiLabelClassification)


EVERY = (
    *(
        ExtraMetrics(
            names=(f"{name}_accuracy", f"{name}_loss"),
            serves=lambda recipe: recipe.task.predicts_next_tokens,
            score=partial(_retrieval, task),
            texts=partial(_prompts, task),
            open_ended=frozenset({f"{name}_loss"}),
        )
        for name, task in TASKS.items()
    ),
    ExtraMetrics(("passkey_ndcg",), _classifies, _search, _passkeys),
    ExtraMetrics(
        ("cosine",),
        lambda recipe: _classifies(recipe) and recipe.model.untouched() is not None,
        _likeness,
        open_ended=frozenset({"cosine"}),
    ),
    ExtraMetrics(("probe_accuracy",), _classifies, _probe),
)
"""All measurements."""

EXTRA: Mapping[str, ExtraMetrics] = {name: extra for extra in EVERY for name in extra.names}
"""The measurement of each metric, by its name."""

OPEN_ENDED = frozenset(chain.from_iterable(extra.open_ended for extra in EVERY))
"""The metrics that are not shares."""


def extra_metrics_of(recipe: Recipe) -> list[str]:
    """Return the names of the metrics that the runs of a recipe have besides the metrics of their task."""
    return [name for extra in EVERY if extra.serves(recipe) for name in extra.names]


def measure_extra(
    run: str | Path,
    wanted: Sequence[tuple[str, int | None]],
    device: torch.device | str = "cpu",
    trust: str | Sequence[str] = (),
    known: MeasuredRun | None = None,
    keep: Callable[[MeasuredRun], None] = lambda measured: None,
    check_cancelled: Callable[[], None] = lambda: None,
) -> MeasuredRun:
    """Score the test of a run by metrics that its task does not have, names of `EXTRA` with a length in tokens.

    The length is None for metrics of test items. `keep` is called with all scores so far once a measurement is
    complete; other arguments are as of `measure`.

    Raises:
        ValueError: as of `measure`, or for a length without room for the texts of a metric.
    """
    opened, measured = open_to_measure(run, "test", device, trust, known)
    with opened.autocast(), torch.no_grad():
        for name, length in wanted:
            if (name, length) in measured.scores:
                continue
            fits = opened.model.max_length is None or (length or 0) <= opened.model.max_length
            new = {
                (metric, length): ItemScores(metric, length, sums.astype(np.float64), counts, identity)
                for metric, sums, counts, identity in (
                    EXTRA[name].score(opened, length or 0, check_cancelled) if fits else ()
                )
            }
            measured = replace(measured, scores={**measured.scores, **new})
            keep(measured)
    return measured


@dataclass(frozen=True, eq=False)
class _Vectors:
    """Vectors of the N test texts, (N, M) float32 of norm 1, their classes (N,), and the identity of the texts.

    Texts that the model has no positions for do not count, and their vectors are 0.
    """

    vectors: np.ndarray
    classes: np.ndarray
    counts: np.ndarray
    identity: str


def _test_vectors(run: EvaluatedRun, model: Model, check_cancelled: Callable[[], None]) -> _Vectors:
    """Return the vectors of the test texts in a model."""
    data, lengths = run.data, run.data.lengths_of(run.split)
    vectors, classes, counts = [], [], []
    for length in lengths:
        items = data.held_out(run.split, length)
        chosen, total = fitting(model, items), len(items.num_tokens)
        vectors_NM, classes_N = np.zeros((total, model.embedding.embedding_dim), np.float32), np.full(total, -1)
        for numbers in batches_of(items.num_tokens, chosen, data.batch_size * data.training_length, equal=True):
            check_cancelled()
            batch = on_device(items.__getitems__(numbers), device_of(model))
            vectors_NM[numbers] = _vectors(run, model, batch)
            classes_N[numbers] = batch.classes.cpu().numpy()
        vectors.append(vectors_NM)
        classes.append(classes_N)
        counts.append(np.isin(np.arange(total), chosen))
    identity = " ".join(data.identity(run.split, length) for length in lengths)
    return _Vectors(np.concatenate(vectors), np.concatenate(classes), np.concatenate(counts), identity)


def _vectors(run: EvaluatedRun, model: Model, batch: Any) -> np.ndarray:
    """Return the unit vectors of the texts of a batch, (B, M) float32: those that an output layer of classes reads."""
    return embeddings.unit_vectors(
        run.task.hidden_states(model, batch), batch.real, embeddings.pooling_of(run.model, run.recipe)
    )


def _digest(texts: Iterable[np.ndarray]) -> str:
    """Return a text that is the same for the same token ids."""
    digest = hashlib.sha256()
    for tokens in texts:
        digest.update(np.append(tokens, -1).astype(np.int64).tobytes())
    return digest.hexdigest()[:16]
