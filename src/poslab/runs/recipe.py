"""Recipe of a run: its configuration as a typed value."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poslab.arguments import shown
from poslab.configuration.build import build, build_each, full_keys, is_pretrained
from poslab.configuration.labels import label
from poslab.data.source import DataSource
from poslab.io.files import NotInstalledError
from poslab.runs.directory import GROUPS, RunDirectory

if TYPE_CHECKING:
    import lightning as L
    from lightning.pytorch.loggers import Logger

    from poslab.data.run_data import RunData
    from poslab.models import Model, ModelRecipe
    from poslab.models.adaptation import Adaptation
    from poslab.runs.optimizers import OptimizerSettings
    from poslab.runs.start import Start
    from poslab.runs.steps import Objective, Step
    from poslab.runs.trainer_settings import TrainerSettings
    from poslab.tasks.task import Task


GIVEN_TO_LOGGERS = {"directory", "first_step", "save_dir"}  # arguments of loggers that a run gives


@dataclass(frozen=True)
class Recipe:
    """Parts of a run, built from its configuration and checked."""

    source: DataSource  # of its data, which also gives the kind of data
    task: type[Task]  # class of its task; `task.of` makes the task from data that is set up
    model: ModelRecipe  # recipe of its model, which lacks the vocabulary
    objective: Objective
    step: Step
    optimizer: OptimizerSettings
    adapt: Adaptation
    start: Start  # how its encoding begins, in a model that has had others
    trainer: TrainerSettings
    seed: int
    init_from: str | None  # run or checkpoint with its initial weights; None for random ones
    config: Mapping[str, Any]  # the configuration, as stored with the run
    # run whose `config.yaml` it was read from; None for what the user has typed
    read_from: RunDirectory | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any], to_train: bool = False) -> Recipe:
        """Build the recipe of a resolved configuration; ValueError, naming the key, for values that do not fit.

        `to_train` also checks the files of its data and its model. Data and packages that are not installed are not
        checked: a caller does so once the configuration is right.
        """
        seed, init_from = config.get("seed"), config.get("init_from")
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
            raise ValueError(f"seed must be an integer from 0 to 4294967295, got {shown(seed)}")
        if init_from == "":
            raise ValueError("init_from must be a run directory or a checkpoint, got ''")
        source: DataSource = build(config, "dataset", DataSource)
        if to_train:
            with full_keys("dataset", config), suppress(NotInstalledError):
                source.check()

        # These import torch, which takes a second; the mistakes above are reported without it.
        from poslab.models.adaptation import Adaptation
        from poslab.runs.optimizers import OptimizerSettings
        from poslab.runs.start import Start
        from poslab.runs.trainer_settings import TrainerSettings

        trainer = build(config, "trainer", TrainerSettings)
        adapt = build(config, "adapt", Adaptation)
        start = build(config, "start", Start)
        model = _model(config)
        with full_keys("model", config):
            capabilities = model.capabilities
        optimizer = build(config, "optimizer", OptimizerSettings)  # after the model, by whose size it may go
        if to_train:
            with full_keys("model", config):
                _check_tokenizer(source, model.tokenizer)
                on_meta = model.on_meta
                if model.tokenizer is not None:
                    _check_vocabulary(model.tokenizer, on_meta)

        # These import torchmetrics, which takes as long as torch.
        from poslab.runs.steps import Objective, Step
        from poslab.tasks.task import task_for

        task = task_for(source.kind, model.kind, capabilities)
        task.check(source, model.positions)
        objective = build(config, "objective", Objective)
        step = build(config, "step", Step)
        init_from = None if init_from is None else str(init_from)
        return cls(source, task, model, objective, step, optimizer, adapt, start, trainer, seed, init_from, config)

    @property
    def encoding_name(self) -> str:
        """Encoding as people type it, with the keys that differ from its choice: `rotary base=1e5`."""
        return label(self.config)

    def data(self) -> RunData:
        """Return its data, not yet prepared; UntrustedRunError if it is someone else's, and reaches too far."""
        if self.read_from is not None:
            with full_keys("dataset", self.config):
                self.source.check()
            self.read_from.require_trust(self.source.reaches())
        from poslab.data.run_data import RunData

        return RunData(self.source, joined=self.task.single_sequence)

    def callbacks(self) -> dict[str, L.Callback]:
        """Return new callbacks of Lightning's by name; ValueError for a wrong argument, or a missing package."""
        from lightning.fabric.utilities.exceptions import MisconfigurationException
        from lightning.pytorch import Callback

        try:
            return build_each(self.config, "callbacks", Callback)
        except (MisconfigurationException, ImportError) as error:
            raise ValueError(f"callbacks: {error}") from error

    def loggers(self) -> dict[str, partial[Logger]]:
        """Return what makes each of its loggers, by name; ValueError for an argument that nothing gives."""
        from lightning.pytorch.loggers import Logger

        loggers = build_each(self.config, "logger", Callable[..., Logger])
        for name, make in loggers.items():
            for argument, parameter in inspect.signature(make).parameters.items():
                is_one = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
                if is_one and parameter.default is parameter.empty and argument not in GIVEN_TO_LOGGERS:
                    raise ValueError(f"logger.{name}.{argument} must be given: {make.func.__name__} needs it")
        return loggers


def recipe_of(run: RunDirectory) -> Recipe:
    """Return the recipe of a run that someone may have trained elsewhere; ValueError if the directory has no run."""
    config = run.config()
    if missing := sorted(GROUPS - config.keys()):
        raise ValueError(f"{run.path} is not a run directory: its config.yaml names no {missing[0]}")
    return replace(Recipe.of(config), read_from=run)


def _check_tokenizer(source: DataSource, expected: Path | None) -> None:
    """Raise ValueError if a pretrained model would read tokens of another vocabulary."""
    if expected is None:
        return
    given = getattr(source, "tokenizer", None)
    if given is None:
        raise ValueError(f"dataset must be one of texts with model=pretrained, with the tokens of {expected}")
    if not expected.is_file():
        raise ValueError(f"path must contain {expected.name}, and there is no {expected}")
    if not Path(given).is_file() or Path(given).read_bytes() != expected.read_bytes():
        raise ValueError(f"dataset.tokenizer must belong to the pretrained model, {expected}, got {given}")


def _check_vocabulary(tokenizer: Path, model: Model) -> None:
    """Raise ValueError if a pretrained model has no embeddings for some tokens of its tokenizer."""
    from poslab.data.tokenizers import load_tokenizer

    tokens, rows = load_tokenizer(tokenizer.parent).vocab_size, model.embedding.num_embeddings
    if tokens > rows:
        raise ValueError(
            f"path must have the tokenizer of the model, and {tokenizer} has {tokens:,} tokens, of which the model has "
            f"{rows:,}"
        )


def _model(config: Mapping[str, Any]) -> ModelRecipe:
    """Return the model of a configuration, with its encoding, positions and temperature."""
    from poslab.encodings import Contiguous, EncodingFactory, PositionSampler, TemperatureFactory
    from poslab.models import Model, ModelRecipe

    encoding = build(config, "encoding", EncodingFactory)
    config = _with_target(config, encoding)
    positions, temperature = (
        None if config.get(group) is None else build(config, group, kind)
        for group, kind in (("positions", PositionSampler), ("temperature", TemperatureFactory))
    )
    given = {
        "attention": None if config.get("attention") == "auto" else config.get("attention"),
        "positions": None if isinstance(positions, Contiguous) else positions,
        "temperature": temperature,
    }
    keywords = {name: value for name, value in given.items() if value is not None}
    make = build(config, "model", Callable[..., Model], encoding=encoding, **keywords)
    return ModelRecipe(make, encoding, given["positions"])


def _with_target(config: Mapping[str, Any], encoding: Any) -> Mapping[str, Any]:
    """Return a configuration with the positions that PoSE covers, if it leaves them open: what the encoding reaches."""
    from poslab.encodings.sampling.randomized import USUAL_FACTOR

    positions, keywords = config.get("positions"), getattr(encoding, "keywords", {})
    if not isinstance(positions, Mapping) or positions.get("target_length", 0) is not None:
        return config
    length = config["dataset"].get("sequence_length")
    scaling = getattr(keywords.get("scaling"), "keywords", {})
    stretched = scaling.get("training_length") or length
    if not scaling.get("training_length") and is_pretrained(config["model"]):
        from poslab.pretrained.directory import configuration
        from poslab.pretrained.proof import family_of

        with full_keys("model", config):
            model = configuration(config["model"].get("path"))
            stretched = family_of(model).facts(model).training_length
    target, rows = math.ceil(stretched * scaling.get("factor", USUAL_FACTOR)), keywords.get("max_length") or 0
    return {**config, "positions": {**positions, "target_length": rows if rows > length else max(target, length)}}
