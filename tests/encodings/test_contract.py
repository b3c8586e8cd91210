"""What every encoding of conf/encoding keeps, whatever it computes: a new YAML file there is held to it at once."""

import pytest
import torch

from poslab.encodings import DistanceBias, PositionalEncoding, Positions
from poslab.encodings.base import HOOKS
from poslab.testing import CHECKS, Subject
from tests.encoding_choices import BIASED, ENCODINGS, EVERY_ENCODING, encoding, factory


@pytest.mark.parametrize("name", EVERY_ENCODING)
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_every_encoding_keeps_the_contract(name, check):
    check(Subject(factory(name)))


@pytest.mark.parametrize("name", [name for name in EVERY_ENCODING if encoding(name).depends_on_length])
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_past_the_training_length_encodings_that_depend_on_the_length_keep_it_too(name, check):
    check(Subject(factory(name, training_length=8)))


def effects(
    instance: PositionalEncoding, positions: Positions, dtype: torch.dtype = torch.float32
) -> list[torch.Tensor]:
    """All that an encoding does to inputs of ones: to embeddings, queries, keys and logits."""
    tables = instance.prepare(positions, positions)
    heads = torch.ones(1, 4, positions.length, 8, dtype=dtype)
    bias = instance.bias(tables)
    return [
        instance.embed(torch.ones(1, positions.length, 32, dtype=dtype), positions),
        instance.rotate_query(heads, tables),
        instance.rotate_key(heads, tables),
        torch.zeros(()) if bias is None else bias.values,
    ]


@pytest.mark.parametrize("name", ENCODINGS)
def test_bf16_autocast_does_not_touch_an_encoding(name):
    instance = encoding(name)
    positions = Positions.range(min(4_096, instance.max_length or 4_096))
    expected = effects(instance, positions)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = effects(instance, positions)
    for ours, exact in zip(actual, expected, strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, exact)


def test_a_bias_that_multiplies_matrices_does_so_in_float32_under_autocast():
    class Mixed(DistanceBias):
        def bias_at(self, distance: torch.Tensor) -> torch.Tensor:
            return (distance.float().unsqueeze(-1) @ torch.ones(1, 4)).movedim(-1, 0)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        *_, bias = effects(Mixed(), Positions.range(1_000))
    assert torch.equal(bias, torch.arange(-999.0, 1_000.0).expand(4, -1))


@pytest.mark.parametrize("name", ["learned", "sinusoidal"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_embeddings_keep_4096_distinct_positions_also_in_bfloat16(name, dtype):
    hyperparameters = {"max_length": 4_096} if name == "learned" else {}
    instance = factory(name, **hyperparameters)(d_model=32).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedded = instance.embed(torch.zeros(1, 4_096, 32, dtype=dtype), Positions.range(4_096))
    assert len(embedded[0].unique(dim=0)) == 4_096


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rotary_keeps_4096_distinct_positions_also_in_bfloat16(dtype):
    instance, positions = encoding("rotary").to(dtype), Positions.range(4_096)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, query, key, _ = effects(instance, positions, dtype)
    assert len(query[0, 0].unique(dim=0)) == len(key[0, 0].unique(dim=0)) == 4_096


def test_alibi_keeps_4096_distinct_distances_under_bf16_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        *_, bias = effects(encoding("alibi").to(torch.bfloat16), Positions.range(4_096))
    assert all(len(head.unique()) == 4_096 for head in bias)


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_trip_to_bfloat16_and_back_rounds_learned_parameters_and_nothing_else(name):
    instance = encoding(name)
    positions = Positions.range(min(2_048, instance.max_length or 2_048))
    expected = effects(instance, positions)
    learns = any(True for _ in instance.parameters())
    for ours, exact in zip(effects(instance.to(torch.bfloat16).float(), positions), expected, strict=True):
        torch.testing.assert_close(ours, exact, rtol=2**-8 if learns else 0, atol=0)


@pytest.mark.parametrize("name", ENCODINGS)
def test_tables_are_neither_buffers_nor_in_the_state_dict(name):
    instance = encoding(name)
    effects(instance, Positions.range(100))
    assert list(instance.buffers()) == []
    assert set(instance.state_dict()) == {parameter for parameter, _ in instance.named_parameters()}


@pytest.mark.parametrize("name", ENCODINGS)
def test_what_comes_before_does_not_matter(name):
    """No table of an earlier, longer or shorter call is left over."""
    instance = encoding(name)
    expected = effects(instance, Positions.range(20))
    effects(instance, Positions.range(300))
    effects(instance, Positions.range(3))
    for ours, exact in zip(effects(instance, Positions.range(20)), expected, strict=True):
        assert torch.equal(ours, exact)


@pytest.mark.parametrize("name", BIASED)
@pytest.mark.parametrize(("num_queries", "num_keys"), [(6, 6), (1, 6), (4, 9)])
@pytest.mark.parametrize("contiguous", [True, False])
def test_the_bias_matrix_holds_the_bias_of_each_distance(name, num_queries, num_keys, contiguous):
    instance = encoding(name, causal=False)
    keys = Positions(torch.arange(num_keys), num_keys, contiguous)
    queries = Positions(torch.arange(num_keys - num_queries, num_keys), num_keys, contiguous)
    matrix = instance.bias(instance.prepare(queries, keys)).matrix()
    assert matrix.shape == (1, 4, num_queries, num_keys)
    for i in range(num_queries):
        for j in range(num_keys):
            distance = torch.tensor(num_keys - num_queries + i - j)
            assert torch.equal(matrix[0, :, i, j], instance.bias_at(distance))


def test_no_position_does_nothing():
    instance, positions = encoding("none"), Positions.range(10)
    assert instance.hooks == set()
    for ours in effects(instance, positions)[:3]:
        assert torch.equal(ours, torch.ones_like(ours))


FUSED = {"rotate_query", "rotate_key"}
"""The hooks that an attention calls which knows rotations alone."""


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("cope", "encoding CoPE acts through logits,"),
        ("shaw", "encoding Shaw acts through logits, values,"),
        ("forgetting", "encoding Forgetting acts through state, logits,"),
        ("yarn", "encoding Rotary acts through scale,"),
        ("alibi", "encoding Alibi acts through bias,"),
        ("sinusoidal", "encoding Sinusoidal acts through embed,"),
    ],
)
def test_an_attention_that_would_lose_what_an_encoding_does_is_refused(name, lost):
    with pytest.raises(ValueError) as refused:
        encoding(name).require_hooks(FUSED)
    assert str(refused.value).startswith(f"{lost} which this attention does not call: ")


@pytest.mark.parametrize("name", EVERY_ENCODING)
def test_an_attention_that_calls_every_hook_takes_every_encoding(name):
    encoding(name).require_hooks(HOOKS)


def test_a_name_that_is_not_that_of_a_hook_is_refused():
    with pytest.raises(ValueError, match=r"^hooks must be among embed, .*, values, got rotate$"):
        encoding("rotary").require_hooks({"rotate"})
