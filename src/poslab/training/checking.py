"""Checks of a run before anything slow starts. Dimension letters: B batch, T tokens, M model dim."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poslab.configuration.build import full_keys
from poslab.data.composed import with_rate
from poslab.data.kinds import WINDOWS
from poslab.runs.directory import LOCAL_LOGGERS, RunDirectory
from poslab.runs.recipe import Recipe

if TYPE_CHECKING:
    from poslab.models import Model


def check(
    config: Mapping[str, Any], checkpoint: Path | None = None, earlier: Mapping[str, Any] | None = None
) -> Recipe:
    """Check a resolved configuration by building, on no device, all parts that are quick to build; return its recipe.

    The run resumes from the checkpoint, if any, or starts from a run of the `earlier` configuration, still to be
    trained.
    """
    recipe = Recipe.of(config, to_train=True)
    from poslab.runs.distillation import Distillation  # which imports torch

    recipe.trainer.require_devices()
    if recipe.trainer.lightning:
        from poslab.runs.trainer_settings import check_lightning_arguments
        from poslab.training.components import quieten_lightning

        quieten_lightning()
        check_lightning_arguments(recipe.trainer.lightning)
    with full_keys("model", recipe.config):
        model = recipe.model.on_meta
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    recipe.adapt.apply(model)
    _check_memory(model, recipe)
    _check_positions(model, recipe)
    with full_keys("model", recipe.config):
        _check_attention(model, recipe)
    if recipe.trainer.strategy == "fsdp" and recipe.task.decodes_in_test:
        raise ValueError(
            "trainer.strategy must not be fsdp for pairs of texts, whose targets each process writes by itself"
        )
    if recipe.trainer.processes > 1:
        _check_bias_without_position(model, recipe)
    recipe.trainer.micro_batches(recipe.source.batch_size)
    if recipe.trainer.context_parallel > 1:
        _check_context_parallel(model, recipe)
    _check_checkpoints(recipe.init_from, checkpoint)
    begins_with = None if earlier is None else Recipe.of(earlier)
    if begins_with is not None:
        _check_begins_with(shapes, begins_with)
        _check_heads(recipe.config, begins_with.config)
    elif recipe.init_from is not None and checkpoint is None and (source := _run_of(recipe.init_from)) is not None:
        _check_heads(recipe.config, source.config())
    if recipe.start.needs_earlier and checkpoint is None:
        from poslab.training.initialise import check_start

        check_start(recipe, model, begins_with)
    lengths_vary = recipe.source.kind is not WINDOWS
    with full_keys("step", recipe.config):
        recipe.step.check(recipe.config, model, recipe.trainer.processes, lengths_vary)
    if isinstance(recipe.objective, Distillation):
        from poslab.training.teacher import check_teacher

        check_teacher(recipe, recipe.objective, model)
    loggers = recipe.config.get("logger") or {}
    are_local = isinstance(loggers, Mapping) and all(node in LOCAL_LOGGERS for node in loggers.values())
    if recipe.config.get("callbacks") or not are_local:
        recipe.callbacks(), recipe.loggers()  # late, for they import Lightning
    with full_keys("dataset", recipe.config):
        recipe.source.check()  # last: whether its data is installed matters once the configuration is right
    return recipe


def warnings_of_pretrained(recipe: Recipe, model: Model) -> Iterator[str]:
    """Yield a sentence for each setting under which a run of a pretrained model shows or keeps little of it."""
    from poslab.data.corpus import Corpus
    from poslab.models.adaptation import Full

    facts, source, sampler = model.encodings.shape.pretrained, recipe.source, recipe.model.positions
    if facts is None:
        return
    optimizer = {key: value for key, value in recipe.config["optimizer"].items() if key != "lr"}
    usual = with_rate({**recipe.config, "optimizer": optimizer})["optimizer"].get("lr")
    lr, trains = recipe.optimizer.lr, recipe.trainer.max_steps > 0
    if trains and usual is not None and lr >= TOO_FAST * usual and isinstance(recipe.adapt, Full):
        yield (
            f"optimizer.lr={lr:g} is a learning rate of training from scratch, at which a pretrained model loses what "
            f"it has learned: the default for its size is {usual:g}"
        )
    if not isinstance(source, Corpus):
        return
    context, length = facts.training_length, source.sequence_length
    reached = length if sampler is None else sampler.stop(length)
    if trains and reached < context:
        yield (
            f"dataset.sequence_length={length} is shorter than the context of the model, {context:,} tokens: training "
            "in short windows may cost it long ones"
        )
    encodings = list(model.encodings)
    scaling = getattr(getattr(recipe.model.encoding, "keywords", {}).get("scaling"), "keywords", {})
    stretch = facts.stretch if model.encodings.keeps_pretrained_positions else scaling.get("factor", 1.0)
    if trains and reached > context * stretch and any(x.spectrum(context) is not None for x in encodings):
        yield (
            f"dataset.sequence_length={length} trains {reached:,} positions, and the rotation of the model is for "
            f"{context * stretch:,g}: stretch it with a RoPE scaling, such as encoding=yarn "
            f"encoding.factor={math.ceil(reached / context)}"
        )
    longest = max(length * multiple for multiple in source.length_multiples)
    if longest <= context and (model.max_length is None or model.max_length > context):
        yield (
            f"the longest test, of {longest:g} tokens, lies within the context of the model, {context:,} tokens, and "
            "shows nothing of longer texts: raise dataset.length_multiples or dataset.sequence_length"
        )


TOO_FAST = 5
"""Times the default learning rate of a pretrained model from which on training it is like training from scratch."""


def _check_memory(model: Model, recipe: Recipe) -> None:
    """Raise ValueError if weights, gradients and the optimizer's state by themselves are larger than the memory."""
    from poslab.models.adaptation import num_learning
    from poslab.runs.trainer_settings import memory_bytes

    settings = recipe.trainer
    parameters, learning = sum(parameter.numel() for parameter in model.parameters()), num_learning(model)
    sharing = settings.processes if settings.strategy == "fsdp" else 1
    # a weight, and if it learns a gradient and the two moments of AdamW
    needed = (parameters + 3 * learning) * (2 if settings.precision == "bf16-true" else 4) / sharing
    here = needed if settings.on_gpu else needed * settings.local_processes
    memory = memory_bytes(settings.on_gpu)
    if here > memory:
        raise ValueError(
            f"model has {parameters:,} parameters, which take at least {here / 1e9:,.1f} GB to train, and there are "
            f"{memory / 1e9:,.1f} GB here: choose a smaller size, or trainer=fsdp on several GPUs"
        )


def _check_positions(model: Model, recipe: Recipe) -> None:
    """Raise ValueError if a model lacks positions for its longest training texts."""
    import torch

    from poslab.encodings import Contiguous, Positions, Tokens

    sampler, sequence_length = recipe.model.positions, recipe.source.sequence_length
    end = model.encodings.max_length
    most = None if sampler is None else getattr(sampler, sampler.bounded_by)
    if sampler is not None and most is not None and most < sequence_length:
        raise ValueError(f"positions.{sampler.bounded_by}={most} ends before dataset.sequence_length={sequence_length}")
    if not isinstance(sampler, Contiguous | None) and any(
        "remap_positions" in encoding.hooks for encoding in model.encodings
    ):
        raise ValueError(
            f"positions must be contiguous under an encoding that gives tokens others, got {type(sampler).__name__}"
        )
    if sampler is not None and sampler.real:
        with torch.device("meta"):  # raises for an encoding that takes only integer positions
            x_BTM, ids_BT = torch.empty(1, 1, model.encodings.shape.d_model), torch.zeros(1, 1, dtype=torch.int64)
            model.encodings.embed(x_BTM, Positions(torch.empty(1), stop=1), Tokens(ids_BT))
    registers = model.num_registers
    stop = registers + (sequence_length if sampler is None else sampler.stop(sequence_length))
    if end is not None and end < stop:
        needed = f"dataset.sequence_length={sequence_length}"
        if registers:
            needed += f" and model.registers={registers}: it must be at least {stop}"
        elif stop > sequence_length:
            needed = f"position {stop - 1}, which {type(sampler).__name__} positions reach: it must be at least {stop}"
        raise ValueError(f"encoding.max_length={end} ends before {needed}")


def _check_attention(model: Model, recipe: Recipe) -> None:
    """Raise ValueError if encodings do not support the axes of the data, or a forced route not training."""
    import torch

    from poslab.attention.attend import in_short_form
    from poslab.data.patched.source import PatchedSource
    from poslab.encodings import Positions, StackEncodings, Tokens

    source, route = recipe.source, recipe.config.get("attention")
    if route == "flex" and not recipe.trainer.on_gpu:
        raise ValueError("attention must not be flex on a CPU, where it has no gradients")
    if isinstance(source, PatchedSource):
        positions = Positions.grid(*source.grid_trained, axes=source.axes)
    elif route == "distance":
        positions = Positions.range(2)
    else:
        return
    if recipe.model.positions is not None:
        positions = recipe.model.positions(positions, 1)
    if model.num_registers:
        positions = positions.behind(model.num_registers)
    tokens = Tokens(torch.zeros(1, positions.length, dtype=torch.int64))
    for stack in model.stacks.values():
        made = StackEncodings(stack.pattern, stack.shape)  # the model's are on the meta device
        tables = made.prepare(positions, positions, tokens)
        if route == "distance":
            for layer, of_layer in enumerate(tables):
                in_short_form(made.layer(layer).bias(of_layer))


def _check_bias_without_position(model: Model, recipe: Recipe) -> None:
    """Raise ValueError for a bias that would have no gradient, since all tokens have a position, on several devices."""
    from poslab.data.patched.source import PatchedSource
    from poslab.encodings import DistanceBias

    if model.num_registers and isinstance(recipe.source, PatchedSource):
        return
    for encoding in model.encodings:
        bias = encoding.bias_without_position() if isinstance(encoding, DistanceBias) else None
        if bias is not None and bias.requires_grad:
            raise ValueError(
                f"encoding {type(encoding).__name__} needs model.registers of at least 1, and patches, on several "
                "devices: otherwise its bias for tokens without a position would have no gradient"
            )


def _check_context_parallel(model: Model, recipe: Recipe) -> None:
    """Raise ValueError if several processes cannot share a window, or would not learn as one."""
    from poslab.data.corpus import Corpus
    from poslab.runs.steps import Standard, TaskLoss

    key = f"trainer.context_parallel={recipe.trainer.context_parallel}"
    length = recipe.source.sequence_length
    if not ("context_parallel" in model.capabilities and isinstance(recipe.source, Corpus)):
        raise ValueError(
            "trainer.context_parallel must be 1 unless a Poslab decoder predicts the next tokens of a text"
        )
    sampler, stateful = type(recipe.model.positions).__name__, [e for e in model.encodings if "state" in e.hooks]
    for is_wrong, message in (
        (length % recipe.trainer.context_parallel, f"dataset.sequence_length must be divisible by {key}, got {length}"),
        (not isinstance(recipe.objective, TaskLoss), f"objective must be task with {key}"),
        (not isinstance(recipe.step, Standard), f"step must be standard with {key}"),
        (recipe.model.positions is not None, f"positions must be contiguous with {key}, got {sampler}"),
        (recipe.trainer.must_compile, f"trainer.compile must be false with {key}"),
        (model.num_registers, f"model.registers must be 0 with {key}, got {model.num_registers}"),
        (model.is_recurrent, f"model.canon and mixers must be null with {key}: they read tokens of another process"),
        (stateful, f"encoding must not have a state of each token with {key}"),
    ):
        if is_wrong:
            raise ValueError(message)


def _check_begins_with(shapes: Mapping[str, tuple[int, ...]], earlier: Recipe) -> None:
    """Raise ValueError if no weight of a run that is still to be trained will fit the model that starts with it."""
    earlier_shapes = {name: tuple(weight.shape) for name, weight in earlier.model.on_meta.state_dict().items()}
    shared = sorted(shapes.keys() & earlier_shapes.keys())
    if all(earlier_shapes[name] != shapes[name] for name in shared):
        differ = [f": {name} is {earlier_shapes[name]} there, {shapes[name]} here" for name in shared]
        raise ValueError(f"model must have weights that fit the run that it starts from{''.join(differ[:1])}")


def _check_heads(config: Mapping[str, Any], earlier: Mapping[str, Any]) -> None:
    """Raise ValueError if the weights that a run starts with would be cut into other heads than those that learned."""
    here, there = (configured["model"].get("num_heads") for configured in (config, earlier))
    if None not in (here, there) and here != there:
        raise ValueError(f"model.num_heads must be {there}, as in the run that this one starts from, got {here}")


def _run_of(init_from: str) -> RunDirectory | None:
    """Return the run of weights; None for a checkpoint outside of its run."""
    try:
        return RunDirectory.of(init_from)
    except ValueError:
        return None


def _check_checkpoints(init_from: str | None, checkpoint: Path | None) -> None:
    from poslab.runs.checkpoint import check_configuration, checkpoint_file, load_checkpoint

    key = "init_from" if checkpoint is None else "resume"
    try:
        if checkpoint is not None:
            state = load_checkpoint(checkpoint)
            if (run := _run_of(str(checkpoint))) is not None:
                check_configuration(run, state)
        elif init_from is not None:
            load_checkpoint(checkpoint_file(init_from))
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
