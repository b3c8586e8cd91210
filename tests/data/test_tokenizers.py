"""Text to tokens and back."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers, processors

from poslab.data.run_data import RunData
from poslab.data.text_files import TextFiles
from poslab.data.tokenizers import (
    MAX_WORD_LENGTH,
    ByteTokenizer,
    SubwordTokenizer,
    SymbolTokenizer,
    Tokenizer,
    load_tokenizer,
)

from .conftest import story

TEXT = "naïve — 漢字 🙂\n\n\tdef f(x): return x  # <|endoftext|> as text\n"


@pytest.fixture(params=["bytes", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return ByteTokenizer() if request.param == "bytes" else SubwordTokenizer.train([[story(1)]], 300)


def test_text_survives_a_round_trip(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(TEXT)
    assert tokenizer.decode(ids) == TEXT
    assert ids.dtype == np.uint16
    assert ids.max() < tokenizer.vocab_size


def test_no_text_encodes_to_the_end_of_a_document(tokenizer: Tokenizer) -> None:
    assert tokenizer.end_id not in tokenizer.encode(TEXT)


def test_documents_end_with_their_end(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_documents(["one", "two é"]).tolist()
    assert ids == [*tokenizer.encode("one"), tokenizer.end_id, *tokenizer.encode("two é"), tokenizer.end_id]
    assert tokenizer.decode(ids) == "onetwo é"


def test_documents_of_many_symbols_end_with_their_end() -> None:
    tokenizer = SymbolTokenizer([f"s{number}" for number in range(300)])
    ids = tokenizer.encode_documents(["s299 s0", "s7"])
    assert ids.dtype == np.uint16 and ids.tolist() == [299, 0, 301, 7, 301]


def test_a_run_directory_is_enough_to_read_its_tokens(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert (loaded.vocab_size, loaded.end_id) == (tokenizer.vocab_size, tokenizer.end_id)
    assert loaded.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()
    assert loaded.decode(tokenizer.encode(TEXT)) == TEXT
    assert loaded == tokenizer


def test_tokenizers_are_equal_if_they_give_the_same_tokens(tokenizer: Tokenizer) -> None:
    others = [SubwordTokenizer.train([["another text"]], 300), SymbolTokenizer(["a"])]
    assert all(tokenizer != other for other in others)
    assert SymbolTokenizer(["a", "b"]) == SymbolTokenizer(["a", "b"]) != SymbolTokenizer(["b", "a"])


def test_byte_tokens_are_the_bytes() -> None:
    assert ByteTokenizer().encode("é").tolist() == list("é".encode())
    assert ByteTokenizer().decode([0xC3, 256, 65]) == "\N{REPLACEMENT CHARACTER}A"


def test_the_digits_of_a_vocabulary_are_its_tokens_of_one_digit(tokenizer: Tokenizer) -> None:
    assert [tokenizer.decode([number]) for number in tokenizer.digits] == list("0123456789")
    bpe = SubwordTokenizer.train([["20 20 20 20 7"] * 9], 300)
    assert "20" in [bpe.decode([number]) for number in range(bpe.vocab_size)]  # a number, and no digit
    assert {bpe.decode([number]) for number in bpe.digits} == set("0123456789")


def test_single_digits_are_the_only_tokens_with_digits(tmp_path: Path) -> None:
    bpe = SubwordTokenizer.train([["the 20 20 20 20 7"] * 9], 300, single_digits=True)
    assert all(len(text) == 1 for n in range(bpe.vocab_size) if re.search(r"\d", text := bpe.decode([n])))
    assert [bpe.decode([n]) for n in bpe.encode("the 207")] == ["the", " ", "2", "0", "7"]
    bpe.save(tmp_path)
    assert load_tokenizer(tmp_path) == bpe


def test_symbols_that_are_digits_are_digits_and_longer_numbers_are_none() -> None:
    assert SymbolTokenizer(["+", "1", "0", "12", "k1"]).digits == (2, 1)
    assert SymbolTokenizer(["a", "b"]).digits == ()


def test_a_tokenizer_file_of_others_may_have_some_digits_or_none() -> None:
    made = SubwordTokenizer(Library(models.WordLevel({"12": 0, "7": 1, "[UNK]": 2}, unk_token="[UNK]")))
    assert made.digits == (1,)


def test_bpe_learns_from_the_training_split_alone(stories: list[Path], arguments: dict[str, Any]) -> None:
    arguments |= {"files": str(stories[0].parent / "*.txt"), "tokenizer": "bpe", "vocab_size": 2000}
    datamodule = RunData(TextFiles(**arguments))
    datamodule.setup()
    training = datamodule.tokenizer.decode(datamodule.splits._tokens["train"].ids)
    files = [path for path in stories if path.read_text() in training]
    assert len(files) == 36
    alone = SubwordTokenizer.train([[path.read_text() for path in files]], 2000)
    everything = SubwordTokenizer.train([[path.read_text() for path in stories]], 2000)
    held_out = next(path for path in stories if path not in files).read_text()
    assert datamodule.tokenizer.encode(held_out).tolist() == alone.encode(held_out).tolist()
    assert datamodule.tokenizer.encode(held_out).tolist() != everything.encode(held_out).tolist()


def test_a_tokenizer_file_of_others_is_given_an_end_of_document_if_it_has_none(
    stories: list[Path], arguments: dict[str, Any], tmp_path: Path
) -> None:
    words = Library(models.WordLevel({"[UNK]": 0, "story": 1, "part": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(tmp_path / "words.json"))
    files = str(stories[0].parent / "*.txt")
    datamodule = RunData(TextFiles(files=files, tokenizer=str(tmp_path / "words.json"), **arguments))
    datamodule.setup()
    assert (datamodule.vocab_size, datamodule.tokenizer.end_id) == (4, 3)
    assert datamodule.splits._tokens["train"].ids.dtype == np.uint8
    assert (datamodule.splits._tokens["train"].ids == 3).sum() == 36


@pytest.mark.parametrize("name", ["<|endoftext|>", "</s>"])
def test_the_end_token_of_a_tokenizer_file_is_used(name: str) -> None:
    library = Library(models.WordLevel({"[UNK]": 0, name: 5}, unk_token="[UNK]"))
    tokenizer = SubwordTokenizer(library)
    assert (tokenizer.end_id, tokenizer.vocab_size) == (5, 6)


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"model": "none"}))
    with pytest.raises(ValueError, match=r"^tokenizer .*x.json'.*Face tokenizer.json"):
        SubwordTokenizer.from_file(tmp_path / "x.json")


def test_documents_stay_whole_under_a_tokenizer_file_that_cuts_or_fills_up() -> None:
    library = Library(models.WordLevel({"[UNK]": 0, "a": 1, "[PAD]": 2}, unk_token="[UNK]"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.enable_truncation(4)
    library.enable_padding(length=6, pad_id=2)
    tokenizer = SubwordTokenizer(library)
    assert tokenizer.encode("a a a a a a a a").tolist() == [1] * 8
    assert tokenizer.encode_documents(["a", "a a"]).tolist() == [1, 3, 1, 1, 3]


def test_no_text_encodes_to_an_end_token_that_a_file_holds_as_an_ordinary_one() -> None:
    library = Library(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.add_tokens(["<|endoftext|>"])
    tokenizer = SubwordTokenizer(library)
    assert tokenizer.end_id == 2
    assert 2 not in tokenizer.encode("a <|endoftext|> a")


def test_a_million_of_one_letter_is_learned_and_written_at_once_and_kept() -> None:
    for text in ("a" * 1_000_000, "\n" * 300_000 + "\N{GRINNING FACE}" * 300_000):
        tokenizer = SubwordTokenizer.train([[text]], 300)
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_only_words_that_no_language_has_are_cut() -> None:
    text = "Donaudampfschifffahrtsgesellschaft  isn't 123,456\n\n\t" * 50 + "x" * (MAX_WORD_LENGTH - 1) + " "
    tokenizer = SubwordTokenizer.train([[text]], 400)
    ids = tokenizer.encode(text).tolist()
    tokenizer._tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert tokenizer.encode(text).tolist() == ids


def change(tmp_path: Path, **parts: Any) -> Path:
    """A file of ours with other parts."""
    SubwordTokenizer.train([["hello world"]], 300).save(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | parts))
    return file


def sequence(key: str, *steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", key: [{"type": "Sequence", key: [step]} for step in steps]}


def replace(content: str, **pattern: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def split(**pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


def precompiled(text: bytes) -> dict[str, Any]:
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(bytes(4) + text).decode()}


def template(single: list[dict[str, Any]], count: int = 1) -> dict[str, Any]:
    mark = {"id": "x", "ids": [0] * count, "tokens": ["x"] * count}
    return {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": {"x": mark}}


TEXT_ITSELF, MARK = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "x", "type_id": 0}}
CAPITALISED = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
"""A part of the regular expression of GPT-4o, before the part that takes a word of capitals."""
SLOW = (
    *(
        "(a+)+$x",
        "((a{1000}){1000}){1000}",
        "(a|a)*x",
        "a*a*a*a*a*a*a*a*a*a*a*b",
        "a?" * 10 + "a" * 10,
        ".*x",
        "[^b]+b",
    ),
    *(r"\p{L}+x", "a{1,99}b", "a{9999}", "(?=a*b)", "(?<=a*)b", r"(a)\1*", r"\g<0>", "a{2}+b", r"\s*[\r\n]+x", "^a*$"),
    *("(?i:'s|'t|'re|'ve|'m|'ll|'d)x", "[^x]+(?i:'s|'t|'re|'ve|'m|'ll|'d)", "[[]a*b", "a|(b+)*"),
    *(r"\s*[\r\n]+", r"\s*[\r\n]| |\s+", r"\s+|\s*[\r\n]", r"\s*[\r\n]+x|\s+"),
    CAPITALISED,
    CAPITALISED + r"|x[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
)
"""Regular expressions that can go back over a text, or do what published ones do not."""
WORD_PIECE = {"type": "WordPiece", "vocab": {"[UNK]": 0, "a": 1}, "unk_token": "[UNK]"}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


@pytest.mark.parametrize(
    "parts, reason",
    [
        ({"normalizer": sequence("normalizers", *[replace("ll", String="l")] * 22)}, "with a longer one"),
        ({"normalizer": replace("l", String="")}, "with a longer one"),
        ({"normalizer": sequence("normalizers", *[replace("l", Regex="")] * 22)}, "one step of a kind"),
        ({"normalizer": sequence("normalizers", *[{"type": "ByteLevel"}] * 22)}, "one step of a kind"),
        ({"normalizer": precompiled(b"a" * 1000)}, "more than 64 bytes of a character"),
        ({"normalizer": {"type": "Prepend", "prepend": "a" * 65}}, "normalizer.prepend must.*got 65"),
        ({"post_processor": template([TEXT_ITSELF] * 2)}, "post_processor.single must contain the text once"),
        ({"post_processor": template([MARK])}, "post_processor.single must contain the text once"),
        ({"post_processor": template([MARK] * 64 + [TEXT_ITSELF])}, "post_processor.single must.*got 65"),
        ({"post_processor": template([TEXT_ITSELF], 65)}, "post_processor.special_tokens must.*got 65"),
        ({"model": WORD_PIECE | {"continuing_subword_prefix": "#" * 65}}, "model.continuing_subword_prefix must"),
        ({"normalizer": {"type": "Other"}}, "normalizer must.*BertNormalizer, .*, got 'Other'"),
        ({"decoder": sequence("decoders", *[replace("ll", String="l")] * 22)}, "with a longer one"),
        ({"pre_tokenizer": sequence("pretokenizers", *[BYTE_LEVEL] * 22)}, "one step of a kind"),
        *(({"pre_tokenizer": split(Regex=pattern)}, "that never go back over a text") for pattern in SLOW),
        ({"normalizer": replace("", Regex="a?" * 24 + "a" * 24)}, "that never.*back over a text"),
        ({"pre_tokenizer": sequence("pretokenizers", *[split(String="x")] * 101)}, "at most 100 steps"),
        ({"pre_tokenizer": sequence("pretokenizers", *[split(Regex="a" * 400)] * 6)}, "at most 2,000 characters and"),
        ({"pre_tokenizer": split(Regex="a{999}|b{9,999}")}, "repetitions, got 2,022"),
        ({"model": WORD_PIECE | {"max_input_chars_per_word": 10**9}}, "words of at most 256 characters"),
        ({"post_processor": {"type": "Other"}}, "post_processor must be of"),
        ({"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "b"}}, "for what.*does not know"),
        ({"model": {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "b"}}, "for what.*does not know"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "b"}}, "for what.*does not know"),
        ({"model": {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": None}}, "for what.*does not know"),
        ({"model": {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 5}}, "for what.*does not know"),
        ({"model": {"type": "Other", "vocab": {}}}, "model must.*WordPiece or Unigram"),
        ({"normalizer": 3}, "not subscriptable"),
    ],
)
def test_a_tokenizer_file_that_makes_much_of_little_or_cannot_encode_is_refused(
    tmp_path: Path, parts: dict[str, Any], reason: str
) -> None:
    file = change(tmp_path, **parts)
    with pytest.raises(ValueError, match=rf"^tokenizer {str(file)!r} is not a Hugging Face tokenizer.json: .*{reason}"):
        load_tokenizer(tmp_path)


def test_a_text_on_which_the_library_gives_up_is_one_sentence(tmp_path: Path) -> None:
    change(tmp_path, normalizer=precompiled(b""))
    with pytest.raises(ValueError, match=r"^the tokenizer.*out of bounds"):
        load_tokenizer(tmp_path).encode("hello")


GPT_4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PATTERNS = (
    GPT_4.replace("{1,3}", ""),
    GPT_4.replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(r"[^\s\p{L}", r"[^\s\p{L}\p{M}"),
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"""
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    " ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    "[0-9][0-9][0-9]",
)
"""Of Qwen 2, Qwen 3.5, GPT-4, GPT-4o, GPT-2, DeepSeek, BLOOM, DeepSeek and Falcon."""
METASPACE = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
BERT = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
LLAMA_2 = {
    "normalizer": sequence("normalizers", {"type": "Prepend", "prepend": "\u2581"}, replace("\u2581", String=" ")),
    "pre_tokenizer": None,
    "decoder": sequence("decoders", replace(" ", String="\u2581"), {"type": "ByteFallback"}, {"type": "Fuse"}),
}
XLM_R = {
    "normalizer": sequence("normalizers", replace("\u2581", Regex=" {2,}")),
    "pre_tokenizer": METASPACE,
    "decoder": METASPACE,
    "model": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["\u2581hello", -1.0]], "unk_id": 0},
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "GPT-2": {"pre_tokenizer": BYTE_LEVEL, "post_processor": BYTE_LEVEL},
    "Llama 3": {"pre_tokenizer": sequence("pretokenizers", split(Regex=GPT_4), {**BYTE_LEVEL, "use_regex": False})},
    "BERT": {
        "normalizer": {"type": "BertNormalizer", **BERT},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
    },
    "Llama 2": LLAMA_2,
    "XLM-R": XLM_R,
    **{
        pattern: {"pre_tokenizer": sequence("pretokenizers", split(Regex=pattern), {**BYTE_LEVEL, "use_regex": False})}
        for pattern in PATTERNS
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_tokenizers_are_read(tmp_path: Path, name: str) -> None:
    file = change(tmp_path, **PUBLISHED[name])
    tokenizer = SubwordTokenizer.from_file(file)
    assert tokenizer.decode(tokenizer.encode("hello")).strip() == "hello"
    assert load_tokenizer(tmp_path) == tokenizer


def test_texts_begin_as_the_template_of_a_tokenizer_says_else_after_an_end() -> None:
    vocabulary = {word: number for number, word in enumerate(["[UNK]", "[SEP]", "[CLS]", "<s>", "a"])}
    library = Library(models.WordLevel(vocabulary, unk_token="[UNK]"))
    assert (SubwordTokenizer(library).start_id, SubwordTokenizer(library).end_id) == (1, 1)
    for template, start in (("[CLS] $A [SEP]", 2), ("<s> $A", 3), ("$A [SEP]", 1)):
        special = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]", "<s>")]
        library.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
        assert SubwordTokenizer(library).start_id == start
    for own in (ByteTokenizer(), SymbolTokenizer(["x"])):
        assert (own.start_id, own.mask_id) == (own.end_id, None)


@pytest.mark.parametrize("mask", ["[MASK]", "<mask>"])
def test_the_mask_of_a_tokenizer_file_is_used_and_no_text_encodes_to_it(mask: str) -> None:
    library = Library(models.WordLevel({"[UNK]": 0, "a": 1, mask: 2}, unk_token="[UNK]"))
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer = SubwordTokenizer(library)
    assert tokenizer.mask_id == 2
    assert 2 not in tokenizer.encode(f"a {mask} a")
