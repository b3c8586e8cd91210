"""Each scaling against an implementation that is not ours; what no other has, against a loop over the formula."""

import json
import math
from functools import partial

import pytest
import rotary_embedding_torch
import torch
from torch import Tensor
from transformers import GPTNeoXConfig, LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama import modeling_llama

from poslab.attention import Visibility
from poslab.attention.attend import attend
from poslab.encodings import Positions, Rotary
from poslab.encodings.rotary.longrope import longrope
from poslab.encodings.rotary.mrrope import mrrope
from poslab.encodings.rotary.resonance import resonance
from poslab.encodings.rotary.scalings import (
    fmrope,
    hope,
    llama3,
    rope_clipped,
    rope_dynamic_ntk,
    rope_linear,
    rope_ntk,
    rotary_proportional,
)
from poslab.encodings.rotary.yarn import yarn
from poslab.testing import check_encoding
from tests.encodings.agreement import default_dtype

HEAD_DIM, TRAINING_LENGTH = 32, 48
SHORT, LONG = [1.0 + m / 16 for m in range(16)], [1.0 + m for m in range(16)]
OURS = {
    "linear": partial(rope_linear, factor=4.0),
    "dynamic": partial(rope_dynamic_ntk, training_length=TRAINING_LENGTH, factor=2.0),
    "yarn": partial(yarn, training_length=TRAINING_LENGTH, factor=8.0, beta_fast=6.0, beta_slow=0.3),
    "longrope": partial(longrope, training_length=TRAINING_LENGTH, factor=8.0, short_factors=SHORT, long_factors=LONG),
    "llama3": partial(llama3, training_length=TRAINING_LENGTH, factor=8.0),
    "proportional": partial(rotary_proportional, proportion=0.6),
}
THEIRS = {
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 2.0},
    "yarn": {"factor": 8.0, "beta_fast": 6.0, "beta_slow": 0.3},
    "longrope": {"factor": 8.0, "short_factor": SHORT, "long_factor": LONG},
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "proportional": {"partial_rotary_factor": 0.6},
}


def product_by_a_loop(query: Tensor, key: Tensor, frequencies: list[float], distance: int) -> float:
    """q . R(-distance) k of half-split pairs, in float64, pair by pair."""
    half, total = len(frequencies), 0.0
    for m, theta in enumerate(frequencies):
        (a, b), (c, d) = query[[m, m + half]].tolist(), key[[m, m + half]].tolist()
        total += (a * c + b * d) * math.cos(distance * theta) + (a * d - b * c) * math.sin(distance * theta)
    return total


def llama_config(kind: str, head_dim: int = HEAD_DIM, training_length: int = TRAINING_LENGTH, base=10_000.0, **more):
    parameters = {"rope_type": kind, "rope_theta": base, **(THEIRS[kind] | more)}
    if kind in ("yarn", "longrope", "llama3"):
        parameters["original_max_position_embeddings"] = training_length
    # transformers reads the training length of dynamic NTK from here, and only there.
    longest = training_length if kind == "dynamic" else 8 * training_length
    return LlamaConfig(
        hidden_size=4 * head_dim, num_attention_heads=4, max_position_embeddings=longest, rope_parameters=parameters
    )


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("length", [20, TRAINING_LENGTH, TRAINING_LENGTH + 1, 80])
@pytest.mark.parametrize("layout", ["half_split", "interleaved"])
def test_queries_keys_and_logits_are_those_of_a_llama_under_each_scaling(kind, length, layout):
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 2, length, HEAD_DIM, generator=generator)
    embedding = modeling_llama.LlamaRotaryEmbedding(llama_config(kind))  # a new one: theirs remembers what it has seen
    cos, sin = embedding(query, torch.arange(length)[None])
    their_query, their_key = modeling_llama.apply_rotary_pos_emb(query, key, cos, sin)
    their_logits = their_query @ their_key.mT * HEAD_DIM**-0.5

    rotary = Rotary(HEAD_DIM, layout=layout, scaling=OURS[kind])
    if layout == "interleaved":  # channel 2m of ours is channel m of theirs
        order = torch.arange(HEAD_DIM).view(2, -1).T.flatten()
        query, key = query[..., order], key[..., order]
    tables = rotary.prepare(Positions.range(length), Positions.range(length))
    our_query, our_key = rotary.rotate_query(query, tables), rotary.rotate_key(key, tables)
    our_logits = our_query @ our_key.mT * HEAD_DIM**-0.5 * rotary.scale(tables)
    torch.testing.assert_close(our_logits, their_logits, rtol=0, atol=1e-5)
    if layout == "half_split":
        attention_factor = embedding.attention_scaling
        torch.testing.assert_close(our_query * attention_factor, their_query, rtol=0, atol=1e-5)
        torch.testing.assert_close(our_key * attention_factor, their_key, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("training_length", [256, 4_096])
@pytest.mark.parametrize("base", [1_000.0, 10_000.0, 500_000.0])
@pytest.mark.parametrize("times", [0.5, 3])
def test_frequencies_are_those_of_transformers_at_sizes_of_real_models(kind, head_dim, training_length, base, times):
    length = int(times * training_length)
    pairs = head_dim // 2
    ours, theirs = OURS[kind], {}
    if "training_length" in ours.keywords:
        ours = partial(ours, training_length=training_length)
    if kind == "longrope":
        short, long = [1.0] * pairs, [1.0 + m / 7 for m in range(pairs)]
        ours = partial(ours, short_factors=short, long_factors=long)
        theirs = {"short_factor": short, "long_factor": long}
    if kind == "yarn":  # the usual 32 and 1
        ours, theirs = partial(ours, beta_fast=32, beta_slow=1), {"beta_fast": 32, "beta_slow": 1}
    config = llama_config(kind, head_dim, training_length, base, **theirs)
    expected, attention_factor = ROPE_INIT_FUNCTIONS[kind](config, "cpu", length)
    frequencies, factor = Rotary(head_dim, base, scaling=ours).scaled_frequencies(length)
    torch.testing.assert_close(frequencies, expected, rtol=1e-6, atol=0)
    assert factor == pytest.approx(attention_factor, abs=1e-12)


@pytest.mark.parametrize("kind", [kind for kind in OURS if kind != "proportional"])
def test_a_fraction_scales_the_spectrum_of_the_channels_that_turn_as_in_gpt_neox(kind):
    length = 100
    parameters = {"rope_type": kind, "rope_theta": 10_000.0, "partial_rotary_factor": 0.5, **THEIRS[kind]}
    if kind == "longrope":
        parameters |= {"short_factor": SHORT[:8], "long_factor": LONG[:8]}
    parameters["original_max_position_embeddings"] = TRAINING_LENGTH
    config = GPTNeoXConfig(
        hidden_size=4 * HEAD_DIM,
        num_attention_heads=4,
        max_position_embeddings=TRAINING_LENGTH,
        rope_parameters=parameters,
    )
    expected, _ = ROPE_INIT_FUNCTIONS[kind](config, "cpu", length)
    ours = OURS[kind]
    if kind == "longrope":
        ours = partial(ours, short_factors=SHORT[:8], long_factors=LONG[:8])
    frequencies = Rotary(HEAD_DIM, fraction=0.5, scaling=ours).spectrum(length)
    assert len(frequencies) == 8
    torch.testing.assert_close(frequencies, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("truncate", [True, False])
@pytest.mark.parametrize(("beta_fast", "beta_slow"), [(32, 1), (64, 8), (5, 4.9)])
@pytest.mark.parametrize("training_length", [8, 512, 8_192])
def test_the_ramp_of_yarn_is_that_of_transformers(truncate, beta_fast, beta_slow, training_length):
    more = {"truncate": truncate, "beta_fast": beta_fast, "beta_slow": beta_slow}
    config = llama_config("yarn", 64, training_length, **more)
    expected, _ = ROPE_INIT_FUNCTIONS["yarn"](config, "cpu")
    if training_length < 2 * math.pi * beta_slow:  # theirs runs backwards there: the lowest frequency is not scaled
        assert expected[-1] == pytest.approx(10_000 ** (-62 / 64), rel=1e-6)
        expected = torch.tensor([10_000 ** (-2 * m / 64) / (8 if m else 1) for m in range(32)])
    ours = Rotary(64, scaling=partial(yarn, training_length=training_length, factor=8.0, **more)).spectrum(1)
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=0)


def test_yarn_keeps_fast_frequencies_and_divides_slow_ones_as_its_docstring_says():
    plain = Rotary(128).spectrum(1)
    scaled, factor = Rotary(128, scaling=partial(yarn, training_length=4_096, factor=16.0)).scaled_frequencies(1)
    ratio = plain / scaled
    torch.testing.assert_close(ratio[:21], torch.ones(21))
    torch.testing.assert_close(ratio[46:], torch.full((18,), 16.0))
    assert (ratio[21:46].diff() > 0).all() and 1 < ratio[21] < ratio[45] < 16
    assert factor**2 == pytest.approx(1.2773**2, rel=1e-4)


@pytest.mark.parametrize("kind", ["yarn", "longrope"])
def test_the_attention_factor_can_be_set(kind):
    rotary = Rotary(HEAD_DIM, scaling=partial(OURS[kind], attention_factor=0.5))
    assert rotary.scaled_frequencies(1)[1] == rotary.scaled_frequencies(1_000)[1] == 0.5


def test_the_square_of_the_attention_factor_multiplies_whole_logits_and_the_rotation_stays_one():
    """Also the share of the channels that do not turn."""
    query, key = torch.randn(2, 1, 1, 3, 8, generator=torch.Generator().manual_seed(0))
    rotary = Rotary(8, fraction=0.5, scaling=partial(yarn, training_length=48, factor=8.0, attention_factor=1.5))
    tables = rotary.prepare(Positions.range(3), Positions.range(3))
    torch.testing.assert_close(rotary.rotate_query(query, tables).norm(dim=-1), query.norm(dim=-1))
    state = attend(query, key, torch.eye(3)[None, None], rotary, tables, Visibility(causal=False), "dense")
    logits = torch.zeros(3, 3)
    for i in range(3):
        for j in range(3):
            turning = product_by_a_loop(query[0, 0, i, :4], key[0, 0, j, :4], rotary.spectrum(1).tolist(), i - j)
            logits[i, j] = 1.5**2 * (turning + float(query[0, 0, i, 4:] @ key[0, 0, j, 4:])) / 8**0.5
    torch.testing.assert_close(state[0, 0], logits.softmax(-1))


@pytest.mark.parametrize(
    ("scaling", "their_name", "factor"),
    [
        *((rope_ntk, "theta_rescale_factor", factor) for factor in (1.0, 2.0, 5.5)),
        (rope_linear, "interpolate_factor", 4.0),
    ],
)
@pytest.mark.parametrize("base", [100.0, 10_000.0])
def test_ntk_and_linear_interpolation_turn_queries_as_rotary_embedding_torch_does(scaling, their_name, factor, base):
    query = torch.randn(2, 3, 60, HEAD_DIM, generator=torch.Generator().manual_seed(0))
    theirs = rotary_embedding_torch.RotaryEmbedding(HEAD_DIM, theta=base, **{their_name: factor})
    rotary = Rotary(HEAD_DIM, base, layout="interleaved", scaling=partial(scaling, factor=factor))
    ours = rotary.rotate_query(query, rotary.prepare(Positions.range(60), Positions.range(60)))
    torch.testing.assert_close(ours, theirs.rotate_queries_or_keys(query), rtol=0, atol=1e-5)


def test_ntk_keeps_the_fastest_frequency_and_divides_the_slowest_by_the_factor():
    plain = Rotary(HEAD_DIM).spectrum(1)
    scaled = Rotary(HEAD_DIM, scaling=partial(rope_ntk, factor=6.0)).spectrum(1)
    assert scaled[0] == 1
    assert plain[-1] / scaled[-1] == pytest.approx(6.0, rel=1e-5)


@pytest.mark.parametrize("length", [1, TRAINING_LENGTH])
def test_dynamic_ntk_is_plain_rotation_up_to_the_training_length(length):
    ours = Rotary(HEAD_DIM, scaling=OURS["dynamic"]).spectrum(length)
    assert torch.equal(ours, Rotary(HEAD_DIM).spectrum(length))


def test_dynamic_ntk_is_static_ntk_where_both_have_the_same_base():
    length = TRAINING_LENGTH * 3 // 2  # l = L (2 s - 1) / s with s = 2
    ours = Rotary(HEAD_DIM, scaling=OURS["dynamic"]).spectrum(length)
    torch.testing.assert_close(ours, Rotary(HEAD_DIM, scaling=partial(rope_ntk, factor=2.0)).spectrum(length))


@pytest.mark.parametrize("kind", OURS)
def test_the_current_length_is_one_past_the_last_key_whatever_the_queries_are(kind):
    rotary = Rotary(HEAD_DIM, scaling=OURS[kind])
    whole = rotary.prepare(Positions.range(100), Positions.range(100))
    last = rotary.prepare(Positions.range(1, 99), Positions.range(100))
    assert torch.equal(last.query_cos, whole.query_cos[99:]) and torch.equal(last.key_sin, whole.key_sin)
    short = rotary.prepare(Positions.range(20), Positions.range(20))
    changes = not torch.equal(short.key_cos, whole.key_cos[:20])
    assert changes == rotary.depends_on_length == (kind in ("dynamic", "longrope"))


@pytest.mark.parametrize("cycles", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("training_length", [24, 100])
def test_hope_turns_what_turns_round_within_the_training_length_and_nothing_else(cycles, training_length):
    query, key = torch.randn(2, 30, HEAD_DIM, generator=torch.Generator().manual_seed(0))
    frequencies = []
    for m in range(HEAD_DIM // 2):
        theta = 10_000.0 ** (-2 * m / HEAD_DIM)
        frequencies.append(theta if theta * training_length >= cycles * 2 * math.pi else 0.0)
    assert 0 < frequencies.count(0.0) < len(frequencies)
    rotary = Rotary(HEAD_DIM, scaling=partial(hope, training_length=training_length, cycles=cycles))
    tables = rotary.prepare(Positions.range(30), Positions.range(30))
    ours = rotary.rotate_query(query[None, None], tables) @ rotary.rotate_key(key[None, None], tables).mT
    expected = [[product_by_a_loop(query[i], key[j], frequencies, i - j) for j in range(30)] for i in range(30)]
    torch.testing.assert_close(ours[0, 0] * HEAD_DIM**-0.5, torch.tensor(expected) * HEAD_DIM**-0.5, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("head_dim", "clipped"), [(128, 20), (32, 3), (32, 1)])
def test_clipped_frequencies_slow_down_along_a_cosine(head_dim, clipped):
    plain = Rotary(head_dim, base=500_000.0).spectrum(1)
    expected = plain.tolist()
    for place, m in enumerate(range(head_dim // 2 - clipped, head_dim // 2)):
        expected[m] *= (1 + math.cos(math.pi * place / max(clipped - 1, 1))) / 2
    scaling = partial(rope_clipped, training_length=8_192, clipped=clipped)
    torch.testing.assert_close(Rotary(head_dim, base=500_000.0, scaling=scaling).spectrum(1), torch.tensor(expected))


@pytest.mark.parametrize(
    "scaling",
    [
        partial(rope_clipped, training_length=8_192, clipped=20),
        *(partial(mrrope, training_length=4_096, progressive=progressive) for progressive in (True, False)),
    ],
)
def test_where_bfloat16_is_the_default_of_pytorch_frequencies_are_float32(scaling):
    rotary = Rotary(128, base=500_000.0, scaling=scaling)
    expected = rotary.spectrum(1)
    with default_dtype(torch.bfloat16):
        assert torch.equal(rotary.spectrum(1), expected)


@pytest.mark.parametrize("training_length", [8, 100, 4_096])
def test_a_hard_clip_is_hope_or_proportional_and_the_soft_one_begins_at_the_same_pair(training_length):
    stopped = Rotary(HEAD_DIM, scaling=partial(hope, training_length=training_length)).spectrum(1)
    hard = partial(rope_clipped, training_length=training_length, soft=False)
    assert torch.equal(Rotary(HEAD_DIM, scaling=hard).spectrum(1), stopped)
    kept = int((stopped > 0).sum())
    soft = Rotary(HEAD_DIM, scaling=partial(rope_clipped, training_length=training_length)).spectrum(1)
    assert torch.equal(soft[: kept + 1], Rotary(HEAD_DIM).spectrum(1)[: kept + 1]) and soft[-1] < 1e-9
    proportional = Rotary(HEAD_DIM, scaling=partial(rotary_proportional, proportion=0.75)).spectrum(1)
    assert torch.equal(Rotary(HEAD_DIM, scaling=partial(hard, clipped=4)).spectrum(1), proportional)


def test_fmrope_is_rotary_with_the_training_length_as_its_base():
    ours = Rotary(HEAD_DIM, base=500_000.0, scaling=partial(fmrope, training_length=300)).spectrum(1)
    torch.testing.assert_close(ours, torch.tensor([300 ** (-2 * m / HEAD_DIM) for m in range(HEAD_DIM // 2)]))


@pytest.mark.parametrize("progressive", [True, False])
@pytest.mark.parametrize(
    ("head_dim", "training_length", "base"), [(128, 4_096, 10_000.0), (64, 32, 500_000.0), (8, 256, 100.0)]
)
def test_mrrope_divides_by_the_powers_of_its_formula(progressive, head_dim, training_length, base):
    """The second has no pair of 32 turns, the third none of less than one."""
    scaling = partial(mrrope, training_length=training_length, factor=8.0, progressive=progressive)
    spectrum, attention_factor = Rotary(head_dim, base, scaling=scaling).scaled_frequencies(1)
    plain = [base ** (-2 * m / head_dim) for m in range(head_dim // 2)]
    fast = [m for m, theta in enumerate(plain) if theta * training_length / (2 * math.pi) > 32]
    slow = [m for m, theta in enumerate(plain) if theta * training_length / (2 * math.pi) < 1]
    low, high = (fast or [0])[-1], (slow or [len(plain)])[0]
    for m, theta in enumerate(plain):
        t, n = min(max(m - low, 0), high - low), high - low
        exponent = t * (t + 1) / (n * (n + 1)) if progressive else t / n
        assert spectrum[m].item() == pytest.approx(theta / 8**exponent, rel=1e-6)
    assert attention_factor == pytest.approx(0.1 * math.log(8) + 1)


@pytest.mark.parametrize(
    "of", [None, partial(yarn, training_length=256, factor=4.0), partial(hope, training_length=64)]
)
def test_under_resonance_each_pair_comes_back_after_a_whole_number_of_tokens(of):
    before, factor = Rotary(64, scaling=of).scaled_frequencies(1)
    spectrum, own_factor = Rotary(64, scaling=partial(resonance, of=of)).scaled_frequencies(1)
    assert own_factor == factor
    for theta, rounded in zip(before.tolist(), spectrum.tolist(), strict=True):
        expected = 2 * math.pi / round(2 * math.pi / theta) if theta else 0.0
        assert rounded == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("head_dim", [2, 8, 10, 128])
def test_longrope_without_lists_is_plain_up_to_the_training_length_and_yarn_beyond(head_dim):
    rotary = Rotary(head_dim, scaling=partial(longrope, training_length=64, factor=8.0))
    assert torch.equal(rotary.spectrum(64), Rotary(head_dim).spectrum(64))
    beyond, attention_factor = rotary.scaled_frequencies(65)
    plain = Rotary(head_dim).spectrum(1)
    if head_dim > 2:
        assert beyond[0] == 1 and plain[-1] / beyond[-1] == pytest.approx(8.0)
    assert (
        rotary.scaled_frequencies(10)[1] == attention_factor == pytest.approx(math.sqrt(1 + math.log(8) / math.log(64)))
    )


def test_longrope_reads_lists_from_json_files(tmp_path):
    (tmp_path / "long.json").write_text(json.dumps(LONG))
    from_file = partial(OURS["longrope"], long_factors=str(tmp_path / "long.json"))
    for length in (20, 100):
        ours = Rotary(HEAD_DIM, scaling=from_file).spectrum(length)
        assert torch.equal(ours, Rotary(HEAD_DIM, scaling=OURS["longrope"]).spectrum(length))


def test_a_rotation_with_factors_in_a_file_compiles_without_a_break(tmp_path):
    (tmp_path / "long.json").write_text(json.dumps(LONG))
    rotary = Rotary(HEAD_DIM, scaling=partial(OURS["longrope"], long_factors=str(tmp_path / "long.json")))

    def rotated(query: Tensor) -> Tensor:
        positions = Positions.range(query.shape[-2])
        return rotary.rotate_query(query, rotary.prepare(positions, positions))

    torch._dynamo.reset()
    query = torch.randn(1, 1, 60, HEAD_DIM)
    compiled = torch.compile(rotated, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(query), rotated(query), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "scaling",
    [
        partial(rope_dynamic_ntk, training_length=8),
        partial(yarn, training_length=20, beta_fast=2.0, beta_slow=0.1),
        partial(longrope, training_length=8, long_factors=[1.0, 2.0, 3.0, 4.0]),
        partial(llama3, training_length=20),
    ],
    ids=["dynamic", "yarn", "longrope", "llama3"],
)
def test_scalings_of_a_training_length_keep_the_contract_where_20_tokens_show_it(scaling):
    check_encoding(partial(Rotary, scaling=scaling))


@pytest.mark.slow
@pytest.mark.parametrize(
    "scaling",
    [
        rope_ntk,
        partial(hope, training_length=20),
        partial(longrope, training_length=8),
        partial(yarn, training_length=512),
        partial(rope_dynamic_ntk, training_length=512),
    ],
)
def test_other_scalings_and_defaults_keep_the_contract(scaling):
    check_encoding(partial(Rotary, layout="interleaved", scaling=scaling))


@pytest.mark.parametrize(
    ("scaling", "sentence"),
    [
        (partial(rope_ntk, factor=float("nan")), "factor must .*, got nan"),
        (partial(hope, training_length=1), "training_length must .*, got 1"),
        (partial(hope, training_length=float("nan")), "training_length must .*, got nan"),
        (partial(hope, training_length=8, cycles=0.0), "cycles must .*, got 0.0"),
        (
            partial(hope, training_length=8, cycles=2.0),
            "cycles must .*, got 2.0",
        ),
        (partial(rotary_proportional, proportion=0.0), "proportion must .*, got 0.0"),
        (
            partial(rotary_proportional, proportion=0.05),
            "proportion must .*, got 0.05.*",
        ),
        (
            partial(rope_clipped, training_length=8, clipped=16),
            "clipped must .*, got 16",
        ),
        (partial(mrrope, training_length=8, factor=0.5), "factor must .*, got 0.5"),
        (
            partial(resonance, of=partial(rope_dynamic_ntk, training_length=8)),
            "of must be a scaling",
        ),
        (3, "scaling must .*, got 3"),
    ],
)
def test_a_wrong_scaling_is_refused_when_the_encoding_is_made(scaling, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        Rotary(HEAD_DIM, scaling=scaling)


def test_a_single_pair_has_no_slow_ones_to_clip():
    sentence = "^fraction must .* 4 channels .*, got 2$"
    with pytest.raises(ValueError, match=sentence):
        Rotary(2, scaling=partial(rope_clipped, training_length=8, clipped=1))


@pytest.mark.parametrize(
    ("kind", "hyperparameters", "sentence"),
    [
        *((kind, {"factor": 0.5}, "factor must .*, got 0.5") for kind in list(OURS)[:-1]),
        *(
            (kind, {"training_length": length}, f"training_length must .*, got {length}")
            for kind in ("dynamic", "yarn", "longrope", "llama3")
            for length in (1, float("nan"))
        ),
        ("yarn", {"beta_fast": 0.3}, "beta_fast must .*, got 0.3"),
        ("yarn", {"beta_slow": 0.0}, "beta_slow must .*, got 0.0"),
        ("yarn", {"attention_factor": 0.0}, "attention_factor must .*, got 0.0"),
        ("longrope", {"attention_factor": -1.0}, "attention_factor must .*, got -1.0"),
        (
            "longrope",
            {"long_factors": LONG[:3]},
            "long_factors must .*, got 3",
        ),
        ("longrope", {"short_factors": [0.0] * 16}, "short_factors must .*, got 0.0"),
        (
            "longrope",
            {"long_factors": "no.json"},
            "long_factors must .*, got 'no.json' ",
        ),
        ("llama3", {"low_freq_factor": 0.0}, "low_freq_factor must .*, got 0.0"),
        (
            "llama3",
            {"high_freq_factor": 1.0},
            "high_freq_factor must .*, got 1.0",
        ),
    ],
)
def test_a_wrong_hyperparameter_of_a_scaling_is_named_when_the_encoding_is_made(kind, hyperparameters, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        Rotary(HEAD_DIM, scaling=partial(OURS[kind], **hyperparameters))


@pytest.mark.parametrize(
    ("scaling", "sentence"),
    [
        (partial(yarn, training_length=8, fact=2.0), "yarn has no argument fact; .*'factor'"),
        (
            partial(resonance, of=partial(yarn, training_length=8, fact=2.0)),
            "yarn has no argument fact; .*'factor'",
        ),
        (
            partial(resonance, of=partial(yarn, training_length=8, factor="two")),
            "factor must .*, got 'two'",
        ),
    ],
)
def test_a_misspelt_or_odd_argument_of_a_scaling_is_named(scaling, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        Rotary(HEAD_DIM, scaling=scaling)


def test_a_scaling_of_your_own_may_have_any_arguments():
    def halved(frequencies, **others):
        return frequencies * others["by"], 1.0

    plain = Rotary(HEAD_DIM).spectrum(1)
    assert torch.equal(Rotary(HEAD_DIM, scaling=partial(halved, by=0.5)).spectrum(1), plain * 0.5)


def test_two_channels_have_no_base_to_scale():
    with pytest.raises(ValueError, match=r"^fraction must.*each head .*, got 2$"):
        Rotary(8, fraction=0.25, scaling=rope_ntk)


@pytest.mark.parametrize("content", ["{}", "[1, true]", '["a"]', "[1, 2", "[" * 100_000, " " * 2**20 + "[]"])
def test_a_file_without_a_list_of_numbers_is_refused(tmp_path, content):
    (tmp_path / "factors.json").write_text(content)
    with pytest.raises(ValueError, match=r"^short_factors.*a JSON file .*factors.json"):
        Rotary(HEAD_DIM, scaling=partial(OURS["longrope"], short_factors=str(tmp_path / "factors.json")))


def test_a_device_that_never_ends_is_not_read():
    with pytest.raises(ValueError, match=r"^short_factors.*got '/dev/zero'"):
        Rotary(HEAD_DIM, scaling=partial(OURS["longrope"], short_factors="/dev/zero"))


@pytest.mark.parametrize("factor", ["1e-300", "9" * 400])
def test_a_factor_by_which_float32_cannot_divide_is_refused(tmp_path, factor):
    (tmp_path / "factors.json").write_text(f"[{factor}{', 1' * (HEAD_DIM // 2 - 1)}]")
    with pytest.raises(ValueError, match=r"^long_factors.*numbers in \[1e-9, 1e9\], got "):
        Rotary(HEAD_DIM, scaling=partial(OURS["longrope"], long_factors=str(tmp_path / "factors.json")))
