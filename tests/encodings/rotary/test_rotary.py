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
from poslab.encodings.rotary.rotation import rotate_half_split, rotate_interleaved
from tests.encodings.rotary.turned import turned

HEAD_DIM = 16
LENGTH = 64


@pytest.fixture
def query_and_key() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 4, LENGTH, HEAD_DIM, generator=generator)
    return query, torch.randn(2, 2, LENGTH, HEAD_DIM, generator=generator)


LLAMA = (modeling_llama, modeling_llama.LlamaRotaryEmbedding, LlamaConfig)
COHERE = (modeling_cohere, modeling_cohere.CohereRotaryEmbedding, CohereConfig)
NEOX = (modeling_gpt_neox, modeling_gpt_neox.GPTNeoXRotaryEmbedding, GPTNeoXConfig)
FAR = Positions.range(LENGTH, 4_000)
OF_EACH_ROW = Positions(torch.stack([torch.arange(LENGTH), torch.arange(LENGTH).flip(0) * 3]), 3 * LENGTH)


@pytest.mark.parametrize("positions", [Positions.range(LENGTH), FAR, OF_EACH_ROW])
@pytest.mark.parametrize(
    ("model", "layout", "base", "fraction"),
    [
        *((LLAMA, "half_split", base, 1.0) for base in (100.0, 10_000.0, 500_000.0)),
        *((COHERE, "interleaved", base, 1.0) for base in (10_000.0, 500_000.0)),
        *((NEOX, "half_split", 10_000.0, fraction) for fraction in (0.125, 0.25, 0.5, 1.0)),
    ],
)
def test_queries_and_keys_turn_as_in_models_of_transformers(query_and_key, model, layout, base, fraction, positions):
    module, embedding, config = model
    rope = {"rope_type": "default", "rope_theta": base, "partial_rotary_factor": fraction}
    made = embedding(config(hidden_size=4 * HEAD_DIM, num_attention_heads=4, rope_parameters=rope))
    cos, sin = made(query_and_key[0], positions.ids.expand(2, -1))
    theirs = module.apply_rotary_pos_emb(*query_and_key, cos, sin)
    ours = turned(Rotary(HEAD_DIM, base, fraction, layout), positions, *query_and_key)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def interleaved_by_x_transformers(x: Tensor) -> Tensor:
    angles, _ = x_transformers.RotaryEmbedding(HEAD_DIM)(torch.arange(LENGTH))
    return x_transformers.apply_rotary_pos_emb(x, angles)


def interleaved_by_rotary_embedding_torch(x: Tensor) -> Tensor:
    return rotary_embedding_torch.RotaryEmbedding(HEAD_DIM).rotate_queries_or_keys(x)


@pytest.mark.parametrize("theirs", [interleaved_by_x_transformers, interleaved_by_rotary_embedding_torch])
@pytest.mark.parametrize(
    ("layout", "order"),
    [
        ("interleaved", torch.arange(HEAD_DIM)),
        ("half_split", torch.cat([torch.arange(0, HEAD_DIM, 2), torch.arange(1, HEAD_DIM, 2)])),
    ],
)
def test_pairs_turn_as_in_other_packages_where_half_split_has_evens_before_odds(query_and_key, theirs, layout, order):
    permuted = [x[..., order] for x in query_and_key]
    ours = turned(Rotary(HEAD_DIM, layout=layout), Positions.range(LENGTH), *permuted)
    expected = tuple(theirs(x)[..., order] for x in query_and_key)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fraction", [0.25, 0.5, 1.0])
def test_a_fraction_in_interleaved_layout_turns_the_first_channels_as_gpt_j_does(query_and_key, fraction):
    turning = int(fraction * HEAD_DIM)
    sin, cos = modeling_gptj.create_sinusoidal_positions(LENGTH, turning)[None].chunk(2, dim=-1)
    rotary = Rotary(HEAD_DIM, fraction=fraction, layout="interleaved")
    ours = turned(rotary, Positions.range(LENGTH), *query_and_key)
    for our, x in zip(ours, query_and_key, strict=True):
        heads_last = x[..., :turning].transpose(1, 2)  # GPT-J turns (B, T, H, D)
        theirs = modeling_gptj.apply_rotary_pos_emb(heads_last, sin, cos).transpose(1, 2)
        torch.testing.assert_close(our, torch.cat([theirs, x[..., turning:]], dim=-1), rtol=0, atol=1e-5)


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


@pytest.mark.parametrize("rotated", [HEAD_DIM, 6])
@pytest.mark.parametrize(
    ("rotate", "plainly"), [(rotate_half_split, plain_half_split), (rotate_interleaved, plain_interleaved)]
)
def test_gradients_of_the_rotation_are_those_of_the_plain_formula(rotate, plainly, rotated):
    generator = torch.Generator().manual_seed(0)
    angle = torch.rand(5, rotated // 2, generator=generator, dtype=torch.float64) * 6
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


def tables_of_each(*shape: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(*shape, 3, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2)]


@pytest.mark.parametrize("shape", [(2,), (2, 1, 2), (2, 3, 2)], ids=["one row", "each row", "each head"])
@pytest.mark.parametrize("rotate", [rotate_half_split, rotate_interleaved])
def test_gradients_reach_cosines_and_sines_that_need_them(rotate, shape):
    x = torch.randn(2, 3, 2, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    cos, sin = tables_of_each(*shape)
    assert torch.autograd.gradcheck(rotate, (x, cos, sin))
    assert torch.autograd.gradgradcheck(rotate, (x, cos, sin))
    for needed in ((cos, sin.detach()), (cos.detach(), sin)):
        assert torch.autograd.gradcheck(rotate, (x.detach(), *needed))


@pytest.mark.parametrize("rotate", [rotate_half_split, rotate_interleaved])
def test_gradients_of_cosines_are_float32_for_queries_in_bfloat16_and_the_same_under_a_transform(rotate):
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(2, 3, 5, 6, generator=generator).bfloat16(), torch.randn(2, 3, 5, 6, generator=generator)
    cos, sin = (table.detach().float() for table in tables_of_each(5))

    def total(cos: Tensor, x: Tensor, weight: Tensor = weight) -> Tensor:
        return (rotate(x, cos, sin) * weight).sum()

    (ours,) = torch.autograd.grad(total(learned := cos.clone().requires_grad_(), x), learned)
    # The gradient of a number that was rounded to bfloat16 is rounded so, too.
    (exact,) = torch.autograd.grad(total(learned, x.double(), weight.bfloat16().double()), learned)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, exact, rtol=1e-6, atol=1e-6)
    of_rows = torch.func.vmap(torch.func.grad(total), in_dims=(None, 0, 0))(cos, x[:, None], weight[:, None])
    torch.testing.assert_close(of_rows.sum(0), ours, rtol=1e-5, atol=1e-5)


def test_the_rotation_keeps_queries_for_the_backward_pass_only_where_tables_learn():
    x, (cos, sin) = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True), tables_of_each(5)
    for tables, kept in (((cos.detach(), sin.detach()), 2), ((cos, sin), 3)):
        assert len(rotate_half_split(x, *tables).grad_fn.saved_tensors) == kept


@pytest.mark.parametrize("layout", ["half_split", "interleaved"])
def test_a_bfloat16_query_turns_by_float32_angles(layout):
    query = torch.ones(1, 1, 4_096, HEAD_DIM, dtype=torch.bfloat16)
    positions = Positions.range(4_096)
    ours, _ = turned(Rotary(HEAD_DIM, layout=layout), positions, query, query)
    exact, _ = turned(Rotary(HEAD_DIM, layout=layout), positions, query.float(), query.float())
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), exact, rtol=2**-8, atol=1e-6)
