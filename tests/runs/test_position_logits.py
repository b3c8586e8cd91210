"""Mean logits by distance that positions give, against loops over all pairs of tokens."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from poslab.encodings import Alibi, Positions, Rotary
from poslab.models import EncoderDecoder, Model
from poslab.pretrained.borrow import borrow
from poslab.runs.position_logits import PositionLogits, position_logits
from tests.encoding_choices import small_decoder, small_model
from tests.encoding_choices import some_tokens as tokens_of_ours
from tests.pretrained.tiny import some_tokens, tiny


def inputs_of(model: Model, layers: list[Any], ids_BT: Tensor, real: Tensor | None = None) -> list[Tensor]:
    """The input of each of these attention layers while the model reads."""
    seen: list[Tensor] = []
    handles = [
        layer.register_forward_pre_hook(
            lambda module, given, named: seen.append(given[0] if given else named["hidden_states"]), with_kwargs=True
        )
        for layer in layers
    ]
    with torch.no_grad():
        model.hidden_states(ids_BT, real=real)
    for handle in handles:
        handle.remove()
    return seen


def turned(x_D: Tensor, position: int, base: float) -> Tensor:
    """A vector rotated by the definition: channel n with channel n + D / 2."""
    half = len(x_D) // 2
    y_D = x_D.clone()
    for n in range(half):
        angle = position * base ** (-2 * n / len(x_D))
        y_D[n] = x_D[n] * math.cos(angle) - x_D[n + half] * math.sin(angle)
        y_D[n + half] = x_D[n + half] * math.cos(angle) + x_D[n] * math.sin(angle)
    return y_D


def pairs(real_BT: Tensor, causal: bool, window: int | None = None) -> Iterator[tuple[int, int, int]]:
    """Each text, query and key that the query sees."""
    for b in range(len(real_BT)):
        for i in range(real_BT.shape[1]):
            for j in range(i + 1 if causal else real_BT.shape[1]):
                if real_BT[b, i] and real_BT[b, j] and (window is None or abs(i - j) < window):
                    yield b, i, j


def assert_means(found: PositionLogits, head: int, terms: dict[int, list[float]]) -> None:
    """The logits of a head are the means of these numbers by distance, and their counts are right."""
    for distance, logit, count in zip(found.distance.tolist(), found.logits[head], found.counts, strict=True):
        expected = terms.get(distance, [])
        assert len(expected) == count
        assert float(logit) == pytest.approx(sum(expected) / max(1, len(expected)), abs=1e-6)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_a_rotation_of_the_model_gives_what_it_changes(name, padded):
    model = borrow(tiny(name))
    ids_BT, real_BT = some_tokens(3, 9), torch.ones(3, 9, dtype=torch.bool)
    if padded:
        real_BT[1, 6:] = False
    layers = list(model.attention_layers)
    found = position_logits(model, [lambda m: m.hidden_states(ids_BT, real=real_BT if padded else None)])
    base = model.host.config.rope_parameters["rope_theta"]
    for layer, x_BTM, of_layer in zip(layers, inputs_of(model, layers, ids_BT, real_BT), found, strict=True):
        q_BTHD, k_BTGD = (
            part(x_BTM).detach().unflatten(-1, (-1, layer.head_dim)) for part in (layer.q_proj, layer.k_proj)
        )
        for head in range(4):
            terms = defaultdict(list)
            for b, i, j in pairs(real_BT, causal=True, window=5 if name == "mistral" else None):
                q_D, k_D = q_BTHD[b, i, head], k_BTGD[b, j, head // 2]
                difference = turned(q_D, i, base) @ turned(k_D, j, base) - q_D @ k_D
                terms[i - j].append(float(difference) / math.sqrt(layer.head_dim))
            assert_means(of_layer, head, terms)


def test_an_exchanged_rotation_gives_what_that_of_the_model_gives():
    ids_BT = some_tokens(3, 9)
    own, ours = (
        position_logits(borrow(tiny("llama"), encoding), [lambda m: m.hidden_states(ids_BT)])
        for encoding in (type(borrow(tiny("llama")).encodings.layer(0)), Rotary)
    )
    for one, other in zip(own, ours, strict=True):
        torch.testing.assert_close(one.logits, other.logits, rtol=1e-5, atol=1e-6)


def test_a_rotation_of_a_model_of_ours_gives_what_it_changes():
    model, ids_BT = small_decoder("rotary").double(), tokens_of_ours(2, 7)
    found = position_logits(model, [lambda m: m.hidden_states(ids_BT)])
    layers = list(model.attention_layers)
    for layer, x_BTM, of_layer in zip(layers, inputs_of(model, layers, ids_BT), found, strict=True):
        with torch.no_grad():
            q_BHTD = layer.queries(x_BTM)
            k_BGTD = layer.key_value(x_BTM).unflatten(-1, (2, 2, 8)).permute(2, 0, 3, 1, 4)[0]
        for head in range(4):
            terms = defaultdict(list)
            for b, i, j in pairs(torch.ones(2, 7), causal=True):
                q_D, k_D = q_BHTD[b, head, i], k_BGTD[b, head // 2, j]
                difference = turned(q_D, i, 10_000.0) @ turned(k_D, j, 10_000.0) - q_D @ k_D
                terms[i - j].append(float(difference) / math.sqrt(8))
            assert_means(of_layer, head, terms)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_rows_of_the_model_give_their_interaction(name):
    model = borrow(tiny(name))
    texts = [some_tokens(3, 8), some_tokens(5, 8)[3:]]  # five texts, the halves of which are not those of a batch
    ids_BT, causal = torch.cat(texts), name == "gpt2"
    found = position_logits(model, [partial(lambda m, x: m.hidden_states(x), x=text) for text in texts])
    layers = [site.attention.self if name == "bert" else site.attn for site in model.attention_sites]
    for number, (layer, x_BTM) in enumerate(zip(layers, inputs_of(model, layers, ids_BT), strict=True)):
        with torch.no_grad():
            if name == "bert":
                q_BTM, k_BTM = layer.query(x_BTM), layer.key(x_BTM)
            else:
                q_BTM, k_BTM = layer.c_attn(x_BTM).split(32, dim=-1)[:2]
                q_BTM = q_BTM / (number + 1)  # scale_attn_by_inverse_layer_idx
        for head in range(4):
            q_BTD, k_BTD = (x[..., head * 8 : head * 8 + 8] for x in (q_BTM, k_BTM))
            means = [(q_BTD[half::2].mean(0), k_BTD[half::2].mean(0)) for half in (0, 1)]
            terms = defaultdict(list)
            for i in range(8):
                for j in range(i + 1 if causal else 8):
                    both = [
                        (q_TD[i] - q_TD.mean(0)) @ (k_TD[j] - k_TD.mean(0))
                        for q_TD, k_TD in ((means[0][0], means[1][1]), (means[1][0], means[0][1]))
                    ]
                    terms[i - j].append(float(sum(both)) / 2 / math.sqrt(8))
            for distance, logit in zip(found[number].distance.tolist(), found[number].logits[head], strict=True):
                expected = terms.get(distance, [0.0])
                assert float(logit) == pytest.approx(sum(expected) / len(expected), abs=1e-8)


def test_a_bias_of_distance_is_found_exactly():
    model = borrow(tiny("llama"), Alibi)
    found = position_logits(model, [lambda m: m.hidden_states(some_tokens(2, 20))])
    slopes_H = model.encodings.layer(0).slopes(torch.device("cpu"))
    for of_layer in found:
        distance_N = of_layer.distance
        expected_HN = (-slopes_H[:, None] * distance_N).masked_fill(distance_N < 0, 0.0)
        torch.testing.assert_close(of_layer.logits, expected_HN.double(), rtol=0, atol=1e-6)


def test_texts_of_different_lengths_in_any_order_count_by_their_pairs():
    model = small_decoder("rotary").double()
    long, short = tokens_of_ours(2, 300), tokens_of_ours(3, 5)  # longer than a block of query rows
    there, back = (
        position_logits(model, [partial(lambda m, x: m.hidden_states(x), x=text) for text in texts])
        for texts in ((long, short), (short, long))
    )
    for one, other in zip(there, back, strict=True):
        torch.testing.assert_close(one.logits, other.logits, rtol=1e-9, atol=1e-12)
        assert one.counts.tolist() == [
            max(0, 2 * (300 - d)) + 3 * max(0, 5 - d) if d >= 0 else 0 for d in range(-299, 300)
        ]


def test_reading_leaves_no_trace():
    model, ids_BT = borrow(tiny("llama")), some_tokens(2, 9)

    def hooks() -> list[int]:
        return [len(module._forward_pre_hooks) for module in model.modules()]

    before = model(ids_BT), hooks()
    position_logits(model, [lambda m: m.hidden_states(ids_BT)])
    assert torch.equal(model(ids_BT), before[0])
    assert hooks() == before[1]


def test_rows_need_two_texts():
    with pytest.raises(ValueError, match=r"^start=fitted needs at least"):
        position_logits(borrow(tiny("bert")), [lambda m: m.hidden_states(some_tokens(1, 9))])


def test_a_model_of_several_stacks_is_refused():
    with pytest.raises(ValueError, match=r"^start=fitted supports models of"):
        position_logits(small_model(EncoderDecoder, "t5"), [])


def test_a_model_whose_attention_counts_something_else_than_tokens_is_refused():
    with pytest.raises(ValueError, match=r"^start=fitted counts tokens, and"):
        position_logits(small_decoder("bipe"), [])


def test_documents_of_a_row_and_padding_have_their_own_positions():
    model = small_decoder("learned").double()
    ids_BT = tokens_of_ours(4, 6)
    apart = position_logits(model, [lambda m: m.hidden_states(ids_BT)])
    real_BT = torch.ones(4, 8, dtype=torch.bool)
    real_BT[:, :2] = False
    left_BT = torch.nn.functional.pad(ids_BT, (2, 0))
    positions = Positions.padded(real_BT)
    padded = position_logits(model, [lambda m: m.hidden_states(left_BT, positions, real_BT)])
    for one, other in zip(apart, padded, strict=True):
        torch.testing.assert_close(other.logits[:, 2:-2], one.logits, rtol=1e-9, atol=1e-12)
        assert torch.equal(other.counts[2:-2], one.counts)
