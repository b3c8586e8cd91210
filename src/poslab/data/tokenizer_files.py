"""Check a Hugging Face `tokenizer.json` before the library builds it: text must not grow, nor time.

A file of some hundred bytes can make gigabytes of a word, by replacing each letter with two many times over, or search
a line for minutes.
"""

import base64
import re
from collections.abc import Iterator, Sequence
from typing import Any

from poslab.arguments import shown

NORMALIZERS = {
    *("BertNormalizer", "ByteLevel", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Prepend"),
    *("Replace", "Strip", "StripAccents"),
}
PRE_TOKENIZERS = {
    *("BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Digits", "Metaspace", "Punctuation"),
    *("Split", "UnicodeScripts", "Whitespace", "WhitespaceSplit"),
}
POST_PROCESSORS = {"BertProcessing", "ByteLevel", "RobertaProcessing", "TemplateProcessing"}
DECODERS = {"BPEDecoder", "ByteFallback", "ByteLevel", "CTC", "Fuse", "Metaspace", "Replace", "Strip", "WordPiece"}
STEPS = {
    "normalizer": ("normalizers", NORMALIZERS),
    "pre_tokenizer": ("pretokenizers", PRE_TOKENIZERS),
    "post_processor": ("processors", POST_PROCESSORS),
    "decoder": ("decoders", DECODERS),
}
"""By the key of a file: the key of the steps of a `Sequence`, and the types that these may have."""
NEVER_GROW = {"Replace", "Split", "Strip", "Digits", "Punctuation"}
"""Steps of which there may be many: `_check_step` raises an error if one makes a text longer."""
MAX_CHARACTER_LENGTH = 64  # bytes that one character may become; NFKC makes 33 of U+FDFA
MAX_PART_LENGTH = 64
"""Most characters that are added to a text or to a piece of it, and most tokens around it; all known have a few."""
MAX_PATTERN_LENGTH = 1000
MAX_MATCHED = 2000
"""Most characters and repetitions in all regular expressions: each may take time at every character of a text."""
MAX_STEPS = 100  # most steps of a kind, each of which reads the whole text; published tokenizers have fewer than 10
MAX_WORD_PIECE_LENGTH = 256
"""Characters of a word up to which WordPiece may search pieces, in cubic time; published files have 100."""

CHARACTER = r"(?>\\[pP]\{\^?\w+\}|\\[dDsSwWnrt\W]|\[\^?(?>\\.|\[[^\[\]\\]+\]|[^\[\]\\])+\]|[^][\\(){}|*+?^$])"
"""One character or class in a regular expression, such as \\p{L}, [^\\r\\n] or x."""
SUFFIXES = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
CAPITALISED = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
CAPITALS = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
LINEAR = "|".join(map(re.escape, (r"\s+(?!\S)", SUFFIXES, "'(?i:[sdmt]|ll|ve|re)", r"^▁+$")))
"""Other parts of published regular expressions that read a text once."""
FOLLOWED = (
    re.escape(r"\s*[\r\n]") + r"(?:\+)?(?=\|" + re.escape(r"\s+") + ")",
    rf"{re.escape(CAPITALISED)}(?=(?:{re.escape(SUFFIXES)}\?)?\|(?:{CHARACTER}\?\+?)?{re.escape(CAPITALS)})",
)
"""Parts that give back all they read, each before an alternative that takes it: else every character reads it again."""
BRANCH = (
    rf"(?:{CHARACTER}\?\+?)?(?:{LINEAR}|{'|'.join(FOLLOWED)}|(?:{CHARACTER}(?![*+?{{]))*+"
    rf"(?:{CHARACTER}(?:[*+]\+?|\{{\d{{1,3}}(?:,\d{{0,3}})?\}})(?:{CHARACTER}[*?]\+?)*+)?)(?:{re.escape(SUFFIXES)}\?)?"
)
PATTERN = re.compile(rf"{BRANCH}(?:\|{BRANCH})*+")
"""Regular expressions that never go back over a text, as in GPT-2, GPT-4, GPT-4o, Llama, Qwen, DeepSeek, BLOOM.

Each alternative is a few characters of which the first may be missing, then one that may be repeated, then optional
ones; or one of `LINEAR` or `FOLLOWED`. Others can take minutes for a line: even `.*x` takes quadratic time.
"""


def check_tokenizer(content: dict[str, Any]) -> None:
    """Raise ValueError for a tokenizer whose text can grow without bound, or that cannot encode every text."""
    matched = 0
    for key, (inner, allowed) in STEPS.items():
        steps = list(_steps(content.get(key), inner))
        if len(steps) > MAX_STEPS:
            raise ValueError(f"{key} must have at most {MAX_STEPS} steps, got {len(steps):,}")
        for step in steps:
            if step["type"] not in allowed:
                raise ValueError(f"{key} must be of {', '.join(sorted(allowed))}, got {step['type']!r}")
            _check_step(key, step)
            regex = _regex(step)
            matched += len(regex) + sum(map(int, re.findall(r"(?<=[{,])\d+(?=[,}])", regex)))
        growing = [  # a regular expression can match nothing
            step["type"]
            for step in steps
            if step["type"] not in NEVER_GROW or (step["type"] == "Replace" and "Regex" in step["pattern"])
        ]
        if len(set(growing)) < len(growing):
            raise ValueError(f"{key} must have one step of a kind at most, but for Replace and Split")
    if matched > MAX_MATCHED:
        raise ValueError(
            f"its regular expressions must have at most {MAX_MATCHED:,} characters and repetitions, got {matched:,}"
        )
    _check_model(content["model"])


def _steps(node: dict[str, Any] | None, inner: str) -> Iterator[dict[str, Any]]:
    """Yield the steps of a sequence, also of sequences within it, or the only step."""
    if node is not None and node["type"] == "Sequence":
        for step in node[inner]:
            yield from _steps(step, inner)
    elif node is not None:
        yield node


def _regex(step: dict[str, Any]) -> str:
    """Return the regular expression of a step; "" if it has none."""
    return str(step.get("pattern", {}).get("Regex", ""))


def _check_step(key: str, step: dict[str, Any]) -> None:
    kind, pattern, regex = step["type"], step.get("pattern", {}), _regex(step)
    if len(regex) > MAX_PATTERN_LENGTH or not PATTERN.fullmatch(regex):
        raise ValueError(
            f"{key} must have regular expressions that never go back over a text, as in published tokenizers, "
            f"got {shown(regex)}"
        )
    if kind == "Replace":
        replaced = len(pattern["String"]) if "String" in pattern else 1
        if len(step["content"]) > replaced or not replaced:
            raise ValueError(f"{key} must not replace a text with a longer one")
    if kind == "Precompiled":
        table = base64.b64decode(step["precompiled_charsmap"], validate=True)
        texts = table[4 + int.from_bytes(table[:4], "little") :].split(b"\0")
        if max(map(len, texts)) > MAX_CHARACTER_LENGTH:
            raise ValueError(f"{key} must not make more than {MAX_CHARACTER_LENGTH} bytes of a character")
    if kind == "Prepend":
        _require_short(f"{key}.prepend", step["prepend"])
    if kind == "TemplateProcessing":
        # A text that is there twice is doubled in every encoding, also without special tokens.
        if sum("Sequence" in piece for piece in step["single"]) != 1:
            raise ValueError(f"{key}.single must contain the text once")
        _require_short(f"{key}.single", step["single"])
        for special in step["special_tokens"].values():
            _require_short(f"{key}.special_tokens", special["ids"])


def _require_short(name: str, part: Sequence[Any]) -> None:
    if len(part) > MAX_PART_LENGTH:
        raise ValueError(f"{name} must have a length of at most {MAX_PART_LENGTH}, got {len(part):,}")


def _check_model(model: dict[str, Any]) -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    kind, vocab = model.get("type", "BPE"), model["vocab"]  # old files of byte-pair encoding do not name their type
    if kind not in ("BPE", "WordLevel", "WordPiece", "Unigram"):
        raise ValueError(f"model must be BPE, WordLevel, WordPiece or Unigram, got {kind!r}")
    if kind == "WordPiece" and not model.get("max_input_chars_per_word", 100) <= MAX_WORD_PIECE_LENGTH:
        raise ValueError(f"model must search pieces in words of at most {MAX_WORD_PIECE_LENGTH:,} characters")
    for affix in ("continuing_subword_prefix", "end_of_word_suffix"):
        _require_short(f"model.{affix}", model.get(affix) or "")
    if kind == "Unigram":
        unknown = model.get("unk_id")
        is_known = type(unknown) is int and 0 <= unknown < len(vocab)
    else:
        unknown = model.get("unk_token")
        # Byte-level vocabularies know all text; GPT-2's names an unknown token that is not there.
        of_bytes = set(ByteLevel.alphabet()) <= vocab.keys()
        is_known = unknown in vocab or (kind == "BPE" and (unknown is None or of_bytes))
    if not is_known:
        raise ValueError("model must have a token for what it does not know, its unk_token or unk_id")
