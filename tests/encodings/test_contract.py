"""Claims that every encoding of conf/encoding keeps, whatever it computes: a new YAML file is held to them at once."""

from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from mpmath import mp

from poslab import encodings as e
from poslab.attention import Visibility, attend
from poslab.encodings import DistanceBias, PositionalEncoding, Positions, StackEncodings
from poslab.encodings.base import HOOKS
from poslab.encodings.rotary.allocations import axial
from poslab.encodings.rotary.scalings import rope_linear, rope_ntk
from poslab.encodings.rotary.yarn import yarn
from poslab.testing import CHECKS, Subject
from poslab.testing.subject import LENGTH, assert_near, attended
from tests.encoding_choices import (
    BIASED,
    ENCODINGS,
    EVERY_ENCODING,
    OF_ENCODERS,
    described,
    encoding,
    factory,
    quick_or_slow,
)

# tests/models/test_compile.py compiles every encoding.
QUICK_CHECKS = {name: check for name, check in CHECKS.items() if name != "check_it_compiles_without_a_break"}


@cache
def subject(name: str) -> Subject:
    """An encoding under test, whose checks share its stacks as `check_encoding` has them do."""
    return Subject(factory(name))


@pytest.mark.parametrize("name", quick_or_slow([*EVERY_ENCODING, *OF_ENCODERS]))
@pytest.mark.parametrize("check", QUICK_CHECKS.values(), ids=QUICK_CHECKS)
def test_every_encoding_keeps_the_contract(name, check):
    check(subject(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EVERY_ENCODING if described(name).depends_on_length])
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_past_the_training_length_encodings_that_depend_on_the_length_keep_it_too(name, check):
    check(Subject(factory(name, training_length=8)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "other",
    [
        partial(e.Abacus, num_embeddings=40, max_k=0),
        *(partial(e.Fourier, length=16_384, components=components) for components in ("sine", "cosine", "product")),
        partial(e.Learned, max_length=20),
        *(partial(e.Sinusoidal, layout=layout, base=100.0) for layout in ("interleaved", "concatenated")),
        partial(e.Alibi, asymmetry=0.5),
        partial(e.LearnedAlibi, asymmetry=0.5),
        partial(e.Fire, width=16, threshold=8.0),
        partial(e.Sandwich, dim=4, base=50.0),
        partial(e.CoPE, num_positions=4),
        partial(e.Dape, over=partial(e.Alibi, asymmetry=0.5), width=4),
        partial(e.DapeV2, over=e.Fire, width=4, kernel_size=5),
        partial(e.Forgetting, gate_bias=4.0),
        partial(e.PaTH, forget_gate=True),
        partial(e.PaTH, rank=4, conv_width=1),
        partial(e.PaTH, conv_width=5),
        partial(e.RelativeProjection, rank=3, extent=6),
        partial(e.RelativeProjection, rank=1, extent=1),
        partial(e.StickBreaking, attend_current=True),
        partial(e.Wall, gate_bias=0.0),
        partial(e.Deberta, max_distance=16, num_buckets=8),
        partial(e.Deberta, max_distance=5, num_buckets=None),
        partial(e.MusicTransformer, num_distances=6),
        partial(e.Shaw, max_distance=3),
        partial(e.TransformerXL, max_distance=5),
        partial(e.Tupe, num_buckets=8, max_distance=16),
        partial(e.Tupe, max_length=330),
        partial(e.PoPE, base=100.0, delta_init="uniform"),
        partial(e.MHRoPE, sections=[1, 1], fraction=0.5, layout="interleaved"),
        partial(e.Rotary, layout="interleaved"),
        partial(e.Rotary, fraction=0.5, layout="interleaved"),
        partial(e.SelectiveRotary, conv_width=2, steps=True, gate=True),
        partial(e.FoPE, training_length=100, base=20.0, gain=0.6, clipped="ones"),
        partial(e.GrapeA, gates="key"),
        partial(e.GrapeAP, width=2),
        partial(e.XPos, scale_base=64.0),
        e.rnope(every=2, window=6),
        e.LayerPattern([e.Alibi, partial(e.Rotary, base=100.0)]),
        e.LayerPattern([e.LayerSpec(e.Rotary, window=4), e.NoPosition]),
        e.LayerPattern(
            [
                e.LayerSpec(e.Rotary, chunk=6),
                e.LayerSpec(e.NoPosition, 7, temperature=partial(e.Llama4Temperature, training_length=4)),
            ],
            order=[0, 0, 1],
            from_last=True,
            last=0,
        ),
        e.LayerPattern([e.Sinusoidal, e.Rotary]),
        e.LayerPattern([e.NoPosition, e.Sinusoidal]),
        e.LayerPattern([e.T5Bias, e.NoPosition]),
        e.LayerPattern([e.Fire], embedding=e.Abacus),
    ],
    ids=lambda other: other.func.__name__ if isinstance(other, partial) else "pattern",
)
def test_other_hyperparameters_and_patterns_keep_it_too(other):
    subject = Subject(other)
    for check in (CHECKS if isinstance(other, e.LayerPattern) else QUICK_CHECKS).values():
        check(subject)


ALONE = ("cope", "fire", "grape_a", "grape_ap", "path", "relative_projection", "selective_rotary", "stick_breaking")
"""Causal encodings that no other stands for in an encoder."""


@pytest.mark.parametrize(
    ("name", "instead"), [*((name, "needs model=decoder") for name in ALONE), ("music", "shaw"), ("xpos", "rotary")]
)
def test_a_causal_encoding_is_refused_in_an_encoder_with_the_name_of_its_bidirectional_form(name, instead):
    with pytest.raises(ValueError, match=rf"^encoding {type(encoding(name)).__name__} is causal, .* form.* {instead}$"):
        encoding(name, causal=False)


@pytest.mark.parametrize("name", OF_ENCODERS)
def test_an_encoding_of_encoders_is_refused_in_a_decoder_and_in_causal_attention(name):
    kind = type(encoding(name, causal=False)).__name__
    with pytest.raises(ValueError, match=rf"^encoding {kind} is bidirectional, .* causal: .* needs model=encoder$"):
        encoding(name)
    with pytest.raises(ValueError, match=rf"^encoding {kind} is bidirectional"):
        StackEncodings(e.LayerPattern([e.Rotary], embedding=factory(name)), Subject(e.Rotary).shape())
    q = torch.ones(1, 4, 3, 8)
    with pytest.raises(ValueError, match=rf"^{kind} was made for bidirectional attention, and visibility is causal$"):
        attend(q, q, q, encoding(name, causal=False), None, Visibility())


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


@pytest.mark.parametrize("name", quick_or_slow([name for name in EVERY_ENCODING if described(name).relative]))
@pytest.mark.parametrize("start", [-(2**24) - 1, 2**20 - LENGTH // 2, 2**20, 2**24 + 1, 2**30])
def test_a_text_beyond_a_million_positions_is_attended_as_one_at_0(name, start):
    subject = Subject(factory(name))
    encodings = subject.stack()
    if encodings.max_length is None:
        at_0, there = (attended(subject, encodings, Positions.range(LENGTH, first)) for first in (0, start))
        for layer, (ours, expected) in enumerate(zip(there, at_0, strict=True)):
            if encodings.layer(layer).relative:
                assert_near(ours, expected, 1e-5, f"{name} at {start:,}")


@pytest.mark.parametrize("name", quick_or_slow(EVERY_ENCODING))
def test_real_positions_of_float64_are_attended_as_those_of_float32(name):
    subject = Subject(factory(name))
    encodings, ids = subject.stack(), torch.arange(LENGTH) / 2
    try:
        expected = attended(subject, encodings, Positions(ids, LENGTH))
    except ValueError:  # an encoding of integers alone
        return
    for ours, theirs in zip(attended(subject, encodings, Positions(ids.double(), LENGTH)), expected, strict=True):
        assert_near(ours, theirs, 1e-5, name)


FAR = [2**20, 2**24 + 1, 2**30 - 1]


def exact_waves(positions: list[int], frequencies: list[mp.mpf]) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of positions times frequencies, (T, N) float64, computed with 40 digits."""
    waves = [[(mp.cos(p * f), mp.sin(p * f)) for f in frequencies] for p in positions]
    cos, sin = torch.tensor([[[float(x) for x in wave] for wave in row] for row in waves], dtype=torch.float64).unbind(
        -1
    )
    return cos, sin


def test_angles_beyond_a_million_positions_are_exact_to_the_rounding_of_float32():
    far = Positions(torch.tensor(FAR), 2**30)
    with mp.workdps(40):
        pairs, channels, axis = ([mp.mpf(10_000) ** -(mp.mpf(m) / n) for m in range(n)] for n in (4, 8, 2))
        cos, sin = exact_waves(FAR, pairs)
        linear = exact_waves(FAR, [f / 4 for f in pairs])
        by_channel, on_axis = exact_waves(FAR, channels), exact_waves(FAR, axis)
    assert_tables = partial(torch.testing.assert_close, rtol=0, atol=4e-7, check_dtype=False)
    sinusoidal = e.Sinusoidal(8, layout="concatenated").embed(torch.zeros(1, 3, 8), far)[0]
    assert_tables(sinusoidal, torch.cat([sin, cos], dim=-1))
    for rotary, (expected_cos, expected_sin) in {
        e.Rotary(8): (cos, sin),
        e.RotaryLearned(8): (cos, sin),
        e.Rotary(8, scaling=partial(rope_linear, factor=4.0)): linear,
        e.PoPE(8, num_heads=1): by_channel,
    }.items():
        shifted = far if type(rotary) is not e.RotaryLearned else replace(far, ids=torch.tensor([0, *FAR]))
        tables = rotary.prepare(shifted, shifted)
        assert tables.key_cos.dtype == tables.key_sin.dtype == torch.float32
        assert_tables(tables.key_cos[-3:], expected_cos)
        assert_tables(tables.key_sin[-3:], expected_sin)
    grid = Positions.grid(1, 3)
    assert grid.places is not None
    moved = replace(grid, places=grid.places.at(torch.tensor([[p, p] for p in FAR]), stop=2**30))
    assert_tables(e.Rotary(8, allocation=axial).prepare(moved, moved).key_cos, torch.cat([on_axis[0]] * 2, dim=-1))


def test_up_to_a_million_positions_angles_are_products_in_float32_bit_for_bit():
    ids = torch.arange(2**20 - 300, 2**20)
    positions = Positions(ids, 2**20)
    exponents = torch.arange(0, 64, 2) / 64
    angle = ids.float().unsqueeze(-1) * (1.0 / 10_000.0**exponents)
    tables = e.Rotary(64).prepare(positions, positions)
    assert torch.equal(tables.query_cos, angle.cos()) and torch.equal(tables.key_sin, angle.sin())


@pytest.mark.parametrize("scaling", [None, partial(yarn, training_length=64), rope_ntk])
def test_far_angles_are_made_without_a_break_of_the_graph(scaling):
    rotary = e.Rotary(8, scaling=scaling)
    prepare = torch.compile(lambda x: rotary.prepare(x, x).key_cos, backend="eager", fullgraph=True)
    for start in (0, 2**20):
        positions = Positions.range(16, start)
        torch.testing.assert_close(prepare(positions), rotary.prepare(positions, positions).key_cos)


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
        ("shaw", "encoding Shaw acts through logits, values"),
        ("forgetting", "encoding Forgetting acts through state, logits,"),
        ("yarn", "encoding Rotary acts through scale,"),
        ("alibi", "encoding Alibi acts through bias,"),
        ("sinusoidal", "encoding Sinusoidal acts through embed,"),
    ],
)
def test_an_attention_that_would_lose_what_an_encoding_does_is_refused_and_one_that_calls_every_hook_is_not(name, lost):
    with pytest.raises(ValueError) as refused:
        encoding(name).require_hooks(FUSED)
    assert str(refused.value).startswith(lost)
    encoding(name).require_hooks(HOOKS)


def test_a_name_that_is_not_that_of_a_hook_is_refused():
    with pytest.raises(ValueError, match=r"^hooks must.*, values, got rotate$"):
        encoding("rotary").require_hooks({"rotate"})
