"""A model that copies gives each token what its vocabulary and its pointer give it together."""

import pytest
import torch

from poslab.encodings import Rotary
from poslab.models import PointerGenerator
from tests.encoding_choices import VOCAB_SIZE, some_tokens
from tests.stacked import stacked


@pytest.fixture
def model() -> PointerGenerator:
    torch.manual_seed(0)
    model = stacked(PointerGenerator, VOCAB_SIZE, Rotary, d_model=32, num_layers=2, num_heads=4).eval()
    for choice in (model.copies, model.goes_on, model.repeats, model.is_gone_on_to):
        for parameter in choice.parameters():
            torch.nn.init.normal_(parameter)
    return model


@torch.no_grad()
def test_probabilities_are_those_of_a_loop_over_the_source(model):
    source, target = some_tokens(2, 13), some_tokens(2, 7)
    source[0, 5] = source[0, 2] = target[0, 1]
    source[1, 3:6], target[1, 2:5] = torch.tensor([7, 8, 9]), torch.tensor([7, 8, 7])
    real = torch.arange(13) < torch.tensor([[13], [9]])
    given = model(source, target, real).exp()
    memory = model.read(source, real)
    hidden = model.decoder.hidden_states(target, memory=memory)
    for row, count in enumerate([13, 9]):
        for place in range(7):
            h, states = hidden[row, place].double(), memory.states[row, :count].double()
            copies, goes_on, repeats = (
                choice.weight[0].double() @ h + choice.bias[0].double()
                for choice in (model.copies, model.goes_on, model.repeats)
            )
            scores = states @ (model.pointer.weight.double() @ h) / 32**0.5
            for at in range(count):
                if target[row, place] == (source[row, at - 1] if at else target[row, 0]):
                    scores[at] += goes_on + model.is_gone_on_to.weight[0].double() @ states[at]
                if source[row, at] in target[row, 1 : place + 1]:
                    scores[at] += repeats
            right = (1 - copies.sigmoid()) * (model.output.weight.double() @ h).softmax(0)
            for token, share in zip(source[row, :count], scores.softmax(0), strict=True):
                right[token] += copies.sigmoid() * share
            torch.testing.assert_close(given[row, place].double(), right, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(given.sum(-1), torch.ones(2, 7))


@torch.no_grad()
def test_token_by_token_it_gives_the_same_as_at_once_whichever_rows_go_on(model):
    source, target = some_tokens(3, 13), some_tokens(3, 7)
    source[:, 1:4] = target[:, :3]
    real = torch.arange(13) < torch.tensor([[13], [9], [4]])
    rows = torch.tensor([2, 0, 0])
    writing = model.begin(source, real)
    together = model(source, target, real)
    torch.testing.assert_close(writing.next_logits(target[:, :4]), together[:, 3], rtol=0, atol=1e-5)
    writing.select(rows)
    torch.testing.assert_close(writing.next_logits(target[rows, 4:5]), together[rows, 4], rtol=0, atol=1e-5)


def test_gradients_are_finite_at_padding_and_where_copying_is_all(model):
    source, target = some_tokens(2, 13).clamp_min(1), some_tokens(2, 7)
    source[:, 1:4] = target[:, :3]
    real = torch.arange(13) < torch.tensor([[13], [9]])
    source = source.masked_fill(~real, 0)  # a token that is nowhere else
    for bias in (200.0, 0.0):
        model.zero_grad()
        torch.nn.init.constant_(model.copies.bias, bias)
        model(source, target, real)[..., source[0]].sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_new_model_goes_on_with_the_source_from_its_beginning():
    model = stacked(PointerGenerator, VOCAB_SIZE, Rotary, d_model=32, num_layers=2, num_heads=4).eval()
    source = torch.arange(1, 8)[None]
    with torch.no_grad():
        target = torch.tensor([[0, 1, 2, 3]])
        assert model(source, target).argmax(-1).tolist() == [[1, 2, 3, 4]]
        once_more = model(source, torch.tensor([[0, 1, 2, 1]]))[0, -1]
        assert once_more[2] < once_more[4]  # a token that has been written is unlikely


def test_under_autocast_probabilities_are_float32(model):
    source, target = some_tokens(2, 13), some_tokens(2, 7)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        log_p = model(source, target)
    assert log_p.dtype == torch.float32
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(2, 7))
