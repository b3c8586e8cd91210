"""Under a large vocabulary, loss, accuracy and gradients follow from few logits at a time, and are the same."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from poslab.data.batch import IGNORE
from poslab.data.corpus import WindowRows
from poslab.encodings import Rotary
from poslab.models import Decoder, Encoder, Model
from poslab.tasks import token_prediction
from poslab.tasks.language_modelling import LanguageModelling, MaskedLanguageModelling
from tests.stacked import stacked
from tests.training.runs import recorded, run_of, small

VOCABULARY = 64
WINDOWS = np.random.default_rng(0).integers(VOCABULARY - 1, size=(4, 33))
SIZES = {"d_model": 16, "num_layers": 1, "num_heads": 2}
TASKS = {
    "next": LanguageModelling({}),
    "next in documents": LanguageModelling({}, boundary=3),
    "masked": MaskedLanguageModelling(VOCABULARY - 1),
}


@pytest.fixture
def few_at_once(monkeypatch):
    """Ten logits rows at a time, for any vocabulary."""
    for name in ("LOGITS_AT_ONCE", "LOGITS_IN_TRAINING"):
        monkeypatch.setattr(token_prediction, name, 10 * VOCABULARY)
    monkeypatch.setattr(token_prediction, "LARGE_VOCABULARY", 1)


def model_of(task, **settings) -> Model:
    torch.manual_seed(0)
    kind = Encoder if "bidirectional" in task.needs else Decoder
    return stacked(kind, VOCABULARY, Rotary, **SIZES, **settings)


def batch_of(task):
    return task.collate(WindowRows(WINDOWS, range(4)), np.ones(WINDOWS.shape, dtype=bool))


def results(task, model):
    model.zero_grad()
    sums = task.loss(model, batch_of(task))
    (sums.loss / sums.counted).backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    return [part.item() for part in sums], gradients


@pytest.mark.parametrize("settings", [{}, {"tie_embeddings": False}], ids=["tied", "untied"])
@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("frozen", [(), ("output", "embedding"), ("blocks",)])
def test_loss_accuracy_and_gradients_are_those_of_whole_logits(few_at_once, name, settings, frozen):
    task, model = TASKS[name], model_of(TASKS[name], **settings)
    for key, weight in model.named_parameters():
        weight.requires_grad = not key.startswith(frozen)
    sums, gradients = results(task, model)
    task.whole_logits = True
    try:
        expected, expected_gradients = results(task, model)
    finally:
        task.whole_logits = False
    assert sums == [pytest.approx(expected[0], rel=1e-6), *expected[1:]]
    for key, gradient in expected_gradients.items():
        if gradient is None:
            assert gradients[key] is None, key
        else:
            torch.testing.assert_close(gradients[key], gradient, rtol=1e-4, atol=1e-6)


def test_in_bfloat16_gradients_are_as_accurate_as_those_of_whole_logits(few_at_once):
    task, model = LanguageModelling({}), model_of(LanguageModelling({}))
    _, exact = results(task, model.double())
    model.float()
    errors = []
    for task.whole_logits in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            _, gradients = results(task, model)
        errors.append(sum((gradients[key] - exact[key]).norm() / exact[key].norm() for key in exact))
    assert errors[0] < 1.1 * errors[1]


def test_a_batch_without_targets_has_a_loss_and_gradients_of_zero(few_at_once):
    task, model = LanguageModelling({}), model_of(LanguageModelling({}))
    batch = batch_of(task)
    sums = task.loss(model, batch._replace(targets=torch.full_like(batch.targets, IGNORE)))
    sums.loss.backward()
    assert [part.item() for part in sums] == [0, 0, 0]
    assert not any(weight.grad.any() for weight in model.parameters() if weight.grad is not None)


class Sizes(TorchDispatchMode):
    """The most numbers of a tensor that an operation returns."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.most = max(self.most, tensor.numel())
        return result


@pytest.mark.parametrize("trains", [True, False])
def test_no_more_logits_than_allowed_are_in_memory(few_at_once, trains):
    task, model = LanguageModelling({}), model_of(LanguageModelling({}))
    model.embedding = torch.nn.Embedding(5000, 16)
    model.output = torch.nn.Linear(16, 5000, bias=False)
    with torch.set_grad_enabled(trains), Sizes() as sizes:
        sums = task.loss(model, batch_of(task))
        if trains:
            sums.loss.backward()
    assert sizes.most == 5000 * 16  # numbers of the weight, and not 4 * 32 * 5000 logits


def test_scores_of_rows_are_those_of_whole_logits(few_at_once):
    task, model = LanguageModelling({}), model_of(LanguageModelling({}))
    with torch.no_grad():
        rows = task.observe_rows(model, batch_of(task), "test")
        together = task.observe(model, batch_of(task), "test").sums
        task.whole_logits = True
        expected = task.observe_rows(model, batch_of(task), "test")
    for row, other in zip(rows, expected, strict=True):
        assert list(map(float, row.sums)) == pytest.approx(list(map(float, other.sums)), rel=1e-6)
    assert float(together.loss) == pytest.approx(sum(float(row.sums.loss) for row in expected), rel=1e-6)


def test_a_small_vocabulary_keeps_whole_logits(monkeypatch):
    monkeypatch.setattr(token_prediction, "summed_loss", None)
    task, model = LanguageModelling({}), model_of(LanguageModelling({}))
    assert results(task, model)[0][2] == 4 * 32


@pytest.mark.parametrize(
    "words",
    [
        ["trainer.activation_checkpointing=true"],
        ["adapt=norms"],
        ["trainer.micro_batch_size=2"],
        pytest.param(["trainer.compile=blocks"], marks=pytest.mark.slow),
    ],
)
def test_a_run_has_the_losses_of_whole_logits(tmp_path, monkeypatch, few_at_once, words):
    run = run_of(small(tmp_path, *words), tmp_path / "chunks")
    monkeypatch.setattr(token_prediction, "LARGE_VOCABULARY", 1_000_000)
    whole = run_of(small(tmp_path, *words), tmp_path / "whole")
    losses, expected = ([row for row in recorded(of) if row[1].endswith("loss")] for of in (run, whole))
    assert losses == [(step, tag, pytest.approx(value, rel=1e-5)) for step, tag, value in expected]
    assert losses != expected  # bit for bit


@pytest.mark.parametrize("words", ["step=private", pytest.param("trainer.compile=true", marks=pytest.mark.slow)])
def test_a_run_that_needs_whole_logits_has_them(tmp_path, monkeypatch, few_at_once, words):
    monkeypatch.setattr(token_prediction, "summed_loss", None)
    run = run_of(small(tmp_path, words), tmp_path / "run")
    assert run.is_finished
