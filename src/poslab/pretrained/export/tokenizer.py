"""Tokenizers of ours as a `PreTrainedTokenizerFast`, which AutoTokenizer loads without code beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from poslab.data.tokenizers import END_OF_DOCUMENT, FILE_NAME, ByteTokenizer, SubwordTokenizer, Tokenizer
from poslab.pretrained.directory import TOKENIZER_FILES

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HuggingFaceTokenizer
    from transformers import PreTrainedTokenizerFast

CONFIG = "tokenizer_config.json"

PRINTED = (range(ord("!"), ord("~") + 1), range(ord("¡"), ord("¬") + 1), range(ord("®"), ord("ÿ") + 1))
"""Bytes that byte-level vocabularies write as the character of the same number."""


def fast_tokenizer(tokenizer: Tokenizer, length: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer of transformers that gives the same ids.

    The end of a document is its end, beginning and padding: a document begins after the end of another, and padding is
    masked. A text that quotes that token is text. `length` is its `model_max_length`.

    Raises:
        ValueError: for a tokenizer of another kind.
    """
    from transformers import PreTrainedTokenizerFast

    if isinstance(tokenizer, ByteTokenizer):
        backend = _of_bytes()
    elif isinstance(tokenizer, SubwordTokenizer):
        backend = _of_subwords(tokenizer)
    else:
        raise ValueError(
            f"tokenizer must be of bytes or subwords to be exported, got {type(tokenizer).__name__}, whose symbols no "
            "tokenizer of transformers has"
        )
    end = backend.id_to_token(tokenizer.end_id)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=end,
        eos_token=end,
        pad_token=end,
        model_max_length=length,
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )


def copy_tokenizer(source: str, folder: Path, length: int) -> None:
    """Copy the files of a pretrained model's tokenizer; `length` becomes its `model_max_length`.

    Args:
        source: folder of the model, or its name on the hub, whose files in the cache are copied.
        folder: where the files are written.
    """
    from transformers.utils.hub import cached_file

    for name in TOKENIZER_FILES:
        found = cached_file(source, name, local_files_only=True, _raise_exceptions_for_missing_entries=False)
        if found is not None:
            shutil.copyfile(found, folder / name)
    config = folder / CONFIG
    if not config.exists() and not (folder / FILE_NAME).exists():
        return
    known = json.loads(config.read_text(encoding="utf-8")) if config.exists() else {}
    if (folder / FILE_NAME).exists():  # else transformers takes a class by the type of the model, which may be another
        known.setdefault("tokenizer_class", "PreTrainedTokenizerFast")
    config.write_text(json.dumps(known | {"model_max_length": length}, indent=2, ensure_ascii=False) + "\n")


def byte_letters() -> list[str]:
    """Return the letter of each byte in byte-level vocabularies, as in GPT-2: itself if printed, else from U+0100."""
    printed = {byte for part in PRINTED for byte in part}
    others = [byte for byte in range(256) if byte not in printed]
    return [chr(byte) if byte in printed else chr(256 + others.index(byte)) for byte in range(256)]


def _of_bytes() -> HuggingFaceTokenizer:
    """Return byte-level byte-pair encoding without pairs, and with our numbers of the bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = [*byte_letters(), END_OF_DOCUMENT]
    backend = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([END_OF_DOCUMENT])
    return backend


def _of_subwords(tokenizer: SubwordTokenizer) -> HuggingFaceTokenizer:
    """Return the library's own tokenizer, without the special tokens that it adds around a text."""
    from tokenizers import Tokenizer

    with TemporaryDirectory() as folder:
        tokenizer.save(folder)
        content = json.loads((Path(folder) / FILE_NAME).read_text(encoding="utf-8"))
    return Tokenizer.from_str(json.dumps(content | {"post_processor": None}))
