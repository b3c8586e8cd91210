"""Attention of encoders, and of each stack of an encoder-decoder."""

import math

import pytest
import torch

from poslab.evaluation.attention.maps import attention_rows, capture_attention
from poslab.evaluation.attention.statistics import attention_by_distance, attention_statistics
from poslab.evaluation.learned_bias import learned_bias
from poslab.models import Encoder, EncoderDecoder
from tests.encoding_choices import small_model, some_tokens, stack

LENGTH = 9


def test_statistics_of_an_encoder_count_keys_on_both_sides():
    model, tokens = small_model(Encoder, "t5"), some_tokens(2, LENGTH)
    weights = [weights for _, _, weights in attention_rows(model, tokens)]
    frame = attention_statistics(model, tokens, rows=4).set_index(["layer", "head"])
    by_distance = attention_by_distance(model, tokens, rows=4).set_index(["layer", "head", "distance"])["attention"]
    assert len(by_distance) == 2 * 4 * (2 * LENGTH - 1)
    for layer, head in frame.index:
        of_head = weights[layer][:, head].double()
        pairs = [(text, i, j) for text in range(2) for i in range(LENGTH) for j in range(LENGTH)]
        shares = {key: float(of_head[key]) for key in pairs}
        of_queries = 2 * LENGTH
        row = frame.loc[(layer, head)]
        assert row["mean_distance"] == pytest.approx(
            sum(p * abs(i - j) for (_, i, j), p in shares.items()) / of_queries
        )
        for name, step in (("own_token", 0), ("previous_token", -1), ("next_token", 1)):
            result = sum(p for (_, i, j), p in shares.items() if j == i + step)
            assert row[name] == pytest.approx(result / of_queries)
        for distance in range(-LENGTH + 1, LENGTH):
            result = [p for (_, i, j), p in shares.items() if i - j == distance]
            assert by_distance[layer, head, distance] == pytest.approx(sum(result) / len(result))


def test_texts_of_different_lengths_are_averaged_over_their_queries():
    model, texts = small_model(Encoder, "alibi"), [some_tokens(1, 4), some_tokens(1, 7)]
    together = attention_statistics(model, [lambda model, text=text: model(text) for text in texts])
    alone = [attention_statistics(model, text) for text in texts]
    expected = (4 * alone[0] + 7 * alone[1]) / 11
    torch.testing.assert_close(torch.tensor(together.to_numpy()), torch.tensor(expected.to_numpy()))


@pytest.mark.parametrize(("stack_name", "queries", "keys"), [("encoder", 7, 7), ("self", 5, 5), ("cross", 5, 7)])
def test_the_weights_of_each_stack_give_the_output_of_its_attention(stack_name, queries, keys):
    model, source, target = small_model(EncoderDecoder, "t5"), some_tokens(2, 7), some_tokens(2, 5)
    of_stack, calls = {id(encoding) for encoding in model.stacks[stack_name]}, []
    for module in model.modules():
        if type(module).__name__ == "MultiHeadAttention":
            module.register_forward_hook(
                lambda *call: calls.append(call) if id(call[1][1].encoding) in of_stack else None
            )

    def read(model):
        return model(source, target)

    reached = capture_attention(model, read, stack=stack_name)
    blocks = list(attention_rows(model, read, stack=stack_name))
    assert len(reached) == len(blocks) == 2
    for layer, block, (attention, (x, _, *memory), output) in zip(reached, blocks, calls, strict=False):
        assert block.weights.shape == (2, 4, queries, keys)
        assert torch.equal(layer.queries, attention.queries(x))
        _, values = attention.key_value(memory[0] if memory else x).unflatten(-1, (2, 2, 8)).permute(2, 0, 3, 1, 4)
        y = block.weights @ values.repeat_interleave(2, dim=1)
        expected = attention.output(y.transpose(1, 2).flatten(2))
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)


def test_cross_attention_has_shares_of_the_source_and_no_distances():
    model, source, target = small_model(EncoderDecoder, "rotary"), some_tokens(1, 7), some_tokens(1, 5)
    frame = attention_statistics(model, [lambda model: model(source, target)], stack="cross")
    assert list(frame.columns) == ["layer", "head", "entropy", "first_token", "last_token", "attended"]
    (block, *_) = attention_rows(model, lambda model: model(source, target), stack="cross")
    assert frame["last_token"][1] == pytest.approx(block.weights[0, 1, :, -1].mean().item())


def test_a_bias_that_is_not_causal_has_a_curve_to_both_sides():
    frame = learned_bias(stack("t5", causal=False), 40).set_index(["head", "distance"])["bias"]
    table = stack("t5", causal=False).layer(0)
    assert sorted(set(frame.index.get_level_values("distance"))) == list(range(-39, 40))
    for (head, distance), bias in frame.items():
        assert bias == pytest.approx(table.bias_at(torch.tensor([distance]))[head].item())
    few = learned_bias(stack("t5", causal=False), 4000, most=50)["distance"]
    assert few.min() == -3999 and few.max() == 3999 and few.nunique() < 100 and math.isclose(few.sum(), 0)
