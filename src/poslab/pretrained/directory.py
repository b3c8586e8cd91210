"""Pretrained models on the disk, read without running anything that they contain, and the transformers package.

Reading never downloads: a run that someone else has trained may name any model of the hub. `download` does, and is for
what the user has typed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poslab.arguments import shown
from poslab.configuration.command_line import pip_install
from poslab.io.files import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

MIN_VERSION = "5.20"  # earliest version of transformers that Poslab supports


def require_transformers(purpose: str) -> None:
    """Raise ValueError, starting with the purpose, if transformers is missing or of another major version."""
    try:
        installed = version("transformers")
    except PackageNotFoundError:
        installed = "none"
    major, _, rest = installed.partition(".")
    if major != "5" or int(rest.partition(".")[0]) < 20:
        raise ValueError(
            f"{purpose} needs transformers from {MIN_VERSION} to below 6, got {installed}: {pip_install('pretrained')}"
        )


def library_model(model: Any) -> Any:
    """Return a model of transformers without a wrapper of `torch.compile` or PEFT; ValueError for anything else."""
    from transformers import PreTrainedModel

    model = getattr(model, "_orig_mod", model)
    if hasattr(model, "get_base_model"):
        model = model.get_base_model()
    if not isinstance(model, PreTrainedModel):
        raise ValueError(f"model must be one of transformers, got {type(model).__name__}")
    return model


CONFIG, TOKENIZER, INDEX = "config.json", "tokenizer.json", "model.safetensors.index.json"
WEIGHTS, ADAPTER = ".safetensors", "adapter_config.json"

TOKENIZER_FILES = (
    *(TOKENIZER, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
    *("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model"),
)
"""Files in which models keep their tokenizers."""

DTYPES = ("F64", "F32", "F16", "BF16")
"""Types of weights in safetensors that are plain numbers: others are quantised, and need their scales."""

MAX_LAYERS, MAX_ENTRIES, MAX_LABELS = 1000, 10_000, 100_000
"""Most layers, entries of a list, and labels of a configuration. Published models have fewer than 200 layers and about
22,000 labels; transformers takes a minute for 2 million factors of `rope_scaling`, and makes a name for each label."""


def download(path: str) -> None:
    """Bring a model of the hub into the cache of this machine, or up to date there; do nothing for a folder.

    ValueError as `configuration` does.
    """
    if is_folder(path):
        return
    require_transformers("model=pretrained")
    from huggingface_hub import snapshot_download

    with errors_of_library(path, "is not a folder here, and cannot be downloaded from the hub"):
        snapshot_download(path, allow_patterns=[CONFIG, *TOKENIZER_FILES, INDEX, f"model*{WEIGHTS}"])


def configuration(path: str) -> PreTrainedConfig:
    """Return the configuration of a pretrained model.

    ValueError in one sentence that starts with `path`, if there is no such model, a file is damaged, or weights would
    be read that can contain code.

    Args:
        path: folder with `config.json` and weights in safetensors, or a name of the hub whose files are in the cache.
    """
    require_transformers("model=pretrained")
    from transformers import AutoConfig

    _check_files(Path(path) if is_folder(path) else snapshot(path), path)
    with errors_of_library(path):
        config: PreTrainedConfig = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    return config


def without_weights(auto_class: Any, config: PreTrainedConfig, path: str) -> Any:
    """Return a model in float32 without memory for weights; arguments and errors are as in `with_weights`."""
    import torch

    with errors_of_library(path), torch.device("meta"):
        return auto_class.from_config(config, dtype=torch.float32, attn_implementation="eager")


def with_weights(auto_class: Any, path: str, config: PreTrainedConfig, layers: str) -> tuple[Any, bool]:
    """Return a model in float32 with the weights of a folder or of the cache, and True if its head is among them.

    A missing head gets new weights. Other heads, such as the one for next sentences, are left out, but no weights of
    layers. Errors are as in `configuration`.

    Args:
        auto_class: class of transformers that chooses the model, with a head, by its configuration.
        path, config: as in `configuration`.
        layers: name of the layers among the weights.
    """
    import torch

    numbers = sum(weight.numel() for weight in without_weights(auto_class, config, path).base_model.parameters())
    files = _weight_files(Path(path) if is_folder(path) else snapshot(path))
    if numbers > (size := sum(file.stat().st_size for file in files)):  # those that are missing would take memory
        raise ValueError(
            f"path={path} is damaged: its {CONFIG} describes a model of {numbers:,} numbers, and its weights have "
            f"{size:,} bytes"
        )
    with errors_of_library(path):
        model, info = auto_class.from_pretrained(
            path,
            config=config,
            dtype=torch.float32,
            attn_implementation="eager",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below
        )
    for name, stored_shape, shape in sorted(info["mismatched_keys"]):
        raise ValueError(
            f"path={path} is damaged: its weight {name} has shape {tuple(stored_shape)}, and its {CONFIG} says "
            f"{tuple(shape)}"
        )
    missing: set[str] = info["missing_keys"]
    if lost := sorted(key for key in missing if key.startswith(f"{model.base_model_prefix}.")):
        raise ValueError(f"path={path} is damaged: its weights lack {lost[0]}")
    if others := sorted(key for key in info["unexpected_keys"] if f"{layers}." in key):
        raise ValueError(f"path={path} is damaged: {CONFIG} has no layer for its weights {others[0]}")
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():  # which attention may hide: some kernels leave out what is not a number
            raise ValueError(f"path={path} is damaged: its weight {name} has numbers that are not finite")
    return model, not missing


def tokenizer_file(path: str) -> Path:
    """Return the file of a model's tokenizer, which may not exist; errors as of `configuration`."""
    if is_folder(path):
        return Path(path) / TOKENIZER
    from transformers.utils.hub import cached_file

    with errors_of_library(path):
        return Path(str(cached_file(path, TOKENIZER, local_files_only=True)))


def is_folder(path: Any) -> bool:
    """Return True for a folder, False for what may be a name of the hub.

    ValueError, starting with `path`, for anything else.
    """
    if isinstance(path, str) and os.path.isdir(path):
        return True
    words = path.split("/") if isinstance(path, str) else []
    is_name = 1 <= len(words) <= 2 and all(word and word[0] not in ".~" and "\\" not in word for word in words)
    if not is_name or os.path.exists(path):
        raise ValueError(
            f"path must be a folder with {CONFIG} and weights in safetensors, or the name of a model on the hub, "
            f"got {shown(path)}"
        )
    return False


def snapshot(name: str) -> Path:
    """Return the folder of a model of the hub in the cache of this machine; ValueError if it is not there."""
    from huggingface_hub import constants, try_to_load_from_cache

    with errors_of_library(name):
        file = try_to_load_from_cache(name, CONFIG, cache_dir=constants.HF_HUB_CACHE)
    if not isinstance(file, str):
        raise ValueError(
            f"path={name} is not a folder, and no model of the hub by that name is on this machine: give the folder of "
            f"the model, or download it with hf download {name}"
        )
    return Path(file).parent


def _check_files(folder: Path, path: Any) -> None:
    """Raise ValueError, starting with a path, unless the files in a folder are a model that has no code."""
    try:
        names = sorted(file.name for file in folder.iterdir() if file.is_file())
    except OSError as error:
        raise ValueError(f"path={folder} cannot be read: {error.strerror}") from error
    if CONFIG not in names:
        raise ValueError(f"path={path} has no pretrained model: there is no {CONFIG}")
    if ADAPTER in names:  # which transformers would add to the weights, if peft is there
        raise ValueError(f"path={path} must contain a whole model, and {ADAPTER} is of an adapter: merge it first")
    for file in map(folder.joinpath, names):
        check_link(file, path)
    check_configuration(read_json(folder / CONFIG), path)
    if not any(name.endswith(WEIGHTS) for name in names):
        others = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf"))]
        instead = f": {others[0]} could run code, or is of another library" if others else ""
        raise ValueError(f"path={path} must contain weights in safetensors{instead}")
    for file in _weight_files(folder):
        _check_dtypes(file, path)
    if INDEX not in names:
        return
    index = read_json(folder / INDEX)
    parts = index.get("weight_map")
    if not isinstance(parts, dict) or not parts or not isinstance(index.get("metadata"), dict):
        raise ValueError(f"path={path} is damaged: {INDEX} must have metadata and a weight_map")
    for name in parts.values():  # transformers would open files elsewhere, and pickles
        if not isinstance(name, str) or not name.endswith(WEIGHTS):
            raise ValueError(f"path={path} must contain weights in safetensors, and {INDEX} names {name!r}")
        if name not in names:
            raise ValueError(f"path={path} is damaged: {INDEX} names {name}, which is not there")


def check_link(file: Path, path: Any) -> None:
    """Raise ValueError, starting with a path, for a symbolic link unless it is of the hub's library."""
    blobs = file.parent.resolve().parent.parent / "blobs"  # where the library keeps the files of a snapshot
    if file.is_symlink() and file.resolve().parent != blobs:
        raise ValueError(f"path={path} must contain plain files, and {file.name} is a symbolic link")


def check_configuration(config: dict[str, Any], path: Any) -> None:
    """Raise ValueError, starting with a path, for a configuration that would take transformers too long to read."""
    limits = {**dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers"), MAX_LAYERS), "num_labels": MAX_LABELS}
    nodes: list[Any] = [config]
    for node in nodes:
        for key, limit in limits.items() if isinstance(node, dict) else ():
            if isinstance(number := node.get(key), int) and number > limit:
                raise ValueError(f"path={path} is damaged: {key} must be at most {limit:,}, got {number}")
        if isinstance(node, list) and len(node) > MAX_ENTRIES:
            raise ValueError(f"path={path} is damaged: {CONFIG} has a list of {len(node):,} entries")
        nodes += node if isinstance(node, list) else node.values() if isinstance(node, dict) else ()


def _check_dtypes(file: Path, path: Any) -> None:
    """Raise ValueError, starting with a path, for quantised weights, which are not numbers without their scales.

    Masks and position ids, which older files contain too, are integers.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as weights:
            dtypes = {name: weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"path={path} is damaged: {file.name} cannot be read: {error}") from error
    for name, dtype in dtypes.items():
        if name.endswith(".weight") and dtype not in DTYPES:
            raise ValueError(f"path={path} must contain weights of type {', '.join(DTYPES)}, and {name} is {dtype}")


def _weight_files(folder: Path) -> list[Path]:
    """Return the files of weights in a folder, only with the names that transformers gives if there are some."""
    return sorted(folder.glob(f"model*{WEIGHTS}")) or sorted(folder.glob(f"*{WEIGHTS}"))


@contextmanager
def errors_of_library(path: str, failed: str = "cannot be read by transformers") -> Iterator[None]:
    """Raise whatever transformers raises for files or the network as a ValueError of a sentence, and print nothing."""
    try:
        with quiet_library():
            yield
    except Exception as error:
        lines = [" ".join(line.split()) for line in str(error).removeprefix("Got: ").split("\n") if line.strip()]
        reason = " ".join(lines[:2]) if lines and lines[0].endswith(":") else "".join(lines[:1])  # ":" announces it
        if isinstance(error, LookupError) or not reason:
            reason = f"{type(error).__name__}: {reason}"
        raise ValueError(f"path={path} {failed}: {reason}") from error


@contextmanager
def quiet_library() -> Iterator[None]:
    """Let transformers print nothing: its reports of weights that it leaves out span many lines."""
    from transformers.utils import logging

    level, shows_progress = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(50)  # critical
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shows_progress:
            logging.enable_progress_bar()
