"""A directory of transformers, which is whole and verified or absent."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from poslab.data.tokenizers import Tokenizer
from poslab.models import Model
from poslab.pretrained.export.plain import Form, plain_form
from poslab.pretrained.library import require_transformers


@dataclass(frozen=True)
class Exported:
    """A directory that was exported.

    Args:
        path: the directory.
        class_name: class of transformers that loads it.
        rope_type: name of its rotation in transformers.
        difference: largest difference of two logits that was measured.
        largest: largest logit of these texts, without its sign.
        longest: number of tokens of the longest of these texts.
        notes: differences in use, one sentence each.
    """

    path: Path
    class_name: str
    rope_type: str
    difference: float
    largest: float
    longest: int
    notes: tuple[str, ...]


def check_target(to: str | Path) -> Path:
    """Return the path of a new directory; ValueError if something is there, or transformers is missing."""
    require_transformers("export")
    path = Path(to)
    if path.is_dir() and not any(path.iterdir()):
        return path
    if path.exists() or path.is_symlink():
        raise ValueError(f"to must name a new or empty directory, got {path}, which is there")
    return path


def write_directory(model: Model, to: str | Path, tokenizer: Tokenizer | None, length: int) -> Exported:
    """Write a model, and its tokenizer, as a directory that transformers loads, and compare the two.

    Args:
        model: the model.
        to: a new or an empty directory.
        tokenizer: the tokenizer; None writes none.
        length: training length, in tokens.

    Raises:
        ValueError: for a model that no class of transformers can be, a place that is taken or cannot be written, or if
            what was written differs from the model; nothing is left there then.
    """
    from poslab.pretrained.export.verify import verify

    path = check_target(to)
    form = plain_form(model, length)
    with _directory(path) as folder:
        _save(form, folder, tokenizer)
        agreement = verify(folder, model, tokenizer, length)
    return Exported(
        path,
        agreement.class_name,
        form.config.rope_parameters["rope_type"],
        agreement.difference,
        agreement.largest,
        agreement.longest,
        form.notes,
    )


@contextlib.contextmanager
def _directory(path: Path) -> Iterator[Path]:
    """Make a directory beside `path`, which takes its place in the end; after an error nothing is left."""
    place = Path(os.path.realpath(path))
    folder = place.with_name(f".{place.name}.{secrets.token_hex(8)}.writing")
    try:
        folder.mkdir(parents=True)
        yield folder
        folder.replace(place)
    except OSError as error:
        raise ValueError(f"to={path} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _save(form: Form, folder: Path, tokenizer: Tokenizer | None) -> None:
    """Write configuration, weights and tokenizer with transformers' own `save_pretrained`."""
    from transformers import AutoModelForCausalLM, GenerationConfig

    from poslab.pretrained.export.tokenizer import fast_tokenizer

    ends = {}
    if tokenizer is not None:
        fast_tokenizer(tokenizer, form.config.max_position_embeddings).save_pretrained(folder)
        # Not the padding: the class would never train the embedding of that token, which ends documents too.
        ends = {"bos_token_id": tokenizer.end_id, "eos_token_id": tokenizer.end_id}
        form.config.update(ends)
        ends["pad_token_id"] = tokenizer.end_id
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(form.config)
    model.load_state_dict({name: weight.detach().cpu() for name, weight in form.weights.items()}, assign=True)
    model.tie_weights()
    model.generation_config = GenerationConfig(**ends)
    model.save_pretrained(folder)
