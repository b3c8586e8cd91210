from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional

from poslab.encodings import Abacus, Positions, StackEncodings, StackShape, Tokens
from poslab.encodings.tokens import PADDING
from poslab.generation.decoding import Continuation, beam_search
from poslab.models import Decoder, EncoderDecoder
from tests.stacked import stacked

DIGITS = (0, 1, 2, 5, 7)
OTHER = 3
VOCAB_SIZE, END = 10, 9


def places_in_numbers(row: list[int], documents: list[int]) -> Iterator[int]:
    """Of each token, from the definition: how many digits end with it, 0 for what is no digit."""
    for place in range(len(row)):
        count = 0
        while place - count >= 0 and row[place - count] in DIGITS and documents[place - count] == documents[place]:
            count += 1
        yield count


def some_texts(rows: int = 30, length: int = 40) -> tuple[Tensor, Tensor]:
    """Token ids, some of which are padding, and documents of one token and of many."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(VOCAB_SIZE, (rows, length), generator=generator)
    ids = ids.masked_fill(torch.rand(rows, length, generator=generator) < 0.1, PADDING)
    documents = (torch.rand(rows, length, generator=generator) < 0.2).cumsum(dim=1)
    return ids, documents


def added(abacus: Abacus, ids: Tensor, segments: Tensor | None = None) -> Tensor:
    """The vectors that are added to embeddings of zero."""
    x = torch.zeros(*ids.shape, abacus.table.embedding_dim)
    return abacus.embed(x, Positions.range(ids.shape[1]), Tokens(ids, segments))


@pytest.mark.parametrize("packed", [False, True])
def test_each_digit_has_the_row_of_its_place_in_its_number_and_all_else_row_0(packed):
    abacus = Abacus(8, DIGITS, num_embeddings=64, max_k=3).eval()
    ids, documents = some_texts()
    ours = added(abacus, ids, documents if packed else None)
    longest = 0
    for row, (tokens, own) in enumerate(zip(ids.tolist(), documents.tolist(), strict=True)):
        for place, index in enumerate(places_in_numbers(tokens, own if packed else [0] * len(tokens))):
            assert torch.equal(ours[row, place], abacus.table.weight[index])
            longest = max(longest, index)
    assert longest >= 5


def test_the_example_of_the_docstring():
    ids = torch.tensor([[1, 2, OTHER, 5, 7, 1]])
    abacus = Abacus(4, DIGITS).eval()
    assert torch.equal(added(abacus, ids)[0], abacus.table.weight[[1, 2, 0, 1, 2, 3]])


def test_in_training_all_digits_of_a_batch_are_moved_by_one_offset_from_0_to_max_k():
    abacus, (ids, documents) = Abacus(1, DIGITS, num_embeddings=64, max_k=3), some_texts()
    with torch.no_grad():
        abacus.table.weight.copy_(torch.arange(64.0)[:, None])
    still = added(abacus.eval(), ids, documents)
    abacus.train()
    torch.manual_seed(0)
    offsets = []
    for _ in range(400):
        moved = added(abacus, ids, documents) - still
        (offset,) = moved[still > 0].unique().tolist()
        assert (moved[still == 0] == 0).all()
        offsets.append(offset)
    counts = [offsets.count(offset) for offset in range(4)]
    assert sum(counts) == 400 and all(70 < count < 130 for count in counts)


def test_equal_seeds_draw_equal_offsets_and_evaluation_draws_nothing():
    abacus, (ids, _) = Abacus(8, DIGITS), some_texts()
    draws = []
    for _ in range(2):
        torch.manual_seed(5)
        draws.append(torch.stack([added(abacus, ids) for _ in range(4)]))
    assert torch.equal(*draws) and not torch.equal(draws[0][0], draws[0][1])
    abacus.eval()
    before = torch.get_rng_state()
    assert torch.equal(added(abacus, ids), added(abacus, ids))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_number_that_may_pass_the_table_is_refused_whatever_the_offset():
    abacus = Abacus(8, DIGITS, num_embeddings=8, max_k=3)
    number = torch.tensor([[OTHER, *[1] * 7]])
    added(abacus.eval(), number)  # row 7 is the last
    longer = torch.tensor([[OTHER, *[1] * 8, OTHER]])
    with pytest.raises(ValueError, match=r"^num_embeddings=8.*offsets up to 0;"):
        added(abacus, longer)
    abacus.train()
    added(abacus, number[:, :5])
    for seed in range(8):  # under some of which it would fit
        torch.manual_seed(seed)
        with pytest.raises(ValueError, match=r"^num_embeddings=8.*5 digits .* up to 3; [^\n]+$"):
            added(abacus, number[:, :6])


def test_a_text_may_be_longer_than_the_table():
    abacus = Abacus(8, DIGITS, num_embeddings=8, max_k=3)
    added(abacus, torch.tensor([[1, 2, 5, 0, OTHER] * 20]))
    assert abacus.max_length is None


class Uncached:
    """A decoder that reads the whole text again for every token."""

    def __init__(self, model: Decoder, real: Tensor) -> None:
        self.model, self.real = model, real
        self.text = torch.empty(len(real), 0, dtype=torch.int64)

    def next_logits(self, tokens: Tensor) -> Tensor:
        self.text = torch.cat([self.text, tokens], dim=1)
        written = self.text.shape[1] - self.real.shape[1]
        real = torch.cat([self.real, torch.ones(len(self.text), written, dtype=torch.bool)], dim=1)
        return self.model(self.text, Positions.padded(real), real)[:, -1]

    def select(self, rows: Tensor) -> None:
        self.text, self.real = self.text[rows], self.real[rows]


@pytest.mark.parametrize("seed", [0, 2, 3, 4])
@pytest.mark.parametrize("beams", [1, 4])
def test_beams_on_left_padded_prompts_are_the_same_without_a_cache(beams, seed):
    torch.manual_seed(seed)
    model = stacked(Decoder, VOCAB_SIZE, partial(Abacus, digits=DIGITS), 16, 2, 2, tie_embeddings=False).eval()
    model.output.weight.data.mul_(3)
    model.encodings.layer(0).table.weight.data.mul_(50)  # the place in the number is what decides
    # What stands in the padding is a digit: read as one, it would move the first number of its row.
    prompts = torch.tensor([[0, 0, 0, 1, 2], [1, OTHER, 1, 2, 5], [0, 4, 2, 2, OTHER]])
    real = torch.tensor([[False] * 3 + [True] * 2, [True] * 5, [False] + [True] * 4])
    arguments = {"max_new_tokens": 12, "end_id": END, "beams": beams}
    with torch.no_grad():
        cached = beam_search(Continuation(model, real), prompts, **arguments)
        plain = beam_search(Uncached(model, real), prompts, **arguments)
        alone = [
            beam_search(Continuation(model), row[own][None], **arguments)[0]
            for row, own in zip(prompts, real, strict=True)
        ]
    assert [t.tolist() for t in cached] == [t.tolist() for t in plain] == [t.tolist() for t in alone]
    assert any(sum(token in DIGITS for token in t.tolist()) > 1 for t in cached)


def test_decoding_continues_in_the_last_of_packed_documents():
    model = stacked(Decoder, VOCAB_SIZE, Abacus, 16, 2, 2, digits=DIGITS).eval()
    model.encodings.layer(0).table.weight.data.mul_(50)
    tokens = torch.tensor([[1, 2, 5, 0, 1, 1, 2, 2], [1, OTHER, 5, 0, 1, 1, OTHER, 2]])
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1], [4, 4, 4, 4, 4, 7, 7, 7]])
    with torch.no_grad():
        whole = model(tokens, Positions.packed(documents))
        cache = model.new_cache()
        parts = [model(tokens[:, :6], Positions.packed(documents[:, :6]), cache=cache)]
        parts += [model(tokens[:, place : place + 1], cache=cache) for place in (6, 7)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-5)


def test_a_target_is_counted_from_its_own_beginning_token_by_token():
    model = stacked(EncoderDecoder, VOCAB_SIZE, Abacus, 16, 2, 2, digits=DIGITS).eval()
    for stack in (model.encoder, model.decoder):
        stack.encodings.layer(0).table.weight.data.mul_(50)
    source, target = (
        torch.tensor([[1, 1, 2, OTHER, 5], [2, 7, 0, 0, 0]]),
        torch.tensor([[END, 1, 2, 0], [1, OTHER, 2, 2]]),
    )
    real = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    with torch.no_grad():
        whole = model(source, target, real)
        writing = model.begin(source, real)
        for place in range(4):
            if place == 2:
                writing.select(torch.tensor([1, 0]))
            rows = [1, 0] if place >= 2 else [0, 1]
            step = writing.next_logits(target[rows, place : place + 1])
            torch.testing.assert_close(step, whole[rows, place], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_compiled_step_is_compiled_once_for_all_offsets():
    model = stacked(Decoder, VOCAB_SIZE, Abacus, 16, 2, 2, digits=DIGITS).train()
    tokens = torch.randint(VOCAB_SIZE, (4, 33))
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    table = model.encodings.layer(0).table.weight
    different = set()
    for seed in range(6):
        results = []
        for step in (model, compiled):
            torch.manual_seed(seed)
            loss = functional.cross_entropy(step(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
            (gradient,) = torch.autograd.grad(loss, [table])
            results.append((loss, gradient))
        torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)
        different.add(results[0][0].item())
    assert counter.frame_count == 1
    assert len(different) > 3


def test_without_tokens_there_is_nothing_to_count():
    with pytest.raises(ValueError, match=r"^tokens must.*got only positions$"):
        Abacus(8, DIGITS).embed(torch.zeros(1, 2, 8), Positions.range(2))


def test_the_digits_of_the_model_are_those_of_its_encoding_unless_it_has_its_own():
    shape = StackShape(32, 2, 4, 4, 8, digits=(4, 5))
    assert StackEncodings(Abacus, shape).layer(0).digits == (4, 5)
    assert StackEncodings(partial(Abacus, digits=[6]), shape).layer(0).digits == (6,)
