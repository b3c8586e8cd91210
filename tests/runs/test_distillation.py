"""The loss of distillation is its definition, whatever the task, the padding and the batches that rows are cut into."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.data.algorithmic.chomsky import StackManipulation
from poslab.data.algorithmic.examples import Example
from poslab.data.batch import IGNORE, TokenBatch
from poslab.data.corpus import WindowRows
from poslab.data.tokenizers import ByteTokenizer, SymbolTokenizer
from poslab.encodings import Rotary
from poslab.models import Decoder, Encoder, EncoderDecoder, Model
from poslab.runs.distillation import DIVERGENCES, Distillation, log_probabilities
from poslab.runs.steps import ObjectiveSums, TaskLoss, Teacher
from poslab.tasks.answering import AnswersAtPositions, WrittenAnswers
from poslab.tasks.classification import Classification, MultiLabelClassification
from poslab.tasks.language_modelling import LanguageModelling, MaskedLanguageModelling, SpanCorruption
from poslab.tasks.question_answering import QuestionAnswering
from poslab.tasks.sequence_to_sequence import Continuing, SequenceToSequence
from poslab.tasks.task import Task
from poslab.tasks.token_tagging import TokenTagging
from tests.stacked import stacked

BYTES = ByteTokenizer()
SYMBOLS = SymbolTokenizer(StackManipulation().symbols)
LENGTHS = [5, 12, 9, 7]
"""Tokens of the rows, of which a teacher that reads 8 reads two as a whole."""

NUMBERS = np.random.default_rng(0)
WINDOWS = NUMBERS.integers(40, size=(4, 13))
TEXTS = [NUMBERS.integers(40, size=length) for length in LENGTHS]


def windows(task: Task, rows: Sequence[int]) -> Any:
    return task.collate(WindowRows(WINDOWS[rows], list(rows)), np.ones((len(rows), 13), dtype=bool))


def columns(task: Task, rows: Sequence[int], **others: Sequence[Any]) -> Any:
    own = {name: [values[row] for row in rows] for name, values in others.items()}
    return task.collate(own, np.ones(len(rows), dtype=bool))


def classes(task: Task, rows: Sequence[int]) -> Any:
    labels = [["a"], ["a", "c"], [], ["b"]] if isinstance(task, MultiLabelClassification) else ["a", "b", "c", "a"]
    return columns(task, rows, tokens=TEXTS, label=labels)


def tags(task: Task, rows: Sequence[int]) -> Any:
    return columns(task, rows, tokens=TEXTS, firsts=[[0, 3]] * 4, tags=[["b", "a"]] * 4)


def spans(task: Task, rows: Sequence[int]) -> Any:
    return columns(task, rows, tokens=TEXTS, first=[2] * 4, span=[[2, 3], [0, 0], [4, 6], [3, 3]])


def pairs(task: Task, rows: Sequence[int]) -> Any:
    return columns(task, rows, source_tokens=TEXTS, target_tokens=TEXTS[::-1])


def symbols(task: Task, rows: Sequence[int]) -> Any:
    drawn = [StackManipulation().example(length // 2, np.random.default_rng(length)) for length in LENGTHS]
    examples: list[Example] = [drawn[row] for row in rows]
    return task.collate(examples, np.ones(len(rows), dtype=bool))


class Case(NamedTuple):
    task: Task
    kind: type[Model]
    collate: Callable[[Task, Sequence[int]], Any]


CASES: Mapping[str, Case] = {
    "next tokens": Case(LanguageModelling({"train": 1.0}), Decoder, windows),
    "next tokens of documents": Case(LanguageModelling({"train": 1.0}, boundary=3), Decoder, windows),
    "masked tokens": Case(MaskedLanguageModelling(40), Encoder, windows),
    "corrupted spans": Case(SpanCorruption(60, 50, longest=12), EncoderDecoder, windows),
    "classes": Case(Classification("abc", False, BYTES, 64), Encoder, classes),
    "classes of a decoder": Case(Classification("abc", False, BYTES, 64), Decoder, classes),
    "several classes": Case(MultiLabelClassification("abc", False, BYTES, 64), Encoder, classes),
    "tags": Case(TokenTagging("ab", BYTES), Encoder, tags),
    "spans": Case(QuestionAnswering(BYTES), Encoder, spans),
    "pairs": Case(SequenceToSequence(BYTES), EncoderDecoder, pairs),
    "continuations": Case(Continuing(BYTES), Decoder, pairs),
    "answers": Case(WrittenAnswers(StackManipulation(), [4], SYMBOLS), Decoder, symbols),
    "answers at places": Case(AnswersAtPositions(StackManipulation(), [4], SYMBOLS), Encoder, symbols),
}


def model_of(case: Case, seed: int, d_model: int = 16) -> Any:
    """A model whose logits are as large as those of a trained one."""
    torch.manual_seed(seed)
    options = {} if case.kind is EncoderDecoder else {"outputs": case.task.outputs}
    model = stacked(case.kind, 300, Rotary, d_model, 1, 2, **options)
    with torch.no_grad():
        model.output.weight.mul_(10)
    return model


def step_of(
    case: Case, rows: Sequence[int], longest: int = 64, student: Model | None = None, **settings: Any
) -> tuple[ObjectiveSums, Any]:
    teacher = Teacher(model_of(case, seed=1).eval(), longest, "a run")
    student = model_of(case, seed=2) if student is None else student
    batch = case.collate(case.task, rows)
    return Distillation(teacher="a run", **settings).sums(case.task, student, batch, teacher), batch


def gradient(loss: Tensor, model: nn.Module) -> Tensor:
    return torch.cat([one.flatten() for one in torch.autograd.grad(loss, list(model.parameters()))])


MATCHED = [
    (name, match)
    for name, case in CASES.items()
    for match in ("logits", "hidden", "attention", "relations")
    if match == "logits" or case.kind is not EncoderDecoder  # which reads a source
]


@pytest.mark.parametrize("longest", [8, 64])
@pytest.mark.parametrize(("name", "match"), MATCHED)
def test_a_batch_is_the_sum_of_its_rows(name, match, longest):
    case = CASES[name]
    student = model_of(case, seed=2)
    whole, _ = step_of(case, range(4), longest, student, match=match, weight=0.3)
    rows = [step_of(case, [row], longest, student, match=match, weight=0.3)[0] for row in range(4)]
    torch.testing.assert_close(whole.loss, sum(row.loss for row in rows), atol=1e-5, rtol=1e-5)
    for place in (0, 1):
        own = sum(row.terms[0][place] for row in rows)
        torch.testing.assert_close(whole.terms[0][place], own, atol=1e-5, rtol=1e-5)
    together = gradient(whole.loss, student)
    apart = gradient(sum((row.loss for row in rows), torch.zeros(())), student)
    torch.testing.assert_close(together, apart, atol=1e-5 * apart.abs().max().item(), rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_a_row_that_does_not_count_adds_nothing(name):
    case = CASES[name]
    teacher, student = Teacher(model_of(case, 1).eval(), 8, "a run"), model_of(case, 2)
    objective = Distillation(teacher="a run", weight=0.3)
    batch = case.collate(case.task, [0, 3, 1])
    name_of_targets = next(field for field in ("targets", "classes", "spans") if field in batch._fields)
    targets = getattr(batch, name_of_targets).clone()
    targets[2] = IGNORE
    filled = objective.sums(case.task, student, batch._replace(**{name_of_targets: targets}), teacher)
    alone = objective.sums(case.task, student, case.collate(case.task, [0, 3]), teacher)
    torch.testing.assert_close(filled.loss, alone.loss, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(filled.terms, alone.terms, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_the_weights_of_predictions_sum_to_their_number(name):
    case = CASES[name]
    batch = case.collate(case.task, range(4))
    logits = case.task.logits(model_of(case, 1), batch)
    weight = case.task.distributions(logits, batch)[1]
    assert weight.sum().item() == pytest.approx(case.task.sums(logits, batch).counted.item())


@pytest.mark.parametrize("name", CASES)
def test_the_loss_of_a_task_is_the_cross_entropy_of_its_distributions_with_its_targets(name):
    case = CASES[name]
    batch = case.collate(case.task, range(4))
    logits = case.task.logits(model_of(case, 1), batch)
    own, weight = case.task.distributions(logits, batch)
    targets = next(getattr(batch, field) for field in ("targets", "classes", "spans") if field in batch._fields)
    losses = functional.cross_entropy(own.flatten(0, -2), targets.flatten(), ignore_index=IGNORE, reduction="none")
    expected = case.task.sums(logits, batch).loss
    torch.testing.assert_close((losses * weight.flatten()).sum(), expected, atol=1e-4, rtol=1e-5)


def test_the_loss_of_next_tokens_is_that_of_a_loop_over_tokens():
    case, longest, weight, temperature = CASES["next tokens of documents"], 8, 0.3, 3.0
    student, teacher = model_of(case, 2), model_of(case, 1).eval()
    step, batch = step_of(case, range(4), longest, student, weight=weight, temperature=temperature)
    ours = case.task.logits(student, batch)
    theirs = case.task.logits(teacher, batch)  # a causal teacher sees nothing behind a token
    expected = counted = distilled = 0.0
    for row in range(4):
        for place in range(12):
            target = int(batch.targets[row, place])
            if target == IGNORE:
                continue
            counted += place < longest
            own = -ours[row, place].log_softmax(-1)[target].item()
            p, q = ((logits[row, place] / temperature).softmax(-1) for logits in (theirs, ours))
            divergence = temperature**2 * (p * (p / q).log()).sum().item()
            distilled += divergence if place < longest else 0.0
            expected += (1 - weight) * own + weight * divergence if place < longest else own
    assert 0 < counted < step.task.counted.item()
    assert step.loss.item() == pytest.approx(expected, rel=1e-5)
    term, number = (part.item() for part in step.terms[0])
    assert (term, number) == (pytest.approx(distilled, rel=1e-5), counted)
    assert step.task == case.task.sums(ours, batch)


@pytest.mark.parametrize("match", ["logits", "hidden"])
@pytest.mark.parametrize("name", ["next tokens", "next tokens of documents"])
def test_a_teacher_of_a_longer_context_reads_the_text_before_the_window(name, match):
    """By a loop over tokens: each model reads its own part of the document of a token, up to that token."""
    case, num_earlier, weight = CASES[name], 5, 0.3
    student, teacher = model_of(case, 2).double(), model_of(case, 1).double().eval()
    rows = WindowRows(WINDOWS[:, num_earlier:], range(4), WINDOWS[:, :num_earlier])
    batch = case.task.collate(rows, np.ones_like(rows.tokens, dtype=bool))
    objective = Distillation(teacher="a run", weight=weight, match=match, distance="mse", temperature=1.0)
    step = objective.sums(case.task, student, batch, Teacher(teacher, 12, "a run"))

    boundary = getattr(case.task, "boundary", None)
    expected, distances, counted = 0.0, np.zeros((4, 7)), np.zeros((4, 7))
    for row, place in np.ndindex(4, 7):
        end = num_earlier + place + 1
        ends = [at + 1 for at in range(end - 1) if WINDOWS[row, at] == boundary]
        theirs, ours = (torch.from_numpy(WINDOWS[row, max([first, *ends]) : end])[None] for first in (0, num_earlier))
        log_p, log_q = teacher(theirs)[0, -1].log_softmax(-1), student(ours)[0, -1].log_softmax(-1)
        apart = teacher.hidden_states(theirs)[0, -1] - student.hidden_states(ours)[0, -1]
        distance = (log_p.exp() * (log_p - log_q)).sum() if match == "logits" else apart.square().mean()
        distances[row, place] = distance.item()
        counted[row, place] = WINDOWS[row, end - 1] != boundary
        expected += (1 - weight) * counted[row, place] * -log_q[WINDOWS[row, end]].item()
    if match == "hidden":  # a mean over the tokens of a row
        distances[:] = distances.mean(1, keepdims=True)
    assert step.loss.item() == pytest.approx(expected + weight * (distances * counted).sum(), rel=1e-5)
    assert step.task == case.task.sums(case.task.logits(student, batch), batch)


def test_a_text_that_the_teacher_has_not_read_as_a_whole_has_the_loss_of_its_class_alone():
    case = CASES["classes"]
    step, batch = step_of(case, [1], 8, weight=1.0)
    assert step.loss.item() == pytest.approx(step.task.loss.item()) and step.task.counted == 1
    assert [part.item() for part in step.terms[0]] == [0, 0]
    assert step_of(case, [0], 8, weight=1.0)[0].terms[0][0] > 0
    assert batch.real.sum() == 12


@pytest.mark.parametrize(("name", "match"), MATCHED)
def test_a_student_that_is_its_teacher_has_nothing_to_learn(name, match):
    case = CASES[name]
    student = model_of(case, seed=1)
    step, batch = step_of(case, range(4), 64, student, match=match, weight=1.0)
    assert step.loss.item() == pytest.approx(0, abs=1e-4)
    usual = gradient(case.task.loss(student, batch).loss, student)
    assert gradient(step.loss, student).abs().max() < 1e-4 * usual.abs().max()


@pytest.mark.parametrize("divergence", ["forward", "reverse", "jensen_shannon"])
def test_the_divergence_is_of_the_teacher_and_the_student_in_this_order(divergence):
    case = CASES["classes"]
    student, teacher = model_of(case, 2), model_of(case, 1).eval()
    step, batch = step_of(case, range(4), 64, student, divergence=divergence, temperature=3.0)
    log_p, log_q = (log_probabilities(case.task.logits(model, batch), 3.0) for model in (teacher, student))
    expected = 9 * DIVERGENCES[divergence](log_p, log_q).sum()
    torch.testing.assert_close(step.terms[0][0], expected.detach())


def test_hidden_states_are_matched_at_real_tokens_and_each_text_counts_once():
    case = CASES["classes"]
    student, teacher = model_of(case, 2), model_of(case, 1).eval()
    step, _ = step_of(case, range(4), 8, student, match="hidden", distance="mse", weight=1.0)
    expected = 0.0
    for tokens in (TEXTS[0], TEXTS[3]):  # those of at most 8 tokens
        read = torch.from_numpy(tokens).unsqueeze(0)
        expected += (teacher.hidden_states(read) - student.hidden_states(read)).square().mean().item()
    assert step.terms[0][0].item() == pytest.approx(expected, rel=1e-5)
    assert step.terms[0][1] == 2
    assert "hidden_states" not in vars(student)


def test_a_teacher_of_another_width_is_only_asked():
    case = CASES["next tokens"]
    teacher = model_of(case, 1, d_model=32).eval()
    student, batch = model_of(case, 2), case.collate(case.task, range(4))
    step = Distillation(teacher="a run").sums(case.task, student, batch, Teacher(teacher, 64, "a run"))
    step.loss.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.grad is not None for parameter in student.parameters())


@pytest.mark.parametrize("match", ["logits", "hidden", "attention", "relations"])
def test_every_parameter_has_a_gradient_where_the_teacher_is_all_that_counts(match):
    case = CASES["tags"]
    student = model_of(case, 2)
    step, _ = step_of(case, range(4), 64, student, match=match, weight=1.0)
    step.loss.backward()
    assert all(parameter.grad is not None for parameter in student.parameters())


def test_the_loss_of_the_task_alone_is_its_sums():
    case = CASES["next tokens"]
    model, batch = model_of(case, 1), case.collate(case.task, range(4))
    step = TaskLoss().sums(case.task, model, batch, None)
    assert step.task == case.task.loss(model, batch)
    assert step.loss is step.task.loss and not step.terms


@pytest.mark.parametrize("name", CASES)
def test_the_first_tokens_of_a_short_batch_are_the_batch(name):
    case = CASES[name]
    batch = case.collate(case.task, range(4))
    assert case.task.first_tokens(batch, 64) is batch
    short = case.task.first_tokens(batch, 8)
    assert type(short) is type(batch)
    width = (short.tokens if isinstance(short, TokenBatch) or "tokens" in short._fields else short.source).shape[1]
    assert width == 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher": None}, "teacher must be .*got None"),
        ({"weight": 1.5}, "weight must be .*got 1.5"),
        ({"temperature": 0}, "temperature must be .*got 0"),
        ({"within": 0}, "within must be .*got 0"),
        ({"within": 8, "teacher_length": 8}, "within must be null with"),
        (
            {"match": "relations", "teacher_length": 8},
            "match must be .*got relations",
        ),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Distillation(**{"teacher": "a run", **settings})


def test_a_task_without_distributions_has_no_teacher():
    class Regression(Classification):
        distributions = Task.distributions

    with pytest.raises(ValueError, match="distil: Regression"):
        Regression("ab", False, BYTES, 64).distributions(torch.zeros(1, 2), None)
