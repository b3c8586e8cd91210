"""Beam search finds what brute force finds, and one beam is greedy decoding."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from poslab.encodings import NoPosition, Rotary, T5Bias
from poslab.generation.decoding import Continuation, beam_search
from poslab.models import Decoder, EncoderDecoder, PointerGenerator
from tests.greedy import greedy
from tests.stacked import stacked

VOCAB_SIZE, END = 5, 4


def decoder(encoding=Rotary, seed: int = 0) -> Decoder:
    torch.manual_seed(seed)
    made = stacked(Decoder, VOCAB_SIZE, encoding, d_model=16, num_layers=2, num_heads=2, tie_embeddings=False).eval()
    made.output.weight.data.mul_(3)  # some texts are much more probable than others
    return made


def log_p(model: Decoder, prompt: list[int], text: tuple[int, ...]) -> float:
    """Of a whole text that follows a prompt, by one pass without a cache."""
    with torch.no_grad():
        log_p_TV = model(torch.tensor([[*prompt, *text]]))[0].double().log_softmax(-1)
    return sum(log_p_TV[len(prompt) - 1 + position, token].item() for position, token in enumerate(text))


def searched(writing: Any, tokens_BT: Tensor, steps: int, **arguments: Any) -> list[list[int]]:
    result = beam_search(writing, tokens_BT, max_new_tokens=steps, end_id=END, **arguments)
    return [text.tolist() for text in result]


@pytest.mark.parametrize("encoding", [Rotary, T5Bias, NoPosition])
@pytest.mark.parametrize("seed", range(5))
def test_one_beam_is_greedy_decoding(encoding, seed):
    model = decoder(encoding, seed)
    prompts = [[0, 1, 2], [3, 3, 1]]
    result = searched(Continuation(model), torch.tensor(prompts), 9)
    assert result == [greedy(model, prompt, 9, END) for prompt in prompts]


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(6))
def test_as_many_beams_as_there_are_texts_find_the_best_of_all(seed, length_penalty):
    model, prompt, steps = decoder(seed=seed), [0, 1, 2], 3
    texts = [
        text
        for count in range(1, steps + 1)
        for text in product(range(VOCAB_SIZE), repeat=count)
        if END not in text[:-1] and (text[-1] == END or count == steps)
    ]
    best = max(texts, key=lambda text: log_p(model, prompt, text) / len(text) ** length_penalty)
    # All 25 beginnings of two tokens are kept, so that nothing is lost.
    options = {"beams": VOCAB_SIZE**2, "length_penalty": length_penalty}
    result = searched(Continuation(model), torch.tensor([prompt]), steps, **options)
    assert result == [[token for token in best if token != END]]


@pytest.mark.parametrize("beams", [1, 3])
def test_prompts_of_several_lengths_are_answered_as_each_alone(beams):
    model = decoder(T5Bias)
    prompts = [[0, 1, 2, 3], [3, 1]]
    real = torch.tensor([[True] * 4, [False, False, True, True]])
    together = searched(Continuation(model, real), torch.tensor([[0, 1, 2, 3], [0, 0, 3, 1]]), 6, beams=beams)
    alone = [searched(Continuation(model), torch.tensor([prompt]), 6, beams=beams)[0] for prompt in prompts]
    assert together == alone


@pytest.mark.parametrize("beams", [1, 3])
def test_texts_that_have_ended_are_not_read_on(beams):
    lengths = torch.tensor([3, 0, 9, 1, 5, 1, 0, 2])

    class Countdown:
        """Writes 2 as often as its first token says, and ends."""

        def __init__(self) -> None:
            self.left: Tensor | None = None
            self.rows: list[int] = []

        def next_logits(self, tokens: Tensor) -> Tensor:
            self.left = tokens[:, 0] if self.left is None else self.left - 1
            self.rows.append(len(tokens))
            logits = torch.zeros(len(tokens), VOCAB_SIZE)
            logits[torch.arange(len(tokens)), torch.where(self.left == 0, END, 2)] = 50.0
            return logits

        def select(self, rows: Tensor) -> None:
            assert self.left is not None
            self.left = self.left[rows]

    writing = Countdown()
    result = searched(writing, lengths[:, None], 20, beams=beams)
    assert result == [[2] * length for length in lengths.tolist()]
    if beams == 1:  # of several beams the others end later
        assert writing.rows == [8, 8, 4, 4, 2, 2, 1, 1, 1, 1]


@pytest.mark.parametrize("kind", [EncoderDecoder, PointerGenerator])
@pytest.mark.parametrize("beams", [1, 4])
def test_an_encoder_decoder_writes_the_same_without_a_cache(beams, kind):
    torch.manual_seed(1)
    model = stacked(kind, VOCAB_SIZE, Rotary, d_model=16, num_layers=2, num_heads=2).eval()
    model.encoder.embedding.weight.data.mul_(60)
    source = torch.tensor([[0, 1, 2, 3, 0], [2, 2, 1, 0, 0]])
    real = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    begin = torch.full((2, 1), END)

    class Uncached:
        def __init__(self) -> None:
            self.source, self.real = source, real
            self.written: Tensor | None = None

        def next_logits(self, tokens: Tensor) -> Tensor:
            self.written = tokens if self.written is None else torch.cat([self.written, tokens], dim=1)
            return model(self.source, self.written, self.real)[:, -1]

        def select(self, rows: Tensor) -> None:
            assert self.written is not None
            self.source, self.real, self.written = self.source[rows], self.real[rows], self.written[rows]

    with torch.no_grad():
        cached = searched(model.begin(source, real), begin, 8, beams=beams)
        assert cached == searched(Uncached(), begin, 8, beams=beams)


def test_no_beams_are_refused():
    with pytest.raises(ValueError, match="beams"):
        searched(Continuation(decoder()), torch.tensor([[0]]), 3, beams=0)
