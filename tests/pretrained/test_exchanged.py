"""A model whose positions are exchanged keeps every claim that is made of an encoding in a model of ours."""

from __future__ import annotations

import copy
import subprocess
import sys
import weakref
from functools import partial
from threading import Thread
from typing import Any

import pytest
import torch

import poslab
from poslab.encodings import (
    Alibi,
    DualChunk,
    LayerPattern,
    LayerSpec,
    Learned,
    NoPosition,
    PositionalEncoding,
    Positions,
    Rotary,
    Sinusoidal,
    T5Bias,
)
from poslab.encodings.rotary.longrope import longrope
from poslab.encodings.rotary.scalings import rotary_proportional
from poslab.encodings.rotary.yarn import yarn
from poslab.experiments.speed import peak_bytes
from poslab.models import Decoder
from poslab.pretrained.borrow import borrow, exchange
from poslab.pretrained.families import FAMILIES
from tests.encoding_choices import EVERY_ENCODING, OF_ENCODERS, is_another
from tests.pretrained.hosted import CLOSE, DIGITS, MORE, SOME, choice, greedy, hosted, serves_both
from tests.pretrained.tiny import BIDIRECTIONAL, CAUSAL, ROWS, left_padded, some_tokens, tiny, tiny_config
from tests.stacked import stacked

DIFFERENT = ("mistral", "gpt2", "gpt_neox", "roberta", "modernbert")
"""Families that differ in how positions reach attention: rotations, windows, shares of heads, and learned rows."""


def pairs(families: list[str]) -> list:
    """Every encoding in a causal and a bidirectional family, each kind of encoding in families that differ from them.

    All other families are like one of these, and have some. Most are among the slow tests.
    """
    return [
        pytest.param(name, encoding, marks=[] if family_is_quick(name, encoding) else [pytest.mark.slow])
        for name in families
        for encoding in (EVERY_ENCODING if FAMILIES[name].causal else [*EVERY_ENCODING, *OF_ENCODERS])
        if (FAMILIES[name].causal or serves_both(encoding))
        and (name in ("llama", "bert") or encoding in SOME or (name in DIFFERENT and encoding in MORE))
    ]


def family_is_quick(name: str, encoding: str) -> bool:
    if name in ("llama", "bert"):
        return not is_another(encoding)
    return name in ("gpt2", "mistral") and encoding in SOME


@pytest.mark.parametrize(("name", "encoding"), pairs(CAUSAL))
def test_later_tokens_have_no_gradient(name, encoding):
    model, ids = hosted(name, choice(encoding)), some_tokens(1, 12)
    ids[:, :7] = ids[:, :7] % 10 + 5
    ids[:, 7:] = ids[:, 7:] % 10 + 20
    model.hidden_states(ids)[:, :7].pow(3).sum().backward()  # a layer norm has one sum, and one of squares
    gradient = model.embedding.weight.grad
    assert gradient[5:15].abs().max() > 0
    assert not gradient[20:30].any()


@pytest.mark.parametrize(("name", "encoding"), pairs(list(FAMILIES)))
def test_padding_is_invisible(name, encoding):
    model = hosted(name, choice(encoding))
    ids, real = left_padded(some_tokens())
    padded = model(ids, Positions.padded(real.bool()), real.bool())
    torch.testing.assert_close(padded[1:, 3:], model(ids[1:, 3:]), **CLOSE)
    through_transformers = model.host(ids, attention_mask=real).logits
    torch.testing.assert_close(through_transformers[real.bool()], padded[real.bool()], **CLOSE)


@pytest.mark.parametrize(("name", "encoding"), pairs(CAUSAL))
def test_a_text_in_pieces_is_the_whole_text(name, encoding):
    model = hosted(name, choice(encoding))
    ids, real = left_padded(some_tokens())
    with torch.no_grad():
        whole = model.host(ids, attention_mask=real).logits
        first = model.host(ids[:, :6], attention_mask=real[:, :6], use_cache=True)
        second = model.host(ids[:, 6:8], attention_mask=real[:, :8], cache=first.cache, use_cache=True)
        last = model.host(ids[:, 8:], attention_mask=real, cache=second.cache, use_cache=True)
        read = torch.cat([first.logits, second.logits, last.logits], dim=1)
        torch.testing.assert_close(read[real.bool()], whole[real.bool()], **CLOSE)
        cache, own = model.new_cache(), []
        for piece in (slice(0, 6), slice(6, 8), slice(8, 11)):
            own.append(model(ids[:1, piece], cache=cache))
        torch.testing.assert_close(torch.cat(own, dim=1), whole[:1], **CLOSE)


def test_chunks_are_counted_from_the_first_token_once_a_window_of_the_model_has_dropped_it():
    model = hosted("mistral", LayerPattern([LayerSpec(Rotary, chunk=4)]))  # its cache has the last 5 tokens
    ids, real = left_padded(some_tokens())
    with torch.no_grad():
        whole = model.host(ids, attention_mask=real).logits
        cache, pieces = None, []
        for stop in range(6, 12):
            start = 0 if cache is None else stop - 1
            read = model.host(ids[:, start:stop], attention_mask=real[:, :stop], cache=cache, use_cache=True)
            cache = read.cache
            pieces.append(read.logits)
    torch.testing.assert_close(torch.cat(pieces, dim=1)[real.bool()], whole[real.bool()], **CLOSE)


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("encoding", ["rotary", pytest.param("path", marks=pytest.mark.slow)])
def test_generation_with_a_cache_is_generation_without(name, encoding):
    model = tiny(name)
    exchange(model, choice(encoding))
    assert torch.equal(model.generate(**greedy()), model.generate(**greedy(use_cache=False)))


@pytest.mark.parametrize("encoding", ["path", "selective_rotary", "abacus", "t5"])
def test_beams_take_the_states_of_their_tokens_along(encoding):
    model = tiny("llama")
    exchange(model, choice(encoding), digits=DIGITS)
    beams = greedy(num_beams=3)
    assert torch.equal(model.generate(**beams), model.generate(**beams, use_cache=False))


@pytest.mark.parametrize("name", BIDIRECTIONAL)
@pytest.mark.parametrize("encoding", ["t5", "rotary", "sinusoidal", "shaw"])
def test_an_unbounded_encoding_reads_beyond_the_learned_rows(name, encoding):
    model = hosted(name, choice(encoding))
    assert model.max_length is None
    assert model(some_tokens(1, 2 * ROWS)).isfinite().all()


@pytest.mark.parametrize("name", ["bert", "llama", "gpt2", "electra", "modernbert"])
@pytest.mark.parametrize("encoding", ["t5", "rotary", "learned", "shaw"])
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoints_of_activations_change_nothing(name, encoding, use_reentrant):
    model, gradients = hosted(name, choice(encoding)).train(), []
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for checkpointed in (False, True):
        if checkpointed:
            model.host.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
        model.zero_grad()
        model(some_tokens()).square().mean().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(gradients[1], gradients[0])
    assert any(name.startswith("encodings.") for name in gradients[0]) or encoding == "rotary"


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_that_learns_has_a_gradient(name):
    model = hosted(name, T5Bias)
    model(some_tokens()).square().mean().backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_the_bias_of_t5_takes_the_route_that_is_linear_in_memory(name, monkeypatch):
    attending, taken = sys.modules["poslab.attention.attend"], []
    by_distance = attending._by_distance
    monkeypatch.setattr(attending, "_by_distance", lambda *given: taken.append("distance") or by_distance(*given))
    monkeypatch.setattr(attending, "by_blocks", lambda *given: taken.append("blockwise"))
    hosted(name, T5Bias)(some_tokens())
    exchanged = tiny(name)
    exchange(exchanged, T5Bias)
    exchanged(some_tokens(), attention_mask=torch.ones(2, 11))
    assert taken == ["distance"] * 4


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_the_bias_of_t5_trains_in_memory_that_is_linear_in_the_length(name):
    def peak(model, length: int) -> int:
        ids = some_tokens(1, length)
        return peak_bytes(lambda: model(ids).logits.square().mean().backward(), on_gpu=False)

    def growth(model) -> float:
        peak(model, 16)
        return peak(model, 1024) / peak(model, 512)

    dropout = {"hidden_dropout_prob": 0.0} if name == "bert" else {}
    untouched = tiny(name, torch.float32, max_position_embeddings=1024, **dropout)
    exchanged = copy.deepcopy(untouched)
    exchange(exchanged, T5Bias)
    assert growth(untouched) > 3
    assert growth(exchanged) < 2.2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "encoding"), [("bert", "learned"), ("llama", "t5"), ("llama", "pretrained")])
def test_a_model_compiles_into_one_graph(name, encoding):
    model, ids = hosted(name, choice(encoding)), some_tokens()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(ids), model(ids), **CLOSE)


@pytest.mark.parametrize("encoding", ["rotary", "alibi", "t5", "yarn", "learned", "shaw", "path", "fire", "none"])
def test_our_decoder_copied_into_llama_has_the_same_logits(encoding):
    torch.manual_seed(3)
    ours = stacked(Decoder, 40, choice(encoding), 32, 2, 4, num_kv_heads=2, tie_embeddings=False).double().eval()
    hidden = ours.blocks[0].mlp.output.in_features
    others = {"intermediate_size": hidden, "rms_norm_eps": torch.finfo(torch.float64).eps, "rope_parameters": None}
    theirs = borrow(tiny("llama", **others), choice(encoding)).double()
    theirs.encodings.load_state_dict(ours.encodings.state_dict())
    base = theirs.base
    copies = [(base.embed_tokens, ours.embedding), (base.norm, ours.norm), (theirs.host.lm_head, ours.output)]
    for layer, block in zip(base.layers, ours.blocks, strict=True):
        attention, mlp = layer.self_attn, layer.mlp
        key, value = block.mixer.key_value.weight.chunk(2)
        gate, up = block.mlp.gate_up.weight.chunk(2)
        attention.k_proj.weight.data, attention.v_proj.weight.data = key, value
        mlp.gate_proj.weight.data, mlp.up_proj.weight.data = gate, up
        copies += [(attention.q_proj, block.mixer.query), (attention.o_proj, block.mixer.output)]
        copies += [(mlp.down_proj, block.mlp.output), (layer.input_layernorm, block.mixer_norm)]
        copies += [(layer.post_attention_layernorm, block.mlp_norm)]
    for to, of in copies:
        to.weight.data = of.weight.data
    ids = some_tokens(length=2 * ROWS if ours.max_length is None else ROWS)
    torch.testing.assert_close(theirs(ids), ours(ids), **CLOSE)


def test_a_rotation_takes_the_base_and_the_share_of_the_model():
    assert hosted("llama", Rotary).encodings.layer(0).base == 500.0
    neox = hosted("gpt_neox", Rotary).encodings.layer(0)
    assert (neox.base, neox.rotary_dim) == (5000.0, 2)
    assert hosted("llama", partial(Rotary, base=7.0)).encodings.layer(0).base == 7.0


@pytest.mark.parametrize("name", ["llama", "gpt_neox", "gemma", "olmo", "olmo2", "qwen3", "mistral"])
def test_rotary_is_the_models_own_rotation(name):
    ids = some_tokens(length=ROWS)
    torch.testing.assert_close(hosted(name, Rotary)(ids), tiny(name)(ids).logits, **CLOSE)


@pytest.mark.parametrize("kind", ["default", "proportional"])
def test_a_rotation_of_llama_turns_whole_heads_whatever_share_is_named(kind):
    rope = {"rope_type": kind, "rope_theta": 500.0, "partial_rotary_factor": 0.5}
    model, ids = tiny("llama", rope_parameters=rope), some_tokens(length=ROWS)
    expected, frequencies = model(ids).logits, model.model.rotary_emb.inv_freq.float()
    scaling = None if kind == "default" else partial(rotary_proportional, proportion=0.5)
    under = borrow(model, partial(Rotary, scaling=scaling))
    assert under.encodings.layer(0).rotary_dim == under.encodings.shape.head_dim
    torch.testing.assert_close(under(ids), expected, **CLOSE)
    torch.testing.assert_close(under.encodings.shape.pretrained.spectrum(ROWS), frequencies)


def test_scalings_stretch_from_the_length_that_the_model_was_trained_at():
    from poslab.encodings.rotary.scalings import llama3

    other = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 2.0, "original_max_position_embeddings": 12}
    for rope, length in ((None, ROWS), (other, 12)):
        config = tiny_config("llama", **({} if rope is None else {"rope_parameters": rope}))
        facts = FAMILIES["llama"].facts(config)
        assert facts.fill(partial(Rotary, scaling=partial(llama3, factor=2.0))).keywords["scaling"].keywords == {
            "factor": 2.0,
            "training_length": length,
        }
    given = FAMILIES["llama"].facts(config).fill(partial(Rotary, scaling=partial(llama3, training_length=99)))
    assert given.keywords["scaling"].keywords["training_length"] == 99


def test_a_model_turns_as_its_configuration_says_under_the_same_scaling():
    rope = {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0}
    ids = some_tokens(length=ROWS)
    stretched = hosted("llama", partial(Rotary, scaling=poslab.encodings.rotary.scalings.rope_linear))
    assert stretched.encodings.layer(0).base == 500.0
    ours = hosted("llama", partial(Rotary, scaling=partial(poslab.encodings.rotary.scalings.rope_linear, factor=2.0)))
    torch.testing.assert_close(ours(ids), tiny("llama", rope_parameters=rope)(ids).logits, **CLOSE)


SCALED: dict[str, tuple[Any, dict[str, Any]]] = {
    "yarn": (partial(yarn, factor=4.0, training_length=12), {"factor": 4.0, "original_max_position_embeddings": 12}),
    "longrope": (
        partial(longrope, factor=3.0, training_length=12, short_factors=[1.0, 2.0], long_factors=[1.5, 3.0]),
        {
            "short_factor": [1.0, 2.0],
            "long_factor": [1.5, 3.0],
            "factor": 3.0,
            "original_max_position_embeddings": 12,
        },
    ),
}


@pytest.mark.parametrize("kind", SCALED)
def test_an_attention_factor_scales_the_channels_that_turn_as_in_the_untouched_model(kind):
    scaling, keys = SCALED[kind]
    rope = {"rope_type": kind, "rope_theta": 5000.0, "partial_rotary_factor": 0.5, **keys}
    ids = some_tokens(length=ROWS)
    theirs = tiny("gpt_neox", rope_parameters=rope)(ids).logits
    ours = borrow(tiny("gpt_neox", rope_parameters=rope), partial(Rotary, scaling=scaling))
    assert ours.encodings.layer(0).factor_on == "rotated"
    torch.testing.assert_close(ours(ids), theirs, **CLOSE)
    whole_logits = borrow(tiny("gpt_neox", rope_parameters=rope), partial(Rotary, scaling=scaling, factor_on="logits"))
    assert (whole_logits(ids) - theirs).abs().max() > 0.01 * theirs.abs().max()
    in_chunks = borrow(tiny("gpt_neox", rope_parameters=rope), partial(DualChunk, scaling=scaling, chunk=40, local=2))
    torch.testing.assert_close(in_chunks(ids), theirs, **CLOSE)


def test_windows_of_layers_are_the_models_own():
    assert FAMILIES["qwen2"].windows(tiny_config("qwen2")) == [None, 5]
    assert FAMILIES["mistral"].windows(tiny_config("mistral")) == [5, 5]
    assert FAMILIES["modernbert"].windows(tiny_config("modernbert")) == [None, 4]
    assert FAMILIES["smollm3"].windows(tiny_config("smollm3")) == [None, None, None, 5]


class Doubled(PositionalEncoding):
    """Twice the usual scale."""

    def scale(self, tables):
        return 2.0


@pytest.mark.parametrize("name", ["gpt2", "opt", "llama"])
def test_the_scale_of_logits_is_the_models_own_times_that_of_the_encoding(name):
    model, ids = tiny(name), some_tokens()
    exchange(model, Doubled)
    doubled = model(ids).logits
    exchange(model, NoPosition)
    for layer in FAMILIES[name].layers_of(FAMILIES[name].base_of(model)):
        attention = layer.attn if name == "gpt2" else layer.self_attn
        attention.scaling *= 2
    torch.testing.assert_close(model(ids).logits, doubled)


def test_an_encoding_has_the_dtype_of_the_model():
    model = tiny("llama", torch.bfloat16)
    exchange(model, T5Bias)
    assert {parameter.dtype for parameter in model.poslab_encodings.parameters()} == {torch.bfloat16}
    assert model(some_tokens()).logits.dtype == torch.bfloat16


def test_an_encoding_is_exchanged_by_the_name_of_its_choice():
    model, ids = tiny("llama"), some_tokens(length=ROWS)
    exchange(model, partial(Rotary, scaling=partial(yarn, factor=4.0)))
    expected = model(ids).logits
    exchanged = exchange(model, "yarn", factor=4)
    assert torch.equal(model(ids).logits, expected)
    rotary = exchanged.encodings.layer(0)
    assert rotary.base == 500.0 and rotary.scaling.keywords["training_length"] == ROWS
    assert exchange(model, "alibi", max_exponent=4.0).encodings.layer(0).hooks == {"bias"}
    assert "num_buckets=8" in repr(exchange(model, T5Bias, num_buckets=8).encodings.layer(0))
    assert exchange(model, "rnope", every=2).encodings.layer(1).hooks == set()
    assert exchange(model, "pretrained") is None


@pytest.mark.parametrize(
    ("encoding", "hyperparameters", "sentence"),
    [
        ("yarm", {}, "^unknown encoding.*you mean 'yarn'[?]$"),
        ("rope", {}, "^unknown encoding.*you mean 'rotary'[?]$"),
        ("../encoding/yarn", {}, "^unknown encoding '../encoding/yarn'$"),
        ("yarn", {"facter": 4}, "^encoding 'yarn'.*you mean 'factor'[?]$"),
        ("yarn", {"factor": 0.5}, "^encoding.scaling.factor.*least 1, got 0.5$"),
        ("yarn", {"_target_": "os.system"}, "^encoding 'yarn'.*no argument '_target_'$"),
        ("pretrained", {"factor": 4}, "^encoding 'pretrained'.*no argument 'factor'$"),
        (T5Bias, {"buckets": 4}, "^T5Bias has no argument buckets"),
        (LayerPattern([Rotary]), {"every": 3}, "^every must.*encodings of a LayerPattern"),
    ],
)
def test_a_mistaken_name_or_argument_is_one_sentence_and_changes_nothing(encoding, hyperparameters, sentence):
    model, ids = tiny("llama"), some_tokens()
    exchange(model, Alibi)
    before = model(ids).logits
    with pytest.raises(ValueError, match=sentence):
        exchange(model, encoding, **hyperparameters)
    assert torch.equal(model(ids).logits, before)


def test_another_exchange_takes_the_place_of_the_first():
    model, ids = tiny("llama"), some_tokens()
    exchange(model, Alibi)
    expected = model(ids).logits
    exchange(model, partial(Learned, max_length=ROWS))
    exchange(model, Alibi)
    assert torch.equal(model(ids).logits, expected)
    exchange(model, T5Bias).undo()
    assert not hasattr(model, "poslab_encodings")
    borrow(model, T5Bias)
    exchange(model, Alibi)
    assert torch.equal(model(ids).logits, expected)


def test_models_of_one_configuration_are_exchanged_each_by_itself():
    model, ids = tiny("llama"), some_tokens()
    other = type(model)(model.config).to(model.dtype).eval()
    own, of_other = model(ids).logits, other(ids).logits
    exchange(model, Alibi)
    assert torch.equal(other(ids).logits, of_other)
    exchange(other, T5Bias)
    expected = other(ids).logits
    exchange(model, "pretrained")
    assert torch.equal(model(ids).logits, own)
    assert torch.equal(other(ids).logits, expected)


def test_threads_that_share_a_model_read_their_own_texts():
    model = tiny("llama")
    exchange(model, Sinusoidal)
    first, second = some_tokens(1, 5), some_tokens(1, 9)
    expected, others = model(first).logits, []

    def read_in_another_thread(*_):
        handle.remove()
        thread = Thread(target=lambda: others.append(model(second).logits))
        thread.start()
        thread.join()

    handle = model.get_input_embeddings().register_forward_pre_hook(read_in_another_thread)
    assert torch.equal(model(first).logits, expected)
    assert torch.equal(others[0], model(second).logits)


def test_an_exchange_is_undone_once_and_not_after_another():
    model, ids = tiny("llama"), some_tokens()
    own = model(ids).logits
    first, second = exchange(model, Alibi), exchange(model, T5Bias)
    expected = model(ids).logits
    first.undo()
    assert torch.equal(model(ids).logits, expected)
    second.undo()
    second.undo()
    assert torch.equal(model(ids).logits, own)


@pytest.mark.slow
def test_a_pickled_model_is_the_same_in_another_process(tmp_path):
    llama, ids = tiny("llama"), some_tokens(1, 12)
    exchange(llama, Alibi)
    torch.save((llama, ids, llama(ids).logits), tmp_path / "llama.pt")
    code = f"""
import torch
model, ids, logits = torch.load({str(tmp_path / "llama.pt")!r}, weights_only=False)
assert torch.equal(model(ids).logits, logits)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_a_compiled_model_is_exchanged():
    model, ids = tiny("llama"), some_tokens()
    compiled = torch.compile(model, backend="eager")
    exchange(compiled, Alibi)
    assert "poslab_encodings" in dict(model.named_modules())
    torch.testing.assert_close(compiled(ids).logits, model(ids).logits, **CLOSE)


@pytest.mark.parametrize("encoding", ["t5", "path", "learned"])
def test_a_model_that_has_read_a_text_keeps_nothing_of_it(encoding):
    model = tiny("llama")
    exchange(model, choice(encoding))
    read = weakref.ref(model(some_tokens()).past_key_values)
    assert read() is None
    expected = model(some_tokens()).logits
    assert torch.equal(copy.deepcopy(model)(some_tokens()).logits, expected)


def test_a_model_is_borrowed_under_a_choice_by_its_name():
    model, ids = tiny("llama"), some_tokens()
    exchange(model, "yarn", factor=4.0)
    with torch.no_grad():
        torch.testing.assert_close(borrow(tiny("llama"), "yarn", factor=4.0)(ids), model(ids).logits, **CLOSE)
    with pytest.raises(ValueError, match="encoding 'yarn' has no argument 'faktor'; did you mean 'factor'"):
        borrow(tiny("llama"), "yarn", faktor=4.0)
