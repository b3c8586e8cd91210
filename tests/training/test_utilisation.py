"""The utilisation of the machine (MFU) divides the arithmetic of the model by that of matrix products."""

import pytest
import torch
from lightning.fabric.utilities.throughput import measure_flops

import poslab
from poslab.runs.recipe import Recipe
from poslab.training import learner
from poslab.training.utilisation import flops_per_token, products_per_second
from tests.training.runs import composed, recorded, run_of, small

LENGTH = 32


def model(*words: str):
    sizes = ("model.d_model=32", "model.num_layers=2", "model.num_heads=2")
    return Recipe.of(composed(*words, *sizes)).model.build(50)


@pytest.mark.parametrize("words", [["model.num_kv_heads=1"], ["model.tie_embeddings=false"], ["encoding=t5"]])
def test_the_flops_of_an_encoder_are_those_that_pytorch_counts(words):
    encoder = model("model=encoder", "attention=dense", *words)
    tokens = torch.zeros(3, LENGTH, dtype=torch.int64)
    counted = measure_flops(encoder, lambda: encoder(tokens), torch.Tensor.sum)
    assert flops_per_token(encoder, LENGTH) == counted / tokens.numel()


def test_weights_that_do_not_learn_need_no_gradient_of_their_own():
    decoder = model()
    head = decoder.output.weight.numel()
    learned = flops_per_token(decoder, LENGTH)
    decoder.output.weight.requires_grad = False
    assert learned - flops_per_token(decoder, LENGTH) == 2 * head


@pytest.mark.parametrize(
    ("words", "rules"),
    [
        ([], {}),
        (["model.window=8"], {"window": 8}),
        (["model.layers={kinds:[{window:5}]}", "model.window=8"], {"window": 5}),
        (["model.layers={kinds:[{chunk:7}]}"], {"chunk": 7}),
    ],
)
def test_pairs_that_a_layer_hides_do_not_count(words, rules):
    everything = flops_per_token(model("model=encoder"), LENGTH)
    positions = torch.arange(LENGTH)
    visible = positions[:, None] >= positions
    visible &= positions[:, None] - positions < rules.get("window", LENGTH)
    visible &= positions[:, None] // rules.get("chunk", LENGTH) == positions // rules.get("chunk", LENGTH)
    hidden = (~visible).sum().item()
    assert everything - flops_per_token(model(*words), LENGTH) == pytest.approx(2 * 12 * 32 * hidden / LENGTH)


def test_two_encodings_of_a_model_have_the_same_flops():
    assert flops_per_token(model("encoding=shaw"), LENGTH) == flops_per_token(model("encoding=none"), LENGTH)


def test_a_model_with_a_source_has_no_flops_per_token():
    assert (
        flops_per_token(model("model=encoder_decoder", "dataset=pairs_file", "dataset.files=[x.tsv]"), LENGTH) is None
    )


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_the_utilisation_is_that_of_products_in_the_precision_of_the_run(tmp_path, monkeypatch, precision, dtype):
    speeds = {dtype: 1e9}
    monkeypatch.setattr(learner, "products_per_second", lambda _, of, __: speeds[of])
    run = run_of(small(tmp_path, f"trainer.precision={precision}"), tmp_path / "run")
    metrics = run.metrics()
    flops = flops_per_token(poslab.load(run.path), 16)
    assert metrics["train/mfu"] == pytest.approx(100 * flops * metrics["train/tokens_per_second"] / 1e9)
    rows = {(step, tag): value for step, tag, value in recorded(run)}
    assert rows[4, "train/mfu"] == pytest.approx(100 * flops * rows[4, "train/tokens_per_second"] / 1e9)
    assert f"{metrics['train/mfu']:.0f}% MFU" in run.log_file.read_text()


def test_products_are_measured_once_in_a_process():
    measured = {products_per_second(torch.device("cpu"), torch.float32, 1) for _ in range(3)}
    assert len(measured) == 1 and measured.pop() > 0
