"""Comparison of an exported directory, loaded in a fresh process, with the model that it was written from.

Dimension letters: T tokens, K last tokens, V vocabulary.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from poslab.data.tokenizers import END_OF_DOCUMENT, Tokenizer
from poslab.models import Model

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
"""Texts whose token ids are compared, beside random ones."""


@dataclass(frozen=True)
class Agreement:
    """Result of a comparison.

    Args:
        class_name: class of the model that was loaded.
        difference: largest difference of two logits.
        largest: largest logit, without its sign.
        longest: number of tokens of the longest text.
    """

    class_name: str
    difference: float
    largest: float
    longest: int


@torch.no_grad()
def verify(directory: Path, model: Model, tokenizer: Tokenizer | None, length: int) -> Agreement:
    """Load a directory in a fresh process, without remote code, and compare it with a model on random tokens.

    Texts are shorter, as long, and twice as long as the training length. All is float32, on the CPU.

    Args:
        directory: the directory.
        model: the model that it was written from.
        tokenizer: the tokenizer that it was written from; None if there is none.
        length: training length, in tokens.

    Raises:
        ValueError: if transformers cannot load the directory, or its logits or token ids differ.
    """
    ours = copy.deepcopy(model).to("cpu", torch.float32).eval()
    for module in ours.modules():
        if isinstance(module, torch.nn.RMSNorm):
            module.eps = torch.finfo(torch.float32).eps  # that of the model's own dtype too
    generator = torch.Generator().manual_seed(0)
    lengths = sorted({min(length, KEPT), length, 2 * length})
    tokens = {
        f"{number}": torch.randint(ours.embedding.num_embeddings, (1, size), generator=generator)
        for number, size in enumerate(lengths)
    }
    texts = [*TEXTS, *_random_texts(generator)]
    with TemporaryDirectory() as folder:
        save_file(tokens | {"kept": torch.tensor(KEPT)}, Path(folder) / "tokens.safetensors")
        if tokenizer is not None:
            (Path(folder) / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
        _load_in_fresh_process(directory, folder)
        theirs = load_file(Path(folder) / "logits.safetensors")
        class_name = (Path(folder) / "class.txt").read_text()
        if tokenizer is not None:
            _compare_ids(texts, json.loads((Path(folder) / "ids.json").read_text()), tokenizer)
    differences, largest = [], 0.0
    for name, size in zip(tokens, lengths, strict=True):
        logits_KV = ours.logits(ours.hidden_states(tokens[name])[:, -KEPT:])
        differences.append(_difference(logits_KV, theirs[name], size))
        largest = max(largest, float(logits_KV.abs().max()))
    return Agreement(class_name, max(differences), largest, lengths[-1])


def _difference(ours_KV: Tensor, theirs_KV: Tensor, length: int) -> float:
    """Return the largest difference of the logits of a text; raise ValueError if rounding does not explain it."""
    difference, largest = float((ours_KV - theirs_KV).abs().max()), float(ours_KV.abs().max())
    bound = largest * (ROUNDING + ANGLE_ROUNDING * length)
    if not difference <= bound:
        raise ValueError(
            f"the exported model differs: on {length} random tokens its logits are off by up to {difference:.2g}, and "
            f"rounding explains {bound:.2g} (logits up to {largest:.2g}); nothing was written"
        )
    return difference


def _random_texts(generator: torch.Generator) -> list[str]:
    """Return texts of random characters of Unicode, surrogates aside."""
    numbers = torch.randint(0x110000, (20, 50), generator=generator).tolist()
    return ["".join(chr(number) for number in row if not 0xD800 <= number < 0xE000) for row in numbers]


def _compare_ids(texts: list[str], theirs: list[list[int]], tokenizer: Tokenizer) -> None:
    for text, ids in zip(texts, theirs, strict=True):
        if ids != tokenizer.encode(text).tolist():
            raise ValueError(
                f"the exported tokenizer differs: transformers gives other token ids for {text[:40]!r}; nothing was "
                "written"
            )


def _load_in_fresh_process(directory: Path, folder: str) -> None:
    """Run `fresh_process.py`; raise ValueError with its last line if it fails."""
    script = Path(__file__).with_name("fresh_process.py")
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-P", str(script), str(directory), folder, folder]
    done = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"
        raise ValueError(f"transformers cannot use what was exported: {reason}; nothing was written")
