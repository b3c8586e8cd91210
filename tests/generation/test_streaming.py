import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from poslab.data.tokenizers import ByteTokenizer, SubwordTokenizer
from poslab.generation.decoding import generate, stream_text
from poslab.generation.token_choice import Sampling
from tests.encoding_choices import ENCODINGS, VOCAB_SIZE, small_decoder, some_tokens

GREEDY = Sampling(temperature=0)


def generated(*arguments, **keywords):
    """All new tokens, (B, new tokens)."""
    return torch.stack(list(generate(*arguments, **keywords)), dim=1)


class Script:
    """A model that wants to say given rows of tokens, and remembers how many it was given to read at a time."""

    def __init__(self, rows, max_length=None):
        self.rows = torch.tensor(rows)
        self.max_length = max_length
        self.read = []

    capabilities = frozenset({"causal", "cache"})

    def new_cache(self):
        return "cache"

    def logits(self, hidden):
        return hidden

    def hidden_states(self, tokens, positions, real, cache):
        assert cache == "cache" and positions is None and real is None
        wanted = self.rows[:, len(self.read)]
        self.read.append(tokens.shape[1])
        logits = torch.zeros(*tokens.shape, VOCAB_SIZE)
        logits[torch.arange(len(wanted)), -1, wanted] = 100.0
        return logits


# The cache


@pytest.mark.parametrize(("name", "window"), [*((name, None) for name in ENCODINGS), ("rotary", 4)])
def test_generating_with_the_cache_equals_reading_all_again_for_each_token(name, window):
    model, tokens = small_decoder(name, window=window), some_tokens(2, 5)
    with torch.no_grad():
        for _ in range(30):
            tokens = torch.cat([tokens, model(tokens)[:, -1].argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(generated(model, some_tokens(2, 5), 30, GREEDY), tokens[:, 5:])


def test_each_token_is_read_once():
    model = Script([[1, 2, 3, 4]])
    assert generated(model, some_tokens(1, 5), 4, GREEDY).tolist() == [[1, 2, 3, 4]]
    assert model.read == [5, 1, 1, 1]


def test_a_bfloat16_model_generates():
    assert generated(small_decoder("rotary").to(torch.bfloat16), some_tokens(2, 5), 10).shape == (2, 10)


# What is drawn


def test_sampling_is_from_the_distribution_of_the_model_by_default():
    model, prompt = small_decoder("rotary"), some_tokens(1, 6)
    with torch.no_grad():
        expected = model(prompt)[0, -1].softmax(-1)
    first = next(generate(model, prompt.expand(20_000, -1), 1, generator=torch.Generator().manual_seed(0)))
    assert torch.allclose(torch.bincount(first, minlength=VOCAB_SIZE) / 20_000, expected, atol=0.01)


def test_a_seed_repeats_its_text():
    model, prompt = small_decoder("alibi"), some_tokens(2, 5)

    def text(seed):
        return generated(model, prompt, 20, Sampling(), generator=torch.Generator().manual_seed(seed))

    assert torch.equal(text(1), text(1))
    assert not torch.equal(text(1), text(2))


def test_a_generator_of_its_own_leaves_that_of_torch_alone():
    model, before = small_decoder("none"), torch.random.get_rng_state()
    generated(model, some_tokens(1, 5), 5, generator=torch.Generator())
    assert torch.equal(torch.random.get_rng_state(), before)


# The end of a document


@pytest.mark.parametrize(
    ("rows", "end_id", "expected"),
    [
        ([[5, 6, 9, 7, 7]], 9, [[5, 6, 9]]),
        ([[5, 9, 7, 7, 7], [5, 6, 7, 9, 7]], 9, [[5, 9, 9, 9], [5, 6, 7, 9]]),  # a row repeats its end until all have
        ([[5, 9, 7, 7, 7]], None, [[5, 9, 7, 7, 7]]),
    ],
)
def test_generation_stops_behind_the_end_of_the_document_if_it_knows_one(rows, end_id, expected):
    assert generated(Script(rows), some_tokens(len(rows), 3), 5, GREEDY, end_id=end_id).tolist() == expected


# The end of an encoding


def test_an_encoding_that_ends_is_refused_before_anything_is_computed():
    model = Script([[1] * 10], max_length=8)
    with pytest.raises(ValueError, match=r"^max_new_tokens=6 passes the 8 .* room for 5$"):
        generate(model, some_tokens(1, 3), 6)
    with pytest.raises(ValueError, match=r"8 tokens of.*leave no room$"):
        generate(model, some_tokens(1, 8), 1)
    assert model.read == []


def test_an_encoding_can_be_filled_to_its_end():
    model = small_decoder("learned")
    assert generated(model, some_tokens(1, 500), 12).shape == (1, model.max_length - 500)


# What surrounds it


def test_gradients_are_off_while_it_computes_and_not_for_its_caller():
    model, prompt = small_decoder("t5"), some_tokens(1, 5)
    for token in generate(model, prompt, 2):
        assert torch.is_grad_enabled()
        assert not token.requires_grad
    model(prompt).sum().backward()  # nothing that generating left behind is in the way
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("shape", "max_new_tokens", "sentence"),
    [
        ((1, 0), 5, r"prompt must .*got the shape \(1, 0\)"),
        ((0, 4), 5, r"prompt must .*got the shape \(0, 4\)"),
        ((4,), 5, r"prompt must .*got the shape \(4,\)"),
        ((1, 4), 0, "max_new_tokens must .*got 0"),
        ((1, 4), 2.5, "max_new_tokens must .*got 2.5"),
    ],
)
def test_a_mistake_is_one_sentence_that_begins_with_the_argument(shape, max_new_tokens, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        generate(small_decoder("none"), torch.zeros(shape, dtype=torch.long), max_new_tokens)


# Text as it comes


def pieces(text, prompt=""):
    """The pieces in which the bytes of a text are streamed."""
    tokenizer = ByteTokenizer()
    encoded = text if isinstance(text, bytes) else text.encode()
    return list(stream_text(tokenizer, tokenizer.encode(prompt).tolist(), iter(encoded)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b\nc", ["a", " ", "b", "\n", "c"]),
        ("né€😀!", ["n", "é", "€", "😀", "!"]),
        ("ab€".encode()[:-1], ["a", "b", "\N{REPLACEMENT CHARACTER}"]),  # never completed
        (b"a\xff\xe2\x82b", ["a", "\N{REPLACEMENT CHARACTER}" * 2 + "b"]),  # no text, which comes with what follows it
    ],
)
def test_a_character_comes_once_its_bytes_are_whole(text, expected):
    assert pieces(text) == expected


def test_the_end_of_a_document_is_no_text():
    tokenizer = ByteTokenizer()
    assert list(stream_text(tokenizer, [65], [66, tokenizer.end_id])) == ["B"]


def test_a_piece_comes_before_the_next_token_is_asked_for():
    asked = []

    def tokens():
        for token in b"abc":
            asked.append(token)
            yield token

    assert next(stream_text(ByteTokenizer(), [], tokens())) == "a"
    assert asked == [ord("a")]


@pytest.mark.parametrize("prompt", ["", "naïve 😀 "])
def test_the_pieces_of_any_bytes_are_the_whole(prompt):
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        content = bytes(torch.randint(256, (50,), generator=generator).tolist())
        assert "".join(pieces(content, prompt)) == content.decode(errors="replace")


@pytest.fixture(scope="module")
def subwords():
    texts = ["the naïve café costs 5 € and the 😀 smiles at the café\n"] * 20
    return SubwordTokenizer.train(iter([texts]), vocab_size=300)


def test_the_pieces_of_subwords_are_the_whole(subwords):
    prompt, text = "the café", " costs 😀😀 5 €, naïve ∑\n\nat the end "
    streamed = list(stream_text(subwords, subwords.encode(prompt).tolist(), subwords.encode(text).tolist()))
    assert "".join(streamed) == text
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in streamed)
    assert len(streamed) > 10


def test_a_space_that_depends_on_the_token_before_is_kept():
    # Tokenizers of SentencePiece's kind write a space with a word, and leave it out where a text begins.
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "\u2581a": 1, "\u2581list": 2, "\u2581is": 3}, unk_token="[UNK]"))
    words.pre_tokenizer, words.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer = SubwordTokenizer(words)
    assert tokenizer.decode([3]) == "is"
    prompt = tokenizer.encode("a list").tolist()
    assert prompt == [1, 2]
    assert list(stream_text(tokenizer, prompt, [3, 1, 2])) == [" is", " a", " list"]
