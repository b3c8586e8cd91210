"""Comparison of an exported directory, loaded in a fresh process, with the model that it was written from.

Dimension letters: T tokens, K last tokens, V vocabulary.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from poslab.data.tokenizers import END_OF_DOCUMENT, Tokenizer
from poslab.models import Model
from poslab.pretrained.exchanged_classes import AUTO_CLASSES
from poslab.pretrained.export import Form
from poslab.pretrained.export.fresh_process import last_outputs
from poslab.pretrained.export.hosted import exchange_of
from poslab.pretrained.hosted import HostedModel

KEPT = 256
"""Tokens at the end of each text whose logits are compared."""

ROUNDING = 1e-4
"""Largest difference by rounding, over the largest logit, of a short text. It is below 1e-6 in 23 random models and in
a trained one (6e-7), so that deep models have room; a base that is wrong by 1 % makes 3e-4 in a random model."""

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
    float32, on the CPU. Remote code is trusted only where the form needs Poslab.

    Args:
        directory: the directory.
        form: the form that was written.
        model: the model that it was written from.
        tokenizer: the tokenizer that it was written from; None if there is none, or it was copied.
        length: training length, in tokens.

    Returns:
        The class that loads the directory, the largest difference of two logits, the largest absolute logit, and the
        number of tokens of the longest text.

    Raises:
        ValueError: if transformers cannot load the directory, or its logits or token ids differ.
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
