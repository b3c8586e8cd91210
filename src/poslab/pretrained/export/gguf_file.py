"""A language model as a GGUF file, for llama.cpp: its rotation as a base, by name, or frequency by frequency."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poslab.configuration.command_line import pip_install
from poslab.data.tokenizers import END_OF_DOCUMENT, Tokenizer
from poslab.encodings.frequencies import inverse_frequencies
from poslab.pretrained.export import Form
from poslab.pretrained.export.directory import fast_tokenizer
from poslab.pretrained.families import head_dims, rotation

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen3": "qwen3", "gemma": "gemma"}
"""Architecture of llama.cpp by `model_type`."""

WITH_FREQUENCIES = ("llama",)
"""Architectures that rotate by the tensor `rope_freqs`; they take neighbouring channels as pairs."""

ACTIVATIONS = {"llama": ("silu", "swish"), "qwen3": ("silu", "swish"), "gemma": ("gelu_pytorch_tanh", "gelu")}
"""Activations of the feed-forward layers of an architecture, which no file names. Gemma takes the two for the same."""

STILL = 1e14  # divisor of a frequency that is 0: in a text of a million tokens the angle ends at 1e-8
BETAS = (32.0, 1.0)  # bounds of YaRN in llama.cpp, which does not read them from files of these architectures


@dataclass(frozen=True)
class ExportedFile:
    """A GGUF file that was written, its architecture in llama.cpp, and sentences on its rotation and its tokenizer."""

    path: Path
    architecture: str
    notes: tuple[str, ...]


def write_gguf(form: Form, to: Path, tokenizer: Tokenizer | None) -> ExportedFile:
    """Write a model in float32, or float16 if it is.

    ValueError for a class or a rotation that llama.cpp does not have, or a file that cannot be written.

    Args:
        form: the model as a class of transformers.
        to: a new file.
        tokenizer: the tokenizer; None writes none, and llama.cpp then reads token ids.
    """
    try:
        import gguf
    except ImportError as error:
        raise ValueError(f"to={to} needs gguf: {pip_install('gguf')}") from error
    config = form.config
    if form.needs_poslab or config.model_type not in ARCHITECTURES:
        reason = f"it is a {form.model_class.__name__}"
        if form.needs_poslab and form.notes:
            reason = form.notes[0].removeprefix("It needs Poslab: ").removesuffix(".")
        raise ValueError(f"to={to}: llama.cpp has no such model, only Llama, Mistral, Qwen3 and Gemma: {reason}")
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()) or (
        config.model_type == "mistral" and config.sliding_window is not None
    ):
        raise ValueError(f"to={to}: llama.cpp has no windows in this class, whose attention would see all tokens")
    architecture = ARCHITECTURES[config.model_type]
    if config.hidden_act not in ACTIVATIONS[architecture]:
        raise ValueError(
            f"to={to}: {architecture} of llama.cpp has hidden_act={ACTIVATIONS[architecture][0]}, not "
            f"{config.hidden_act}"
        )
    writer = gguf.GGUFWriter(None, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(form.max_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dims(config)[1])
    writer.add_value_length(head_dims(config)[1])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    notes = (_add_rotation(writer, config, architecture, to), _add_tokenizer(writer, tokenizer))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], config.num_hidden_layers)
    for name, weight in form.weights.items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        name_there = names.get_name(name, (".weight", ".bias"))
        if name_there is None or (name.endswith(".bias") and architecture != "llama"):
            raise ValueError(f"to={to}: llama.cpp has no weight {name} in this class")
        writer.add_tensor(name_there, _values(name, weight, config))
    try:
        with TemporaryDirectory(dir=to.parent, prefix=f".{to.name}.") as folder:
            writer.write_header_to_file(Path(folder, to.name))
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            Path(folder, to.name).replace(to)
    except OSError as error:
        raise ValueError(f"to={to} cannot be written: {error.strerror}") from error
    return ExportedFile(to, architecture, notes)


def _values(name: str, weight: Tensor, config: Any) -> NDArray[Any]:
    """Return a weight as llama.cpp has it."""
    dtype = torch.float16 if weight.dtype == torch.float16 else torch.float32
    values: NDArray[Any] = weight.detach().cpu().to(dtype).numpy()
    if ARCHITECTURES[config.model_type] in WITH_FREQUENCIES and ("q_proj." in name or "k_proj." in name):
        heads = config.num_attention_heads if "q_proj." in name else config.num_key_value_heads
        values = values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
    if config.model_type == "gemma" and name.endswith("norm.weight"):
        values = values + 1  # the class adds it to what it multiplies by
    return values.astype(np.float32) if values.ndim == 1 else values


def _add_rotation(writer: Any, config: Any, architecture: str, to: Path) -> str:
    """Write the rotation of a configuration; return a sentence on it."""
    import gguf

    rope, end = config.rope_parameters, config.max_position_embeddings
    (rotated, factor), (short, _) = rotation(config, 1.0, 2 * end), rotation(config, 1.0, 1)
    if not torch.equal(rotated, short):
        raise ValueError(f"to={to}: a rotation that changes with the length of the text is not one of llama.cpp")
    channels, kind = head_dims(config)[1], rope["rope_type"]
    betas = rope.get("beta_fast") or BETAS[0], rope.get("beta_slow") or BETAS[1]  # null is the default
    writer.add_rope_dimension_count(channels)
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))
    elif kind == "yarn" and rope.get("truncate", True) and betas == BETAS:
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(float(rope["factor"]))
        writer.add_rope_scaling_orig_ctx_len(int(rope["original_max_position_embeddings"]))
        writer.add_rope_scaling_attn_factors(factor / (0.1 * math.log(rope["factor"]) + 1))
    elif kind != "default":
        if architecture not in WITH_FREQUENCIES:
            raise ValueError(f"to={to}: {architecture} of llama.cpp has a base, linear and YaRN, not rope_type {kind}")
        default = inverse_frequencies(channels, float(rope["rope_theta"])).double()
        divisors = (default / rotated.double()).clamp_max(STILL).float()
        writer.add_tensor("rope_freqs.weight", divisors.numpy())
        writer.add_rope_scaling_attn_factors(factor)
        return "Its frequencies are the tensor rope_freqs."
    scaling = "" if kind == "default" else f" and the scaling {kind}"
    return f"It rotates with a base of {rope['rope_theta']:,g}{scaling}."


def _add_tokenizer(writer: Any, tokenizer: Tokenizer | None) -> str:
    """Write a tokenizer of bytes, or of byte pairs in the words of GPT-2; return a sentence on it."""
    content = {} if tokenizer is None else json.loads(fast_tokenizer(tokenizer, 1).backend_tokenizer.to_str())
    merges = [" ".join(pair) for pair in content.get("model", {}).get("merges", ())]
    words = (content.get("pre_tokenizer") or {}).get("pretokenizers", [{}])[-1]
    if tokenizer is None or content["normalizer"] is not None or (merges and not words.get("use_regex")):
        writer.add_tokenizer_model("none")
        return "It has no tokenizer: llama.cpp reads token ids."
    known = {**content["model"]["vocab"], END_OF_DOCUMENT: tokenizer.end_id}
    vocabulary = sorted(known.items(), key=lambda item: item[1])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([text for text, _ in vocabulary])
    writer.add_token_types([3 if number == tokenizer.end_id else 1 for _, number in vocabulary])  # control, normal
    writer.add_token_merges(merges or [f"{END_OF_DOCUMENT} {END_OF_DOCUMENT}"])  # llama.cpp wants some: never used
    writer.add_bos_token_id(tokenizer.end_id)
    writer.add_eos_token_id(tokenizer.end_id)
    writer.add_add_bos_token(False)
    return "It has its tokenizer."
