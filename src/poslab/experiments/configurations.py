"""Configurations of cells, composed by Hydra as for `python -m src.train`, and checks of a case's configurations."""

from __future__ import annotations

import hashlib
import json
import math
import sysconfig
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from poslab.arguments import shown
from poslab.configuration.build import nearest
from poslab.configuration.command_line import in_hydras_grammar, key_of, whole_tokens
from poslab.data.kinds import WINDOWS
from poslab.data.run_data import RunData
from poslab.data.source import default_cache
from poslab.evaluation.scores.extra_metrics import EXTRA, extra_metrics_of
from poslab.experiments.cells import Cell, Point
from poslab.experiments.comparison import GROUPS_OF_ENCODINGS, Comparison, naming
from poslab.experiments.composition import Composer, refuse_own_keys
from poslab.experiments.criteria import Criterion
from poslab.experiments.metrics import at_lengths, metrics_of
from poslab.experiments.mistakes import AROUND_TRAINING, SIZES_OF_DATA
from poslab.experiments.published import predictions_of
from poslab.io.files import PACKAGE
from poslab.models.adaptation import parameters_of_embeddings
from poslab.runs.recipe import Recipe
from poslab.training.checking import check

ENDS_OF_TRAINING = {("trainer", "validations"), ("trainer", "lightning"), ("callbacks", "early_stopping")}
"""Keys by which training may end early, or another of its states be tested."""


class CellConfigurations:
    """Configurations of the cells of a comparison, composed from a folder with train.yaml.

    ValueError for choices that a cell cannot have, such as `resume`.
    """

    def __init__(self, conf: Path, comparison: Comparison) -> None:
        self._comparison = comparison
        self._composer = Composer(conf, comparison.trust)
        self._composed: dict[str, dict[str, Any]] = {}
        self._mistakes: dict[str, str] = {}
        refuse_own_keys(comparison.overrides, "a comparison")
        for key in map(key_of, comparison.overrides):
            if key in ("encoding", "seed"):
                raise ValueError(f"{key} is what a comparison varies: {key}s are in its file, or in {key}s=[...]")
            for name, choices in comparison.choices_by_encoding.items():
                if key in map(key_of, choices):
                    raise ValueError(f"{key} is what {comparison.path_of(name)} sets, and would be the same for all")
            for case in comparison.cases:
                if any(key in comparison.space_of(case, name) for name in comparison.choices_by_encoding):
                    raise ValueError(f"{key} is tuned: its values are in the file of the comparison")
            if key == "trainer.max_steps" and comparison.budget is not None:
                raise ValueError("trainer.max_steps follows from the budget of the comparison: budget={steps:...}")
            if key == "trainer.max_steps" and any(node.tokens_per_parameter for node in comparison.all_cases.values()):
                raise ValueError("trainer.max_steps follows from the parameters of each size: tokens_per_parameter=20")

    def of(self, cell: Cell) -> dict[str, Any]:
        config = self._of(cell.case, cell.encoding, cell.seed, cell.point)
        return config if cell.after is None else {**config, "init_from": f"{self._comparison.output}/{cell.after}"}

    def definition(self, case: str, encoding: str) -> str:
        """Return a digest of the configuration of an encoding on a case, of seed 1 and not tuned.

        It is equal on every machine, wherever that keeps packages, data and the working folder.
        """
        config = {key: value for key, value in self._of(case, encoding, 1, {}).items() if key != "trust"}
        text = json.dumps(config, sort_keys=True)
        folders = {sysconfig.get_path("purelib"): PACKAGE, str(default_cache()): "cache:", str(Path.cwd()): ""}
        for folder, name in folders.items():
            text = text.replace(f"{json.dumps(folder)[:-1]}/", f'"{name}')
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def check(self, case: str, encoding: str) -> Recipe:
        """Check an encoding on a case before any training, at every value of a tuned key; return the recipe untuned.

        ValueError in one sentence that names the case and the encoding; Hydra raises its own for unknown keys.
        """
        for key, values in self._comparison.space_of(case, encoding).items():
            for value in values:
                if mistake := self._mistake(case, encoding, key, value):
                    raise ValueError(mistake)
        return self._checked(case, encoding, {})

    def _mistake(self, case: str, encoding: str, key: str, value: Any) -> str:
        """Return what is wrong with a value of a tuned key; "" if nothing is.

        It is tried with as few cases and encodings as it may depend on, and with all variants.
        """
        group = key_of(key).partition(".")[0]
        if self._comparison.heading == "encoding" and group == "optimizer":
            case, encoding = self._comparison.pairs[0]
        elif self._comparison.heading == "encoding" and group not in GROUPS_OF_ENCODINGS:
            encoding = self._comparison.encodings_of(case)[0]
        tried = json.dumps([case, encoding, key, value])
        if tried not in self._mistakes:
            self._mistakes[tried] = ""
            try:
                recipe, untuned = (self._checked(case, encoding, point) for point in ({key: value}, {}))
                _check_alike(self._comparison, f"cases.{case}: {key}={value} in tuning", recipe, untuned, encoding)
            except ValueError as error:
                self._mistakes[tried] = str(error)
        return self._mistakes[tried]

    def _checked(self, case: str, encoding: str, point: Point) -> Recipe:
        shown = "".join(f" with {key}={value}" for key, value in point.items())
        begins_with = self._comparison.earlier_pair(case, encoding)
        earlier = None if begins_with is None else self._of(*begins_with, 1, {})
        with naming(f"{case} under {encoding}{shown}"):
            recipe = check(self._of(case, encoding, 1, point), earlier=earlier)
        if recipe.trainer.num_nodes > 1:
            raise ValueError("trainer.num_nodes must be 1: more machines join by running the same command")
        return recipe

    def _of(self, case: str, encoding: str, seed: int, point: Point) -> dict[str, Any]:
        """Compose a configuration, unless it has been: that takes a tenth of a second."""
        key = json.dumps([case, encoding, seed, dict(point)])
        if key not in self._composed:
            choices = {**self._comparison.train, **self._comparison.all_cases[case].train}
            choices |= {**self._comparison.choices_by_encoding[encoding], **point, "seed": seed}
            words = self._composer.words(choices, self._comparison.overrides_of(case))
            budget = self._comparison.budget or {}
            steps = budget.get("steps")
            if "tokens" in budget:
                dataset = self._composer.resolved(words)["dataset"]
                steps = -(-budget["tokens"] // (dataset["batch_size"] * dataset["sequence_length"]))
            words += [] if steps is None else [f"trainer.max_steps={in_hydras_grammar(steps)}"]
            self._composed[key] = self._composer.resolved(words)
        return self._composed[key]


def check_comparable(comparison: Comparison, case: str, recipes: Mapping[str, Recipe]) -> None:
    """Check that the runs of a case, by encoding, have the same data, the same task and as many tokens of training.

    ValueError, naming the first contestant whose runs differ from the baseline's, and the key.
    """
    for name, recipe in recipes.items():
        path = f"cases.{case}: {comparison.path_of(name)}"
        _check_alike(comparison, path, recipe, recipes[comparison.baseline], comparison.baseline)


def _check_alike(comparison: Comparison, path: str, recipe: Recipe, other: Recipe, name: str) -> None:
    """Raise ValueError, starting with the path, for a recipe of other data, task or size of training than another."""
    keys = {("dataset", key) for key in {**other.config["dataset"], **recipe.config["dataset"]}}
    for group, key in sorted(keys | ENDS_OF_TRAINING):
        ours, theirs = ((of.config.get(group) or {}).get(key) for of in (recipe, other))
        if f"{group}.{key}" not in (*SIZES_OF_DATA, *AROUND_TRAINING) and ours != theirs:
            raise ValueError(
                f"{path} must not change {group}.{key}, which is {shown(theirs)} for {name}, got {shown(ours)}"
            )
    if recipe.task is not other.task:
        raise ValueError(
            f"{path} must not change the task by its model, which is {other.task.__name__} for {name}, got "
            f"{recipe.task.__name__}"
        )
    count, size = (of.trainer.max_steps * _size_of_a_step(of) for of in (recipe, other))
    if "tokens" not in (comparison.budget or {}) and count != size:
        factors = "trainer.max_steps x dataset.batch_size"
        factors += " x dataset.sequence_length" if recipe.source.kind is WINDOWS else ""
        raise ValueError(f"{path} must train on as much as {name}: {factors} must be {size:,}, got {count:,}")


def check_held_out(comparison: Comparison, case: str, data: Mapping[str, RunData]) -> None:
    """Raise ValueError for a contestant with other test items than the baseline; `data` is by encoding."""
    baseline = data[comparison.baseline]
    for name, of_contestant in data.items():
        length = baseline.longest_trained
        if of_contestant.identity("test", length) != baseline.identity("test", length):
            raise ValueError(
                f"cases.{case}: {comparison.path_of(name)} must not change what is held out by sequence_length: in "
                "few documents that follows from the longest window, so set dataset.length_multiples of both so that "
                f"it is the same as for {comparison.baseline}"
            )


def _size_of_a_step(recipe: Recipe) -> int:
    """Return the tokens of a training step on a text, and the examples on other data."""
    source = recipe.source
    return source.batch_size * (source.sequence_length if source.kind is WINDOWS else 1)


def with_counts(comparison: Comparison, conf: Path) -> Comparison:
    """Return a comparison whose cases of sizes have their parameters, tokens and steps, counted in composed models.

    Parameters are the baseline's without the embeddings of tokens, so that all encodings read equally many tokens.
    ValueError in one sentence, for a size that is no larger than the one before, or lacks a width or tokens.
    """
    cases, configurations = dict(comparison.cases), CellConfigurations(conf, comparison)
    sizes: dict[str | None, dict[str, int]] = {}
    for name, node in comparison.all_cases.items():
        if node.size is None:
            continue
        config = configurations.of(Cell(name, comparison.baseline, comparison.seeds_of(name)[0], {}, is_trial=False))
        with naming(f"sizes.{node.size}: {name} under {comparison.baseline}"):
            recipe = Recipe.of(config)
            model = recipe.model.on_meta
        embeddings = sum(weight.numel() for weight in parameters_of_embeddings(model))
        parameters = sum(weight.numel() for weight in model.parameters()) - embeddings
        of_case = sizes.setdefault(node.case, {})
        if any(parameters <= smaller for size, smaller in of_case.items() if size != node.size):
            raise ValueError(f"sizes.{node.size} must have more parameters than sizes before it, got {parameters:,}")
        of_case[node.size] = parameters
        steps, train = recipe.trainer.max_steps, dict(node.train)
        if node.tokens_per_parameter is not None:
            if recipe.source.kind is not WINDOWS:
                raise ValueError(f"tokens_per_parameter must be of windows of a text, which {name} does not read")
            steps = math.ceil(node.tokens_per_parameter * parameters / _size_of_a_step(recipe))
            train["trainer.max_steps"] = steps
        width = config["model"].get("d_model")
        if node.tuned_as is not None and width is None:
            raise ValueError(f"sizes.{node.size} must have model.d_model, by which tuned rates are carried over")
        counts = {"parameters": parameters, "steps": steps, "tokens": steps * _size_of_a_step(recipe), "width": width}
        cases[name] = {**cases[name], "train": train, **counts}
    return replace(comparison, cases=cases) if sizes else comparison


def checked_lengths(comparison: Comparison, case: str, recipe: Recipe, data: RunData) -> list[int]:
    """Return the lengths of the test of a case, ascending.

    ValueError is raised for a length that the test lacks, a metric that the task lacks, or one at untested lengths.
    """
    task, asked = recipe.task, comparison.all_cases[case].lengths
    trained = data.longest_trained
    with naming(f"cases.{case}"):
        lengths = sorted(data.lengths_of("test") if asked is None else {whole_tokens(n, trained) for n in asked})
    data.connect(task.of(data), None)
    for length in [] if asked is None else lengths:
        with naming(f"cases.{case}"):
            count = len(data.held_out("test", length).num_tokens)
        if not count:
            raise ValueError(f"cases.{case}: lengths must be of examples of the test, which has none of {length}")
    known = [*metrics_of(task), *extra_metrics_of(recipe)]
    for criterion in comparison.deciding(case):
        if criterion.name not in known:
            raise ValueError(
                f"cases.{case}: there is no metric {criterion.name} in its task, which has {', '.join(known)}"
                f"{nearest(criterion.name, known)}"
            )
        if criterion.name in EXTRA:
            _check_extra(case, criterion, data)
        elif not at_lengths(criterion, lengths, trained):
            raise ValueError(
                f"cases.{case}: {criterion.metric} is at none of the lengths of its test, "
                f"{', '.join(map(str, lengths))} (trained up to {trained})"
            )
    predicted = [p.metric.partition("@")[0] for p in predictions_of(comparison) if p.case == case and p.metric]
    if unknown := [name for name in predicted if name not in known]:
        raise ValueError(f"predictions: there is no metric {unknown[0]} in {case}{nearest(unknown[0], known)}")
    tuning = comparison.tuning_of(case)
    reaches = max(data.lengths_of("validation")) > trained and "exact_match" in task.validated
    known = [*task.validated, *(("accuracy_beyond", "exact_match_beyond") if reaches else ())]
    if tuning is not None and tuning.metric not in known:
        raise ValueError(
            f"cases.{case}: tuning.metric must be one of a validation, {', '.join(known)}, got {tuning.metric}"
            f"{nearest(tuning.metric, known)}"
        )
    return lengths


def _check_extra(case: str, criterion: Criterion, data: RunData) -> None:
    """Raise ValueError for an extra metric that lacks a length, or has one that it cannot have."""
    name, texts = criterion.name, EXTRA[criterion.name].texts
    if texts is None:
        if criterion.where:
            raise ValueError(f"cases.{case}: {criterion.metric} must be {name}, of all test items")
        return
    if not criterion.names_length:
        raise ValueError(f"cases.{case}: {criterion.metric} must have a length, as {name}@1024 or {name}@4x")
    with naming(f"cases.{case}: {criterion.metric}"):
        texts(data, "test", whole_tokens(criterion.where, data.longest_trained))
