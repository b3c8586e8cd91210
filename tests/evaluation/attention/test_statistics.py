import math
from collections import defaultdict

import pandas as pd
import pytest
import torch
from torch import nn

from poslab.encodings import Alibi
from poslab.encodings.bias.alibi import slope_exponents
from poslab.evaluation.attention.maps import attention_rows
from poslab.evaluation.attention.statistics import attention_by_distance, attention_statistics
from poslab.models import Decoder
from tests.encoding_choices import VOCAB_SIZE, small_decoder, some_tokens
from tests.stacked import stacked

LENGTH = 13
NAMES = ["rotary", "alibi", "stick_breaking"]


def weights_of(model: Decoder, tokens: torch.Tensor) -> list[list[list[list[list[float]]]]]:
    """By layer, text, head, query and key, in one block for each layer."""
    return [weights.tolist() for _, _, weights in attention_rows(model, tokens, rows=LENGTH)]


def of_head(frame: pd.DataFrame, layer: int, head: int) -> pd.DataFrame:
    return frame[(frame["layer"] == layer) & (frame["head"] == head)]


@pytest.mark.parametrize("name", NAMES)
def test_statistics_are_those_of_a_loop_over_queries_and_keys(name):
    model, tokens = small_decoder(name), some_tokens(2, LENGTH)
    frame = attention_statistics(model, tokens, rows=5)
    assert len(frame) == 2 * 4
    for layer, texts in enumerate(weights_of(model, tokens)):
        for head in range(4):
            result = defaultdict(list)
            for text in texts:
                for i, row in enumerate(text[head]):
                    result["attended"].append(sum(row))
                    if sum(row) == 0:
                        continue
                    p = [weight / sum(row) for weight in row]
                    result["entropy"].append(-sum(x * math.log(x) for x in p if x > 0))
                    result["mean_distance"].append(sum(x * (i - j) for j, x in enumerate(p)))
                    result["first_token"].append(p[0])
                    result["own_token"].append(p[i])
                    result["previous_token"].append(p[i - 1] if i else 0.0)
            (row,) = of_head(frame, layer, head).to_dict("records")
            for column, values in result.items():
                assert row[column] == pytest.approx(sum(values) / len(values), abs=1e-5), column


@pytest.mark.parametrize("name", NAMES)
def test_attention_by_distance_is_the_mean_over_the_queries_that_have_such_a_key(name):
    model, tokens = small_decoder(name), some_tokens(2, LENGTH)
    frame = attention_by_distance(model, tokens, rows=5)
    assert len(frame) == 2 * 4 * LENGTH
    for layer, texts in enumerate(weights_of(model, tokens)):
        for head in range(4):
            attention = of_head(frame, layer, head).set_index("distance")["attention"]
            for distance in range(LENGTH):
                result = [text[head][i][i - distance] for text in texts for i in range(distance, LENGTH)]
                assert attention[distance] == pytest.approx(sum(result) / len(result), abs=1e-6)


def test_a_model_that_attends_to_all_alike_has_the_statistics_of_even_shares():
    model = small_decoder("none")
    for block in model.blocks:
        nn.init.zeros_(block.mixer.query.weight)
    frame = attention_statistics(model, some_tokens(1, LENGTH))
    numbers = range(1, LENGTH + 1)
    assert frame["entropy"].tolist() == pytest.approx([sum(math.log(n) for n in numbers) / LENGTH] * 8, abs=1e-5)
    assert frame["mean_distance"].tolist() == pytest.approx([sum((n - 1) / 2 for n in numbers) / LENGTH] * 8, abs=1e-5)
    assert frame["own_token"].tolist() == pytest.approx([sum(1 / n for n in numbers) / LENGTH] * 8, abs=1e-5)


@pytest.mark.parametrize("num_heads", [4, 8])
def test_the_mean_distance_of_alibis_heads_is_ordered_as_its_slopes_are(num_heads):
    model = stacked(Decoder, VOCAB_SIZE, Alibi, d_model=64, num_layers=2, num_heads=num_heads).eval()
    frame = attention_statistics(model, some_tokens(2, 400))
    exponents = slope_exponents(num_heads)
    for layer in range(2):
        by_head = frame[frame["layer"] == layer].set_index("head")["mean_distance"].tolist()
        assert sorted(range(num_heads), key=by_head.__getitem__) == sorted(range(num_heads), key=exponents.__getitem__)
