"""Muon for the matrices of layers and AdamW for the rest, as one optimizer."""

import copy

import pytest
import torch
from torch import nn

from poslab.models.adaptation import EncodingOnly
from poslab.runs.optimizers import AdamW, Lion, Muon
from tests.encoding_choices import small_decoder


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, first: int = 0, steps: int = 3) -> None:
    for step in range(first, first + steps):
        tokens = torch.randint(7, (2, 9), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(tokens).square().mean().backward()
        optimizer.step()


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    for (name, weight), others in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(weight, others), name


@pytest.mark.parametrize("tied", [True, False])
def test_muon_moves_the_matrices_of_layers_alone(tied):
    model = small_decoder("relative_projection", tie_embeddings=tied)
    optimizer = Muon(lr=1e-2).optimizer(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    moved = {names[id(p)] for group in optimizer.param_groups if "ns_steps" in group for p in group["params"]}
    assert moved == {
        name
        for name, parameter in model.named_parameters()
        if name.startswith("blocks.") and parameter.ndim == 2 and "encoding" not in name
    }
    others = {names[id(p)] for group in optimizer.param_groups if "betas" in group for p in group["params"]}
    assert others == set(names.values()) - moved
    assert moved


def test_a_step_is_one_of_muon_and_one_of_adamw():
    model = small_decoder("t5")
    separate = copy.deepcopy(model)
    settings = Muon(lr=1e-2, weight_decay=0.2, momentum=0.8, betas=(0.7, 0.8), encoding_lr_multiplier=3.0)
    learn(model, settings.optimizer(model))

    named = dict(separate.named_parameters())
    matrices = [p for name, p in named.items() if name.startswith("blocks.") and p.ndim == 2]
    rest = [p for name, p in named.items() if not name.startswith(("blocks.", "encodings."))]
    rest += [p for name, p in named.items() if name.startswith("blocks.") and p.ndim < 2]
    table = [p for name, p in named.items() if name.startswith("encodings.")]
    muon = torch.optim.Muon(matrices, lr=1e-2, weight_decay=0.2, momentum=0.8, adjust_lr_fn="match_rms_adamw")
    groups = [{"params": rest}, {"params": table, "lr": 3e-2}]
    adamw = torch.optim.AdamW(groups, lr=1e-2, weight_decay=0.0, betas=(0.7, 0.8), fused=True)
    for step in range(3):
        tokens = torch.randint(7, (2, 9), generator=torch.Generator().manual_seed(step))
        separate.zero_grad()
        separate(tokens).square().mean().backward()
        muon.step()
        adamw.step()
    for (name, weight), others in zip(model.named_parameters(), separate.parameters(), strict=True):
        torch.testing.assert_close(weight, others, msg=name)


@pytest.mark.parametrize("settings", [AdamW(lr=1e-2), Muon(lr=1e-2), Lion(lr=1e-3)], ids=["adamw", "muon", "lion"])
def test_an_optimizer_goes_on_from_its_state_bit_for_bit(settings):
    model = small_decoder("t5")
    optimizer, schedule = settings.build(model, 10)
    learn(model, optimizer)
    schedule.step()
    stopped = copy.deepcopy(model)
    saved = copy.deepcopy((optimizer.state_dict(), schedule.state_dict()))
    learn(model, optimizer, first=3)

    again, schedule_again = settings.build(stopped, 10)
    again.load_state_dict(saved[0])
    schedule_again.load_state_dict(saved[1])
    learn(stopped, again, first=3)
    assert_same_weights(stopped, model)


def test_the_schedule_acts_on_both_parts():
    optimizer, schedule = Muon(lr=1.0, warmup_fraction=0.0, schedule="linear", final_lr_fraction=0.0).build(
        small_decoder("rotary"), 2
    )
    optimizer.step()
    schedule.step()
    assert {group["lr"] for part in optimizer.optimizers for group in part.param_groups} == {0.5}


def test_without_matrices_that_learn_adamw_is_alone():
    model = small_decoder("t5")
    EncodingOnly().apply(model)
    optimizer = Muon(lr=1e-2).optimizer(model)
    assert [type(part) for part in optimizer.optimizers] == [torch.optim.AdamW]
