"""Divergences and distances are those of their definitions, by loops and by PyTorch's own."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from poslab.runs.distillation import DISTANCES, DIVERGENCES, Divergence, jensen_shannon, log_probabilities


def two_logits() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    one, other = (3 * torch.randn(2, 3, 7, generator=generator) for _ in range(2))
    return one, other


def by_loops(name: Divergence, p: list[float], q: list[float]) -> float:
    def kl(one: list[float], other: list[float]) -> float:
        return sum(a * math.log(a / b) for a, b in zip(one, other, strict=True))

    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return {"forward": kl(p, q), "reverse": kl(q, p), "jensen_shannon": (kl(p, middle) + kl(q, middle)) / 2}[name]


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_a_divergence_is_that_of_loops_over_softened_probabilities(name, temperature):
    theirs, ours = two_logits()
    found = DIVERGENCES[name](log_probabilities(theirs, temperature), log_probabilities(ours, temperature))
    p, q = ((logits.double() / temperature).softmax(-1).flatten(0, 1).tolist() for logits in (theirs, ours))
    expected = [by_loops(name, *pair) for pair in zip(p, q, strict=True)]
    assert found.flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_forward_and_reverse_are_those_of_pytorch():
    log_p, log_q = (log_probabilities(logits) for logits in two_logits())
    for name, (target, own) in {"forward": (log_p, log_q), "reverse": (log_q, log_p)}.items():
        expected = functional.kl_div(own, target, reduction="none", log_target=True).sum(-1)
        torch.testing.assert_close(DIVERGENCES[name](log_p, log_q), expected)


def test_jensen_shannon_is_symmetric_and_at_most_log_2():
    log_p, log_q = (log_probabilities(100 * logits) for logits in two_logits())
    torch.testing.assert_close(jensen_shannon(log_p, log_q), jensen_shannon(log_q, log_p))
    apart = jensen_shannon(*log_probabilities(torch.tensor([[300.0, 0.0], [0.0, 300.0]])))
    assert apart.item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("temperature", [0.1, 1.0, 4.0])
def test_an_option_that_is_ruled_out_changes_neither_value_nor_gradient(name, temperature):
    theirs, ours = two_logits()

    def value_and_gradient(*kept: Tensor) -> tuple[Tensor, Tensor]:
        student = ours.clone().requires_grad_()
        one, other = (torch.cat([logits, *kept], dim=-1) for logits in (theirs, student))
        log_p, log_q = log_probabilities(one, temperature), log_probabilities(other, temperature)
        value = DIVERGENCES[name](log_p, log_q)
        return value.detach(), torch.autograd.grad(value.sum(), student)[0]

    lowest = torch.full((2, 3, 2), torch.finfo(torch.float32).min)
    torch.testing.assert_close(value_and_gradient(lowest), value_and_gradient())


def test_the_gradient_at_a_high_temperature_is_the_difference_of_centred_logits():
    """Equation 4 of Hinton et al.: t^2 times the gradient tends to (z - v) / N for logits of mean 0."""
    theirs, ours = (logits - logits.mean(-1, keepdim=True) for logits in two_logits())
    ours.requires_grad_()
    temperature = 1000.0
    log_p, log_q = (log_probabilities(logits, temperature) for logits in (theirs, ours))
    (gradient,) = torch.autograd.grad(temperature**2 * DIVERGENCES["forward"](log_p, log_q).sum(), ours)
    torch.testing.assert_close(gradient, (ours - theirs).detach() / 7, atol=5e-3, rtol=0)


def test_distances_of_hidden_states_are_those_of_loops():
    theirs, ours = two_logits()
    for place in [(b, t) for b in range(2) for t in range(3)]:
        one, other = theirs[place].tolist(), ours[place].tolist()
        product = sum(a * b for a, b in zip(one, other, strict=True))
        cosine = product / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))
        assert DISTANCES["cosine"](theirs, ours)[place].item() == pytest.approx(1 - cosine, abs=1e-6)
        squares = [(a - b) ** 2 for a, b in zip(one, other, strict=True)]
        assert DISTANCES["mse"](theirs, ours)[place].item() == pytest.approx(sum(squares) / 7)
