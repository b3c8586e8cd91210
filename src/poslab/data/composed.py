"""Check that the choices Hydra composed go together, and resolve them into plain data."""

import hashlib
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import DictConfig, OmegaConf

from poslab.configuration.build import build, full_keys, is_pretrained, nearest
from poslab.configuration.command_line import key_of, pip_install, poslab_command
from poslab.configuration.labels import choice_file, choice_of, without_scratch_default
from poslab.data import cache
from poslab.data.source import default_cache
from poslab.io.files import in_package, package_folder


def divided(number: Any, divisor: int, least: int = 1) -> int:
    """Return a number divided by another, rounded down, at least `least`: `${divided:${dataset.sequence_length},16}`.

    Models at any size have windows that are shares of lengths. A number that is not an integer gives `least`: the check
    of its own key then reports it.
    """
    return max(least, number // divisor) if isinstance(number, int) else least


def groups(heads: Any, size: int) -> int:
    """Return the most groups of equally many heads, at least `size` in each: `${groups:${model.num_heads},4}`.

    Heads that are too few, or not an integer, are one group.
    """
    return next(number for number in range(divided(heads, size), 0, -1) if number == 1 or heads % number == 0)


OmegaConf.register_new_resolver("divided", divided, replace=True)
OmegaConf.register_new_resolver("groups", groups, replace=True)


def resolved(composed: DictConfig) -> dict[str, Any]:
    """Return a composed configuration with its interpolations resolved; ValueError if the dataset cannot be built.

    Where the sequence length of an algorithmic dataset or of one of patches is null, it is its longest training
    example's, which encodings then follow too, as they follow the grid of its patches. Values that a pretrained model
    gives itself are left out. The key `trust` decides which classes are built, so it must be the user's.
    """
    follows = "dataset" in composed and any(key in composed.dataset for key in ("task", "patch"))
    if follows and None in (composed.dataset.get("sequence_length", 0), composed.dataset.get("grid", 0)):
        from poslab.data.algorithmic.examples import AlgorithmicExamples
        from poslab.data.patched.source import PatchedSource

        dataset, trust = OmegaConf.to_container(composed.dataset, resolve=True), composed.get("trust") or ()
        assert isinstance(dataset, dict)
        node = {key: value for key, value in dataset.items() if key != "sequence_length"}
        packages = [trust] if isinstance(trust, str) else list(trust)
        kind = AlgorithmicExamples | PatchedSource
        source = build({"trust": packages, "dataset": node}, "dataset", kind, sequence_length=0)
        if composed.dataset.sequence_length is None:
            composed.dataset.sequence_length = source.most_tokens_trained
        if isinstance(source, PatchedSource):
            composed.dataset.grid = list(source.grid_trained)
    config = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(config, dict)
    plain: dict[str, Any] = {str(key): value for key, value in config.items()}
    if is_pretrained(plain.get("model")):
        return _of_pretrained(plain, OmegaConf.to_container(composed, resolve=False))
    return plain


def _of_pretrained(config: dict[str, Any], unresolved: Any) -> dict[str, Any]:
    """Return the configuration of a run of a pretrained model, which gives some values itself, and sizes always."""
    config = without_scratch_default(config, unresolved)
    for size in ("d_model", "num_layers", "num_heads"):  # of debug= and experiment=
        config["model"].pop(size, None)
    path = config["model"].get("path")
    if isinstance(path, str) and path:
        with full_keys("model", config):
            path = in_package(path)
            folder = _existing(path)
            if folder is not None and folder.suffix == ".gguf" and folder.is_file():
                folder = converted(folder)
        if folder is not None and folder.is_dir():
            path = str(folder.absolute())
            if "tokenizer" in unresolved["dataset"]:
                tokenizer = folder.absolute() / "tokenizer.json"
                if not (folder / "config.json").exists():
                    raise ValueError(f"model.path={path} has no pretrained model: there is no config.json")
                if not tokenizer.is_file():
                    raise ValueError(
                        f"model.path={path} must have a tokenizer.json: copy it from where the model is from, or write "
                        "it with AutoTokenizer.from_pretrained(path).save_pretrained(path) of transformers"
                    )
                config["dataset"].setdefault("tokenizer", str(tokenizer))
        config["model"]["path"] = path
    return with_rate(config)


def with_rate(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration with the default learning rate of its pretrained model, if that is on this machine."""
    path, optimizer = config["model"].get("path"), config.get("optimizer", {})
    if "_target_" not in optimizer or "lr" in optimizer or not isinstance(path, str) or not path:
        return config
    usual = float(choice_file("optimizer", choice_of(config, "optimizer").name).get("lr", 2e-3))
    fraction = rate_fraction(path)
    lr = {} if fraction is None else {"lr": rate(usual, fraction)}
    return {**config, "optimizer": {**optimizer, **lr}}


def _existing(path: str) -> Path | None:
    """Return what is at a path; None if there is nothing, or the system has no such name or home folder."""
    try:
        folder = Path(path).expanduser()
        return folder if folder.exists() else None
    except (OSError, RuntimeError):
        return None


def check_choices(conf: Path, choices: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Raise ValueError for choices that do not go together.

    These are a size, or the positions of a model, with a pretrained one, the name of a pretrained one with a new model
    or with its path, and a dataset of another family than an experiment has settings for.
    """
    model, pretrained, size = (choices.get(group) for group in ("model", "pretrained", "size"))
    experiment, family = choices.get("experiment"), choices.get("family")
    if model == "pretrained" and size is not None:
        raise ValueError(f"size={size} goes with Poslab's models: a pretrained model has its own size")
    if pretrained is not None and model != "pretrained":
        raise ValueError(f"pretrained={pretrained} needs model=pretrained, got model={model}")
    if pretrained is not None and {"pretrained", "model.path"} <= set(map(key_of, overrides)):
        raise ValueError(f"pretrained={pretrained} and model.path= both name the pretrained model: give one of the two")
    if model == "pretrained" and str(experiment).startswith("models/"):
        raise ValueError(
            f"experiment={experiment} goes with Poslab's models: a pretrained model has its own heads; choose "
            "encoding= and its keys as the file has them"
        )
    if str(experiment).startswith(("families/", "datasets/")):
        raise ValueError(f"experiment={experiment} is a part of experiments, and not one itself")
    files = sorted((conf / "experiment" / "families").glob(f"{experiment}_*.yaml"))
    if files and family not in (families := [file.stem.removeprefix(f"{experiment}_") for file in files]):
        raise ValueError(
            f"experiment={experiment} must go with a dataset of {' or '.join(families)}, got "
            f"dataset={choices.get('dataset')}: {poslab_command('train')} --help dataset lists them"
        )


def check_added_keys(known: Sequence[str], composed: DictConfig, overrides: Sequence[str]) -> None:
    """Raise ValueError for a key at the top level that an override adds (`+foo=1`) and that nothing reads.

    `composed` is not resolved: another value may refer to an added key, as in `${foo}`.
    """
    read = {part for key in known for part in re.split(r"[./@]", key)}  # `encoding@swap` makes `swap`
    read.update(re.findall(r"\$\{(\w+)", str(OmegaConf.to_container(composed, resolve=False))))
    for override in overrides:
        key = key_of(override)
        if override.startswith("+") and re.split(r"[./@]", key)[0] not in read:
            hint = nearest(key, known) or "; hint: --help lists the keys"
            raise ValueError(f"unknown key {override.partition('=')[0]!r}{hint}")


NEEDED = ("transformers", "gguf", "accelerate")


def converted(file: Path) -> Path:
    """Return a folder with the model and the tokenizer of a GGUF file, which is made unless it is in the cache.

    Weights in blocks of few bits become float32, each the number that its block represents. ValueError, starting with
    `path`, if a package is missing, or transformers cannot read the file or its rotation.
    """
    for name in NEEDED:
        if package_folder(name) is None:
            raise ValueError(f"path={file} needs the package {name}: {pip_install('gguf')}")
    scaled = _scaled_rotation(file)
    with file.open("rb") as opened:
        content = hashlib.file_digest(opened, "sha256").hexdigest()
    folder = default_cache() / f"{file.stem}-{cache.key({'gguf': content})}"
    if not cache.verify_or_discard(folder):
        with cache.new_folder(folder) as temporary:
            _convert(file, temporary, scaled)
    return folder


def _convert(file: Path, folder: Path, rope_parameters: dict[str, Any] | None) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    source: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
    try:
        packed = GgufConfig(gguf_file=file.name, dequantize=True)
        with TemporaryDirectory() as alone:  # transformers would read adapters and tokenizers next to the file
            Path(alone, file.name).symlink_to(file.resolve())
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                alone, **source, dtype=torch.float32, quantization_config=packed, output_loading_info=True
            )
            model, info = loaded
            if missing := sorted(info["missing_keys"]):
                raise ValueError(f"it lacks {missing[0]}")
            tokenizer = AutoTokenizer.from_pretrained(alone, **source)
    except BaseException as error:  # whatever transformers meets in the file, panics of Rust too
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split("\n")[0].split()) or type(error).__name__
        raise ValueError(f"path={file} cannot be read by transformers: {reason}") from error
    finally:
        logging.enable_progress_bar()
    if rope_parameters is not None:
        model.config.rope_parameters = rope_parameters
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _scaled_rotation(file: Path) -> dict[str, Any] | None:
    """Return `rope_parameters` of a rotation of which transformers reads only the base; None if it has no scaling.

    Divisors of the frequencies, as Llama 3 has them in its tensor `rope_freqs`, become a LongRoPE of the same divisors
    for all lengths, which is exact. ValueError, starting with `path`, for scalings that no class reads.
    """
    from poslab.io.gguf import read_gguf, words_of_transformers

    try:
        keys, tensors = read_gguf(file)
    except ValueError as error:
        raise ValueError(f"path={error}") from error
    words = words_of_transformers(keys, tensors)
    rope = dict(words["rope_parameters"])
    if "rope_theta" in (of_windows := rope.get("sliding_attention", {})) and of_windows["rope_theta"] == 10_000:
        rope = dict(rope["full_attention"])  # as in Gemma 3, whose classes have this base in layers with a window
        rope["rope_type"] = "default" if rope["rope_type"] == "default" else f"{rope['rope_type']} of some layers"
    divisors, kind = rope.pop("divisors", None) or [1.0], rope.get("rope_type")
    others = [name for name in tensors if name.startswith("rope_factors_")]
    others += [key for key, value in keys.items() if key.endswith(".rope.scale_linear") and value != 1.0]
    is_divided = any(divisor != 1.0 for divisor in divisors)
    is_known = kind in ("default", "divisors") or (kind in ("linear", "yarn") and not is_divided)
    if others or not is_known:
        raise ValueError(
            f"path={file} has a rotation that transformers does not read ({', '.join(others) or kind}): give the "
            "folder of the model"
        )
    if kind in ("linear", "yarn"):
        return rope
    if not is_divided and rope.get("attention_factor", 1.0) == 1.0:
        return None
    length = words.get("max_position_embeddings", 2048)
    plain = {"attention_factor": 1.0, "factor": 1.0, "original_max_position_embeddings": length, **rope}
    return {**plain, "rope_type": "longrope", "short_factor": divisors, "long_factor": divisors}


LARGEST_AT_A_TENTH = 135e6
"""Weights of the largest pretrained model that learns at a tenth of the rate of a new one."""


def rate(usual: float, fraction: float) -> float:
    """Return the learning rate of a pretrained model, of two digits, from the rate of a new one."""
    return float(f"{usual * fraction:.2g}")


def rate_fraction(path: str) -> float | None:
    """Return the default learning rate of a pretrained model over the rate of a new one, by its number of weights N.

        0.1 min(1, sqrt(135e6 / N))

    With AdamW's 2e-3 that is 2e-4 for SmolLM2-135M, whose validation loss rises at 2e-3, 2.8e-5 for 7 billion weights
    and 9e-6 for 65 billion. A model of the hub that is not on this machine has None.

    Source: Chen et al., "Extending Context Window of Large Language Models via Positional Interpolation" (2023),
        section 3.1: 2e-5 for 7 and 13 billion weights, 1e-5 for 33 and 65 billion. We interpolate by the square root.
    """
    folder = Path(path)
    if not path or not os.path.isdir(path):
        try:
            from huggingface_hub import try_to_load_from_cache

            cached = try_to_load_from_cache(path, "config.json")
        except (ImportError, ValueError):  # which is reported where the model is read
            return None
        if not isinstance(cached, str):
            return None
        folder = Path(cached).parent
    files = filter(Path.is_file, folder.glob("model*.safetensors"))
    return 0.1 * min(1.0, math.sqrt(LARGEST_AT_A_TENTH / max(1, sum(map(_number_of_weights, files)))))


def _number_of_weights(file: Path) -> int:
    """Return how many numbers a file of weights has; 0 for a damaged one, which is reported where it is read."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        return 0
    try:
        with safe_open(file, framework="numpy") as weights:
            return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    except (SafetensorError, OSError):
        return 0
