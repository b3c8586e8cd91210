"""LeRoPE against transformers and rotary-embedding-torch: its start, its angles, its gradients and its scalings."""

from __future__ import annotations

import math
from functools import partial

import pytest
import rotary_embedding_torch
import torch
from torch import Tensor
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
from transformers.models.mistral_large4.modeling_mistral_large4 import MistralLarge4TextRotaryEmbedding

from poslab.encodings import Positions, Rotary, RotaryLearned, StackEncodings, StackShape
from poslab.encodings.rotary.resonance import resonance
from poslab.encodings.rotary.scalings import fmrope, llama3, rope_dynamic_ntk, rope_linear, rope_ntk
from poslab.encodings.rotary.yarn import yarn
from poslab.runs.optimizers import parameter_groups
from tests.encoding_choices import small_decoder
from tests.encodings.rotary.turned import turned

HEAD_DIM, LENGTH = 16, 48
TEXT = Positions.range(LENGTH)


def learned(**arguments) -> RotaryLearned:
    """An encoding that has learned: factors from 0.3 to 3."""
    encoding = RotaryLearned(HEAD_DIM, **arguments)
    factors = torch.rand(encoding.rotary_dim // 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.nn.init.zeros_(encoding.log_factor).data.add_(factors)
    return encoding


def queries_and_keys() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(2, heads, LENGTH, HEAD_DIM, generator=generator) for heads in (4, 2))


def sums_and_gradient(turned: tuple[Tensor, Tensor], parameter: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    total = sum((x * torch.randn(x.shape, generator=generator)).sum() for x in turned)
    return *turned, torch.autograd.grad(total, parameter)[0]


@pytest.mark.parametrize("base", [100.0, 10_000.0])
def test_queries_keys_and_the_gradient_of_alpha_are_those_of_mistral_large_4(base):
    ours, (q, k) = learned(base=base), queries_and_keys()
    rope = {"rope_type": "default", "rope_theta": base}
    theirs = MistralLarge4TextRotaryEmbedding(LlamaConfig(hidden_size=64, num_attention_heads=4, rope_parameters=rope))
    theirs.alpha.data.copy_(ours.log_factor)
    cos, sin = theirs(q, torch.arange(LENGTH)[None])
    expected = sums_and_gradient(apply_rotary_pos_emb(q, k, cos, sin), theirs.alpha)
    actual = sums_and_gradient(turned(ours, TEXT, q, k), ours.log_factor)
    for our, their in zip(actual, expected, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-5, atol=1e-5)


def test_interleaved_pairs_and_the_gradient_of_frequencies_are_those_of_rotary_embedding_torch():
    ours, (q, k) = learned(layout="interleaved"), queries_and_keys()
    theirs = rotary_embedding_torch.RotaryEmbedding(HEAD_DIM, learned_freq=True)
    theirs.freqs.data.copy_(ours.learned()["frequencies"])
    expected = sums_and_gradient(tuple(map(theirs.rotate_queries_or_keys, (q, k))), theirs.freqs)
    *actual, gradient = sums_and_gradient(turned(ours, TEXT, q, k), ours.log_factor)
    # d / d alpha = theta' d / d theta'
    for our, their in zip([*actual, gradient / theirs.freqs.detach()], expected, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("of", [None, partial(rope_linear, factor=4.0)])
def test_under_resonance_alpha_has_the_gradient_of_frequencies_that_are_not_rounded(of):
    gradients = []
    for scaling in (of, partial(resonance, of=of)):
        encoding = learned(scaling=scaling)
        spectrum = encoding.spectrum(LENGTH)
        gradients.append(torch.autograd.grad((spectrum * torch.arange(HEAD_DIM / 2)).sum(), encoding.log_factor)[0])
    assert torch.equal(*gradients) and gradients[0][1:].all()


def test_a_frequency_that_learns_to_be_above_two_turns_a_token_stays_finite_under_resonance():
    encoding = RotaryLearned(HEAD_DIM, scaling=resonance)
    encoding.log_factor.data += 10
    assert encoding.spectrum(LENGTH).isfinite().all()


SCALINGS = {
    "none": None,
    "linear": partial(rope_linear, factor=4.0),
    "ntk": partial(rope_ntk, factor=4.0),
    "dynamic": partial(rope_dynamic_ntk, training_length=16, factor=2.0),
    "llama3": partial(llama3, training_length=64, factor=8.0),
    "yarn": partial(yarn, training_length=64, factor=8.0, beta_fast=6.0, beta_slow=0.3, truncate=False),
}


@pytest.mark.parametrize("layout", ["half_split", "interleaved"])
@pytest.mark.parametrize("name", SCALINGS)
def test_it_begins_as_rotary_digit_for_digit_under_every_scaling(name, layout):
    q, k = queries_and_keys()
    arguments = {"layout": layout, "scaling": SCALINGS[name]}
    ours, theirs = (turned(make(HEAD_DIM, **arguments), TEXT, q, k) for make in (RotaryLearned, Rotary))
    assert all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("name", SCALINGS)
def test_a_scaling_acts_on_what_was_learned(name):
    """Factors that make the spectrum of one base that of another: the scaling must be that of the other base."""
    other, base = Rotary(HEAD_DIM, 500.0, scaling=SCALINGS[name]), 10_000.0
    ours = RotaryLearned(HEAD_DIM, base, scaling=SCALINGS[name])
    ours.log_factor.data = torch.arange(0, HEAD_DIM, 2) / HEAD_DIM * math.log(base / 500.0)
    torch.testing.assert_close(ours.spectrum(LENGTH), other.spectrum(LENGTH), rtol=1e-5, atol=0)


def test_under_fmrope_factors_are_learned_on_the_spectrum_of_its_base():
    ours = learned(scaling=partial(fmrope, training_length=300))
    expected = Rotary(HEAD_DIM, 300.0).spectrum(1) * ours.log_factor.exp()
    torch.testing.assert_close(ours.spectrum(1), expected, rtol=1e-6, atol=0)
    assert torch.autograd.grad(ours.spectrum(1).sum(), ours.log_factor)[0].all()


def test_frequencies_are_on_the_device_that_they_are_for():
    frequencies, _ = learned().scaled_frequencies(1, torch.device("meta"))
    assert frequencies.device.type == "meta"


@pytest.mark.parametrize(("sharing", "instances"), [("model", 1), ("layer", 2)])
def test_layers_share_alpha_or_have_their_own(sharing, instances):
    shape = StackShape(d_model=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8)
    assert len(list(StackEncodings(partial(RotaryLearned, sharing=sharing), shape).parameters())) == instances


def test_alpha_learns_without_weight_decay():
    decoder = small_decoder("rotary_learned")
    *_, encoding = parameter_groups(decoder)
    assert [id(p) for p in encoding] == [id(p) for p in decoder.encodings.parameters()]


def test_weights_in_bfloat16_leave_angles_in_float32():
    ours, positions = learned().bfloat16(), Positions.range(4_096)
    tables = ours.prepare(positions, positions)
    assert tables.key_cos.dtype == torch.float32
    assert len(tables.key_cos.unique(dim=0)) == 4_096
