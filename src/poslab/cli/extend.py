"""A longer context for a model with RoPE (`python -m src.extend model.path=DIR to=32768 text='[notes/*.txt]'`)."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from poslab.arguments import nearest_or_list
from poslab.cli.argv import searching_words
from poslab.cli.bench import prepare_harness
from poslab.cli.evaluate import pretrained_choices, swap_of, words_of_model
from poslab.cli.help import extend_help, keys
from poslab.cli.hydra_command import check_figure_width, command, quick_imports
from poslab.configuration.command_line import CONF, choices, key_of, poslab_command
from poslab.io.files import read_json, write_atomically


def main(
    config: dict[str, Any],
    directory: Path,
    overrides: list[str],
    of_model: Sequence[str] = (),
    of_adapt: Sequence[str] = (),
) -> None:
    """Extend a model; arguments as of `command`, `of_model` as of `python -m src.bench`, and `of_adapt` for `adapt`."""
    check_figure_width(config["figure"]["width"])
    if bool(of_model) == bool(config["run"]):
        raise ValueError("model.path must name a pretrained model, as in model.path=DIR, or run a run: run=outputs/RUN")
    for key, example in (("to", "to=32768"), ("text", "text='[notes/*.txt]'")):
        if config[key] is None:
            raise ValueError(f"{key} must be given, as in {example}")
    prepare_harness(config, "extend", ("types", "tasks"))
    chosen = [word.partition("=")[2] for word in of_adapt if key_of(word) == "adapt"][-1:]
    adapt = ("lora" if of_model else "full") if chosen in ([], ["null"]) else chosen[0]
    if adapt not in choices("adapt"):
        raise ValueError(f"unknown adapt {adapt!r}{nearest_or_list(adapt, choices('adapt'), 'conf/adapt')}")
    config = {**config, "adapt": [f"adapt={adapt}", *(word for word in of_adapt if key_of(word) != "adapt")]}
    with quick_imports():
        from poslab.experiments.extend.command import run_extend
        from poslab.experiments.extend.plan import ExtendRequest

        request = ExtendRequest(
            **{key.name: config[key.name] for key in fields(ExtendRequest) if key.name in config},
            typed=poslab_command("extend", *of_model, *of_adapt, *overrides),
            figure_width=config["figure"]["width"],
        )

    def subject_of(setting: Any, name: str) -> Any:
        if setting.run:
            return _trained(config, setting, name)
        return (_pretrained if of_model else _run)(config, of_model, setting, name)

    run_extend(subject_of, partial(_config_of, config, of_model), partial(_export, subject_of, request.to), request)


def _config_of(
    config: Mapping[str, Any], of_model: Sequence[str], setting: Any, words: Sequence[str]
) -> dict[str, Any]:
    """Return the configuration of a run that trains the model further under a setting.

    A run's model is trained with its own optimizer, at a tenth of its rate.
    """
    from hydra import compose

    from poslab.data.tokenizers import FILE_NAME, ByteTokenizer
    from poslab.experiments.composition import Composer

    composer = Composer(CONF, config["trust"])

    def resolved(words: Sequence[str]) -> dict[str, Any]:
        return composer.resolve(compose("train", overrides=[*words, *searching_words()], return_hydra_config=True))

    device = (
        [] if config["device"] == "auto" else [f"trainer.accelerator={'cpu' if config['device'] == 'cpu' else 'gpu'}"]
    )
    if of_model:
        (choice,) = pretrained_choices({**config, "encodings": [dict(setting.keys)]}, of_model)
        known = {key_of(word) for word in words}
        of_choice = [word for word in choice.choices if key_of(word) not in known]
        return resolved([*of_choice, *words, *device])
    subject = _run(config, of_model, setting, "searched")
    tokenizer = "bytes" if isinstance(subject.tokenizer, ByteTokenizer) else str(Path(subject.path) / FILE_NAME)
    new = resolved([*words, *device, composer.override("dataset.tokenizer", tokenizer), f"seed={subject.seed}"])
    of_run = ("model", "encoding", "temperature", "attention")
    kept = {key: subject.config[key] for key in of_run if key in subject.config}
    optimizer = {**subject.config["optimizer"], "lr": 0.1 * subject.config["optimizer"]["lr"]}
    return {**new, **kept, "optimizer": optimizer, "init_from": subject.path}


def _trained(config: Mapping[str, Any], setting: Any, name: str) -> Any:
    """Return the model that was trained further under a setting."""
    from poslab.experiments.bench.models import run_subjects

    (subject,) = run_subjects([setting.run], config["device"], config["trust"])
    return subject.under(name, None)


def _pretrained(config: Mapping[str, Any], of_model: Sequence[str], setting: Any, name: str) -> Any:
    """Return a pretrained model under a setting."""
    from poslab.experiments.bench.models import pretrained_subjects

    (choice,) = pretrained_choices({**config, "encodings": [dict(setting.keys)]}, of_model)
    (subject,) = pretrained_subjects([choice._replace(name=name)], config["dtype"], config["device"], config["seed"])
    return subject


def _run(config: Mapping[str, Any], of_model: Sequence[str], setting: Any, name: str) -> Any:
    """Return the model of a run under a setting."""
    from poslab.experiments.bench.models import run_subjects
    from poslab.experiments.extend.settings import OWN

    (subject,) = run_subjects([config["run"]], config["device"], config["trust"])
    if setting == OWN:
        return subject.under(name, None)
    own, known = subject.config["encoding"], keys("encoding", setting.type)
    full = {key.rpartition(".")[2]: key.partition(".")[2] for key in reversed(known)}
    values = {key.rpartition(".")[2]: value for key, value in setting.keys.items() if key != "encoding"}
    values |= {key: own[key] for key in ("base", "fraction", "layout") if key in own and key in full}
    words = [f"swap.{full[key]}={json.dumps(value)}" for key, value in values.items()]
    return subject.under(name, swap_of(config["run"], [f"encoding@swap={setting.type}", *words]))


def _export(subject_of: Any, to: int, setting: Any, folder: Path) -> Iterator[str]:
    """Write the model under a setting, and yield sentences on it."""
    from transformers.utils import logging

    from poslab.experiments.extend.settings import SERVED_BY
    from poslab.pretrained.inspection.report import inspect_positions

    logging.disable_progress_bar()
    logging.set_verbosity_error()

    subject, record, file = subject_of(setting, "found"), folder.with_name("exported.json"), folder / "config.json"
    is_whole = file.exists() and record.exists() and read_json(record).get("setting") == setting.identity
    if not is_whole:
        shutil.rmtree(folder, ignore_errors=True)  # of another setting, or not finished
        yield from subject.export(folder).notes
    if (tokenizer := folder / "tokenizer_config.json").exists():
        known = read_json(tokenizer)
        longest = max(known.get("model_max_length") or 0, to)
        write_atomically(tokenizer, json.dumps({**known, "model_max_length": longest}, indent=2) + "\n")
    written = read_json(file)
    text = written.get("text_config", written)
    rope = text.get("rope_parameters") or {}
    kinds = [rope] if "rope_type" in rope else [of_kind for of_kind in rope.values() if isinstance(of_kind, dict)]
    if all(of_kind.get("rope_type") != "dynamic" for of_kind in kinds):  # a dynamic one is stretched from there on
        text["max_position_embeddings"] = max(text["max_position_embeddings"], to)
        write_atomically(file, json.dumps(written, indent=2, sort_keys=True) + "\n")
    write_atomically(record, json.dumps({"setting": setting.identity}))
    yield f"{folder} is the model under {setting.label}. Programs that compute it: {SERVED_BY[setting.type]}."
    for finding in inspect_positions(str(folder), to).findings:
        if finding.level == "warning":
            yield f"warning: {finding.message}"
    is_directory = (Path(subject.path) / "config.json").exists()  # and not a run
    if "vLLM" in SERVED_BY[setting.type] and is_directory and not setting.run:
        served = json.dumps({key: text[key] for key in ("rope_parameters", "max_position_embeddings") if key in text})
        yield "Without the directory, for a server that only takes a setting:"
        yield f"vllm serve {shlex.quote(subject.path)} --hf-overrides {shlex.quote(served)} --max-model-len {to}"


def run() -> None:
    """Run the command, and exit."""
    of_model = words_of_model(sys.argv[1:], "extend")
    of_adapt = [word for word in sys.argv[1:] if key_of(word).partition(".")[0] == "adapt"]  # a group of training
    sys.argv[1:] = [word for word in sys.argv[1:] if word not in (*of_model, *of_adapt)]
    command("extend", partial(main, of_model=of_model, of_adapt=of_adapt), extend_help)
