"""Evaluate trained runs (`python -m src.evaluate run=outputs/RUN`), a pretrained model, or only an encoding."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poslab.arguments import shown
from poslab.cli.argv import expand_aliases, searching_words
from poslab.cli.help import evaluate_help, keys, keys_of
from poslab.cli.hydra_command import check_figure_width, command, quick_imports, runs_of
from poslab.configuration.command_line import CONF, choices, groups, key_of
from poslab.configuration.labels import OF_THE_ENCODING
from poslab.evaluation.settings import Request, Retrieval

if TYPE_CHECKING:
    from poslab.evaluation.command import PretrainedChoice


def main(config: dict[str, Any], directory: Path, overrides: list[str], of_model: Sequence[str] = ()) -> None:
    """Evaluate, print the metrics and say where the report is; arguments as of `command`.

    `of_model` are words of `python -m src.train` that choose a pretrained model and its data; none for runs.
    """
    runs = _runs(config)
    _check_choices(config, runs, overrides, of_model)
    of_job = None if directory.resolve() == Path.cwd() else directory  # several jobs have a directory each
    check_figure_width(config["figure"]["width"])
    try:
        retrieval = Retrieval(**config["retrieval"])
    except ValueError as error:
        raise ValueError(f"retrieval.{error}") from error
    request = Request(
        **{name: config[name] for name in ("parts", "lengths", "stride", "text", "seed", "split", "tokens", "device")},
        retrieval=retrieval,
        output=of_job if config["output"] is None else str(config["output"]),
        figure_width=config["figure"]["width"],
        trust=config["trust"],
        typed=[*of_model, *overrides],
    )
    if config["output"] is not None:
        output = Path(str(config["output"]))
        if output.is_file() or (output / "config.yaml").exists():
            raise ValueError(f"output must be a separate directory, not a file or a run directory, got {output}")
        there = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise ValueError(f"output={output} cannot be made: {there} is not a directory that can be written")

    with quick_imports():
        from poslab.evaluation.command import diagnose_encoding, evaluate_pretrained, evaluate_runs

    if of_model:
        evaluate_pretrained(pretrained_choices(config, of_model), request)
    elif runs:
        swap_choice = next((o.partition("=")[2] for o in reversed(overrides) if o.startswith("encoding@swap=")), None)
        swaps = [] if swap_choice is None else [swap_of(run, overrides) for run in runs]
        evaluate_runs(runs, request, swaps, swap_choice)
    else:
        diagnose_encoding(config, request)


def _runs(config: dict[str, Any]) -> list[str]:
    """Return the runs to evaluate; ValueError if `run` and `runs` are both given, or one does not exist."""
    from poslab.runs.directory import RunDirectory

    runs = runs_of(config)
    for run in filter(None, runs):
        if "dataset" not in RunDirectory.of(run).config():
            raise ValueError(f"{run} is not a run directory: its config.yaml names no dataset")
    return runs


def _check_choices(config: dict[str, Any], runs: list[str], overrides: list[str], of_model: Sequence[str]) -> None:
    """Raise ValueError for groups and sizes that do not go with runs, or without one."""
    if of_model:
        if config.get("encoding") is not None or config.get("swap") is not None:
            raise ValueError("for a pretrained model, name the encodings in encodings=: encodings=[pretrained,yarn]")
        return
    of_runs = [override for override in overrides if override.startswith(("model.", "dataset."))]
    if config["encodings"] is not None and not (runs and of_runs):
        raise ValueError("encodings applies to a pretrained model: it needs model.path= or pretrained=")
    if "" in runs or (not runs and config.get("encoding") is None):
        raise ValueError("run must name a run directory or one of its checkpoints: run=outputs/RUN")
    if runs and config.get("encoding") is not None:
        raise ValueError("encoding goes without a run: to replace the encoding of a run, use encoding@swap=")
    if not runs and config.get("swap") is not None:
        raise ValueError("encoding@swap replaces the encoding of a run: it needs run=")
    if runs and "temperature" in map(key_of, overrides) and config.get("swap") is None:
        raise ValueError("temperature needs encoding@swap: to change only temperature, swap in the run's own encoding")
    if runs and of_runs:
        raise ValueError(f"{of_runs[0].partition('=')[0]} comes from the run, and cannot be changed")


def swap_of(run: str, overrides: list[str]) -> dict[str, Any]:
    """Compose the encoding that replaces a run's own; the temperature stays unless one is given."""
    from hydra import compose
    from omegaconf import OmegaConf

    from poslab.configuration.build import is_pretrained
    from poslab.configuration.labels import without_scratch_default
    from poslab.runs.directory import RunDirectory

    directory = RunDirectory.of(run)
    length = directory.config()["dataset"].get("sequence_length")
    if type(length) is not int:  # a text could be an interpolation, which Hydra would resolve
        raise ValueError(f"{directory.config_file}: dataset.sequence_length must be an integer, got {length}")
    words = [f"dataset.sequence_length={length}", *overrides, *searching_words()]
    composed = compose("evaluate", overrides=words)
    config = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(config, dict)
    if is_pretrained(directory.config()["model"]):
        config = without_scratch_default(config, OmegaConf.to_container(composed, resolve=False))
    swap = {"encoding": config["swap"]}
    if config.get("temperature") is not None or "temperature" in map(key_of, overrides):
        swap["temperature"] = config.get("temperature")
    return swap


def pretrained_choices(config: Mapping[str, Any], of_model: Sequence[str]) -> list[PretrainedChoice]:
    """Compose the configurations of a pretrained model under each encoding, as `python -m src.train` does."""
    from hydra import compose
    from hydra.errors import ConfigCompositionException

    from poslab.cli.errors import composition_error
    from poslab.configuration.build import full_keys
    from poslab.evaluation.command import PretrainedChoice
    from poslab.experiments.composition import Composer
    from poslab.pretrained.directory import configuration, download, is_folder, tokenizer_file
    from poslab.pretrained.proof import family_of

    composer = Composer(CONF, config["trust"])
    searched = searching_words()
    words = [*([] if _sets("model", of_model) else ["model=pretrained"]), *of_model, f"seed={config['seed']}"]

    def resolved(words: Sequence[str]) -> dict[str, Any]:
        try:
            return composer.resolve(compose("train", overrides=[*words, *searched], return_hydra_config=True))
        except ConfigCompositionException as error:  # its keys are keys of training
            raise ValueError(composition_error(error, "train", [*words, *searched])) from error

    whole = resolved([*words, "encoding=pretrained"])
    with full_keys("model", whole):
        path = whole["model"]["path"]
        download(path)
        model = configuration(path)
        length = family_of(model).facts(model).training_length
        if not is_folder(path) and not _sets("dataset.tokenizer", words):
            words.append(composer.override("dataset.tokenizer", str(tokenizer_file(path))))
    if not _sets("dataset.sequence_length", words):
        words.append(f"dataset.sequence_length={length}")
    pretrained = []
    for name, chosen in _encodings("pretrained" if config["encodings"] is None else config["encodings"]):
        known = list(keys("encoding", chosen["encoding"])) if chosen["encoding"] in choices("encoding") else []
        of_encoding = [*words, *expand_aliases([composer.override(key, chosen[key]) for key in chosen], known)]
        pretrained.append(PretrainedChoice(name, resolved(of_encoding), of_encoding))
    return pretrained


def _encodings(nodes: Any) -> list[tuple[str | None, dict[str, Any]]]:
    """Return the names of encodings, None where none is given, and their choices, as a comparison lists them."""
    from poslab.experiments.comparison import NAME

    encodings: list[tuple[str | None, dict[str, Any]]] = []
    if nodes == []:
        raise ValueError("encodings must not be empty; null is pretrained")
    for node in nodes if isinstance(nodes, list) else [nodes]:
        named = {"encoding": node} if isinstance(node, str) else node if isinstance(node, Mapping) else {}
        if len(named) == 1 and isinstance(of_encoding := next(iter(named.values())), Mapping):  # {yarn: {factor: 4}}
            name = next(iter(named))
            named = {"encoding": name, **{f"encoding.{key}": value for key, value in of_encoding.items()}}
        chosen = {str(key): value for key, value in named.items() if key != "name"}
        is_of_encoding = {key.partition(".")[0] for key in chosen} <= set(OF_THE_ENCODING)
        if not isinstance(chosen.get("encoding"), str) or not is_of_encoding:
            raise ValueError(
                "encodings must be names, {yarn: {factor: 4}}, or {name: yarn_4, encoding: yarn, encoding.factor: 4} "
                f"with keys of encoding, positions and temperature, got {shown(node)}"
            )
        name = named.get("name")
        if name is not None and not (isinstance(name, str) and re.fullmatch(NAME, name)):
            raise ValueError(f"encodings: names must be at most 80 letters, digits, dots, - and _, got {shown(name)}")
        encodings.append((name, chosen))
    return encodings


def _sets(key: str, words: Sequence[str]) -> bool:
    return any(word.lstrip("+").startswith(f"{key}=") for word in words)


def words_of_model(words: Sequence[str], name: str) -> list[str]:
    """Return the words of a command that choose a pretrained model and its data: words with keys of training.

    There are none if it has a run.
    """
    if not (_sets("model.path", words) or _sets("pretrained", words)) or _sets("run", words) or _sets("runs", words):
        return []

    def top(word: str) -> str:
        """Return the first name of a key: `dataset` of `+dataset.files=x`."""
        return key_of(word).partition(".")[0]

    of_command = {*map(top, keys_of(CONF / f"{name}.yaml")), "encoding"} - {"model", "dataset", "temperature"}
    of_training = {*map(top, keys_of(CONF / "train.yaml")), *groups()} - of_command - {"hydra"}
    return [word for word in words if "=" in word and (top(word) in of_training or word.startswith("+"))]


def run() -> None:
    """Run the command, and exit."""
    of_model = words_of_model(sys.argv[1:], "evaluate")
    sys.argv[1:] = [word for word in sys.argv[1:] if word not in of_model]
    command("evaluate", partial(main, of_model=of_model), evaluate_help)
