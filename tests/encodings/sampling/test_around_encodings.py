"""Every choice of conf/positions around encodings of every kind, in training, evaluation and generation."""

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from poslab.encodings import Positions, PositionSampler
from poslab.generation.decoding import generate
from poslab.generation.token_choice import Sampling
from poslab.models import Decoder
from poslab.training.checking import check
from tests.encoding_choices import CONF, VOCAB_SIZE, choice, composed, small_decoder, some_tokens
from tests.stacked import stacked
from tests.training.runs import composed as composed_run

OF_PICTURES = ("centred", "interpolated")
"""Samplers that refuse a text; what they do to pictures is in test_on_axes.py."""
SAMPLERS = sorted(path.stem for path in (CONF / "positions").glob("*.yaml") if path.stem not in OF_PICTURES)
LENGTH = 16
SEGMENTS = torch.tensor([[0] * 7 + [1] * 9, [0] * 3 + [1] * 1 + [2] * 12])

each_sampler = pytest.mark.parametrize("sampler", SAMPLERS)
each_encoding = pytest.mark.parametrize("encoding", ["rotary", "t5", "alibi", "sinusoidal"])


def sampler_of(name: str) -> PositionSampler:
    made: PositionSampler = instantiate(choice("positions", name))
    return made


def decoder_of(encoding: str, sampler: str, **arguments) -> Decoder:
    return small_decoder(encoding, positions=sampler_of(sampler), **arguments)


@each_sampler
@each_encoding
def test_a_training_step_reaches_all_that_is_learned(encoding, sampler):
    decoder, tokens = decoder_of(encoding, sampler).train(), some_tokens(2, LENGTH)
    logits = decoder(tokens[:, :-1]).flatten(0, 1)
    nn.functional.cross_entropy(logits, tokens[:, 1:].flatten()).backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name


@each_sampler
@each_encoding
@pytest.mark.parametrize("segments", [None, SEGMENTS])
def test_training_is_that_of_a_model_which_is_given_the_drawn_positions(encoding, sampler, segments):
    tokens = some_tokens(2, LENGTH)
    positions = Positions.range(LENGTH) if segments is None else Positions.packed(segments)
    torch.manual_seed(7)
    drawn = sampler_of(sampler)(positions, 2)
    told, decoder = small_decoder(encoding, attention="dense").train(), decoder_of(encoding, sampler).train()
    torch.manual_seed(7)
    ours = decoder(tokens, positions)
    by_row = Positions(drawn.ids.expand(2, -1), drawn.stop, segments=drawn.segments)  # not contiguous: not by distance
    torch.testing.assert_close(ours, told(tokens, by_row), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["shifted", "cape", "randomized", "pose"])
def test_a_draw_is_felt_where_the_encoding_can_feel_it(sampler):
    for encoding in ("rotary", "t5", "alibi", "sinusoidal"):
        tokens = some_tokens(2, LENGTH)
        change = decoder_of(encoding, sampler).train()(tokens) - small_decoder(encoding)(tokens)
        felt = sampler != "shifted" or encoding == "sinusoidal"
        # A shift by up to 500 is felt as the rounding of an angle there, 3e-5.
        assert change.abs().max() > 1e-3 if felt else change.abs().max() < 1e-4, encoding


@each_sampler
@each_encoding
def test_evaluation_has_no_chance_in_it(encoding, sampler):
    decoder, tokens = decoder_of(encoding, sampler), some_tokens(3, LENGTH)
    with torch.no_grad():
        first = decoder(tokens)
        assert torch.equal(decoder(tokens), first)
        torch.testing.assert_close(decoder(tokens[1:2]), first[1:2], rtol=0, atol=1e-5)
        if sampler not in ("randomized", "fractional"):  # which move tokens in evaluation too
            torch.testing.assert_close(first, small_decoder(encoding)(tokens), rtol=0, atol=1e-5)


@each_sampler
@each_encoding
def test_generation_continues_one_by_one_from_the_last_position_of_the_prompt(encoding, sampler):
    decoder, prompt = decoder_of(encoding, sampler), some_tokens(2, 6)
    new = torch.stack(list(generate(decoder, prompt, 5, Sampling(temperature=0))), dim=1)
    with torch.no_grad():
        cache, tokens = decoder.new_cache(), torch.cat([prompt, new], dim=1)
        logits = [decoder(prompt, cache=cache), *(decoder(tokens[:, i : i + 1], cache=cache) for i in range(6, 11))]
        first = sampler_of(sampler).eval()(Positions.range(6), 2).ids
        ids = torch.cat([first, first[-1] + torch.arange(1, 6)])
        whole = small_decoder(encoding, attention="dense")(tokens, Positions(ids, int(ids[-1]) + 1))
    torch.testing.assert_close(torch.cat(logits, dim=1), whole, rtol=0, atol=1e-4)
    assert torch.equal(whole[:, 5:-1].argmax(-1), new)


def test_positions_that_are_given_after_a_cache_are_not_drawn_again():
    decoder, tokens = decoder_of("rotary", "randomized"), some_tokens(1, LENGTH)
    with torch.no_grad():
        cache, told = decoder.new_cache(), decoder.new_cache()
        for remembers in (cache, told):
            decoder(tokens[:, :8], cache=remembers)
        expected = decoder(tokens[:, 8:], cache=cache)
        following = told.continuation(LENGTH - 8)
        torch.testing.assert_close(decoder(tokens[:, 8:], following, cache=told), expected, rtol=0, atol=0)


def test_a_learned_table_serves_all_that_moved_positions_reach():
    for sampler, rows in (("shifted", LENGTH + 500), ("randomized", 2_048), ("pose", 4 * LENGTH)):
        made = sampler_of(sampler)
        assert made.stop(LENGTH) == rows
        encoding = instantiate(composed("encoding=learned").encoding, max_length=rows)
        decoder = stacked(Decoder, VOCAB_SIZE, encoding, 32, 1, 4, positions=made)
        for _ in range(20):
            decoder.train()(some_tokens(2, LENGTH))
        decoder.eval()(some_tokens(2, LENGTH))
        assert decoder.max_length == rows


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["shifted", "cape", "randomized", "pose"])
def test_a_compiled_model_has_the_positions_of_an_eager_one(sampler):
    decoder, tokens = decoder_of("alibi", sampler, num_layers=1), some_tokens(2, LENGTH)
    torch._dynamo.reset()
    compiled = torch.compile(decoder, backend="eager")
    for training in (True, False):
        decoder.train(training)
        torch.manual_seed(3)
        expected = decoder(tokens)
        torch.manual_seed(3)
        torch.testing.assert_close(compiled(tokens), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["positions=shifted"],
            "encoding.max_length=256 ends before position 755",
        ),
        (
            ["positions=randomized"],
            "encoding.max_length=256 ends before position 2047",
        ),
        (
            ["positions=cape", "encoding.max_length=1000"],
            "positions must be integers",
        ),
        (
            ["positions=randomized", "positions.max_position=255"],
            "positions.max_position=255 ends before",
        ),
        (
            ["positions=pose"],
            "encoding.max_length=256 ends before position 1023",
        ),
        (
            ["positions=pose", "positions.target_length=255"],
            "positions.target_length=255 ends before",
        ),
    ],
)
def test_a_learned_table_that_cannot_serve_the_positions_is_refused_before_training(overrides, sentence):
    with pytest.raises(ValueError) as error:
        check(composed_run("encoding=learned", *overrides))
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize(
    "overrides",
    [
        ["encoding=learned", "positions=shifted", "encoding.max_length=756"],
        ["encoding=learned", "positions=randomized", "encoding.max_length=2048"],
        ["encoding=learned", "positions=pose", "positions.target_length=512", "encoding.max_length=512"],
        *([f"encoding={encoding}", "positions=cape"] for encoding in ("rotary", "t5", "alibi", "sinusoidal")),
    ],
)
def test_positions_that_suit_the_encoding_pass_the_check_before_training(overrides):
    check(composed_run(*overrides))
