"""Overlap of held-out and training text: the share of held-out bytes inside 60-byte strings that both contain."""

import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

STRING_BYTES = 60
NEAR_COPY_BYTES = 30
SEPARATOR = b"\xff"  # between documents; it never occurs in UTF-8

_PIECE_BYTES = 1 << 18
_SAMPLED_HASHES = np.uint64(1 << 60)  # a 16th of all
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 2**64)
_BYTE_CODES = np.random.default_rng(0).integers(0, 2**64, size=256, dtype=np.uint64)


# Marks stay, as vowels of Indic scripts, and most symbols, such as + and <, but not ` and ^ (Sk).
UNREAD = {"Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "Sk", "Zs", "Cc", "Cf"}
BETWEEN_DIGITS = re.compile(r"(?<=[0-9])([\W_]+)(?=[0-9])")


def string_hashes(text: np.ndarray, width: int = STRING_BYTES) -> np.ndarray:
    """Return polynomial hashes of all strings of `width` bytes of a text (n,) uint8: (n - width + 1,) uint64, or empty.

        hash(i) = sum_j code(text[i + j]) * base ** j  mod 2 ** 64

    Each is a difference of two running sums over the text, divided by base ** i; base is odd, so it has an inverse.
    """
    sums = np.zeros(len(text) + 1, dtype=np.uint64)
    np.cumsum(_BYTE_CODES[text] * _powers(_BASE, len(text)), out=sums[1:])
    differences = sums[width:] - sums[: max(0, len(sums) - width)]
    return differences * _powers(_INVERSE, len(differences))


@lru_cache(maxsize=4)
def _powers(base: int, count: int) -> np.ndarray:
    """Return base ** (0 ... count - 1) mod 2 ** 64."""
    factors = np.full(count, base, dtype=np.uint64)
    factors[:1] = 1
    return np.cumprod(factors)


def shared_bytes(text: bytes, training: Iterable[bytes]) -> np.ndarray:
    """Find the bytes of a held-out text inside 60-byte strings that training contains too, (len(text),) bool.

    Training comes in pieces of any size; strings across two pieces do not count.
    """
    hashes = string_hashes(np.frombuffer(text, dtype=np.uint8))
    wanted, index_of_string = np.unique(hashes, return_inverse=True)
    if not len(wanted):
        return np.zeros(len(text), dtype=bool)
    is_shared = np.zeros(len(wanted), dtype=bool)
    # Most training strings are not wanted: a table of the hashes' leading bits rejects them without a search.
    bits = max(8, len(wanted).bit_length() + 3)
    shift = np.uint64(64 - bits)
    leading = np.zeros(1 << bits, dtype=bool)
    leading[wanted >> shift] = True
    for values in (np.frombuffer(text, dtype=np.uint8) for text in training):
        # Pieces whose hashes fit in memory; they overlap, so that no string is lost between them.
        for start in range(0, max(1, len(values) - STRING_BYTES + 1), _PIECE_BYTES):
            seen = string_hashes(values[start : start + _PIECE_BYTES + STRING_BYTES - 1])
            seen = seen[leading[seen >> shift]]
            indices = np.minimum(np.searchsorted(wanted, seen), len(wanted) - 1)
            is_shared[indices[wanted[indices] == seen]] = True
    shared_before = np.concatenate([[0], np.cumsum(is_shared[index_of_string])])
    byte = np.arange(len(text))
    first, last = np.maximum(byte - STRING_BYTES + 1, 0), np.minimum(byte + 1, len(hashes))
    return np.asarray(shared_before[last] > shared_before[first])


def shared_by_document(documents: Sequence[str], training: Iterable[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Count the bytes of each held-out document, and how many are in 60-byte strings that training contains too."""
    encoded = [document.encode() for document in documents]
    shared_before = np.concatenate([[0], np.cumsum(shared_bytes(SEPARATOR.join(encoded), training))])
    sizes = np.array([len(document) for document in encoded], dtype=np.int64)
    starts = np.cumsum(sizes + len(SEPARATOR)) - sizes - len(SEPARATOR)
    return sizes, shared_before[starts + sizes] - shared_before[starts]


def shared_fraction(documents: Sequence[str], training: Iterable[bytes]) -> float:
    """Return the share of bytes of held-out documents inside 60-byte strings that training contains too."""
    sizes, shared = shared_by_document(documents, training)
    return float(shared.sum()) / max(1, int(sizes.sum()))


def near_copies(texts: Sequence[str]) -> np.ndarray:
    """Return (len(texts),) int, equal for near-copies: texts of which one has half of its 30-byte strings in the other.

    Texts are compared in their normal form. Near-copies of near-copies are near-copies. A shorter text is one string.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    encoded = [np.frombuffer(normal_form(text).encode(), dtype=np.uint8) for text in texts]
    strings = [np.unique(string_hashes(text, min(NEAR_COPY_BYTES, len(text)))) for text in encoded]
    counts = np.array([len(hashes) for hashes in strings])
    _, columns = np.unique(np.concatenate(strings), return_inverse=True)
    holds = csr_array((np.ones(len(columns), dtype=np.int32), columns, np.concatenate([[0], np.cumsum(counts)])))
    shared = (holds @ holds.T).tocoo()
    near = 2 * shared.data >= counts[shared.row]
    pairs = (shared.row[near], shared.col[near])
    groups = connected_components(csr_array((near[near], pairs), shape=(len(texts), len(texts))), directed=False)[1]
    return np.asarray(groups)


def drop_near_copies(texts: Iterable[str]) -> list[str]:
    """Drop texts of which half of the 30-byte strings are in those kept before, as far as one string in 16 shows.

    Texts are compared in their normal form. Unlike `near_copies`, it is fast where thousands of texts share strings.
    """
    kept, seen = [], set[int]()
    for text in texts:
        encoded = np.frombuffer(normal_form(text).encode(), dtype=np.uint8)
        hashes = string_hashes(encoded, min(NEAR_COPY_BYTES, len(encoded)))
        strings = set(hashes[hashes <= max(_SAMPLED_HASHES, hashes.min())].tolist())
        if 2 * len(strings & seen) < len(strings):
            kept.append(text)
            seen |= strings
    return kept


def normal_form(text: str) -> str:
    """Return a text without case, white space, punctuation and differences of Unicode form.

    Punctuation stays between two digits, since 7 - 4 is not 7 * 4; and so does a text of nothing else, such as `:-)`.

    Example: `It's  OK!` and `its ok` become `itsok`.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    words = " ".join(folded.split())
    parts = BETWEEN_DIGITS.split(words)
    parts[::2] = [part.translate(_deleted()) for part in parts[::2]]
    return "".join(parts) or words


@lru_cache(maxsize=1)
def _deleted() -> dict[int, None]:
    """Return a table that deletes the categories of `UNREAD`."""
    return {code: None for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) in UNREAD}
