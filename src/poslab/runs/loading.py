"""Trained models of run directories: loaded, and served. Dimension letters: B batch, T tokens, V vocabulary."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from poslab.configuration.build import full_keys, is_pretrained
from poslab.data.tokenizers import Tokenizer, load_tokenizer
from poslab.encodings import LayerPattern
from poslab.models import Model
from poslab.pretrained.export.directory import Exported, check_target, form_of, write_directory
from poslab.pretrained.export.gguf_file import ExportedFile, write_gguf
from poslab.pretrained.export.hosted import exchange_of
from poslab.pretrained.hosted import HostedModel
from poslab.runs.checkpoint import check_configuration, checkpoint_file, load_checkpoint, model_weights
from poslab.runs.directory import RunDirectory
from poslab.runs.recipe import Recipe, recipe_of
from poslab.tasks.task import Prediction, Search

ENCODINGS = "encodings."  # prefix of the names of the parameters of encodings and temperatures


def load(
    run: str | Path,
    device: torch.device | str = "cpu",
    swap: Mapping[str, Mapping[str, Any] | None] | None = None,
    trust: str | Sequence[str] = (),
) -> Model:
    """Load the trained model of a run, in evaluation mode.

    An untrusted run is safe to load: nothing in it is run as code, and it needs no more memory than its checkpoint has
    bytes on the disk.

        model = poslab.load("outputs/2026-01-31_12-00-00_python_docs_rotary")
        tokenizer = load_tokenizer("outputs/2026-01-31_12-00-00_python_docs_rotary")
        logits_BTV = model(torch.from_numpy(tokenizer.encode("A list is")).long().unsqueeze(0))

    Args:
        run: run directory, for its best checkpoint by validation, or one of its checkpoints.
        device: device of the model.
        swap: another encoding, positions or temperature instead of the run's own, by group, as in conf/:
            `{"encoding": {"_target_": "poslab.encodings.NoPosition"}}`. Parameters keep their weights where class and
            shape are the same, and are otherwise as at initialisation: `untrained` counts those.
        trust: package, or packages, other than Poslab, that define parts of the run, and are imported.

    Returns:
        The model with its trained weights: float32, or bfloat16 after `trainer.precision=bf16-true`.

    Raises:
        ValueError: if there is no such run, or one of its files is missing, damaged, of something else, or contains
            code; if its configuration has changed since the checkpoint was written;
            if it names a class of a package that is not trusted; or for a swap that does not fit the model.
    """
    directory = RunDirectory.of(run, trust)
    recipe = recipe_of(directory)
    swapped = recipe if not swap else Recipe.of({**recipe.config, **swap})
    if isinstance(recipe.model.encoding, LayerPattern) and not isinstance(swapped.model.encoding, LayerPattern):
        raise ValueError(
            "swap must be a pattern of encodings, as the run has one (encoding=per_layer and the like): a single "
            "encoding would act on all layers alike"
        )
    file = checkpoint_file(run)
    checkpoint = load_checkpoint(file)
    check_configuration(directory, checkpoint)
    if not (weights := model_weights(checkpoint)):
        raise ValueError(f"the checkpoint {file} has no weights of a model")
    tokenizer, record = load_tokenizer(directory.path), recipe.task.record_type.read(directory.task_file)
    known = (tokenizer.vocab_size + record.extra_tokens, record.outputs, tokenizer.digits, record.patch_width)
    if not _fits(swapped, known, weights, whole=not swap):
        raise ValueError(f"the checkpoint {file} does not fit the model in {directory.config_file}")
    model = _built(swapped, known)
    model.to(next(iter(weights.values())).dtype)
    if swap and len(model.stacks) > 1:
        raise ValueError("swap supports models of one stack, and this one has an encoder and a decoder")
    if swap:
        with torch.device("meta"):
            original = _built(recipe, known)
        fresh = {name: weight for name, weight in model.state_dict().items() if name.startswith(ENCODINGS)}
        kept = {
            name: weights[name]
            for name, weight in fresh.items()
            if name in weights and weights[name].shape == weight.shape and _same_owners(name, original, model)
        }
        weights = _without_encodings(weights) | fresh | kept
    model.load_state_dict(weights)
    return model.to(device).eval()


def _built(recipe: Recipe, known: tuple[Any, ...]) -> Model:
    """Build a model; raise ValueError with the full key of an argument that does not fit."""
    with full_keys("model", recipe.config):
        return recipe.model.build(*known)


def _fits(recipe: Recipe, known: tuple[Any, ...], weights: Mapping[str, Tensor], whole: bool) -> bool:
    """Return True if a model has exactly these weights, at the cost of one that has, whatever its configuration.

    `known` are the arguments of `ModelRecipe.build`. Unless `whole`, the weights of encodings are not compared.
    """
    # A size is a dimension of a weight, or counts weights. An integer beyond all of these, such as a long window, may
    # be any number, unless it is a size after all: then the weights differ under the largest that it could be.
    largest = max([len(weights), *(size for weight in weights.values() for size in weight.shape)])
    cut = {**recipe.config, "model": _cut(recipe.config["model"], largest)}
    try:
        if cut != recipe.config and not _has_weights(Recipe.of(cut), known, weights, whole):
            return False
    except ValueError:  # sizes that do not fit together any more
        return False
    return _has_weights(recipe, known, weights, whole)


def _cut(node: Any, largest: int) -> Any:
    """Return a node with no integer above the largest."""
    if isinstance(node, Mapping):
        return {key: _cut(value, largest) for key, value in node.items()}
    if isinstance(node, list):
        return [_cut(value, largest) for value in node]
    return min(node, largest) if isinstance(node, int) and not isinstance(node, bool) else node


def _has_weights(recipe: Recipe, known: tuple[Any, ...], weights: Mapping[str, Tensor], whole: bool) -> bool:
    """Return True if a model has exactly these weights, without making any of them; arguments as of `_fits`."""
    try:
        with torch.device("meta"), _few_parts(PARTS + PARTS_OF_A_WEIGHT * len(weights)):
            expected = _built(recipe, known).state_dict()
    except RuntimeError:  # sizes that fit no memory, or too many parts
        return False
    if not whole:
        expected, weights = _without_encodings(expected), _without_encodings(weights)
    return _kinds(expected) == _kinds(weights)


def _kinds(weights: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, bool]]:
    """Return the shape of each weight, and True if its elements are floating-point numbers."""
    return {name: (weight.shape, weight.is_floating_point()) for name, weight in weights.items()}


PARTS, PARTS_OF_A_WEIGHT = 1000, 10
"""Most modules and parameters of a model, in all and in addition for each of its weights. Poslab's have 3 for each."""


@contextmanager
def _few_parts(most: int) -> Iterator[None]:
    """Raise RuntimeError once this thread has registered more than `most` modules and parameters."""
    parts, thread = itertools.count(1), threading.get_ident()

    def count(*registered: Any) -> None:
        if threading.get_ident() == thread and next(parts) > most:
            raise RuntimeError(f"a model has more than {most} modules and parameters")

    hooks = [register_module_module_registration_hook(count), register_module_parameter_registration_hook(count)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _without_encodings(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight for name, weight in weights.items() if not name.startswith(ENCODINGS)}


def _same_owners(name: str, original: nn.Module, other: nn.Module) -> bool:
    """Return True if all modules that contain a parameter have the same classes in two models."""
    path = name.split(".")[:-1]
    owners = [".".join(path[: depth + 1]) for depth in range(len(path))]
    return all(type(original.get_submodule(owner)) is type(other.get_submodule(owner)) for owner in owners)


def untrained(model: Model, weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Count the learned numbers of a model's encodings and temperatures that are not in a run's weights, by class.

    Numbers of attention sinks are counted as `sink`.
    """
    counts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        is_trained = name in weights and torch.equal(weights[name], parameter.detach().cpu())
        if name.startswith(ENCODINGS) and not is_trained:
            path = name.split(".")[:3]  # encodings.distinct.0, or encodings.sinks.0, which is a parameter
            owner = "sink" if path[1] == "sinks" else type(model.get_submodule(".".join(path))).__name__
            counts[owner] = counts.get(owner, 0) + parameter.numel()
    return counts


def device_named(name: str) -> torch.device:
    """Return the device of that name, `auto` being a GPU if there is one; ValueError if this machine lacks it."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device must be auto, or one that this machine has, such as cpu, got {name}") from error


Server = Callable[[str], Prediction]


def serve(
    run: str | Path,
    device: torch.device | str = "cpu",
    *,
    beams: int = 1,
    length_penalty: float = 1.0,
    max_new_tokens: int = 400,
    trust: str | Sequence[str] = (),
) -> Server:
    """Return a function that predicts, for a text or a file, what a run has learned.

        classify = poslab.serve("outputs/2026-01-31_12-00-00_trec_rotary")
        classify("Who wrote Hamlet?").text

    A text is an example: to be classified (two of them separated by a tab), a source, a question and its
    context separated by a tab, or symbols of an algorithmic task separated by spaces. For an image or a sound it is the
    path of its file: the function predicts the class, or writes the caption. An image is resized to the side of
    training; a sound is read from its beginning, for the seconds of training.

    Args:
        run: run directory, for its best checkpoint by validation, or one of its checkpoints.
        device: device of the model; `auto` is a GPU if there is one.
        beams, length_penalty, max_new_tokens: search for an answer of many tokens, as in `beam_search`.
        trust: as in `load`.

    Raises:
        ValueError: as `load` does; for a device that this machine lacks; for fewer than 1 beam, or several where
            nothing is written token by token, as by a classifier; for a model of only text or pixels, which has no
            answer (`poslab.generation.decoding.generate` continues a text); and by the function, for a text or file
            that its task cannot read, and for any video.
    """
    directory = RunDirectory.of(run, trust)
    if type(beams) is not int or beams < 1:
        raise ValueError(f"beams must be a positive integer, got {beams}")
    recipe = recipe_of(directory)
    try:
        record = recipe.task.record_type.read(directory.task_file)
        task = recipe.task.restored(record, load_tokenizer(directory.path), recipe.source)
    except ValueError as error:
        raise ValueError(f"run={run} cannot answer: {error}") from error
    if beams > 1 and "beams" not in task.generation_options:
        raise ValueError(f"beams must be 1 for a model that does not write token by token, got {beams}")
    model = load(run, device_named(str(device)), trust=trust)
    search = Search(beams, length_penalty, max_new_tokens)
    return lambda text: task.predict(model, text, search)


LONGEST = 1024
"""Most tokens of the texts on which a pretrained model and its export are compared, unless a length is given."""


def export(
    run: Any,
    to: str | Path,
    *,
    tokenizer: Tokenizer | None = None,
    length: int | None = None,
    trust: str | Sequence[str] = (),
) -> Exported | ExportedFile:
    """Write a decoder, or a pretrained model under another encoding, as a directory that transformers loads.

        poslab.export("outputs/2026-01-31_12-00-00_python_docs_rotary", "my-model")
        AutoModelForCausalLM.from_pretrained("my-model")

    The class is one of transformers where that is exact, else one under an encoding of Poslab, which loads with
    `trust_remote_code=True`, or after `poslab.pretrained.register()`. The directory is loaded in a fresh process and
    compared with the model before it is moved to `to`.

    Args:
        run: run directory, for its best checkpoint by validation, one of its checkpoints, or a model: one of Poslab, or
            one of transformers after `poslab.exchange`.
        to: a new or an empty directory.
        tokenizer: tokenizer of a Poslab model; None writes none. A run has its own, and a pretrained model's is
            copied.
        length: training length of a model, in tokens. A run has its own; of a pretrained model, None is its training
            length, at most 1,024, to which the comparison takes time.
        trust: as in `load`.

    Returns:
        The class that was written, the largest difference of two logits that was measured, and differences in use.

    Raises:
        ValueError: as `load` does; if `to` is taken; for a run of another task than predicting tokens, or a model or an
            encoding that no class can be; if transformers is missing; if the logits differ.
    """
    check_target(to)
    if not isinstance(run, str | Path):
        return _of_model(run, to, tokenizer, length)
    if tokenizer is not None or length is not None:
        raise ValueError("tokenizer and length come from the run: leave them out")
    directory = RunDirectory.of(run, trust)
    recipe = recipe_of(directory)
    if is_pretrained(recipe.config["model"]):
        length = recipe.config["dataset"].get("sequence_length")
        return _of_model(load(run, trust=trust), to, None, length, recipe.config["model"]["path"])
    if not recipe.task.predicts_next_tokens:
        raise ValueError(f"run={run} cannot be exported: it is not a language model, and transformers has no such task")
    length = recipe.source.sequence_length
    return _write(load(run, trust=trust), to, load_tokenizer(directory.path), length)


def _of_model(
    model: Any, to: str | Path, tokenizer: Tokenizer | None, length: int | None, tokenizer_of: str | None = None
) -> Exported | ExportedFile:
    """Export a model; arguments, result and errors as of `export` and `write_directory`."""
    if length is None and (isinstance(model, HostedModel) or not isinstance(model, Model)):
        exchange = exchange_of(model)
        length = min(exchange.family.facts(exchange.model.config).training_length, LONGEST)
    if type(length) is not int or not 2 <= length <= 2**20:  # texts of twice as many tokens are compared
        raise ValueError(f"length must be the training length of the model, from 2 to 1,048,576 tokens, got {length}")
    return _write(model, to, tokenizer, length, tokenizer_of)


def _write(
    model: Any, to: str | Path, tokenizer: Tokenizer | None, length: int, tokenizer_of: str | None = None
) -> Exported | ExportedFile:
    """Write a directory, or a file where `to` ends in .gguf; arguments and errors as of `write_directory`."""
    if Path(to).suffix == ".gguf":
        return write_gguf(form_of(model, length), Path(to), tokenizer)
    return write_directory(model, to, tokenizer, length, tokenizer_of)
