"""The decay and the learning rate of each part, and the learning rate over the steps."""

import math

import pytest
import torch
from torch import nn

from poslab.encodings import Fire, KerpleLog, LayerPattern, LayerSpec, PositionalEncoding, Rotary, Shaw, SSMax
from poslab.models import Decoder, EncoderDecoder
from poslab.models.adaptation import LowRank
from poslab.runs.optimizers import AdamW
from tests.encoding_choices import small_decoder
from tests.stacked import stacked


def decay_and_lr(model: nn.Module, optimizer: AdamW, max_steps: int = 100) -> dict[str, tuple[float, float]]:
    """Weight decay and peak learning rate by parameter name."""
    made, _ = optimizer.build(model, max_steps)
    by_id = {id(p): (g["weight_decay"], g["initial_lr"]) for g in made.param_groups for p in g["params"]}
    assert sum(len(group["params"]) for group in made.param_groups) == len(by_id)  # each once
    return {name: by_id[id(parameter)] for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("tied", [True, False])
def test_only_the_matrices_of_linear_layers_decay(tied):
    model = small_decoder("learned", tie_embeddings=tied, qk_norm=True)
    decaying = {name for name, (decay, _) in decay_and_lr(model, AdamW(lr=1e-3)).items() if decay}
    matrices = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    if tied:  # its matrix is that of the embeddings
        matrices.remove("output")
    assert decaying == {f"{name}.weight" for name in matrices}


@pytest.mark.parametrize("encoding", ["learned", "t5"])
def test_what_an_encoding_learns_never_decays_and_has_its_own_learning_rate(encoding):
    model = small_decoder(encoding)
    optimizer = AdamW(lr=2e-3, encoding_lr_multiplier=5.0, weight_decay=0.3)
    own = {name: value for name, value in decay_and_lr(model, optimizer).items() if name.startswith("encodings.")}
    others = {name: value for name, value in decay_and_lr(model, optimizer).items() if name not in own}
    assert set(own.values()) == {(0.0, 2e-3 * 5.0)}
    assert set(others.values()) == {(0.3, 2e-3), (0.0, 2e-3)}


def test_a_linear_layer_within_an_encoding_does_not_decay_either():
    class WithMatrix(PositionalEncoding):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Linear(3, 3)

    model = nn.ModuleDict({"encoding": WithMatrix(), "layer": nn.Linear(3, 3)})
    decays = {name: decay for name, (decay, _) in decay_and_lr(model, AdamW(lr=1.0)).items()}
    of_encoding = {"encoding.matrix.weight": 0.0, "encoding.matrix.bias": 0.0}
    assert decays == {**of_encoding, "layer.weight": 0.1, "layer.bias": 0.0}


def test_the_factors_of_updates_decay_and_frozen_weights_are_left_out():
    model = small_decoder("t5", qk_norm=True)
    LowRank(rank=2).apply(model)
    made, _ = AdamW(lr=1e-3, encoding_lr_multiplier=5.0).build(model, 100)
    by_id = {id(p): (g["weight_decay"], g["initial_lr"]) for g in made.param_groups for p in g["params"]}
    found = {name: by_id.get(id(parameter)) for name, parameter in model.named_parameters()}
    for name, group in found.items():
        if name.endswith((".left", ".right")):
            assert group == (0.1, 1e-3), name
        elif name.startswith("encodings."):
            assert group == (0.0, 5e-3), name
        else:
            assert group == ((0.0, 1e-3) if "norm" in name or name == "embedding.weight" else None), name


def test_a_transposed_matrix_of_transformers_decays_as_others_do():
    from transformers.pytorch_utils import Conv1D

    decays = {name: decay for name, (decay, _) in decay_and_lr(Conv1D(3, 2), AdamW(lr=1.0)).items()}
    assert decays == {"weight": 0.1, "bias": 0.0}


def learning_rates(optimizer: AdamW, max_steps: int) -> list[float]:
    """The learning rate that each step is made with."""
    made, schedule = optimizer.build(nn.Linear(2, 2), max_steps)
    rates = []
    for _ in range(max_steps):
        rates.append(made.param_groups[0]["lr"])
        made.step()
        schedule.step()
    return rates


def test_the_learning_rate_rises_in_a_line_and_falls_in_a_cosine():
    optimizer = AdamW(lr=1.0, warmup_fraction=0.4, final_lr_fraction=0.2)
    # 4 of 10 steps on the way up, in fifths; then (1 + cos(pi k / 6)) / 2 of what is above 0.2.
    half_root3 = math.sqrt(3) / 2
    cosine = [1.0, (1 + half_root3) / 2, 0.75, 0.5, 0.25, (1 - half_root3) / 2]
    expected = [0.2, 0.4, 0.6, 0.8] + [0.2 + 0.8 * value for value in cosine]
    assert learning_rates(optimizer, 10) == pytest.approx(expected)


def test_without_warm_up_the_first_step_has_the_full_learning_rate():
    optimizer = AdamW(lr=3.0, warmup_fraction=0.0, final_lr_fraction=0.0)
    assert learning_rates(optimizer, 2) == pytest.approx([3.0, 1.5])


def test_a_run_of_warm_up_alone_never_divides_by_zero():
    assert learning_rates(AdamW(lr=1.0, warmup_fraction=1.0), 3) == pytest.approx([0.25, 0.5, 0.75])


@pytest.mark.parametrize(
    ("schedule", "theirs", "settings"),
    [
        ("cosine", "cosine", {}),
        ("linear", "linear", {}),
        ("constant", "constant", {}),
        ("warmup_stable_decay", "warmup_stable_decay", {"decay_type": "linear", "min_lr_ratio": 0.1}),
    ],
)
def test_schedules_are_those_of_transformers(schedule, theirs, settings):
    from transformers import get_scheduler

    last = settings.get("min_lr_ratio", 0.0)
    ours = AdamW(lr=1.0, schedule=schedule, warmup_fraction=0.0, decay_fraction=0.25, final_lr_fraction=last)
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=1.0)
    their_schedule = get_scheduler(
        theirs,
        optimizer,
        num_warmup_steps=0,
        num_training_steps=20,
        scheduler_specific_kwargs={"num_decay_steps": 5, **settings} if settings else None,
    )
    their_rates = []
    for _ in range(20):
        their_rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        their_schedule.step()
    assert learning_rates(ours, 20) == pytest.approx(their_rates)


def test_lower_layers_learn_more_slowly_and_embeddings_as_if_below_the_first():
    model = small_decoder("t5", num_layers=3, tie_embeddings=False)
    settings = AdamW(lr=1.0, layer_lr_decay=0.5, encoding_lr_multiplier=3.0)
    rates = {name: lr for name, (_, lr) in decay_and_lr(model, settings).items()}
    for name, rate in rates.items():
        if name.startswith("blocks."):
            assert rate == 0.5 ** (2 - int(name.split(".")[1])), name
        elif name.startswith("embedding."):
            assert rate == 0.125
        else:
            assert rate == (3.0 if name.startswith("encodings.") else 1.0), name


def test_an_encoding_of_some_layers_learns_as_the_last_of_them():
    torch.manual_seed(0)
    pattern = LayerPattern([Fire, KerpleLog, LayerSpec(Rotary, temperature=SSMax)], order=[0, 1, 1, 2])
    model = stacked(Decoder, 50, pattern, 32, 4, 4, sinks="all")
    rates = {
        name: lr
        for name, (_, lr) in decay_and_lr(model, AdamW(lr=1.0, layer_lr_decay=0.5, encoding_lr_multiplier=3.0)).items()
        if name.startswith("encodings.")
    }
    expected = {"distinct.0": 3 / 8, "distinct.1": 3 / 2, "temperatures.3": 3.0}
    expected |= {f"sinks.{layer}": 0.5 ** (3 - layer) for layer in range(4)}
    assert {name.split(".")[1] for name in rates} == {"distinct", "temperatures", "sinks"}
    for name, rate in rates.items():
        assert rate == expected[".".join(name.split(".")[1:3])], name


def test_encodings_of_an_encoder_are_below_those_of_its_decoder():
    torch.manual_seed(0)
    model = stacked(EncoderDecoder, 50, Shaw, 32, 2, 4)
    rates = {name: lr for name, (_, lr) in decay_and_lr(model, AdamW(lr=1.0, layer_lr_decay=0.5)).items()}
    for stack, above in (("encoder", 2), ("decoder", 0)):
        for layer in range(2):
            of_layer = f"{stack}.encodings.distinct.{layer}."
            assert {rates[name] for name in rates if name.startswith(of_layer)} == {0.5 ** (above + 1 - layer)}


def test_a_multiplied_learning_rate_keeps_its_ratio_in_every_step():
    made, schedule = AdamW(lr=1.0, encoding_lr_multiplier=7.0).build(small_decoder("t5"), 20)
    for _ in range(20):
        rates = [group["lr"] for group in made.param_groups]
        assert rates[-1] == pytest.approx(7.0 * rates[0])
        made.step()
        schedule.step()


def test_its_moments_are_those_that_were_asked_for():
    made, _ = AdamW(lr=1.0, betas=(0.8, 0.7)).build(nn.Linear(2, 2), 1)
    assert isinstance(made, torch.optim.AdamW)
    assert {group["betas"] for group in made.param_groups} == {(0.8, 0.7)}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"lr": 0.0}, r"lr must .*0\.0$"),
        ({"lr": math.nan}, "lr must .*nan$"),
        ({"lr": math.inf}, "lr must .*inf$"),
        ({"encoding_lr_multiplier": -1.0}, r"encoding_lr_multiplier must .*\-1\.0$"),
        ({"weight_decay": -0.1}, r"weight_decay must .*\-0\.1$"),
        ({"weight_decay": math.nan}, "weight_decay must .*nan$"),
        ({"betas": (0.9,)}, r"betas must .*\(0\.9,\)$"),
        ({"betas": (0.9, 1.0)}, r"betas must .*\(0\.9,\ 1\.0\)$"),
        ({"warmup_fraction": 1.5}, r"warmup_fraction must .*1\.5$"),
        ({"final_lr_fraction": -0.5}, r"final_lr_fraction must .*\-0\.5$"),
        ({"layer_lr_decay": 0.0}, r"layer_lr_decay must .*0\.0$"),
        ({"decay_fraction": 2.0}, r"decay_fraction must .*2\.0$"),
        (
            {"schedule": "step"},
            "schedule must be one of .*'step'",
        ),
        ({"gradient_clip": 0.0}, r"gradient_clip must .*0\.0$"),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence(change, message):
    with pytest.raises(ValueError, match=message):
        AdamW(**{"lr": 1e-3, **change})  # type: ignore[arg-type]
