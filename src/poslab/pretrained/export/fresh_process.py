"""Load a directory as its users will, and save what it computes.

A script of its own, which knows nothing of Poslab: `python -P fresh_process.py DIRECTORY FOLDER`. Remote code
is trusted only for a class that needs it. It ends as soon as its standard input does.
"""

import inspect
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file


def main(directory: str, folder: str) -> None:
    """Save the last outputs of token ids, and the ids of texts.

    Args:
        directory: the directory of the model.
        folder: has `how.json` (class that loads the model, `auto`; whether its code is trusted, `trust`; outputs at the
            end that are saved, `kept`), `tokens.safetensors`, (1, T) token ids by name, shortest first, and perhaps
            `texts.json`. It gets `outputs.safetensors`, (1, at most as many as `kept`, V), `ids.json` and `class.txt`.
    """
    beside = Path(folder)
    how = json.loads((beside / "how.json").read_text())
    auto = getattr(transformers, how["auto"])
    options = {"local_files_only": True, "trust_remote_code": how["trust"]}
    model = auto.from_pretrained(directory, dtype=torch.float32, **options).eval()
    tokens = load_file(beside / "tokens.safetensors")
    with torch.no_grad():
        outputs = {name: last_outputs(model, tokens[name], how["kept"]) for name in sorted(tokens)}
    save_file(outputs, beside / "outputs.safetensors")
    (beside / "class.txt").write_text(type(model).__name__)
    texts = beside / "texts.json"
    if (Path(directory) / "tokenizer_config.json").is_file():
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory, **options)
        given_texts = json.loads(texts.read_text(encoding="utf-8")) if texts.is_file() else ["a"]
        (beside / "ids.json").write_text(json.dumps([tokenizer(text)["input_ids"] for text in given_texts]))


def last_outputs(model: Any, tokens_1T: torch.Tensor, kept: int) -> torch.Tensor:
    """Return logits or hidden states, those of the last tokens where there are some at each token."""
    keep = {"logits_to_keep": kept} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    outputs: torch.Tensor = model(tokens_1T, **keep)[0]
    return outputs[:, -kept:].contiguous() if outputs.dim() == 3 else outputs


def end_with_input() -> None:
    """End this process as soon as its standard input ends, as it does when the process that started it is killed."""

    def wait() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    end_with_input()
    main(*sys.argv[1:])
