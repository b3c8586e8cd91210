"""Load a directory as its users will, without Poslab and without remote code, and save what it computes.

A script of its own: `python -P fresh_process.py DIRECTORY GIVEN COMPUTED`.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(directory: str, given: str, computed: str) -> None:
    """Save the last logits of token ids, and the ids of texts.

    Args:
        directory: the directory of the model.
        given: folder of `tokens.safetensors`, (1, T) token ids by name, shortest first, and perhaps `texts.json`.
        computed: folder for `logits.safetensors`, (1, at most as many as `kept`, V), `ids.json` and `class.txt`.
    """
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, local_files_only=True).eval()
    tokens = load_file(Path(given) / "tokens.safetensors")
    kept = int(tokens.pop("kept"))
    with torch.no_grad():
        logits = {name: model(tokens[name], logits_to_keep=kept).logits for name in sorted(tokens)}
    save_file(logits, Path(computed) / "logits.safetensors")
    (Path(computed) / "class.txt").write_text(type(model).__name__)
    texts = Path(given) / "texts.json"
    if texts.is_file():
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        ids = [tokenizer(text)["input_ids"] for text in json.loads(texts.read_text(encoding="utf-8"))]
        (Path(computed) / "ids.json").write_text(json.dumps(ids))


if __name__ == "__main__":
    main(*sys.argv[1:])
