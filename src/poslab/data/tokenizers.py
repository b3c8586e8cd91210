"""Text to token ids and back. Every tokenizer has its own token for the end of a document."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from poslab.data.tokenizer_files import check_tokenizer
from poslab.io.files import read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HuggingFaceTokenizer

END_OF_DOCUMENT = "<|endoftext|>"
# Names of the token that ends a text in published tokenizers.
END_TOKENS = (END_OF_DOCUMENT, "<|end_of_text|>", "</s>", "<eos>", "[SEP]")
# Names of the token instead of a masked one.
MASK_TOKENS = ("[MASK]", "<mask>")
DIGITS = "0123456789"
MAX_WORD_LENGTH = 256
"""Characters in a row without white space, or of nothing else, that a Poslab vocabulary keeps as one word."""
FILE_NAME = "tokenizer.json"
CANNOT_ENCODE = "the tokenizer cannot encode this text"
OWN = '{"poslab"'  # the beginning of the files of tokenizers that are not of the `tokenizers` library


class Tokenizer(ABC):
    """The base class of all tokenizers. Two are equal if they give the same tokens.

    Attributes:
        vocab_size: number of token ids; all ids lie in [0, vocab_size).
        end_id: the token after each document. No text encodes to it.
        start_id: the token before a text that is read by itself, such as [CLS]; `end_id` if the tokenizer has none.
        mask_id: the token instead of a masked one; None if the tokenizer has none.
        digits: the tokens that are one digit each, 0 to 9, as far as there are any.
    """

    vocab_size: int
    end_id: int
    start_id: int
    mask_id: int | None = None
    digits: Sequence[int]

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """Return token ids of a text, without its end, in the smallest unsigned dtype for the vocabulary."""

    @abstractmethod
    def encode_with_places(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Return token ids as `encode` does, (N,), and the characters of the text of each, (N, 2): from, to."""

    def encode_documents(self, texts: Sequence[str]) -> np.ndarray:
        """Return token ids of documents one after another, each with its end, in the same dtype."""
        end = np.array([self.end_id], dtype=self.encode("").dtype)
        return np.concatenate([piece for text in texts for piece in (self.encode(text), end)])

    def framed(self, ids: np.ndarray) -> np.ndarray:
        """Return tokens of a text between those that its model reads around one, such as `[CLS]` and `[SEP]`."""
        return ids

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids; bytes that are not UTF-8 become U+FFFD, ends of documents nothing."""

    def num_bytes(self, ids: np.ndarray) -> int:
        """Return the number of bytes of UTF-8 that tokens represent one by one; ends of documents represent none."""
        numbers, counts = np.unique(ids[ids != self.end_id], return_counts=True)
        return sum(count * self._size(number) for number, count in zip(numbers.tolist(), counts.tolist(), strict=True))

    def sizes(self, ids: np.ndarray) -> np.ndarray:
        """Return the bytes of UTF-8 that each token represents, int64 of the same shape; 0 for an end of a document."""
        numbers, indices = np.unique(ids, return_inverse=True)
        sizes = [0 if number == self.end_id else self._size(number) for number in numbers.tolist()]
        return np.array(sizes, np.int64)[indices].reshape(ids.shape)

    def _size(self, number: int) -> int:
        return len(self.decode([number]).encode())

    @abstractmethod
    def save(self, directory: str | Path) -> None:
        """Write `tokenizer.json` into a directory, for `load_tokenizer`."""


class ByteTokenizer(Tokenizer):
    """A tokenizer of the 256 byte values of UTF-8, and of 256 for the end of a document."""

    vocab_size = 257
    end_id = start_id = 256
    digits = tuple(DIGITS.encode())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByteTokenizer)

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.uint16)

    def encode_with_places(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        places = np.repeat(np.arange(len(text)), [len(character.encode()) for character in text])
        return self.encode(text), np.stack([places, places + 1], axis=1)

    def decode(self, ids: Iterable[int]) -> str:
        return bytes(number for number in map(int, ids) if number < 256).decode(errors="replace")

    def _size(self, number: int) -> int:
        return 1

    def save(self, directory: str | Path) -> None:
        (Path(directory) / FILE_NAME).write_text(json.dumps({"poslab": "bytes"}) + "\n")


@contextmanager
def _library_errors(beginning: str) -> Iterator[None]:
    """Raise errors of the library as a ValueError with this beginning."""
    try:
        yield
    except BaseException as error:
        # Its errors are plain exceptions; a panic is a BaseException, of a class that it does not export.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"{beginning}: {error}") from error


class SubwordTokenizer(Tokenizer):
    """A tokenizer of the `tokenizers` library, which gets a token for the end of a text if it has none."""

    def __init__(self, tokenizer: "HuggingFaceTokenizer") -> None:
        # A document that quotes an end-of-text token is text, not the end of a document.
        tokenizer.encode_special_tokens = True
        # Documents are whole: text that a published tokenizer cuts would be lost, and its padding trained on.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        end = next((token for token in END_TOKENS if token in vocabulary), END_OF_DOCUMENT)
        mask = next((token for token in MASK_TOKENS if token in vocabulary), None)
        # As ordinary tokens, text would be encoded to them.
        tokenizer.add_special_tokens([token for token in (end, mask) if token is not None])
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        self._tokenizer = tokenizer
        self.end_id = vocabulary[end]
        self.mask_id = None if mask is None else vocabulary[mask]
        template = tokenizer.encode("")
        self.start_id = template.ids[0] if any(template.special_tokens_mask[:1]) else self.end_id
        self.vocab_size = max(vocabulary.values()) + 1
        self.digits = tuple(n for n in map(tokenizer.token_to_id, DIGITS) if n is not None)
        self._dtype = np.min_scalar_type(self.vocab_size - 1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SubwordTokenizer) and self._tokenizer.to_str() == other._tokenizer.to_str()

    @classmethod
    def train(
        cls, texts: Iterable[Sequence[str]], vocab_size: int, *, single_digits: bool = False
    ) -> "SubwordTokenizer":
        """Learn byte-level byte-pair encoding (as GPT-2) of at most `vocab_size` tokens from batches of texts.

        With `single_digits` each digit is a token, so that a model copies a number digit by digit.

        The time for a word grows with the square of its length: words of more than `MAX_WORD_LENGTH` are cut.
        """
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE())
        long = Regex(rf"\S{{{MAX_WORD_LENGTH}}}|\s{{{MAX_WORD_LENGTH}}}")
        steps = [pre_tokenizers.Split(long, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        if single_digits:
            steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END_OF_DOCUMENT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer=trainer)
        return cls(tokenizer)

    @classmethod
    def from_file(cls, path: str | Path) -> "SubwordTokenizer":
        """Read a Hugging Face tokenizer.json; ValueError if it is not one, or its text could grow for ever."""
        from tokenizers import Tokenizer

        with _library_errors(f"tokenizer {str(path)!r} is not a Hugging Face tokenizer.json"):
            content = read_json(Path(path).expanduser())
            check_tokenizer(content)
            # Not the file itself, of which the library may read something unchecked: a key may be there twice.
            return cls(Tokenizer.from_buffer(json.dumps(content).encode()))

    def encode(self, text: str) -> np.ndarray:
        with _library_errors(CANNOT_ENCODE):
            return np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, dtype=self._dtype)

    def framed(self, ids: np.ndarray) -> np.ndarray:
        whole = self._tokenizer.encode("a")
        special = np.array(whole.special_tokens_mask, dtype=bool)
        around = np.array(whole.ids, dtype=self._dtype)
        inside = np.flatnonzero(~special)
        if not special.any() or not len(inside):
            return ids
        return np.concatenate([around[: inside[0]], ids.astype(self._dtype), around[inside[-1] + 1 :]])

    def encode_with_places(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        with _library_errors(CANNOT_ENCODE):
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return np.array(encoding.ids, dtype=self._dtype), np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)

    def encode_documents(self, texts: Sequence[str]) -> np.ndarray:
        # One thread per core, in the library's own code.
        with _library_errors(CANNOT_ENCODE):
            encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return np.concatenate([np.array([*encoding.ids, self.end_id], dtype=self._dtype) for encoding in encodings])

    def decode(self, ids: Iterable[int]) -> str:
        text = [number for number in map(int, ids) if number != self.end_id]
        with _library_errors("the tokenizer cannot decode these tokens"):
            return self._tokenizer.decode(text, skip_special_tokens=False)

    def _size(self, number: int) -> int:
        from tokenizers.decoders import ByteLevel

        if not isinstance(self._tokenizer.decoder, ByteLevel):
            return super()._size(number)
        # A byte-level token may be part of a character, which decodes to U+FFFD; it has a letter for each byte.
        text = self._tokenizer.id_to_token(number)
        assert text is not None, "an encoded token is of the vocabulary"
        return len(text)

    def save(self, directory: str | Path) -> None:
        self._tokenizer.save(str(Path(directory) / FILE_NAME))


class SymbolTokenizer(Tokenizer):
    """A tokenizer of a few symbols, numbered from 0 in this order, a token that marks the answer, and one for the end.

    As text, symbols are separated by spaces.
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        self.symbols = list(symbols)
        self.answer_id = len(self.symbols)
        self.end_id = self.start_id = self.answer_id + 1
        self.vocab_size = self.end_id + 1
        self._numbers = {symbol: number for number, symbol in enumerate(self.symbols)}
        self._dtype = np.min_scalar_type(self.end_id)
        self.digits = tuple(self._numbers[digit] for digit in DIGITS if digit in self._numbers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SymbolTokenizer) and self.symbols == other.symbols

    def number(self, symbol: str) -> int:
        """Return the token of a symbol; ValueError where there is no such symbol."""
        if symbol not in self._numbers:
            known = ", ".join(self.symbols[:20]) + (", ..." if len(self.symbols) > 20 else "")
            raise ValueError(f"{symbol!r} is not a symbol of this task: it has {known}, separated by spaces")
        return self._numbers[symbol]

    def encode(self, text: str) -> np.ndarray:
        return np.array([self.number(symbol) for symbol in text.split()], dtype=self._dtype)

    def encode_with_places(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        places = [match.span() for match in re.finditer(r"\S+", text)]
        return self.encode(text), np.array(places, dtype=np.int64).reshape(-1, 2)

    def decode(self, ids: Iterable[int]) -> str:
        return " ".join(self.symbols[number] for number in map(int, ids) if number < len(self.symbols))

    def save(self, directory: str | Path) -> None:
        (Path(directory) / FILE_NAME).write_text(json.dumps({"poslab": "symbols", "symbols": self.symbols}) + "\n")


def load_tokenizer(directory: str | Path) -> Tokenizer:
    """Load the tokenizer of a directory, such as a run's; ValueError where there is none."""
    path = Path(directory) / FILE_NAME
    if not path.is_file():
        raise ValueError(f"{directory} has no {FILE_NAME}")
    with path.open("rb") as file:
        if file.read(len(OWN)) != OWN.encode():
            return SubwordTokenizer.from_file(path)
    content = read_json(path)
    if content["poslab"] == "bytes":
        return ByteTokenizer()
    symbols = content.get("symbols")
    if (
        content["poslab"] != "symbols"
        or not isinstance(symbols, list)
        or not all(isinstance(symbol, str) and symbol.split() == [symbol] for symbol in symbols)
        or len(set(symbols)) != len(symbols)
    ):
        raise ValueError(f"{path} is damaged: it must contain different symbols without white space")
    return SymbolTokenizer(symbols)
