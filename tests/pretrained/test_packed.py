"""Documents that are packed into a row, with position ids that start again, as padding-free collators make them."""

from __future__ import annotations

import pytest
import torch

from poslab.encodings import CoPE, Forgetting, Learned, PretrainedPositions, Shaw, T5Bias
from poslab.pretrained.borrow import exchange
from poslab.pretrained.families import FAMILIES
from tests.pretrained.hosted import CLOSE
from tests.pretrained.tiny import ROWS, some_tokens, tiny

PACKING = [name for name, family in FAMILIES.items() if family.packs]


def packed(model, *documents):
    """Logits of documents in one row, which is longer than the learned rows of a model."""
    ids = torch.cat(documents, dim=1)
    positions = torch.cat([torch.arange(x.shape[1]) for x in documents]).expand_as(ids)
    return model(input_ids=ids, position_ids=positions, use_cache=False).logits


def documents():
    return [some_tokens(length=ROWS), some_tokens(length=ROWS)[:, 2:], some_tokens(length=3)]


@pytest.mark.parametrize("name", PACKING)
def test_documents_under_their_own_positions_are_those_of_the_untouched_model(name):
    model = tiny(name)
    with torch.no_grad():
        expected = packed(model, *documents())
        exchange(model, PretrainedPositions)
        torch.testing.assert_close(packed(model, *documents()), expected, **CLOSE)


@pytest.mark.parametrize("encoding", [T5Bias, Shaw, Learned, Forgetting, CoPE])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_each_document_is_read_by_itself_under_another_encoding(name, encoding):
    model = tiny(name)
    exchange(model, encoding)
    with torch.no_grad():
        expected = torch.cat([model(input_ids=x).logits for x in documents()], dim=1)
        torch.testing.assert_close(packed(model, *documents()), expected, **CLOSE)


def test_ids_that_do_not_start_at_0_again_are_refused():
    model, ids = tiny("llama"), some_tokens(length=8)
    exchange(model, PretrainedPositions)
    with pytest.raises(ValueError, match="position_ids must count the real tokens"):
        model(input_ids=ids, position_ids=torch.tensor([[0, 1, 2, 3, 1, 2, 3, 4]]))


def test_a_class_that_lets_packed_documents_see_each_other_refuses_them():
    model = tiny("opt")
    exchange(model, PretrainedPositions)
    with pytest.raises(ValueError, match="position_ids must count the real tokens"):
        packed(model, some_tokens(length=8), some_tokens(length=3))
