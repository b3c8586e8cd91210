"""A directory of transformers, which is whole and verified or absent."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from poslab.data.tokenizers import END_OF_DOCUMENT, FILE_NAME, ByteTokenizer, SubwordTokenizer, Tokenizer
from poslab.models import Model
from poslab.pretrained.directory import TOKENIZER_FILES, require_transformers
from poslab.pretrained.export import Form, NotPlainError
from poslab.pretrained.export.hosted import hosted_form
from poslab.pretrained.export.plain import form_under_encoding, plain_form
from poslab.pretrained.export.rope_parameters import former_keys, least_transformers
from poslab.pretrained.export.verify import verify
from poslab.pretrained.hosted import HostedModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Exported:
    """A directory that was exported, and how it agrees with the model.

    Args:
        path: the directory.
        class_name: class that loads it.
        difference: largest difference of two logits that was measured.
        largest: largest absolute logit of these texts.
        longest: number of tokens of the longest of these texts.
        needs_poslab: False for a class of transformers, True for one under an encoding of Poslab.
        least_transformers: earliest version of transformers for which it is right.
        rope_type: name of its rotation in transformers; None if it has none.
        notes: differences in use, one sentence each.
    """

    path: Path
    class_name: str
    difference: float
    largest: float
    longest: int
    needs_poslab: bool
    least_transformers: str
    rope_type: str | None
    notes: tuple[str, ...]


def check_target(to: str | Path) -> Path:
    """Return the path of a new directory; ValueError if something is there, or transformers is missing."""
    require_transformers("export")
    path = Path(to)
    try:
        if path.is_dir() and not any(path.iterdir()):
            return path
        if path.exists() or path.is_symlink():
            raise ValueError(f"to must name a new or empty directory, got {path}, which is there")
    except OSError as error:
        raise ValueError(f"to={path} cannot be written: {error.strerror}") from error
    return path


def write_directory(
    model: Any, to: str | Path, tokenizer: Tokenizer | None, length: int, tokenizer_of: str | None = None
) -> Exported:
    """Write a model, and its tokenizer, as a directory that transformers loads, and compare the two.

    Args:
        model: a model of Poslab, or one of transformers under an encoding.
        to: a new or an empty directory.
        tokenizer: the tokenizer; None writes none.
        length: training length, in tokens.
        tokenizer_of: folder or name of a pretrained model whose tokenizer is copied; None for none.

    Raises:
        ValueError: for a model that no class of transformers can be, a path that is taken or cannot be written, or if
            what was written differs from the model; nothing is left there then.
    """
    path = check_target(to)
    form = form_of(model, length)
    with _directory(path) as folder:
        least = _save(form, folder, tokenizer)
        if tokenizer_of is not None:
            copy_tokenizer(tokenizer_of, folder, form.max_length)
        agreement = verify(folder, form, model, tokenizer, length)
    return Exported(path, *agreement, form.needs_poslab, least, form.rope_type, form.notes)


def form_of(model: Any, length: int) -> Form:
    """Return the form in which a model is exported: a plain class where one is exact; errors as `write_directory`."""
    if isinstance(model, HostedModel) or not isinstance(model, Model):
        return hosted_form(model, length)
    try:
        return plain_form(model, length)
    except NotPlainError as error:
        form = form_under_encoding(model, length)
        return replace(form, notes=(f"It needs Poslab: {error}.", *form.notes))


@contextlib.contextmanager
def _directory(path: Path) -> Iterator[Path]:
    """Make a directory next to `path`, which it replaces in the end; after an error nothing is left."""
    from safetensors import SafetensorError

    target = Path(os.path.realpath(path))
    folder = target.with_name(f".{target.name}.{secrets.token_hex(8)}.writing")
    try:
        folder.mkdir(parents=True)
        yield folder
        folder.replace(target)
    except OSError as error:
        raise ValueError(f"to={path} cannot be written: {error.strerror or error}") from error
    except SafetensorError as error:  # a disk that is full
        raise ValueError(f"to={path} cannot be written: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _save(form: Form, folder: Path, tokenizer: Tokenizer | None) -> str:
    """Write configuration, weights and tokenizer with transformers' own `save_pretrained`.

    Returns:
        The earliest version of transformers for which they are right.
    """
    from transformers import GenerationConfig

    ends = {}
    if tokenizer is not None:
        fast_tokenizer(tokenizer, form.max_length).save_pretrained(folder)
        # Not the padding: the class would never train the embedding of that token, which ends documents too.
        ends = {"bos_token_id": tokenizer.end_id, "eos_token_id": tokenizer.end_id}
        form.config.update(ends)
        ends["pad_token_id"] = tokenizer.end_id
    with torch.device("meta"):
        model = form.model_class._from_config(form.config)
    if not any(name.split(".")[-3:-2] == ["pooler"] for name in form.weights) and hasattr(model, "pooler"):
        model.pooler = None  # which a base model has unless it was made without
    model.load_state_dict({name: weight.detach().cpu() for name, weight in form.weights.items()}, assign=True)
    model.tie_weights()
    if model.can_generate():
        model.generation_config = form.generation or GenerationConfig(**ends)
    model.save_pretrained(folder)
    file = folder / "config.json"
    saved = json.loads(file.read_text(encoding="utf-8"))
    least = least_transformers(saved, form.needs_poslab)
    if not form.needs_poslab and saved.get("rope_parameters"):
        saved |= former_keys(saved["rope_parameters"], saved["model_type"])
    saved["needs_transformers"] = f">={least}"
    file.write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return least


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
