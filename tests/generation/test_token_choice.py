import math

import pytest
import torch

from poslab.generation.token_choice import Sampling

PROBABILITIES = {7: 0.5, 2: 0.25, 4: 0.15, 0: 0.1}


def logits(probabilities=PROBABILITIES, vocab_size=8):
    """One row of logits that give these tokens these probabilities, and the others none."""
    row = torch.full((1, vocab_size), -torch.inf)
    for token, probability in probabilities.items():
        row[0, token] = math.log(probability) + 3.0  # logits need not be normalised
    return row


def kept(sampling, probabilities=PROBABILITIES):
    """The tokens that a sampling draws from, each with its probability."""
    row, tokens = sampling.candidates(logits(probabilities))
    return {int(token): float(p) for token, p in zip(tokens[0], row[0], strict=True) if p > 0}


def drawn(sampling):
    return sampling.next_token(logits().expand(20_000, -1), torch.Generator().manual_seed(0))


def test_all_tokens_are_kept_with_their_own_probabilities_by_default():
    assert kept(Sampling()) == pytest.approx(PROBABILITIES)


def test_temperature_divides_the_logits():
    # p ** (1 / temperature), normalised: squares at 0.5, square roots at 2.
    squares = {7: 0.25, 2: 0.0625, 4: 0.0225, 0: 0.01}
    assert kept(Sampling(temperature=0.5)) == pytest.approx({t: p / 0.345 for t, p in squares.items()})
    roots = {token: math.sqrt(p) for token, p in PROBABILITIES.items()}
    assert kept(Sampling(temperature=2.0)) == pytest.approx({t: p / sum(roots.values()) for t, p in roots.items()})


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (0.3, {7: 1.0}),
        (0.7, {7: 0.5 / 0.75, 2: 0.25 / 0.75}),
        (0.8, {7: 0.5 / 0.9, 2: 0.25 / 0.9, 4: 0.15 / 0.9}),
        (0.95, PROBABILITIES),
        (1e-9, {7: 1.0}),
    ],
)
def test_top_p_keeps_the_smallest_set_whose_mass_reaches_p(top_p, expected):
    assert kept(Sampling(top_p=top_p)) == pytest.approx(expected)


def test_top_p_stops_at_the_token_whose_mass_reaches_p_exactly():
    exact = {1: 0.5, 3: 0.25, 5: 0.125, 6: 0.125}  # sums of powers of two are exact
    assert kept(Sampling(top_p=0.5), exact) == {1: 1.0}
    assert kept(Sampling(top_p=0.75), exact) == pytest.approx({1: 2 / 3, 3: 1 / 3})


def test_top_p_of_1_keeps_even_what_rounding_would_lose():
    tail = {0: 1.0} | dict.fromkeys(range(1, 8), 1e-09)
    assert len(kept(Sampling(top_p=1.0), tail)) == 8


@pytest.mark.parametrize(("top_k", "tokens"), [(1, {7}), (2, {7, 2}), (4, {7, 2, 4, 0}), (100, {7, 2, 4, 0})])
def test_top_k_keeps_the_k_most_probable(top_k, tokens):
    mass = sum(PROBABILITIES[token] for token in tokens)
    assert kept(Sampling(top_k=top_k)) == pytest.approx({token: PROBABILITIES[token] / mass for token in tokens})


def test_the_mass_of_top_p_is_that_of_what_top_k_left():
    # Of the two that are left the first has 2/3: alone it reaches 0.6, which it does not among all.
    assert kept(Sampling(top_k=2, top_p=0.6)) == pytest.approx({7: 1.0})
    assert kept(Sampling(top_p=0.6)).keys() == {7, 2}


def test_what_is_cut_off_is_never_drawn():
    assert set(drawn(Sampling(top_k=2)).tolist()) == {7, 2}
    assert set(drawn(Sampling(top_p=0.8)).tolist()) == {7, 2, 4}


@pytest.mark.parametrize("sampling", [Sampling(temperature=0), Sampling(top_k=1), Sampling(top_p=1e-6)])
def test_greedy_choices_take_the_most_probable_token(sampling):
    rows = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    expected = [max(range(8), key=lambda token, row=row: row[token]) for row in rows.tolist()]
    assert sampling.next_token(rows).tolist() == expected


@pytest.mark.parametrize("sampling", [Sampling(temperature=0), Sampling(top_k=1), Sampling(top_p=0.1)])
def test_of_equal_tokens_the_lowest_id_comes_first(sampling):
    rows = torch.tensor([[0.0, 2.0, 1.0, 2.0, 2.0]]).repeat(50, 1)
    assert sampling.next_token(rows).tolist() == [1] * 50


def test_bfloat16_logits_are_summed_in_float32():
    # 255 equal tokens and one that is a little likelier: in bfloat16 the mass would stop growing far from 1.
    rows = torch.zeros(1, 256, dtype=torch.bfloat16)
    probabilities, _ = Sampling(top_p=0.99).candidates(rows)
    assert probabilities.dtype == torch.float32
    assert int((probabilities > 0).sum()) == 254  # the first n with n / 256 >= 0.99


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"temperature": -0.1}, "temperature must be .*got -0.1"),
        ({"temperature": math.inf}, "temperature must be .*got inf"),
        ({"temperature": math.nan}, "temperature must be .*got nan"),
        ({"temperature": "hot"}, "temperature must be .*got 'hot'"),
        ({"temperature": None}, "temperature must be .*got null"),
        ({"top_k": 0}, "top_k must be .*got 0"),
        ({"top_k": 2.5}, "top_k must be .*got 2.5"),
        ({"top_k": True}, "top_k must be .*got true"),
        ({"top_p": 0}, "top_p must be .*got 0"),
        ({"top_p": 1.1}, "top_p must be .*got 1.1"),
        ({"top_p": "most"}, "top_p must be .*got 'most'"),
    ],
)
def test_a_mistake_is_one_sentence_that_begins_with_the_argument(arguments, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        Sampling(**arguments)
