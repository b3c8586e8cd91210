"""How a model passes forward and back is a choice of the trainer, and changes nothing that a run learns."""

import math

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision

from poslab.runs.trainer_settings import TrainerSettings, autocast
from poslab.training.checking import check
from poslab.training.fit import set_up_passes
from tests.encoding_choices import small_decoder, some_tokens
from tests.training.runs import assert_same_weights, recorded, run_of, small
from tests.training.test_learner import first_gradients

DROPOUT = ("model.num_layers=2", "model.dropout=0.1", "encoding=t5")


def test_recomputed_activations_give_the_same_weights_bit_for_bit(tmp_path):
    plain, recomputed = (
        run_of(small(tmp_path, *DROPOUT, f"trainer.activation_checkpointing={is_on}"), tmp_path / is_on)
        for is_on in ("false", "true")
    )
    assert_same_weights(recomputed, plain)


@pytest.mark.parametrize("encoding", ["rotary", "fire", "path", "deberta"])
def test_recomputed_activations_give_the_same_gradients_and_few_are_kept(encoding):
    kept, gradients = [], []
    for is_on in (False, True):
        model, sizes = small_decoder(encoding, num_layers=4), []
        set_up_passes(model, TrainerSettings(1, activation_checkpointing=is_on))

        def pack(x, sizes=sizes):
            sizes.append(x.nbytes)
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            model(some_tokens(2, 40)).square().sum().backward()
        kept.append(sum(sizes))
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert kept[1] < kept[0] / 2
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=0)


@pytest.mark.slow
def test_a_model_that_is_compiled_block_by_block_learns_the_same(tmp_path):
    plain, compiled = (
        run_of(small(tmp_path, "model.num_layers=2", f"trainer.compile={value}"), tmp_path / value)
        for value in ("false", "blocks")
    )
    for ours, expected in zip(recorded(compiled), recorded(plain), strict=True):
        if ours[1] in ("train/loss", "validation/loss", "train/gradient_norm"):
            assert ours[:2] == expected[:2] and ours[2] == pytest.approx(expected[2], rel=1e-4)


@pytest.fixture
def half(monkeypatch):
    """Sets the scale of the loss with which a CPU trains in float16, which Lightning leaves to GPUs."""

    def with_scale(scale: float) -> None:
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, backoff_factor=2**-20)  # type: ignore[attr-defined]

        def trainer(*, precision, plugins, **others):
            return make(plugins=[*plugins, MixedPrecision("16-mixed", "cpu", scaler)], **others)

        monkeypatch.setattr(L, "Trainer", trainer)

    make = L.Trainer
    return with_scale


def test_gradients_in_half_precision_are_cut_without_the_scale_of_the_loss(half, tmp_path):
    config = small(tmp_path, "optimizer.gradient_clip=0.01", "trainer.max_steps=1")
    (exact,) = (value for _, tag, value in recorded(run_of(config, tmp_path / "a")) if tag == "train/gradient_norm")
    half(1024.0)
    run = run_of(config, tmp_path / "b")
    (shown,) = (value for _, tag, value in recorded(run) if tag == "train/gradient_norm")
    assert 0 < abs(shown / exact - 1) < 0.01
    used = math.sqrt(sum(g.double().square().sum().item() for g in first_gradients(run, beta=0.9)))
    assert used == pytest.approx(0.01, rel=1e-3)


def test_a_step_whose_gradients_overflow_is_left_out_and_the_run_goes_on(half, tmp_path):
    half(2.0**30)
    run = run_of(small(tmp_path), tmp_path / "run")
    norms = {step: value for step, tag, value in recorded(run) if tag == "train/gradient_norm"}
    assert norms.keys() == {2, 3, 4}
    assert all(map(math.isfinite, norms.values()))


def test_half_precision_without_a_gpu_is_one_sentence(tmp_path):
    config = small(tmp_path, "trainer.precision=16-mixed")
    with pytest.raises(ValueError, match=r"^trainer.precision=16-mixed needs a GPU"):
        check(config)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("bf16-mixed", torch.bfloat16), ("16-mixed", torch.float16), ("32-true", torch.float32), (None, torch.float32)],
)
def test_a_run_is_read_in_the_precision_of_its_training(precision, dtype):
    with autocast(precision, torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
