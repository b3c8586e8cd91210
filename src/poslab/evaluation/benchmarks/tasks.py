"""Benchmark tasks, each at one length, and the scores of a language model on their items.

A language model is an `LM` of lm-evaluation-harness. I items.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager
from lm_eval.tasks.ruler.common_utils import postprocess_pred, string_match_all, string_match_part

from poslab.arguments import nearest, with_checked_arguments
from poslab.data.retrieval_prompts import MRCR, answer_text
from poslab.evaluation.benchmarks.forms import mrcr_score
from poslab.evaluation.benchmarks.ruler import NEED_ANSWERS
from poslab.evaluation.settings import StepRunner

FEW_SHOT_SEED = 1234
"""Seed of few-shot examples, and of numpy and torch, as of the harness's own command line; Python's is 0."""

MIN_WORTH = 0.1
"""Nats that facts are worth to an answer, on average, for `recovery`: below that it would be a ratio of noise."""

HARNESS = "harness:"
"""Before a task of the harness with the name of another task."""


@with_checked_arguments
@dataclass(frozen=True)
class ItemMetric:
    """A metric of a task on each of its items.

        value = sum(sums) / sum(counts)

    Args:
        name: of the metric.
        sums, counts: (I,); shares are in per cent.
        maximize: whether large values are good.
        is_share: whether values lie between 0 and 100.
        length: of the prompts; None for tasks without a length.
    """

    name: str
    sums: Sequence[float]
    counts: Sequence[int]
    maximize: bool
    is_share: bool
    length: int | None

    def __post_init__(self) -> None:
        if not len(self.sums) == len(self.counts) or sum(self.counts) < 1:
            raise ValueError(f"sums and counts must be of the same items, got {len(self.sums)} and {len(self.counts)}")

    @classmethod
    def of_values(cls, name: str, values: Any, length: int | None, is_share: bool = True) -> ItemMetric:
        """Return a metric of which large values are good, of one value for each item; shares are from 0 to 1."""
        sums = (100.0 if is_share else 1.0) * np.asarray(values, np.float64)
        return cls(name, sums.tolist(), [1] * len(sums), True, is_share, length)


class Benchmark(ABC):
    """A task at a length.

    Args:
        name: of the task.
        length: most tokens of a prompt with its answer; None for a task that has no length.
        count: number of items.
        work: tokens that a model reads, in any unit that all benchmarks share.
        identity: equal for equal items.
    """

    name: str
    length: int | None
    count: int
    work: float
    identity: str

    @property
    def label(self) -> str:
        """The task with its length in words."""
        return self.name if self.length is None else f"{self.name} at {self.length:,} tokens"

    @abstractmethod
    def measure(self, lm: Any, step: StepRunner) -> list[ItemMetric]:
        """Return the metrics of a model; `step` makes what a run that was killed keeps."""

    @abstractmethod
    def first_item(self) -> Benchmark:
        """Return the same task with only its first item."""


class HarnessTask(Benchmark):
    """A task of lm-evaluation-harness.

    Args:
        task: as its `TaskManager` loads it.
        samples: most items, the first ones; None is all.
        chat: whether prompts have the chat template of the model.
        few_shot: number of examples in each prompt; None is as the task says.
    """

    def __init__(
        self, name: str, task: Any, samples: int | None, chat: bool = False, few_shot: int | None = None
    ) -> None:
        self.name, self.length, self.samples, self.chat, self.few_shot = name, None, samples, chat, few_shot
        self._task = task
        documents = list(task.eval_docs)
        self.count = len(documents) if samples is None else min(samples, len(documents))
        known = [json.dumps(document, sort_keys=True, default=str) for document in documents[: self.count]]
        self.work = float(sum(map(len, known)))
        settings = json.dumps([name, task.dump_config(), chat, few_shot], sort_keys=True, default=str)
        self.identity = hashlib.sha256("".join([settings, *known]).encode()).hexdigest()[:16]

    def first_item(self) -> HarnessTask:
        return HarnessTask(self.name, self._task, 1, self.chat, self.few_shot)

    def measure(self, lm: Any, step: StepRunner) -> list[ItemMetric]:
        return _kept(step, self.label, self.work, lambda: self._measured(lm))

    def _measured(self, lm: Any) -> list[ItemMetric]:
        task = self._task
        if self.few_shot is not None and task.get_config("num_fewshot") != 0:
            task.set_config(key="num_fewshot", value=self.few_shot)
        elif task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        return list(_metrics(*_evaluated(lm, task, self.samples, self.chat), self.length))


class PromptTask(Benchmark):
    """Prompts with answers that they determine, generated or teacher-forced.

    Metrics of generated answers: `string_match`, the share of the expected strings that the answer contains (of
    questions with several right answers, RULER's `string_match_part`), and `mrcr` of MRCR. Teacher-forced:
    `answer_loss` in nats per token; `forced_match`, whether each token of the answer is the most probable one;
    `choice`, whether the right answer is more probable than others of its form; and `recovery` in per cent, how much
    of what the facts are worth survives the hay around them:

        recovery = 100 (L_without - L_whole) / (L_without - L_alone)

    with the summed losses of the answers in the whole prompt, without the facts, and with nothing but the facts. It is
    absent where the facts are worth less than `MIN_WORTH`. Its items are of a ratio (`ItemScores.linearised`).

    Args:
        items: as of `prompts.items`.
        scoring: `generated`, `forced` or both.
        chat: as of `HarnessTask`.
        max_new_tokens: of an answer.
    """

    def __init__(
        self, name: str, length: int, items: Sequence[dict[str, Any]], scoring: Sequence[str], chat: bool = False
    ) -> None:
        self.name, self.length, self.items, self.scoring, self.chat = name, length, items, tuple(scoring), chat
        self.count = len(items)
        self.metric = "mrcr" if name in MRCR else "string_match"
        has_needles = all(item["needles"] for item in items)
        self.forced = "forced" in scoring and has_needles
        parts = ("generated" in scoring) + (2 + len(items[0]["distractors"])) * self.forced
        self.work = float(length * len(items) * parts)
        settings = json.dumps([name, length, scoring, chat, [*items]], sort_keys=True)
        self.identity = hashlib.sha256(settings.encode()).hexdigest()[:16]

    def first_item(self) -> PromptTask:
        return self.item(0)

    def item(self, number: int) -> PromptTask:
        """Return the same task with only one of its items."""
        return PromptTask(self.name, self.length or 0, [self.items[number]], self.scoring, self.chat)

    def measure(self, lm: Any, step: StepRunner) -> list[ItemMetric]:
        return _kept(step, self.label, self.work, lambda: self._measured(lm))

    def _measured(self, lm: Any) -> list[ItemMetric]:
        metrics = []
        if "generated" in self.scoring:
            samples, _ = _evaluated(lm, self._task([item["input"] for item in self.items]), None, self.chat)
            metrics.append(ItemMetric.of_values(self.metric, [s[self.metric] for s in samples], self.length))
        return [*metrics, *self._forced_metrics(lm)] if self.forced else metrics

    def _task(self, texts: Sequence[str]) -> Any:
        """Return the task of the harness whose prompts have these texts."""
        import datasets

        rows = [
            {"input": text, "outputs": item["outputs"], "gen_prefix": item["gen_prefix"]}
            for text, item in zip(texts, self.items, strict=True)
        ]
        config = {
            "task": self.name,
            "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(rows)},
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": "{{input}}",
            "doc_to_target": "{{outputs}}",
            "gen_prefix": "{{gen_prefix}}",
            "target_delimiter": " ",
            "process_results": lambda row, answers: {self.metric: self._match(answers[0], row["outputs"])},
            "metric_list": [{"metric": self.metric, "aggregation": "mean", "higher_is_better": True}],
            "generation_kwargs": {
                "do_sample": False,
                "max_gen_toks": self.items[0]["max_new_tokens"],
                "until": [],
            },
        }
        return TaskManager(include_defaults=False).load([config])["tasks"][self.name]

    def _match(self, answer: str, outputs: list[str]) -> float:
        if self.name in MRCR:
            return mrcr_score(answer.strip(), outputs[0])
        match = string_match_part if self.name in NEED_ANSWERS else string_match_all
        return float(match(postprocess_pred([answer]), [outputs]))

    def _contexts(self, lm: Any, texts: Sequence[str]) -> list[str]:
        """Return what a model reads before an answer: texts with the beginnings of answers, in its chat template."""
        task = self._task(texts)
        task.build_all_requests(
            rank=0,
            world_size=1,
            apply_chat_template=self.chat,
            chat_template=lm.apply_chat_template if self.chat else None,
            tokenizer_name=lm.tokenizer_name if self.chat else "",
        )
        return [str(instance.args[0]) for instance in sorted(task.instances, key=lambda instance: instance.doc_id)]

    def answer_losses(self, lm: Any) -> np.ndarray:
        """Return the summed loss in nats and the tokens of each answer, (I, 2)."""
        answers = [answer_text(self.name, item["outputs"]) for item in self.items]
        pairs = zip(self._contexts(lm, [item["input"] for item in self.items]), answers, strict=True)
        scored = lm.loglikelihood([Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(pairs)])
        tokens = [len(lm.tok_encode(answer, add_special_tokens=False)) for answer in answers]
        return np.array([(-score[0], count) for score, count in zip(scored, tokens, strict=True)], np.float64)

    def _forced_metrics(self, lm: Any) -> Iterator[ItemMetric]:
        from poslab.evaluation.benchmarks.prompts import only_needles, without_needles

        answers = [answer_text(self.name, item["outputs"]) for item in self.items]
        others = [[answer_text(self.name, outputs) for outputs in item["distractors"]] for item in self.items]
        texts = {
            "whole": [item["input"] for item in self.items],
            "without": [without_needles(item) for item in self.items],
            "alone": [only_needles(item) for item in self.items],
        }
        contexts = {part: self._contexts(lm, of_part) for part, of_part in texts.items()}
        asked = [pair for of_part in contexts.values() for pair in zip(of_part, answers, strict=True)]
        asked += [(context, other) for context, of in zip(contexts["whole"], others, strict=True) for other in of]
        instances = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(asked)]
        scored = lm.loglikelihood(instances)
        losses = -np.array([score[0] for score in scored], np.float64)
        count = len(self.items)
        whole_I, without_I, alone_I = losses[: 3 * count].reshape(3, count)
        tokens = [len(lm.tok_encode(answer, add_special_tokens=False)) for answer in answers]
        yield ItemMetric("answer_loss", whole_I.tolist(), tokens, False, False, self.length)
        yield ItemMetric.of_values("forced_match", [float(score[1]) for score in scored[:count]], self.length)
        if all(others):
            ends = np.cumsum([len(of_item) for of_item in others])[:-1]
            least_I = [min(of_item) for of_item in np.split(losses[3 * count :], ends)]
            yield ItemMetric.of_values("choice", whole_I < np.array(least_I), self.length)
        worth_I = without_I - alone_I
        if (worth := worth_I.mean()) > MIN_WORTH:
            ratio = (without_I - whole_I).mean() / worth
            items_I = ratio + (without_I - whole_I - ratio * worth_I) / worth
            yield ItemMetric.of_values("recovery", 100 * items_I, self.length, is_share=False)


def harness_tasks(
    names: Sequence[str],
    samples: int | None,
    chat: bool,
    few_shot: int | None,
    include_path: str | None,
    metadata: Mapping[str, Any],
) -> list[Benchmark]:
    """Return tasks of the harness, all that a group or a tag contains.

    Args:
        names: of tasks, groups or tags.
        samples, chat, few_shot: as of `HarnessTask`.
        include_path: folder with your own tasks, as YAML files.
        metadata: for tasks that generate their data, such as the tokenizer and the lengths.

    Raises:
        ValueError: for an unknown name, or a task whose data cannot be loaded.
    """
    _seed()
    manager = TaskManager(include_path=include_path, metadata=dict(metadata))
    loaded: dict[str, Any] = {}
    for name in names:
        if name not in manager.all_tasks:
            raise ValueError(f"unknown task {name!r}{nearest(name, manager.all_tasks)}")
        try:
            loaded |= manager.load([name])["tasks"]
        except Exception as error:  # the libraries behind a task raise anything
            raise ValueError(f"task {name} cannot be loaded: {error or type(error).__name__}") from error
    return [HarnessTask(name, task, samples, chat, few_shot) for name, task in loaded.items()]


def _seed() -> None:
    """Seed all generators as the harness's own command does, before tasks that make their items are loaded."""
    random.seed(0)
    np.random.seed(FEW_SHOT_SEED)
    torch.manual_seed(FEW_SHOT_SEED)


def _kept(step: StepRunner, label: str, work: float, make: Any) -> list[ItemMetric]:
    """Return metrics made by a step, whose numbers are the bytes of their JSON."""

    def as_bytes() -> np.ndarray:
        return np.frombuffer(json.dumps([asdict(metric) for metric in make()]).encode(), np.uint8)

    try:
        return [ItemMetric(**node) for node in json.loads(step(label, work, as_bytes).tobytes())]
    except (TypeError, ValueError):  # what was kept is damaged, but the answers may be known
        return list(make())


def _evaluated(lm: Any, task: Any, samples: int | None, chat: bool) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the samples of a task, and by metric whether large values are good."""
    _seed()
    task.set_fewshot_seed(seed=FEW_SHOT_SEED)
    name = task.config.task
    tasks: Any = {"tasks": {name: task}, "groups": {}, "group_map": {}}
    results = evaluate(lm, tasks, limit=samples, bootstrap_iters=0, apply_chat_template=chat)
    assert results is not None
    return sorted(results["samples"][name], key=lambda s: s["doc_id"]), results["higher_is_better"][name]


def _metrics(
    samples: Sequence[Mapping[str, Any]], higher_is_better: Mapping[str, Any], length: int | None
) -> Iterator[ItemMetric]:
    """Yield the metrics of samples of the harness that are means over its items, of each of its filters."""
    filters = list(dict.fromkeys(sample["filter"] for sample in samples))
    for chosen in filters:
        of_filter = [sample for sample in samples if sample["filter"] == chosen]
        suffix = "" if chosen == filters[0] else f"_{chosen}"
        for metric in of_filter[0]["metrics"]:
            values = [sample[metric] for sample in of_filter]
            name = "".join(letter if letter.isalnum() else "_" for letter in f"{metric}{suffix}".lower())
            name = name if name[0].isalpha() else f"m_{name}"
            maximize = higher_is_better.get(metric) is not False
            if metric == "bits_per_byte" and all(isinstance(value, tuple) for value in values):
                bits = [-log_p / math.log(2) for log_p, _ in values]
                yield ItemMetric(name, bits, [int(size) for _, size in values], False, False, length)
            # RULER has -1 for a length that a document does not have.
            elif all(isinstance(value, (int, float, np.number)) for value in values) and set(values) != {-1.0}:
                is_share = maximize and all(0 <= value <= 1 for value in values)
                measured = ItemMetric.of_values(name, values, length, is_share)
                yield replace(measured, maximize=maximize)


def quieten_harness() -> None:
    """Hide the log and the bars of the harness and its libraries, whose progress is shown otherwise."""
    from datasets import disable_progress_bars

    disable_progress_bars()
    for name in ("lm_eval", "transformers", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
