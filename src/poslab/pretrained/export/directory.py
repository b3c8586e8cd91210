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
from typing import Any

import torch

from poslab.data.tokenizers import Tokenizer
from poslab.models import Model
from poslab.pretrained.directory import require_transformers
from poslab.pretrained.export import Form, NotPlainError
from poslab.pretrained.export.hosted import hosted_form
from poslab.pretrained.export.plain import form_under_encoding, plain_form
from poslab.pretrained.export.rope_parameters import former_keys, least_transformers
from poslab.pretrained.export.tokenizer import copy_tokenizer, fast_tokenizer
from poslab.pretrained.export.verify import verify
from poslab.pretrained.hosted import HostedModel


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
