"""A model reads patches beside other tokens, whatever else is in their batch, and registers without a position."""

from typing import Any

import numpy as np
import pytest
import torch

from poslab.attention import next_positions
from poslab.data.patched.images import ImageSource
from poslab.encodings import Positions
from poslab.encodings.tokens import PATCH
from poslab.models import Decoder, Encoder, Outputs
from poslab.tasks.patch_classification import ImageClassification, PatchBatch
from tests.encoding_choices import (
    EVERY_ENCODING,
    OF_ENCODERS,
    VOCAB_SIZE,
    described,
    quick_or_slow,
    small_model,
    some_tokens,
)

SIZES = [(3, 4), (2, 5), (1, 1), (4, 3), (5, 2)]
"""Rows and columns of images of several numbers of patches; some have equally many."""

OF_THREE_AXES = ("mrope", "mrope_interleaved")

OF_BOTH = (name for name in EVERY_ENCODING if not described(name).causal_only)
OF_PICTURES = [name for name in (*OF_ENCODERS, *OF_BOTH) if name not in OF_THREE_AXES]


class Source:
    """The part of a source of images that their task reads."""

    patch_sizes, axes = (2, 2), ("height", "width")
    cells_of = ImageSource.cells_of


TASK: Any = ImageClassification(["a", "b", "c"], Source(), [120.0, 100.0, 80.0], [60.0, 50.0, 40.0])  # type: ignore[arg-type]


def batch_of(sizes: list[tuple[int, int]]) -> PatchBatch:
    """Images in colour of these sizes in patches; those of one size are always the same."""
    images = [np.random.default_rng(size).integers(0, 256, (2 * size[0], 2 * size[1], 3)) for size in sizes]
    rows = {"array": [image.astype(np.uint8) for image in images], "label": ["b"] * len(sizes)}
    return TASK.collate(rows, np.full(len(sizes), True))


def model_of(name: str, kind: Any = Encoder, **arguments: Any) -> Any:
    return small_model(kind, name, grid=(3, 4), outputs=Outputs(3, pooled=True), patch_width=12, **arguments)


@pytest.mark.parametrize("name", quick_or_slow(OF_PICTURES))
def test_images_of_several_sizes_in_a_batch_are_each_as_alone(name):
    model = model_of(name)
    with torch.no_grad():
        together = TASK.logits(model, batch_of(SIZES))
        for row, size in enumerate(SIZES):
            alone = TASK.logits(model, batch_of([size]))
            torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=2e-5)


@pytest.mark.parametrize("pooling", ["mean", "first"])
@pytest.mark.parametrize("kind", [Encoder, Decoder])
def test_that_holds_with_registers_too(kind, pooling):
    model = model_of("rotary", kind, registers=2, pooling=pooling)
    with torch.no_grad():
        together = TASK.logits(model, batch_of(SIZES))
        alone = torch.cat([TASK.logits(model, batch_of([size])) for size in SIZES])
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-5)


def test_positions_are_the_places_of_a_double_loop():
    batch = batch_of(SIZES)
    assert (list(batch.grid.values()), tuple(batch.tokens.shape)) == ([5, 5], (5, 12))
    places = batch.positions.places
    assert places is not None and places.largest == (5, 5)
    for row, (high, wide) in enumerate(SIZES):
        expected = [[y, x] for y in range(high) for x in range(wide)]
        assert places.cells[row, : high * wide].tolist() == expected
        assert (batch.tokens[row] == PATCH).tolist() == [n < high * wide for n in range(12)]
    alike = batch_of([(3, 4), (3, 4)])
    assert alike.sizes is None and alike.real is None
    assert alike.positions.places is not None and alike.positions.places.cells.tolist() == places.cells[0].tolist()


def test_sizes_of_equally_many_patches_are_told_apart():
    batch = batch_of([(3, 4), (4, 3)])
    assert batch.real is None and batch.sizes is not None
    assert batch.positions.places is not None
    assert batch.positions.places.cells[:, 4].tolist() == [[1, 0], [1, 1]]


def test_patches_and_words_stand_in_one_sequence():
    """A word has its embedding wherever it is, and a patch its projection."""
    model = small_model(Encoder, "none", patch_width=12)
    tokens = torch.tensor([[3, PATCH, PATCH, 7]])
    patches = torch.randn(1, 4, 12)
    embedded = model.patches(tokens, patches, model.embedding)
    torch.testing.assert_close(embedded[0, [0, 3]], model.embedding.weight[[3, 7]])
    torch.testing.assert_close(embedded[0, 1:3], model.patches.projection(patches[0, 1:3]))
    assert model(tokens, patches=patches).shape == (1, 4, VOCAB_SIZE)


def test_embeddings_of_patches_begin_as_large_as_those_of_words():
    model = small_model(Encoder, "none", patch_width=48, d_model=64)
    projected = model.patches.projection(torch.randn(500, 48))
    assert projected.std().item() == pytest.approx(model.embedding.weight.std().item(), rel=0.2)


def test_a_model_without_patches_or_registers_has_no_weights_for_them():
    plain, registered = (set(small_model(Encoder, "none", registers=n).state_dict()) for n in (0, 1))
    assert not any("patch" in name or "register" in name for name in plain)
    assert registered - plain == {"registers"}


@pytest.mark.parametrize("kind", [Encoder, Decoder])
def test_registers_are_rows_in_front_that_stand_nowhere(kind):
    """As a double of the model without any, which is given embeddings of the registers as tokens of its own."""
    model, tokens = small_model(kind, "rotary", registers=2), some_tokens(2, 9)
    twin = small_model(kind, "rotary")
    state = {name: weight for name, weight in model.state_dict().items() if name != "registers"}
    state["embedding.weight"] = torch.cat([state["embedding.weight"], model.registers])
    twin.embedding = torch.nn.Embedding(VOCAB_SIZE + 2, 32)
    twin.output = torch.nn.Linear(32, VOCAB_SIZE, bias=False)
    twin.load_state_dict(state)
    longer = torch.cat([torch.tensor([[VOCAB_SIZE, VOCAB_SIZE + 1]] * 2), tokens], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), twin.eval()(longer)[:, 2:], rtol=0, atol=1e-6)
    assert model.hidden_states(tokens, with_registers=True).shape == (2, 11, 32) and model.hidden_states(
        tokens
    ).shape == (2, 9, 32)


def test_registers_have_no_place_on_a_grid(monkeypatch):
    model = model_of("rotary", registers=2)
    seen: list[Positions] = []
    prepare = type(model.encodings).prepare
    monkeypatch.setattr(type(model.encodings), "prepare", lambda self, q, *k: (seen.append(q), prepare(self, q, *k))[1])
    TASK.logits(model, batch_of([(2, 3)]))
    assert seen[0].length == 8 and seen[0].places is not None and seen[0].places.without_position is not None
    assert seen[0].places.without_position.tolist() == [True] * 2 + [False] * 6


def test_a_class_token_is_the_first_register_and_a_mean_skips_it():
    for pooling in ("first", "mean"):
        model, batch = model_of("none", registers=1, pooling=pooling), batch_of([(2, 3)])
        states = model.hidden_states(batch.tokens, batch.positions, patches=batch.patches, with_registers=True)
        expected = states[:, 0] if pooling == "first" else states[:, 1:].mean(1)
        torch.testing.assert_close(TASK.logits(model, batch), model.output(expected))


def test_a_decoder_with_registers_reads_piece_by_piece():
    model, tokens = small_model(Decoder, "rotary", registers=2), some_tokens(2, 9)
    cache = model.new_cache()
    with torch.no_grad():
        pieces = [model(tokens[:, a:b], cache=cache) for a, b in ((0, 4), (4, 5), (5, 9))]
        torch.testing.assert_close(torch.cat(pieces, dim=1), model(tokens), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["rotary", "learned", "t5"])
@pytest.mark.parametrize("padding", [0, 3])
def test_positions_that_are_given_with_each_piece_stand_behind_the_registers_too(name, padding):
    model, tokens = small_model(Decoder, name, registers=2), some_tokens(2, 9)
    real = torch.arange(9) >= torch.tensor([[padding], [0]])
    ids = torch.tensor([[0, 1, 2, 7, 8, 9, 20, 21, 22]]) + torch.tensor([[0], [5]])
    cache = model.new_cache()
    with torch.no_grad():
        pieces = [
            model(tokens[:, a:b], Positions(ids[:, a:b], int(ids[:, :b].max()) + 1), real[:, a:b], cache)
            for a, b in ((0, 4), (4, 5), (5, 9))
        ]
        whole = model(tokens, Positions(ids, 28), real)
        torch.testing.assert_close(torch.cat(pieces, dim=1)[real], whole[real], rtol=0, atol=1e-5)
        following = next_positions(tokens[:, :2], cache)
        assert following.ids.tolist() == [[23, 24], [28, 29]] and following.stop == 30
        ours = model(tokens[:, :2], following, cache=cache)
        longer = [
            torch.cat(pair, dim=1) for pair in ((tokens, tokens[:, :2]), (ids, following.ids), (real, real[:, -2:]))
        ]
        whole = model(longer[0], Positions(longer[1], 30), longer[2])
        torch.testing.assert_close(ours, whole[:, -2:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["rotary", "t5", "transformer_xl", "shaw"])
def test_a_range_that_begins_far_from_the_registers_reads_piece_by_piece(name):
    model, tokens = small_model(Decoder, name, registers=3), some_tokens(2, 9)
    cache = model.new_cache()
    with torch.no_grad():
        ends = ((0, 4), (4, 5), (5, 9))
        pieces = [model(tokens[:, a:b], Positions.range(b - a, 14 + a), cache=cache) for a, b in ends]
        whole = model(tokens, Positions.range(9, 14))
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=0, atol=1e-5)


def test_registers_take_positions_of_an_encoding_that_ends():
    assert small_model(Encoder, "learned", registers=3).max_length == 512 - 3


def test_the_gradient_of_a_batch_reaches_every_weight():
    """So that no process of several waits for the gradient of one; words have an embedding without a use."""
    model = model_of("learned", registers=1)
    TASK.loss(model, batch_of(SIZES)).loss.backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


@pytest.mark.slow
def test_a_compiled_model_reads_patches():
    torch._dynamo.reset()
    model, batch = model_of("rotary", registers=1), batch_of(SIZES)
    expected = TASK.logits(model, batch)
    model.compile(backend="eager", fullgraph=True)
    torch.testing.assert_close(TASK.logits(model, batch), expected, rtol=0, atol=1e-6)
