"""BiPE against a loop over its definition, in texts that are padded, packed and decoded token by token."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from poslab.encodings import Alibi, Bilevel, LayerPattern, LayerSpec, Positions, Rotary, Tokens, bipe
from poslab.encodings.tokens import PADDING
from poslab.models import Decoder
from tests.stacked import stacked

ENDS = (3, 7)
VOCAB_SIZE = 10


def by_definition(row: list[int], documents: list[int]) -> list[tuple[int, int]]:
    """The segment of each token, and its place in it, read from left to right."""
    read, segment, place, before = [], 0, 0, PADDING
    for i, (token, document) in enumerate(zip(row, documents, strict=True)):
        if i == 0 or document != documents[i - 1]:
            segment, place = 0, 0
        elif before in ENDS:
            segment, place = segment + 1, 0
        else:
            place = 0 if before == PADDING else place + 1
        read.append((segment, place))
        before = token
    return read


def some_texts() -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, the first of which are padding, documents, and True where a token is real."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(VOCAB_SIZE, (20, 40), generator=generator)
    real = torch.arange(40) >= torch.randint(8, (20, 1), generator=generator)
    documents = (torch.rand(20, 40, generator=generator) < 0.1).cumsum(dim=1)
    return ids.masked_fill(~real, PADDING), documents, real


@pytest.mark.parametrize("packed", [False, True])
def test_segments_and_places_are_those_of_the_definition(packed):
    bilevel, (ids, documents, real) = Bilevel(4, ENDS, num_embeddings=6), some_texts()
    tokens = Tokens(ids, documents if packed else None)
    last = Positions.range(15)
    segments, rows = (
        bilevel.remap_positions(last, tokens),
        bilevel.embed(torch.zeros(20, 40, 4), Positions.range(40), tokens),
    )
    assert not segments.contiguous
    for row, own, seen, moved, added in zip(ids, documents, real, segments.ids, rows, strict=True):
        expected = by_definition(row.tolist(), (own if packed else own * 0).tolist())
        assert moved.tolist() == [segment for segment, _ in expected[-15:]]
        for place in seen.nonzero()[:, 0].tolist():
            assert torch.equal(added[place], bilevel.table.weight[min(expected[place][1], 5)])


@pytest.mark.parametrize("over", [Rotary, Alibi])
def test_attention_reads_the_number_of_the_segment_in_place_of_the_position(over):
    model, plain = (stacked(Decoder, VOCAB_SIZE, x, 16, 2, 2).eval() for x in (bipe(ENDS, over), over))
    plain.load_state_dict(model.state_dict(), strict=False)
    (bilevel,) = (encoding for encoding in model.encodings if isinstance(encoding, Bilevel))
    bilevel.table.weight.data.zero_()
    tokens = torch.randint(VOCAB_SIZE, (3, 30), generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([[segment for segment, _ in by_definition(row, [0] * 30)] for row in tokens.tolist()])
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), plain(tokens, Positions(ids, 30)), rtol=0, atol=1e-5)


def sensitive(window: int | None = None) -> Decoder:
    """A model whose output depends on segments and places."""
    pattern = LayerPattern([LayerSpec(partial(Rotary, base=20.0), window)], embedding=partial(Bilevel, ends=ENDS))
    torch.manual_seed(0)
    model = stacked(Decoder, VOCAB_SIZE, pattern, 16, 2, 2).eval()
    for encoding in model.encodings:
        if isinstance(encoding, Bilevel):
            encoding.table.weight.data.mul_(50)
    return model


@pytest.mark.parametrize("window", [None, 4])
@torch.no_grad()
def test_left_padded_texts_read_from_a_cache_are_those_read_alone(window):
    model = sensitive(window)
    tokens = torch.tensor([[3, 3, 1, 2, 3, 4, 7, 7, 5], [1, 3, 2, 2, 7, 1, 0, 3, 5]])
    real = torch.tensor([[False] * 2 + [True] * 7, [True] * 9])
    cache = model.new_cache()
    parts = [model(tokens[:, :5], Positions.padded(real[:, :5]), real[:, :5], cache)]
    parts += [model(tokens[:, place : place + 1], cache=cache) for place in range(5, 9)]
    for row, own, logits in zip(tokens, real, torch.cat(parts, dim=1), strict=True):
        torch.testing.assert_close(logits[own], model(row[own][None])[0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_decoding_continues_in_the_last_of_packed_documents():
    model, tokens = sensitive(), torch.tensor([[1, 3, 5, 0, 7, 1, 3, 2], [3, 2, 5, 3, 1, 1, 7, 2]])
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1], [4, 4, 4, 4, 4, 7, 7, 7]])
    cache = model.new_cache()
    parts = [model(tokens[:, :6], Positions.packed(documents[:, :6]), cache=cache)]
    parts += [model(tokens[:, place : place + 1], cache=cache) for place in (6, 7)]
    whole = model(tokens, Positions.packed(documents))
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-5)
    torch.testing.assert_close(whole[0, 3:], model(tokens[:1, 3:])[0], rtol=0, atol=1e-5)


def test_what_it_cannot_read_is_refused():
    with pytest.raises(ValueError, match=r"^ends must.*a segment, got none$"):
        Bilevel(8, [])
    prepare = partial(sensitive().encodings.prepare, Positions.range(2))
    for read in (Bilevel(8, ENDS).remap_positions, partial(Bilevel(8, ENDS).embed, torch.zeros(1, 2, 8)), prepare):
        with pytest.raises(ValueError, match=r"^tokens must.*got only positions$"):
            read(Positions.range(2))
