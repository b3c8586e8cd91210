"""`start=`: the first values of an encoding in a model that was trained under others."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from poslab.encodings import Alibi, KerpleLog, KerplePower, Learned, LearnedAlibi, Shaw, T5Bias, Tisa
from poslab.encodings.bias.distance_bias import DistanceBias
from poslab.models import EncoderDecoder
from poslab.pretrained.borrow import borrow
from poslab.runs.start import Copied, Fitted, Interpolated, explained
from tests.encoding_choices import encoding, small_decoder, small_model
from tests.encoding_choices import some_tokens as tokens_of_ours
from tests.pretrained.tiny import ROWS, some_tokens, tiny

OF_ROWS = ["bert", "roberta", "xlm-roberta", "distilbert", "gpt2", "opt"]
FITTED = ["t5", "alibi_learned", "kerple_log", "kerple_power", "tisa"]


@pytest.mark.parametrize("name", OF_ROWS)
def test_copied_rows_compute_what_the_model_does(name):
    own = borrow(tiny(name))
    model = borrow(tiny(name), partial(Learned, max_length=2 * ROWS + 5))
    (line,) = Copied().apply(model, own)
    assert f"{2 * ROWS + 5} rows" in line and line.endswith(f"copied from {ROWS}")
    torch.testing.assert_close(model(some_tokens(2, ROWS)), own(some_tokens(2, ROWS)), rtol=1e-10, atol=1e-10)
    table = model.encodings.layer(0).rows
    assert all(torch.equal(table[p], table[p % ROWS]) for p in range(len(table)))


def test_rows_of_a_model_of_ours_are_copied():
    earlier, model = small_decoder("learned"), small_decoder("learned")
    with torch.no_grad():
        model.encodings.layer(0).rows.zero_()
    Copied().apply(model, earlier)
    assert torch.equal(model(tokens_of_ours(2, 9)), earlier(tokens_of_ours(2, 9)))


@pytest.mark.parametrize("count", [1, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS - 1, 1000])
def test_interpolated_rows_are_those_between(count):
    own = borrow(tiny("bert"))
    model = borrow(tiny("bert"), partial(Learned, max_length=count))
    Interpolated().apply(model, own)
    old, new = own.position_rows.detach().numpy(), model.encodings.layer(0).rows.detach().numpy()
    places = np.arange(count) * ((ROWS - 1) / (count - 1) if count > ROWS else 1)
    for channel in range(old.shape[1]):
        np.testing.assert_allclose(new[:, channel], np.interp(places, np.arange(ROWS), old[:, channel]), atol=1e-12)
    assert np.array_equal(new[0], old[0])
    assert count < ROWS or np.array_equal(new[-1], old[-1])
    assert count != 2 * ROWS - 1 or np.array_equal(new[::2], old)


@pytest.mark.parametrize("start", [Copied(), Interpolated()])
def test_starts_of_rows_refuse_encodings_and_models_without(start):
    bert, name = borrow(tiny("bert")), type(start).__name__.lower()
    with pytest.raises(ValueError, match=f"^start={name} needs an encoding with a"):
        start.apply(borrow(tiny("bert"), T5Bias), bert)
    with pytest.raises(ValueError, match=f"^start={name} needs a model that has a"):
        start.apply(borrow(tiny("llama"), Learned), borrow(tiny("llama")))
    with pytest.raises(ValueError, match=f"^start={name} needs rows as wide"):
        start.apply(borrow(tiny("electra"), Learned), borrow(tiny("electra")))


def readings(length: int, batch: int = 3):
    return [lambda model: model.hidden_states(some_tokens(batch, length))]


def randomised(bias: DistanceBias) -> DistanceBias:
    """The encoding with other parameters, always the same."""
    torch.manual_seed(7)
    for parameter in bias.parameters():
        parameter.data -= 0.3 * torch.rand_like(parameter)
    return bias


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_a_model_whose_positions_are_t5s_gives_its_table(name):
    earlier, model = (borrow(tiny(name, torch.float32), partial(T5Bias, num_buckets=16, max_distance=40)) for _ in "ab")
    randomised(earlier.encodings.layer(0))
    with torch.no_grad():
        model.encodings.layer(0).table.zero_()
    lines = Fitted().apply(model, earlier, readings(80))
    assert [line.startswith("T5Bias of 2 layers explains 100%") for line in lines] == [True]
    reached = torch.ones(16, dtype=torch.bool)
    reached[8] = name == "llama"  # the bucket of distance 0 ahead, which is never used
    there, here = (one.encodings.layer(0).table[reached] for one in (earlier, model))
    torch.testing.assert_close(here, there, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", [LearnedAlibi, KerpleLog, KerplePower])
def test_models_whose_positions_are_of_a_family_give_its_parameters(kind):
    earlier, model = (borrow(tiny("llama", torch.float32), kind) for _ in "ab")
    randomised(earlier.encodings.layer(0))
    Fitted().apply(model, earlier, readings(60))
    for name, there in earlier.encodings.layer(0).learned().items():
        torch.testing.assert_close(model.encodings.layer(0).learned()[name], there, rtol=1e-3, atol=1e-4)


def targets(causal: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Distances, logits of 4 heads that fall and swing, and weights."""
    distance = torch.arange(0 if causal else -39, 40)
    heads = torch.arange(1, 5)[:, None]
    logits = -0.1 * heads * distance.abs() + torch.cos(0.3 * heads * distance)
    return distance, logits.double(), (40 - distance.abs()).double()


def error(bias: DistanceBias, distance: Tensor, logits: Tensor, weight: Tensor) -> float:
    """The weighted mean square over distances with the best constant, by loops."""
    found = bias.bias_at(distance).detach().double().numpy()
    total = 0.0
    for head in range(4):
        difference = found[head] - logits[head].numpy()
        constant = np.average(difference, weights=weight.numpy())
        total += float(np.average((difference - constant) ** 2, weights=weight.numpy()))
    return total


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("name", FITTED)
def test_a_fit_is_better_than_the_first_values_and_any_near(name, causal):
    torch.manual_seed(0)
    bias = encoding(name, causal)
    before = error(bias, *targets(causal))
    bias.fit(*targets(causal))
    fitted = error(bias, *targets(causal))
    assert fitted < 0.9 * before
    best = [parameter.detach().clone() for parameter in bias.parameters()]
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        for parameter, value in zip(bias.parameters(), best, strict=True):
            parameter.data = value + 0.05 * torch.randn(value.shape, generator=generator)
        assert error(bias, *targets(causal)) > 0.99 * fitted
    assert all(parameter.grad is None for parameter in bias.parameters())


@pytest.mark.parametrize("name", FITTED)
def test_a_fit_is_explained_by_its_error(name):
    bias, known = encoding(name), targets(causal=True)
    bias.fit(*known)
    weights = known[2].numpy()
    total = sum(np.average((y - np.average(y, weights=weights)) ** 2, weights=weights) for y in known[1].numpy())
    assert explained(bias, *known) == pytest.approx(1 - error(bias, *known) / total, abs=1e-6)


def test_slopes_stay_positive_where_logits_rise():
    bias = encoding("alibi_learned")
    distance, logits, weight = targets(causal=True)
    bias.fit(distance, -logits, weight)
    assert bias.slopes(torch.device("cpu")).tolist() == pytest.approx([2.0**-8] * 4)


def test_rates_end_where_they_can_learn_on():
    distance, logits, weight = targets(causal=True)
    for name in ("kerple_log", "kerple_power"):
        bias = encoding(name)
        bias.fit(distance, -logits, weight)
        (sum(rate.sum() for rate in bias.learned().values())).backward()
        assert all((parameter.grad.abs() > 5e-4).all() for parameter in bias.parameters())


def test_buckets_beyond_the_texts_take_the_value_of_the_last():
    for causal in (True, False):
        bias = encoding("t5", causal)
        distance, logits, weight = targets(causal)
        near = distance.abs() < 10
        bias.fit(distance[near], logits[:, near], weight[near])
        far = bias.bias_at(torch.tensor([9, 1000, -9, -1000]))
        torch.testing.assert_close(far[:, 1], far[:, 0])
        assert causal or torch.equal(far[:, 3], far[:, 2])


def test_encodings_of_each_layer_are_fitted_to_their_layer():
    earlier, model = borrow(tiny("llama", torch.float32)), borrow(tiny("llama", torch.float32), Tisa)
    lines = Fitted().apply(model, earlier, readings(20))
    assert [line.partition(" explains")[0] for line in lines] == ["Tisa of layer 0", "Tisa of layer 1"]


def test_the_same_texts_give_the_same_values():
    earlier = borrow(tiny("llama", torch.float32))
    tables = []
    for _ in range(2):
        model = borrow(tiny("llama", torch.float32), T5Bias)
        Fitted().apply(model, earlier, readings(20))
        tables.append(model.encodings.layer(0).table)
    assert torch.equal(*tables)


@pytest.mark.parametrize("kind", [Shaw, Alibi, Learned])
def test_encodings_that_cannot_be_fitted_are_refused(kind):
    with pytest.raises(ValueError, match=rf"^start=fitted needs .*, got {kind.__name__}$"):
        Fitted().apply(borrow(tiny("llama"), kind), borrow(tiny("llama")))


def test_models_of_other_sizes_or_stacks_are_refused():
    with pytest.raises(ValueError, match=r"^start=fitted needs a"):
        Fitted().check(small_decoder("t5"), small_decoder("rotary", num_heads=2))
    with pytest.raises(ValueError, match=r"^start=fitted supports models of"):
        Fitted().check(small_model(EncoderDecoder, "t5"), small_model(EncoderDecoder, "rotary"))
