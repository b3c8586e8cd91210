"""A directory of transformers, which is whole and verified or absent."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from poslab.data.tokenizers import END_OF_DOCUMENT, FILE_NAME, ByteTokenizer, SubwordTokenizer, Tokenizer
from poslab.models import Model
from poslab.pretrained.directory import TOKENIZER_FILES, require_transformers
from poslab.pretrained.exchanged_classes import AUTO_CLASSES
from poslab.pretrained.export import Form, NotPlainError
from poslab.pretrained.export.fresh_process import last_outputs
from poslab.pretrained.export.hosted import exchange_of, hosted_form
from poslab.pretrained.export.plain import form_under_encoding, plain_form
from poslab.pretrained.export.rope_parameters import former_keys, least_transformers
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
    if not isinstance(to, str | Path):
        raise ValueError(f"to must name a new or empty directory, got {to!r}")
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

    ValueError for a model that no class of transformers can be, a path that is taken or cannot be written, or if what
    was written differs from the model; nothing is left there then.

    Args:
        model: a model of Poslab, or one of transformers under an encoding.
        to: a new or an empty directory.
        tokenizer: the tokenizer; None writes none.
        length: training length, in tokens.
        tokenizer_of: folder or name of a pretrained model whose tokenizer is copied; None for none.
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
    if not form.needs_poslab:
        saved.pop("auto_map", None)  # code of the author, which is not copied
    if not form.needs_poslab and saved.get("rope_parameters"):
        saved |= former_keys(saved["rope_parameters"], saved["model_type"])
    saved["needs_transformers"] = f">={least}"
    file.write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return least


CONFIG = "tokenizer_config.json"


def fast_tokenizer(tokenizer: Tokenizer, length: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer of transformers that gives the same ids; ValueError for a tokenizer of another kind.

    The end of a document is its end, beginning and padding: a document begins after the end of another, and padding is
    masked. A text that quotes that token is text. `length` is its `model_max_length`.
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
    known.pop("auto_map", None)
    if (folder / FILE_NAME).exists():  # else transformers takes a class by the type of the model, which may be another
        known.setdefault("tokenizer_class", "PreTrainedTokenizerFast")
    config.write_text(json.dumps(known | {"model_max_length": length}, indent=2, ensure_ascii=False) + "\n")


KEPT = 256  # tokens at the end of each text whose logits are compared

ROUNDING = 1e-4
"""Largest difference by rounding, over the largest logit, of a short text. It is below 1e-6 in 23 random models and in
a trained one (6e-7), so that deep models have room; a base that is wrong by 1% makes 3e-4 in a random model."""

ANGLE_ROUNDING = 2.0**-22
"""The same for each token of a text: frequencies that were computed in another order differ in the last bits, by up to
2^-22 of themselves, and an angle at position p by p times as much."""

TEXTS = (
    *(
        "",
        "A list is",
        " two  spaces\n\n\tand a tab ",
        "x = {1: 'one'} # 3.14159 & 007",
        "naïve Σ 你好，世界。 🙂👍🏽 \u200b\ufeff",
    ),
    *(END_OF_DOCUMENT, f"before{END_OF_DOCUMENT}after", "\x00\x01\x7f\r\n", "a" * 600),
)
"""Texts whose token ids are compared, and random ones."""


@torch.no_grad()
def verify(
    directory: Path, form: Form, model: Any, tokenizer: Tokenizer | None, length: int
) -> tuple[str, float, float, int]:
    """Load a directory in a fresh process and compare it with a model on random tokens.

    Texts are shorter, as long, and twice as long as the training length, where the encoding does not end. All is
    float32, on the CPU. Remote code is trusted only where the form needs Poslab. ValueError if transformers cannot load
    the directory, or its logits or token ids differ.

    Args:
        directory: the directory.
        form: the form that was written.
        model: the model that it was written from.
        tokenizer: the tokenizer that it was written from; None if there is none, or it was copied.
        length: training length, in tokens.

    Returns:
        The class that loads the directory, the largest difference of two logits, the largest absolute logit, and the
        number of tokens of the longest text.
    """
    compute, end = _ours(model)
    generator = torch.Generator().manual_seed(0)
    lengths = sorted({min(size, end or size) for size in (min(length, KEPT), length, 2 * length)})
    vocab_size, padding = form.config.vocab_size, getattr(form.config, "pad_token_id", None)
    tokens = [torch.randint(vocab_size, (1, size), generator=generator) for size in lengths]
    if padding is not None:  # which RoBERTa recognises by its id
        tokens = [tokens_1T.masked_fill(tokens_1T == padding, (padding + 1) % vocab_size) for tokens_1T in tokens]
    numbers = torch.randint(0x110000, (20, 50), generator=generator).tolist()
    random_texts = ["".join(chr(number) for number in row if not 0xD800 <= number < 0xE000) for row in numbers]
    texts = [*TEXTS, *random_texts]
    with TemporaryDirectory() as folder:
        save_file({f"{index}": tokens_1T for index, tokens_1T in enumerate(tokens)}, f"{folder}/tokens.safetensors")
        if tokenizer is not None:
            Path(folder, "texts.json").write_text(json.dumps(texts), encoding="utf-8")
        trust = "trust" if form.needs_poslab else "no"
        _load_in_fresh_process(str(directory), folder, auto_class(form), trust, f"{KEPT}")
        loaded = load_file(f"{folder}/outputs.safetensors")
        class_name = Path(folder, "class.txt").read_text()
        if tokenizer is not None:
            ids_of_texts = json.loads(Path(folder, "ids.json").read_text())
            for text, ids in zip(texts, ids_of_texts, strict=True):
                if ids != tokenizer.encode(text).tolist():
                    raise ValueError(
                        f"the exported tokenizer differs: transformers gives other token ids for {text[:40]!r}; "
                        "nothing was written"
                    )
    differences, logits = [], []
    for index, size in enumerate(lengths):
        outputs_KV = compute(tokens[index])
        difference, largest = float((outputs_KV - loaded[f"{index}"]).abs().max()), float(outputs_KV.abs().max())
        bound = largest * (ROUNDING + ANGLE_ROUNDING * size)
        if not difference <= bound:
            raise ValueError(
                f"the exported model differs: on {size} random tokens its logits are off by up to {difference:.2g}, "
                f"and rounding explains {bound:.2g} (logits up to {largest:.2g}); nothing was written"
            )
        differences.append(difference)
        logits.append(largest)
    return class_name, max(differences), max(logits), lengths[-1]


def auto_class(form: Form) -> str:
    """Return the name of the class of transformers that chooses the class of a form; ValueError if none does."""
    import transformers

    for name in AUTO_CLASSES:
        mapping = getattr(transformers, name)._model_mapping
        if type(form.config) in mapping and mapping[type(form.config)] is form.model_class:
            return name
    raise ValueError(
        f"model must be of a class that one of {', '.join(AUTO_CLASSES)} chooses to be exported, got "
        f"{form.model_class.__name__}"
    )


def _ours(model: Any) -> tuple[Callable[[Tensor], Tensor], int | None]:
    """Return what computes the last outputs of a model in float32, and the end of its positions."""
    if isinstance(model, Model) and not isinstance(model, HostedModel):
        ours = copy.deepcopy(model).to("cpu", torch.float32).eval()
        for module in ours.modules():
            if isinstance(module, torch.nn.RMSNorm):
                module.eps = torch.finfo(torch.float32).eps  # also of the model's own dtype
        return lambda tokens_1T: ours.logits(ours.hidden_states(tokens_1T)[:, -KEPT:]), model.max_length
    copied = copy.deepcopy(exchange_of(model))
    for part in (copied.model, copied.encodings):
        part.to("cpu", torch.float32).eval()
    return lambda tokens_1T: last_outputs(copied.model, tokens_1T, KEPT), copied.encodings.max_length


def _load_in_fresh_process(directory: str, folder: str, *arguments: str) -> None:
    """Run `fresh_process.py`; raise ValueError with its last line if it fails."""
    script = Path(__file__).with_name("fresh_process.py")
    environment = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "CUDA_VISIBLE_DEVICES": ""}
    environment["HF_MODULES_CACHE"] = folder  # of copies of remote files
    command = [sys.executable, "-P", str(script), directory, folder, *arguments]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"
        raise ValueError(f"transformers cannot use what was exported: {reason}; nothing was written")
