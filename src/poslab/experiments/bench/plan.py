"""Benchmarks as a command line requests them, and their tasks at each length."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import lm_eval.tasks

from poslab.arguments import Count, Positive, Range, nearest, with_checked_arguments
from poslab.evaluation.benchmarks import long_text, prompts
from poslab.evaluation.benchmarks.fitting import text_of
from poslab.evaluation.benchmarks.subjects import Subject
from poslab.evaluation.benchmarks.tasks import HARNESS, Benchmark, PromptTask, harness_tasks

Scoring = Literal["generated", "forced"]


@with_checked_arguments
@dataclass(frozen=True)
class BenchRequest:
    """Benchmarks as a command line requests them.

    Args:
        tasks: names of tasks or groups: of `prompts.TASKS`, `longppl`, or of lm-evaluation-harness.
        lengths: most tokens of a prompt with its answer, of tasks that have lengths.
        samples: items of each task and length; None is all of tasks of the harness, and 100 of others.
        scoring: whether answers are generated, teacher-forced, or both.
        seed: of the prompts.
        files: text files for the tasks with own text, and for longppl.
        answers: files of questions, for `qa_squad` and `qa_hotpot`.
        include_path: folder with own tasks of the harness.
        few_shot: examples in the prompts of tasks of the harness; None is as each says.
        chat: whether prompts have the chat template of the model.
        margin: smallest difference that matters, of shares in per cent.
        loss_margin: of losses, in nats per token.
        baseline: name of the encoding to which others are compared; None is the first.
        output: directory of the results; None is a new one in outputs/.
        dry_run: whether to measure only the first item of each task, and say how long the rest takes.
        typed: words of the command line, for the report.
    """

    tasks: Sequence[str]
    lengths: Sequence[Count] | None = None
    samples: Count | None = None
    scoring: Sequence[Scoring] = ("generated", "forced")
    seed: Annotated[int, Range(0, 2**32 - 1)] = 42
    files: Any = None
    answers: Any = None
    include_path: str | None = None
    few_shot: Annotated[int, Range(at_least=0)] | None = None
    chat: bool = False
    margin: Positive = 5.0
    loss_margin: Positive = 0.05
    baseline: str | None = None
    output: str | None = None
    dry_run: bool = False
    typed: str = ""
    figure_width: Annotated[float, Range(3, 20)] | None = None

    def __post_init__(self) -> None:
        for key in ("tasks", "scoring"):
            if not getattr(self, key):
                raise ValueError(f"{key} must not be empty")
        if self.include_path is not None and not Path(self.include_path).is_dir():
            raise ValueError(f"include_path must be a folder with YAML files of tasks, got {self.include_path}")


def benchmarks_of(subjects: Sequence[Subject], request: BenchRequest) -> Iterator[Benchmark]:
    """Yield the tasks at their lengths."""
    first, *others = subjects
    for other in others:
        if _vocabulary(other) != _vocabulary(first):
            raise ValueError(
                f"models must have the same tokenizer to be compared, unlike {first.path} and {other.path}"
            )
    if request.chat and getattr(first.tokenizer, "chat_template", None) is None:
        raise ValueError(f"chat=true needs a model with a chat template, and {first.path} has none")
    tasks = list(dict.fromkeys(name for task in request.tasks for name in prompts.GROUPS.get(task, (task,))))
    of_length = [task for task in tasks if task in prompts.TASKS or task == long_text.NAME]
    if of_length and not request.lengths:
        raise ValueError(f"lengths must be given for task={of_length[0]}, as in lengths=[4096,16384]")
    rest = [task.removeprefix(HARNESS) for task in tasks if task not in of_length]
    if rest and request.include_path is None:
        _require_known(rest)
    count, text = request.samples or 100, None if request.files is None else text_of(request.files)
    of_template = _template_tokens(first) if request.chat else 0
    for task in of_length:
        for length in sorted(set(request.lengths or ())):
            if task == long_text.NAME:
                yield _long_text(first, length, count, request)
                continue
            room = max(length - of_template, 1)
            items = prompts.items(task, first.tokenizer, room, count, request.seed, text=text, answers=request.answers)
            yield PromptTask(task, length, items, request.scoring, request.chat)
    if rest:
        settings = (request.samples, request.chat, request.few_shot, request.include_path)
        metadata = {"pretrained": first.path, "max_seq_lengths": list(request.lengths or [first.training_length])}
        yield from harness_tasks(rest, *settings, metadata)


def _require_known(names: Sequence[str]) -> None:
    """Raise ValueError for a task that no file of the harness names: reading them takes a tenth of indexing them."""
    files = (file for file in Path(lm_eval.tasks.__path__[0]).rglob("*") if file.suffix not in (".py", ".pyc", ".md"))
    text = "\n".join(file.read_text(errors="ignore") for file in files if file.is_file())
    words = set(re.findall(r"[^\s,'\"\[\]{}]+", text))
    for name in (name for name in names if name not in words):
        known = re.findall(r"^(?:task|group|tag): *['\"]?([^\s'\"]+)", text, re.MULTILINE)
        near = nearest(name, [*prompts.GROUPS, *prompts.TASKS, long_text.NAME]) or nearest(name, known)
        raise ValueError(f"unknown task {name!r}{near}")


def _long_text(evaluator: Subject, length: int, count: int, request: BenchRequest) -> Benchmark:
    if request.files is None:
        raise ValueError(f"files must name text files for task={long_text.NAME}")
    if length > evaluator.training_length:
        raise ValueError(
            f"lengths must be at most {evaluator.training_length:,} for task={long_text.NAME}, the training length of "
            f"{evaluator.name}, which finds the tokens that need long context; got {length:,}"
        )
    windows = long_text.windows_of(prompts.called(evaluator.tokenizer), length, count, request.seed, request.files)
    return long_text.LongText(windows, long_text.key_tokens(windows, lambda: evaluator.lm(length), evaluator.name))


def _template_tokens(subject: Subject) -> int:
    """Return how many tokens the chat template adds to a prompt, which may be a few too many."""
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    try:
        text = subject.tokenizer.apply_chat_template(messages, tokenize=False, continue_final_message=True)
    except Exception as error:  # a template is a program
        raise ValueError(f"the chat template of {subject.path} fails: {error or type(error).__name__}") from error
    return len(subject.tokenizer(text).input_ids)


def _vocabulary(subject: Subject) -> Any:
    return list(prompts.called(subject.tokenizer)("The 3 keys: é, 日本, \n\t{}").input_ids)
