"""Models in GGUF, the format of llama.cpp, as folders that transformers reads."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from poslab.configuration.command_line import pip_install
from poslab.data import cache
from poslab.data.source import default_cache
from poslab.io.files import package_folder

NEEDED = ("transformers", "gguf", "accelerate")


def converted(file: Path) -> Path:
    """Return a folder with the model and the tokenizer of a GGUF file, which is made unless it is in the cache.

    Weights in blocks of few bits become float32, each the number that its block stands for.

    Raises:
        ValueError: beginning with `path`, if a package is missing, or transformers cannot read the file.
    """
    for name in NEEDED:
        if package_folder(name) is None:
            raise ValueError(f"path={file} needs the package {name}: {pip_install('gguf')}")
    with file.open("rb") as opened:
        content = hashlib.file_digest(opened, "sha256").hexdigest()
    folder = default_cache() / f"{file.stem}-{cache.key({'gguf': content})}"
    if not cache.verify_or_discard(folder):
        with cache.new_folder(folder) as temporary:
            _convert(file, temporary)
    return folder


def _convert(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    source: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
    try:
        packed = GgufConfig(gguf_file=file.name, dequantize=True)
        model = AutoModelForCausalLM.from_pretrained(
            file.parent, **source, dtype=torch.float32, quantization_config=packed
        )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **source)
    except Exception as error:  # whatever transformers meets in the file
        reason = " ".join(str(error).split("\n")[0].split()) or type(error).__name__
        raise ValueError(f"path={file} cannot be read by transformers: {reason}") from error
    finally:
        logging.enable_progress_bar()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
