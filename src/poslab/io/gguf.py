"""Positions of a GGUF file (llama.cpp) in the words of transformers, from its metadata and the tensors of its rotation.

The package `gguf` would make an array for each of 100,000 tokens, and needs installing.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from pathlib import Path
from typing import Any

CODES = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
TEXT, LIST, FLOAT32 = 8, 9, 0
"""Types of values: numbers by their codes of `struct`, texts and lists; and the type of a tensor."""

MAX_COUNT, MAX_NUMBERS = 1_000_000, 10_000
"""Most keys, tensors or entries of a list; longest list of numbers that is kept."""

INTERLEAVED = """
llama llama4 deci baichuan starcoder internlm2 minicpm xverse command-r cohere2 olmo arctic deepseek deepseek2 chatglm
glm4 granite granitemoe chameleon bailingmoe smollm3 arcee ernie4_5 ernie4_5-moe mistral3 mistral4"""
HALF_SPLIT = """
falcon grok dbrx bert modern-bert nomic-bert stablelm bitnet qwen qwen2 qwen2moe qwen3 qwen3moe qwen3next olmo2 olmoe
phi2 phi3 phimoe gemma gemma2 gemma3 gemma3n gemma4 starcoder2 openelm gptneox codeshell nemotron exaone exaone4 lfm2
minicpm3 gpt-oss glm4moe hunyuan-moe hunyuan-dense seed_oss smallthinker apertus dots1"""
WITHOUT_ROTATION = "gpt2 gptj mpt refact bloom mamba mamba2 t5 t5encoder jais rwkv6 rwkv7"
PAIRING = dict.fromkeys(INTERLEAVED.split(), "interleaved") | dict.fromkeys(HALF_SPLIT.split(), "half-split")
"""Pairs that llama.cpp rotates, by architecture (`llama_model_rope_type`). A conversion to interleaved pairs permutes
the channels of queries and keys, so that the pairs are the same as in the original model."""


class _Reader:
    """The values of a file one after another; struct.error or ValueError for what no GGUF file contains."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content, self.offset = content, 4

    def numbers(self, code: str, count: int = 1) -> list[Any]:
        values = struct.unpack_from(f"<{count}{code}", self.content, self.offset)
        self.offset += struct.calcsize(f"<{count}{code}")
        return list(values)

    def count(self, code: str = "Q", most: int = MAX_COUNT) -> int:
        (count,) = self.numbers(code)
        if count > most:
            raise ValueError(f"it has a count or a length of {count:,}")
        return int(count)

    def text(self) -> str:
        length = self.count(most=len(self.content) - self.offset)
        self.offset += length
        return self.content[self.offset - length : self.offset].decode("utf-8", "replace")

    def value(self) -> Any:
        """Return a number, a text or a list of numbers; None for another list."""
        kind = self.count("I")
        if kind == TEXT:
            return self.text()
        if kind != LIST:
            return self.numbers(CODES[kind])[0]
        kind, count = self.count("I"), self.count()
        values = [self.text() for _ in range(count)] if kind == TEXT else self.numbers(CODES[kind], count)
        return values if kind != TEXT and count <= MAX_NUMBERS else None


def read_gguf(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the metadata of a GGUF file, and its tensors by name: numbers of its rotation, None for all others.

    ValueError, naming the file, if it cannot be read or is damaged.
    """
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            reader = _Reader(content)
            if content[:4] != b"GGUF" or reader.numbers("I")[0] not in (2, 3):
                raise ValueError("it is not GGUF of version 2 or 3")
            num_tensors, num_keys = reader.count(), reader.count()
            keys = {reader.text(): reader.value() for _ in range(num_keys)}
            infos = {
                reader.text(): (reader.numbers("Q", reader.count("I", 8)), *reader.numbers("I"), *reader.numbers("Q"))
                for _ in range(num_tensors)
            }
            alignment = keys.get("general.alignment") or 32
            start, tensors = -(-reader.offset // alignment) * alignment, dict.fromkeys(infos)
            for name, (shape, kind, offset) in infos.items():
                is_rotation = re.fullmatch(r"rope_(freqs|factors_(long|short))\.weight", name)
                if is_rotation and kind == FLOAT32 and len(shape) == 1 and shape[0] <= MAX_NUMBERS:
                    reader.offset = start + offset
                    tensors[name] = reader.numbers("f", shape[0])
            return keys, tensors
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, struct.error, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"{file} is damaged: {error}") from error


def words_of_transformers(keys: dict[str, Any], tensors: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration that a GGUF file describes, under the names of transformers."""
    architecture = str(keys.get("general.architecture"))
    get = {key.removeprefix(f"{architecture}."): value for key, value in keys.items()}.get
    scaling, divisors = get("rope.scaling.type", "none"), tensors.get("rope_freqs.weight")
    rope = {
        "rope_theta": get("rope.freq_base", 10_000.0),
        "rope_type": "divisors" if divisors else "default" if scaling == "none" else scaling,
        "divisors": divisors,
        "factor": get("rope.scaling.factor"),
        "original_max_position_embeddings": get("rope.scaling.original_context_length"),
        "attention_factor": _attention_factor(scaling, get("rope.scaling.factor"), get("rope.scaling.attn_factor")),
        "beta_fast": get("rope.scaling.yarn_beta_fast"),
        "beta_slow": get("rope.scaling.yarn_beta_slow"),
        "long_factor": tensors.get("rope_factors_long.weight"),
        "short_factor": tensors.get("rope_factors_short.weight"),
    }
    if rope["long_factor"] and rope["short_factor"]:
        rope["rope_type"] = "longrope"
    rope = {key: value for key, value in rope.items() if value is not None}
    window, pattern = get("attention.sliding_window"), get("attention.sliding_window_pattern")
    of_windows = {"sliding_attention": {**rope, "rope_theta": get("rope.freq_base_swa")}, "full_attention": rope}
    config = {
        "model_type": architecture,
        "num_hidden_layers": get("block_count"),
        "hidden_size": get("embedding_length"),
        "num_attention_heads": get("attention.head_count"),
        "head_dim": get("attention.key_length"),
        "rotary_dim": get("rope.dimension_count"),
        "max_position_embeddings": get("context_length"),
        "sliding_window": window or None,
        "attn_logit_softcapping": get("attn_logit_softcapping"),
        "kv_lora_rank": get("attention.kv_lora_rank"),
        "rope_parameters": of_windows if get("rope.freq_base_swa") else rope,
    }
    if isinstance(pattern, int) and pattern > 0:  # every n-th layer is full
        pattern = [bool(layer % pattern) for layer in range(1, min(int(get("block_count") or 0), MAX_NUMBERS) + 1)]
    if window and isinstance(pattern, list):
        config["layer_types"] = ["sliding_attention" if slides else "full_attention" for slides in pattern]
    return {key: value for key, value in config.items() if value is not None}


def _attention_factor(scaling: Any, factor: Any, given: Any) -> Any:
    """Return the factor on what is rotated: llama.cpp multiplies YaRN's own by the one that is given."""
    if scaling != "yarn" or not all(isinstance(value, int | float) and value > 0 for value in (factor, given)):
        return given
    return given * (0.1 * math.log(factor) + 1)
