"""Tokenizers of ours as a `PreTrainedTokenizerFast`, which AutoTokenizer loads without remote code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from poslab.data.tokenizers import END_OF_DOCUMENT, FILE_NAME, ByteTokenizer, SubwordTokenizer, Tokenizer
from poslab.pretrained.directory import TOKENIZER_FILES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CONFIG = "tokenizer_config.json"


def fast_tokenizer(tokenizer: Tokenizer, length: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer of transformers that gives the same ids.

    The end of a document is its end, beginning and padding: a document begins after the end of another, and padding is
    masked. A text that quotes that token is text. `length` is its `model_max_length`.

    Raises:
        ValueError: for a tokenizer of another kind.
    """
    from tokenizers import Tokenizer as HuggingFaceTokenizer
    from tokenizers import decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    if isinstance(tokenizer, ByteTokenizer):  # byte-pair encoding without pairs, and with our numbers of the bytes
        letters = [*(bytes_to_unicode()[byte] for byte in range(256)), END_OF_DOCUMENT]
        backend = HuggingFaceTokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.decoder = decoders.ByteLevel()
        backend.add_special_tokens([END_OF_DOCUMENT])
    elif isinstance(tokenizer, SubwordTokenizer):  # without the special tokens that it adds around a text
        with TemporaryDirectory() as folder:
            tokenizer.save(folder)
            content = json.loads((Path(folder) / FILE_NAME).read_text(encoding="utf-8"))
        backend = HuggingFaceTokenizer.from_str(json.dumps(content | {"post_processor": None}))
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
        file = cached_file(source, name, local_files_only=True, _raise_exceptions_for_missing_entries=False)
        if file is not None:
            shutil.copyfile(file, folder / name)
    config = folder / CONFIG
    if not config.exists() and not (folder / FILE_NAME).exists():
        return
    known = json.loads(config.read_text(encoding="utf-8")) if config.exists() else {}
    if (folder / FILE_NAME).exists():  # else transformers takes a class by the type of the model, which may be another
        known.setdefault("tokenizer_class", "PreTrainedTokenizerFast")
    config.write_text(json.dumps(known | {"model_max_length": length}, indent=2, ensure_ascii=False) + "\n")
