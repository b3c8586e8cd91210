"""Load a directory as its users will, and save what it computes.

A separate script, which does not import Poslab: `python -P fresh_process.py DIRECTORY FOLDER CLASS TRUST KEPT`.
"""

import inspect
import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file


def main(directory: str, folder: str, auto_class: str, trust: str, kept: str) -> None:
    """Save the last outputs of token ids, and the ids of texts.

    Args:
        directory: the directory of the model.
        folder: has `tokens.safetensors`, (1, T) token ids by name, shortest first, and perhaps `texts.json`. It gets
            `outputs.safetensors`, (1, at most `kept`, V), `ids.json` and `class.txt`.
        auto_class: class of transformers that loads the model.
        trust: "trust" if the code in the directory may run, which only a class with Poslab needs.
        kept: number of outputs at the end of each text that are saved.
    """
    import transformers

    given = Path(folder)
    options = {"local_files_only": True, "trust_remote_code": trust == "trust"}
    model = getattr(transformers, auto_class).from_pretrained(directory, dtype=torch.float32, **options).eval()
    tokens = load_file(given / "tokens.safetensors")
    with torch.no_grad():
        outputs = {name: last_outputs(model, tokens[name], int(kept)) for name in sorted(tokens)}
    save_file(outputs, given / "outputs.safetensors")
    (given / "class.txt").write_text(type(model).__name__)
    texts = given / "texts.json"
    if (Path(directory) / "tokenizer_config.json").is_file():
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory, **options)
        given_texts = json.loads(texts.read_text(encoding="utf-8")) if texts.is_file() else ["a"]
        (given / "ids.json").write_text(json.dumps([tokenizer(text)["input_ids"] for text in given_texts]))


def last_outputs(model: Any, tokens_1T: torch.Tensor, kept: int) -> torch.Tensor:
    """Return logits or hidden states, only the last ones where there are some at each token."""
    keep = {"logits_to_keep": kept} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    outputs: torch.Tensor = model(tokens_1T, **keep)[0]
    return outputs[:, -kept:].contiguous() if outputs.dim() == 3 else outputs


if __name__ == "__main__":
    main(*sys.argv[1:])
