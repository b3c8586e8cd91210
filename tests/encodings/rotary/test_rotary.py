from functools import partial

import pytest
import rotary_embedding_torch
import torch
from torch import Tensor
from transformers import CohereConfig, GPTNeoXConfig, LlamaConfig
from transformers.models.cohere import modeling_cohere
from transformers.models.gpt_neox import modeling_gpt_neox
from transformers.models.gptj import modeling_gptj
from transformers.models.llama import modeling_llama
from x_transformers import x_transformers

from poslab.encodings import Positions, Rotary
from poslab.encodings.rotary.rotary import rotate_half_split, rotate_interleaved
from poslab.testing import check_encoding

HEAD_DIM = 16
LENGTH = 64


@pytest.fixture
def query_and_key() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 4, LENGTH, HEAD_DIM, generator=generator)
    return query, torch.randn(2, 2, LENGTH, HEAD_DIM, generator=generator)


def rotated(rotary: Rotary, query: Tensor, key: Tensor, positions: Positions) -> tuple[Tensor, Tensor]:
    tables = rotary.prepare(positions, positions)
    return rotary.rotate_query(query, tables), rotary.rotate_key(key, tables)


@pytest.mark.parametrize("base", [100.0, 10_000.0, 500_000.0])
@pytest.mark.parametrize("start", [0, 4_000])
def test_rotary_turns_queries_and_keys_as_llama_does(query_and_key, base, start):
    config = LlamaConfig(
        hidden_size=4 * HEAD_DIM, num_attention_heads=4, rope_parameters={"rope_type": "default", "rope_theta": base}
    )
    positions = Positions.range(LENGTH, start)
    cos, sin = modeling_llama.LlamaRotaryEmbedding(config)(query_and_key[0], positions.ids[None])
    theirs = modeling_llama.apply_rotary_pos_emb(*query_and_key, cos, sin)
    ours = rotated(Rotary(HEAD_DIM, base), *query_and_key, positions)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=0, atol=1e-5)


def test_rotary_at_positions_of_each_row_turns_as_llama_does(query_and_key):
    config = LlamaConfig(hidden_size=4 * HEAD_DIM, num_attention_heads=4)
    ids = torch.stack([torch.arange(LENGTH), torch.arange(LENGTH).flip(0) * 3])
    cos, sin = modeling_llama.LlamaRotaryEmbedding(config)(query_and_key[0], ids)
    theirs = modeling_llama.apply_rotary_pos_emb(*query_and_key, cos, sin)
    ours = rotated(Rotary(HEAD_DIM), *query_and_key, Positions(ids, 3 * LENGTH))
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fraction", [0.125, 0.25, 0.5, 1.0])
def test_fraction_turns_the_same_channels_as_gpt_neox(query_and_key, fraction):
    config = GPTNeoXConfig(
        hidden_size=4 * HEAD_DIM,
        num_attention_heads=4,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": fraction},
    )
    positions = Positions.range(LENGTH)
    cos, sin = modeling_gpt_neox.GPTNeoXRotaryEmbedding(config)(query_and_key[0], positions.ids[None])
    theirs = modeling_gpt_neox.apply_rotary_pos_emb(*query_and_key, cos, sin)
    ours = rotated(Rotary(HEAD_DIM, fraction=fraction), *query_and_key, positions)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=0, atol=1e-5)


def interleaved_by_x_transformers(x: Tensor) -> Tensor:
    angles, _ = x_transformers.RotaryEmbedding(HEAD_DIM)(torch.arange(LENGTH))
    return x_transformers.apply_rotary_pos_emb(x, angles)


def interleaved_by_rotary_embedding_torch(x: Tensor) -> Tensor:
    return rotary_embedding_torch.RotaryEmbedding(HEAD_DIM).rotate_queries_or_keys(x)


@pytest.mark.parametrize("theirs", [interleaved_by_x_transformers, interleaved_by_rotary_embedding_torch])
def test_interleaved_layout_is_the_same_encoding_with_evens_before_odds(query_and_key, theirs):
    query, _ = query_and_key
    evens_then_odds = torch.cat([torch.arange(0, HEAD_DIM, 2), torch.arange(1, HEAD_DIM, 2)])
    permuted = query[..., evens_then_odds]
    ours, _ = rotated(Rotary(HEAD_DIM), permuted, permuted, Positions.range(LENGTH))
    torch.testing.assert_close(ours, theirs(query)[..., evens_then_odds], rtol=0, atol=1e-5)


@pytest.mark.parametrize("theirs", [interleaved_by_x_transformers, interleaved_by_rotary_embedding_torch])
def test_interleaved_layout_turns_the_pairs_that_other_packages_turn(query_and_key, theirs):
    ours = rotated(Rotary(HEAD_DIM, layout="interleaved"), *query_and_key, Positions.range(LENGTH))
    for our, x in zip(ours, query_and_key, strict=True):
        torch.testing.assert_close(our, theirs(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("start", [0, 4_000])
@pytest.mark.parametrize("base", [10_000.0, 500_000.0])
def test_interleaved_layout_turns_queries_and_keys_as_cohere_does(query_and_key, base, start):
    config = CohereConfig(
        hidden_size=4 * HEAD_DIM, num_attention_heads=4, rope_parameters={"rope_type": "default", "rope_theta": base}
    )
    positions = Positions.range(LENGTH, start)
    cos, sin = modeling_cohere.CohereRotaryEmbedding(config)(query_and_key[0], positions.ids[None])
    theirs = modeling_cohere.apply_rotary_pos_emb(*query_and_key, cos, sin)
    ours = rotated(Rotary(HEAD_DIM, base, layout="interleaved"), *query_and_key, positions)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fraction", [0.25, 0.5, 1.0])
def test_a_fraction_in_interleaved_layout_turns_the_first_channels_as_gpt_j_does(query_and_key, fraction):
    turning = int(fraction * HEAD_DIM)
    sin, cos = modeling_gptj.create_sinusoidal_positions(LENGTH, turning)[None].chunk(2, dim=-1)
    ours = rotated(Rotary(HEAD_DIM, fraction=fraction, layout="interleaved"), *query_and_key, Positions.range(LENGTH))
    for our, x in zip(ours, query_and_key, strict=True):
        heads_last = x[..., :turning].transpose(1, 2)  # GPT-J turns (B, T, H, D)
        theirs = modeling_gptj.apply_rotary_pos_emb(heads_last, sin, cos).transpose(1, 2)
        torch.testing.assert_close(our, torch.cat([theirs, x[..., turning:]], dim=-1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("hyperparameters", [{}, {"layout": "interleaved"}, {"fraction": 0.5, "layout": "interleaved"}])
def test_rotary_keeps_the_contract_in_both_layouts(hyperparameters):
    check_encoding(partial(Rotary, **hyperparameters))


def test_a_logit_depends_on_the_distance_of_query_and_key():
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, HEAD_DIM, generator=generator)
    rotary = Rotary(HEAD_DIM)

    def logit(query_position: int, key_position: int) -> float:
        tables = rotary.prepare(Positions.range(1, query_position), Positions.range(1, key_position))
        return float((rotary.rotate_query(query, tables) * rotary.rotate_key(key, tables)).sum())

    assert logit(7, 3) == pytest.approx(logit(4, 0), abs=1e-5)
    assert logit(7, 3) == pytest.approx(logit(2_007, 2_003), abs=1e-3)
    assert abs(logit(7, 3) - logit(3, 7)) > 0.1


def plain_half_split(x: Tensor, angle: Tensor) -> Tensor:
    """Channel pairs (m, m + r / 2) as complex numbers times e^(i angle)."""
    half = angle.shape[-1]
    turned = torch.complex(x[..., :half], x[..., half : 2 * half]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([turned.real, turned.imag, x[..., 2 * half :]], dim=-1)


def plain_interleaved(x: Tensor, angle: Tensor) -> Tensor:
    """Channel pairs (2m, 2m + 1) as complex numbers times e^(i angle)."""
    turning = 2 * angle.shape[-1]
    pairs = torch.view_as_complex(x[..., :turning].unflatten(-1, (-1, 2)).contiguous())
    turned = torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)
    return torch.cat([turned, x[..., turning:]], dim=-1)


@pytest.mark.parametrize("turning", [HEAD_DIM, 6])
@pytest.mark.parametrize(
    ("rotate", "plainly"), [(rotate_half_split, plain_half_split), (rotate_interleaved, plain_interleaved)]
)
def test_gradients_of_the_rotation_are_those_of_the_plain_formula(rotate, plainly, turning):
    generator = torch.Generator().manual_seed(0)
    angle = torch.rand(5, turning // 2, generator=generator, dtype=torch.float64) * 6
    x = torch.randn(2, 3, 5, HEAD_DIM, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, 5, HEAD_DIM, generator=generator, dtype=torch.float64)

    def value_gradient_and_second_gradient(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (first,) = torch.autograd.grad((weight * y**2).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad((first**2).sum(), x)
        return y, first, second

    ours = value_gradient_and_second_gradient(rotate(x, angle.cos().float(), angle.sin().float()))
    plain = value_gradient_and_second_gradient(plainly(x, angle))
    # The rotation is in float32: its own rounding is all that may differ.
    for our, their in zip(ours, plain, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-6, atol=1e-6 * float(their.detach().abs().max()))


@pytest.mark.parametrize("rotate", [rotate_half_split, rotate_interleaved])
def test_the_rotation_passes_gradcheck_twice(rotate):
    angle = torch.rand(3, 2, generator=torch.Generator().manual_seed(0)) * 6
    x = torch.randn(1, 2, 3, 6, dtype=torch.float64, requires_grad=True)

    def rotation(x: Tensor) -> Tensor:
        return rotate(x, angle.cos(), angle.sin())

    # A rotation is linear, so large steps are exact and float32 does not show.
    assert torch.autograd.gradcheck(rotation, x, eps=0.1, atol=1e-5)
    assert torch.autograd.gradgradcheck(rotation, x, eps=0.1, atol=1e-5)


@pytest.mark.parametrize("layout", ["half_split", "interleaved"])
def test_a_bfloat16_query_turns_by_float32_angles(layout):
    query = torch.ones(1, 1, 4_096, HEAD_DIM, dtype=torch.bfloat16)
    positions = Positions.range(4_096)
    ours, _ = rotated(Rotary(HEAD_DIM, layout=layout), query, query, positions)
    exact, _ = rotated(Rotary(HEAD_DIM, layout=layout), query.float(), query.float(), positions)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), exact, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize(
    ("hyperparameters", "sentence"),
    [
        ({"base": 1.0}, "base must be a number greater than 1, got 1.0"),
        ({"base": float("nan")}, "base must be a number greater than 1, got nan"),
        ({"fraction": 0.0}, r"fraction must be a number in \(0, 1\], got 0.0"),
        ({"fraction": 1.5}, r"fraction must be a number in \(0, 1\], got 1.5"),
        ({"fraction": 0.2}, "fraction must turn an even, positive number .* 16 channels, got 0.2, which turns 3"),
        ({"layout": "half"}, "layout must be one of half_split, interleaved, got 'half'"),
    ],
)
def test_a_wrong_hyperparameter_is_named(hyperparameters, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        Rotary(HEAD_DIM, **hyperparameters)
