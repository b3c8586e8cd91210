"""Private steps: clipped gradients of rows and noise, against a loop and Opacus."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from poslab.data.batch import IGNORE, TokenBatch
from poslab.data.order import BatchPlan, IndependentOrder
from poslab.encodings import Fractional, Randomized
from poslab.encodings.sampling.randomized import Pose
from poslab.models import Decoder, Encoder, EncoderDecoder
from poslab.runs.directory import RunDirectory
from poslab.runs.private import Private, PrivateGradients
from poslab.runs.steps import RunInfo, TaskLoss
from poslab.tasks.language_modelling import LanguageModelling
from poslab.training.checking import check
from tests.encoding_choices import (
    DIGITS,
    EVERY_ENCODING,
    OF_ENCODERS,
    VOCAB_SIZE,
    factory,
    quick_or_slow,
    small_decoder,
    small_model,
    some_tokens,
)
from tests.stacked import stacked
from tests.training.runs import assert_resumes, opened, recorded, run_of, small

TASK = LanguageModelling({"train": 1.0})
ROWS, CLIP = 7, 0.05
RUN = RunInfo(batch_size=8, max_steps=20, seed=3, num_rows=100)
PRIVATE = ("step=private", "step.delta=1e-3", "trainer.max_steps=4", "trainer.validations=2", "dataset.batch_size=4")


def some_batch(rows: int = ROWS) -> TokenBatch:
    tokens = some_tokens(rows, 12)
    return TokenBatch(tokens[:, :-1], tokens[:, 1:])


def gradients_of(model: nn.Module, settings: Private, batch: TokenBatch) -> dict[str, Tensor]:
    """The gradients that the optimizer sees after one micro-batch, in step 5."""
    ours = settings.begin(RUN)
    sums = ours.sums(TaskLoss(), TASK, model, batch, None)
    ours.backward(sums.loss)
    ours.finish(list(model.parameters()), sums.task.counted, 5)
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def rows_by_a_loop(model: nn.Module, batch: TokenBatch) -> list[list[Tensor]]:
    """The gradient of the mean loss of each row, by a forward and a backward pass for each."""
    found = []
    for row in range(len(batch.tokens)):
        alone = TokenBatch(batch.tokens[row : row + 1], batch.targets[row : row + 1])
        loss = TASK.loss(model, alone)
        found.append(list(torch.autograd.grad(loss.loss / loss.counted, list(model.parameters()))))
    return found


def noise_of(settings: Private, model: nn.Module) -> dict[str, Tensor]:
    """The noise of step 5: what is left of the gradient of a batch without a row that counts."""
    nothing = some_batch(1)
    nothing = nothing._replace(targets=torch.full_like(nothing.targets, -100))
    return gradients_of(copy.deepcopy(model), settings, nothing)


SOME = ["none", "rotary", "learned", "t5", "fire", "forgetting", "shaw", "path"]


@pytest.mark.parametrize("name", [*SOME, "convolutional"])
@pytest.mark.parametrize("chunk", [3, 16])
def test_the_gradients_are_those_of_a_loop_over_rows(name, chunk):
    model = small_model(Encoder if name in OF_ENCODERS else Decoder, name)
    settings = Private(clip=CLIP, chunk=chunk)
    clipped = []
    for row in rows_by_a_loop(model, some_batch()):
        norm = torch.sqrt(sum((g**2).sum() for g in row))
        assert norm > CLIP
        clipped.append([g * (CLIP / norm) for g in row])
    noise = noise_of(settings, model)
    found = gradients_of(model, settings, some_batch())
    for (parameter, gradient), *rows in zip(found.items(), *clipped, strict=True):
        expected = sum(rows) / RUN.batch_size + noise[parameter]
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6, msg=parameter)


@pytest.mark.slow
@pytest.mark.parametrize("name", quick_or_slow(EVERY_ENCODING))
def test_every_encoding_has_gradients_of_rows(name):
    model = small_decoder(name)
    found = gradients_of(model, Private(clip=CLIP), some_batch(3))
    assert all(gradient.isfinite().all() for gradient in found.values())


def test_what_depends_on_all_rows_together_is_refused():
    packed = some_batch(2)._replace(segments=torch.tensor([[0] * 5 + [1] * 6] * 2))
    with pytest.raises(ValueError, match=r"^dataset.document_boundaries must be"):
        gradients_of(small_model(Encoder, "convolutional"), Private(), packed)
    short = stacked(Decoder, VOCAB_SIZE, factory("abacus", num_embeddings=11, max_k=0), 16, 1, 2, digits=DIGITS)
    with pytest.raises(ValueError, match=r"^num_embeddings must be above"):
        gradients_of(short, Private(), some_batch(2))


@pytest.mark.parametrize("name", SOME)
def test_the_gradients_are_those_of_opacus_with_the_same_noise(name, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opacus.optimizers import DPOptimizer

    model, settings = small_decoder(name), Private(clip=CLIP)
    theirs = copy.deepcopy(model)
    for parameter, *of_rows in zip(theirs.parameters(), *rows_by_a_loop(theirs, some_batch()), strict=True):
        parameter.grad_sample = torch.stack(of_rows)
    sigma = settings.begin(RUN).sigma
    generator = np.random.default_rng((RUN.seed, 5, 0x401E))

    def noise(std: float, reference: Tensor, **_: object) -> Tensor:
        return std * torch.from_numpy(generator.standard_normal(tuple(reference.shape), np.float32))

    monkeypatch.setattr("opacus.optimizers.optimizer._generate_noise", noise)
    optimizer = DPOptimizer(
        torch.optim.SGD(theirs.parameters(), lr=1.0),
        noise_multiplier=sigma,
        max_grad_norm=CLIP,
        expected_batch_size=RUN.batch_size,
    )
    optimizer.pre_step()
    found = gradients_of(model, settings, some_batch())
    for name_of, parameter in theirs.named_parameters():
        torch.testing.assert_close(found[name_of], parameter.grad, rtol=1e-4, atol=1e-6, msg=name_of)


def test_all_of_a_small_epsilon_is_spent():
    gradients = Private(epsilon=0.05, delta=1e-4).begin(RUN)
    assert 0.0495 <= gradients.metrics(RUN.max_steps)["epsilon"] <= 0.05


def test_epsilon_is_that_of_opacus_and_ends_below_what_was_asked():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opacus.accountants import PRVAccountant

        gradients = Private(epsilon=2.0, delta=1e-4).begin(RUN)
        assert isinstance(gradients, PrivateGradients)
        accountant = PRVAccountant()
        for _ in range(RUN.max_steps):
            accountant.step(noise_multiplier=gradients.sigma, sample_rate=RUN.batch_size / 100)
        assert gradients.metrics(RUN.max_steps)["epsilon"] == accountant.get_epsilon(1e-4)
        assert 1.9 < gradients.metrics(RUN.max_steps)["epsilon"] <= 2.0
        assert gradients.metrics(0)["epsilon"] == 0.0
        assert gradients.metrics(5)["epsilon"] < gradients.metrics(10)["epsilon"]


def test_noise_has_the_deviation_that_is_needed():
    settings = Private(clip=2.0)
    model = nn.Linear(400, 300)
    gradients = settings.begin(RUN)
    gradients.finish(list(model.parameters()), torch.tensor(0), 1)
    assert model.weight.grad.std() * RUN.batch_size == pytest.approx(gradients.sigma * 2.0, rel=0.02)


def test_padded_rows_of_an_encoder_have_gradients_under_deberta():
    batch = some_batch(2)._replace(real=torch.arange(11) < torch.tensor([[11], [7]]))
    found = gradients_of(small_model(Encoder, "deberta"), Private(clip=CLIP), batch)
    assert all(gradient.isfinite().all() for gradient in found.values())


def test_no_two_steps_have_the_same_noise():
    settings, model = Private(), nn.Linear(8, 8)
    gradients, found = settings.begin(RUN), []
    for step in (41337, 82925):  # 32 bits of their seeds are the same, under the seed of RUN
        gradients.finish(list(model.parameters()), torch.tensor(0), step)
        found.append(model.weight.grad.clone())
        model.zero_grad()
    assert not torch.equal(*found)


def test_a_parameter_that_is_one_number_has_gradients_of_rows():
    model = small_decoder("rotary")
    model.scale = nn.Parameter(torch.tensor(1.0))
    assert gradients_of(model, Private(clip=CLIP), some_batch(3))["scale"].shape == ()


def test_each_row_is_drawn_with_the_same_probability_independently_of_others():
    order = IndependentOrder(num_rows=50, batch_size=10, seed=1)
    steps = [order.items(range(10 * step, 10 * step + 10)) for step in range(2000)]
    drawn = np.zeros((2000, 50))
    for step, rows in enumerate(steps):
        assert len(set(rows)) == len(rows)
        drawn[step, rows] = 1
    assert drawn.mean(0) == pytest.approx(0.2, abs=0.04)
    assert drawn.sum(1).std() == pytest.approx(np.sqrt(50 * 0.2 * 0.8), rel=0.1)
    assert np.abs(np.corrcoef(drawn.T) - np.eye(50)).max() < 0.12


def test_micro_batches_share_the_rows_of_a_step_and_a_resumed_run_draws_the_same():
    order = IndependentOrder(num_rows=50, batch_size=10, seed=1)
    whole = [sorted(order.items(places)) for places in BatchPlan(10, last_step=4)]
    parts = [order.items(places) for places in BatchPlan(10, accumulate=2, first_step=2, last_step=4)]
    assert [sorted(parts[0] + parts[1]), sorted(parts[2] + parts[3])] == whole[2:]


def test_a_batch_without_rows_has_one_that_does_not_count():
    order = IndependentOrder(num_rows=50, batch_size=1, seed=1)
    assert any(order.items(range(step, step + 1)) == [50] for step in range(20))


def test_each_step_draws_the_masks_of_its_rows_anew_and_a_resumed_run_the_same(tmp_path):
    data, _ = opened(small(tmp_path, "model=encoder", "dataset.batch_size=128"))
    data.draws_independently = True

    def masked(first: int) -> list[dict[tuple[int, ...], tuple[int, ...]]]:
        """Where the rows of each step have targets, by their text; all rows are different."""
        plan = BatchPlan(128, first_step=first, last_step=4)
        return [
            {
                tuple(torch.where(targets == IGNORE, tokens, targets).tolist()): tuple(targets.ne(IGNORE).tolist())
                for tokens, targets in zip(batch.tokens, batch.targets, strict=True)
            }
            for batch in data.training_batches(plan)
        ]

    steps = masked(0)
    again = [text for text in steps[0] if text in steps[1]]
    assert len(again) > 5
    assert sum(steps[0][text] == steps[1][text] for text in again) < len(again) / 4
    assert masked(2) == steps[2:]


@pytest.mark.parametrize(
    "more", [(), pytest.param(("trainer.micro_batch_size=2",), marks=pytest.mark.slow)], ids=["whole", "micro-batches"]
)
def test_a_resumed_run_ends_with_the_same_weights_bit_for_bit(more, tmp_path):
    assert_resumes(small(tmp_path, *PRIVATE, *more, "encoding=t5"), tmp_path)


def test_a_run_says_what_it_has_spent(tmp_path):
    run: RunDirectory = run_of(small(tmp_path, *PRIVATE), tmp_path / "run")
    spent = [value for _, tag, value in recorded(run) if tag == "train/epsilon"]
    assert spent == sorted(spent)
    assert run.metrics()["train/epsilon"] == spent[-1] <= 8.0
    assert run.metrics()["train/delta"] == 1e-3
    assert "for each row" in run.log_file.read_text()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["optimizer.gradient_clip=1"], "optimizer.gradient_clip must be"),
        (["trainer.compile=true"], "trainer.compile must be false"),
        (["trainer=ddp_cpu"], "step=private needs a single process"),
        (["trainer.precision=bf16-true"], "trainer.precision must not be"),
        (["dataset.overfit=true"], "dataset.overfit must be false"),
        (["step.epsilon=1e-6"], "step.epsilon=1e-06 with step.delta=0.001"),
        (["step.clip=0"], "step.clip must be .*got 0"),
        (["step.delta=0.5"], "step.delta must be below"),
        (["dataset.batch_size=40000"], "dataset.batch_size.*be .*got 40000"),
    ],
)
def test_what_would_break_the_guarantee_is_refused(more, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        run_of(small(tmp_path, *PRIVATE, *more), tmp_path / "run")


def test_encodings_that_read_the_length_of_a_padded_batch_are_refused():
    model = small_decoder("rope_dynamic_ntk")
    config = {"trainer": {}, "optimizer": {"gradient_clip": None}}
    Private().check(config, model, 1, lengths_vary=False)
    with pytest.raises(ValueError, match="needs an encoding that does"):
        Private().check(config, model, 1, lengths_vary=True)


def test_an_encoding_of_the_cross_attention_that_reads_the_length_of_a_padded_batch_is_refused():
    config = {"trainer": {}, "optimizer": {"gradient_clip": None}}
    model = small_model(EncoderDecoder, "rotary", cross_encoding=factory("rope_dynamic_ntk"))
    with pytest.raises(ValueError, match="needs an encoding that does"):
        Private().check(config, model, 1, lengths_vary=True)


@pytest.mark.parametrize("sampler", [Randomized(), Pose(), Fractional(64)])
def test_positions_that_depend_on_the_longest_row_of_a_batch_are_refused(sampler):
    model, config = small_decoder("rotary"), {"trainer": {}, "optimizer": {"gradient_clip": None}}
    model.position_sampler = sampler
    Private().check(config, model, 1, lengths_vary=False)
    with pytest.raises(ValueError, match=f"positions must not be {type(sampler).__name__.lower()} with"):
        Private().check(config, model, 1, lengths_vary=True)


def test_a_start_that_reads_rows_of_training_is_refused():
    config = {"trainer": {}, "optimizer": {"gradient_clip": None}}
    Private().check({**config, "start": {"_target_": "poslab.runs.start.Copied"}}, small_decoder("t5"), 1, False)
    with pytest.raises(ValueError, match="start must not be fitted"):
        Private().check(
            {**config, "start": {"_target_": "poslab.runs.start.Fitted", "batches": 4}}, small_decoder("t5"), 1, False
        )


@pytest.mark.slow
def test_a_run_survives_steps_without_a_row(tmp_path):
    more = ("dataset.batch_size=1", "trainer.max_steps=6", "seed=42")
    run = run_of(small(tmp_path, *PRIVATE, *more), tmp_path / "run")
    steps = {tag: [step for step, name, _ in recorded(run) if name == tag] for tag in ("train/loss", "train/epsilon")}
    assert len(steps["train/loss"]) < len(steps["train/epsilon"]) == 6


def test_generated_data_have_no_rows():
    with pytest.raises(ValueError, match="needs a fixed set of rows"):
        Private().begin(RunInfo(8, 10, 1, None))


def test_a_choice_of_private_steps_is_checked_with_the_rest(tmp_path):
    assert check(small(tmp_path, *PRIVATE)).step == Private(delta=1e-3)
