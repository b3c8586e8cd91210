"""A model that keeps its own positions computes what it does without Poslab."""

from __future__ import annotations

import pytest
import torch

from poslab.encodings import Alibi, Positions, PretrainedPositions, Rotary
from poslab.models.model import Outputs
from poslab.pretrained.borrow import borrow, exchange
from poslab.pretrained.families import FAMILIES
from tests.pretrained.hosted import CLOSE, greedy
from tests.pretrained.tiny import CAUSAL, ROWS, left_padded, some_tokens, tiny


def counted(real: torch.Tensor) -> torch.Tensor:
    """Position ids that count the real tokens of each row from 0."""
    return (real.cumsum(1) - 1).clamp_min(0)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_the_untouched_model(name):
    model, ids = tiny(name), some_tokens(length=ROWS)
    expected = model(ids).logits
    with torch.no_grad():
        torch.testing.assert_close(borrow(model)(ids), expected, **CLOSE)


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_padded_on_the_left_are_those_of_the_untouched_model_at_real_tokens(name):
    model = tiny(name, torch.float32)  # in float64, a query of padding makes NaN of its row in transformers
    ids, real = left_padded(some_tokens())
    first = FAMILIES[name].first_id(model.config)
    expected = model(ids, attention_mask=real, position_ids=counted(real) + first).logits
    hosted = borrow(model)
    logits = hosted(ids, Positions.padded(real.bool()), real.bool())
    torch.testing.assert_close(logits[real.bool()], expected[real.bool()], **CLOSE)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_is_itself_again_after_an_exchange_is_undone(name):
    model, ids = tiny(name), some_tokens()
    expected, names = model(ids).logits, list(model.state_dict())
    exchange(model, PretrainedPositions)
    torch.testing.assert_close(model(ids).logits, expected, **CLOSE)
    exchange(model, "pretrained")
    assert torch.equal(model(ids).logits, expected)
    assert list(model.state_dict()) == names
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("bert", "sliding_window", 3),
        ("llama", "sliding_window", 3),
        ("mistral", "layer_types", ["full_attention", "sliding_attention"]),
        ("gpt2", "num_key_value_heads", 2),
        ("gpt_neox", "num_key_value_heads", 2),
        ("olmo", "word_embed_proj_dim", 8),
    ],
)
def test_a_key_that_a_class_does_not_read_changes_nothing(name, key, value):
    model, ids = tiny(name, **{key: value}), some_tokens()
    expected = model(ids).logits
    with torch.no_grad():
        torch.testing.assert_close(borrow(model)(ids), expected, **CLOSE)
        assert borrow(model, Alibi, outputs=Outputs(3, pooled=False)).double()(ids).shape == (*ids.shape, 3)


def test_a_stray_width_of_heads_changes_nothing_in_bert():
    assert borrow(tiny("bert", head_dim=4), Rotary)(some_tokens()).isfinite().all()


def test_a_model_that_returns_tuples_is_hosted():
    model, ids = tiny("llama"), some_tokens()
    expected = model(ids).logits
    model.config.return_dict = False
    with torch.no_grad():
        torch.testing.assert_close(borrow(model)(ids), expected, **CLOSE)


@pytest.mark.parametrize("name", CAUSAL)
def test_generation_is_that_of_the_untouched_model(name):
    model, options = tiny(name, torch.float32), greedy()
    expected = model.generate(**options)
    exchange(model, PretrainedPositions)
    assert torch.equal(model.generate(**options), expected)


@pytest.mark.parametrize("name", CAUSAL)
def test_a_text_in_pieces_is_the_whole_text(name):
    model, ids = borrow(tiny(name)), some_tokens()
    cache = model.new_cache()
    with torch.no_grad():
        pieces = [model(ids[:, piece], cache=cache) for piece in (slice(0, 7), slice(7, 8), slice(8, 11))]
        torch.testing.assert_close(torch.cat(pieces, dim=1), model(ids), **CLOSE)


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_a_beam_search_is_that_of_the_untouched_model(name):
    model, options = tiny(name, torch.float32), greedy(num_beams=3)
    expected = model.generate(**options)
    exchange(model, PretrainedPositions)
    assert torch.equal(model.generate(**options), expected)
