"""Help of the commands (groups, choices, parts, keys), from the choices of conf/ as their YAML files describe them."""

from __future__ import annotations

import contextlib
import difflib
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

import yaml
from hydra import compose
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from poslab.cli.argv import with_user_choices
from poslab.configuration.build import NAMES_IN_PAPERS, nearest, nearest_encoding
from poslab.configuration.command_line import (
    CONF,
    PACKAGE,
    SEVERAL,
    as_typed,
    assignment,
    choices,
    path_of_choice,
    poslab_command,
    started_as,
)
from poslab.configuration.outside_files import initialized
from poslab.configuration.spec_files import SpecFiles
from poslab.evaluation import parts
from poslab.io.files import LOADER, read_yaml
from poslab.report.text import listed

WIDTH = 80

USER_CHOICES = "Your own choices in ./conf and --config-dir FOLDER come after Poslab's."

COMMON = {"encoding": "rotary (RoPE), alibi, t5, yarn, none (NoPE)", "dataset": "python_docs, text (your files), hub"}
"""Common choices of the groups with many."""

COMMON_KEYS = {
    "dataset.sequence_length": "training length in tokens",
    "dataset.length_multiples": "test lengths over the training length",
    "dataset.batch_size": "sequences in a training step",
    "trainer.max_steps": "training steps",
    "trainer.precision": "32-true, bf16-mixed, 16-mixed or bf16-true",
    "optimizer.lr": "peak learning rate",
    "model.num_layers": "transformer blocks",
    "seed": "random seed",
    "resume": "a run to continue; auto: the newest one",
    "init_from": "a run whose weights to start from",
}
"""Keys that most users set, with their meaning."""


SYNONYMS = {
    **dict.fromkeys(("dim", "width", "hidden_size", "n_embd"), "d_model"),
    **dict.fromkeys(("theta", "rope_theta"), "base"),
    **dict.fromkeys(("block_size", "context_length", "max_length", "max_seq_len", "seq_len"), "sequence_length"),
    **dict.fromkeys(("context", "ctx", "n_ctx", "max_len", "max_position_embeddings"), "sequence_length"),
    **dict.fromkeys(("epochs", "num_epochs", "max_epochs", "num_train_epochs", "max_iters", "steps"), "max_steps"),
    **dict.fromkeys(("depth", "n_layer", "n_layers", "num_hidden_layers"), "num_layers"),
    **dict.fromkeys(("n_head", "n_heads", "num_attention_heads"), "num_heads"),
    **dict.fromkeys(("gpus", "device"), "devices"),
    **dict.fromkeys(("grad_clip", "max_grad_norm", "gradient_clip_val"), "gradient_clip"),
    **dict.fromkeys(("model_name", "model_name_or_path"), "model=pretrained"),
    **dict.fromkeys(("out", "name", "run_name"), "hydra.run.dir"),
    **dict.fromkeys(("lora", "rank", "lora_rank"), "adapt=lora"),
    "gradient_accumulation_steps": "micro_batch_size",
    "learning_rate": "lr",
    "scheduler": "schedule",
    "warmup_steps": "warmup_fraction",
    "folder": "path",
    "nodes": "num_nodes",
    "output": "to hydra.run.dir",
    "output_dir": "output to hydra.run.dir",
}
"""Last parts of keys in other projects, where no part of the name is in our key: our candidates, or a word to type."""


def train_help(words: list[str]) -> str:
    """Return the help of `train` for the other words of a command line.

    They are groups, whose choices are listed; choices and keys, which are explained; or `all` for every key, perhaps
    with overrides. ValueError is raised for a group, a choice or a key that does not exist.
    """
    groups, blocks = meanings(), [] if words else [_overview()]
    if "all" in words or any(word.partition("=")[0] not in groups for word in words if "=" in word):
        words, blocks = [], [_every_key([word for word in words if "=" in word])]
    for word in words:
        group, equals, choice = word.partition("=")
        if word in groups:
            blocks.append(_choices(word))
            continue
        choice, searched = (choice, [group]) if equals else (word, [*groups])
        owners = [each for each in searched if choice in choices(each)]
        if not owners and not equals and (rows := list(_key(word))):
            blocks.append(iter(rows))
        elif not owners:
            kind, known = "group, choice or key", [name for each in searched for name in choices(each)]
            hint, lists = nearest_encoding(choice, known), "; hint: --help lists the groups"
            if equals:
                kind, lists = group, f"; hint: --help {group} lists the choices"
            elif word.lower() not in NAMES_IN_PAPERS:
                known += [key for comments in _comments(_composed([])).values() for key in comments]
                hint = choices_with(word) or nearest_key(word, [*groups, *known])
            raise ValueError(f"unknown {kind} {choice!r}{hint or lists}")
        blocks += [_choice(each, choice) for each in owners]
    return "\n\n".join("\n".join(block) for block in blocks)


def _overview() -> Iterator[str]:
    """Yield the help of `train` on one screen."""
    train = poslab_command("train")
    yield f"Usage: {train} [GROUP=CHOICE ...] [KEY=VALUE ...]"
    yield "Trains a model with a positional encoding, and tests it at longer contexts."
    yield from ("", "Examples:", f"  {train} encoding=alibi", f"  {train} dataset=text 'dataset.files=[notes/*.txt]'")
    yield f"  {train} -m encoding=rotary,alibi seed=1,2  # all combinations"
    yield f"  {train} resume=auto  # the newest unfinished run"
    yield f"  {train} encoding=t5 --cfg job  # only print the configuration"
    yield from ("", "Groups (--help GROUP lists the choices, --help CHOICE or KEY explains one):")
    for group, meaning in meanings().items():
        text, _, default = meaning.rstrip(")").rpartition(" (default: ")
        typed = group if default in ("null", "[]") else f"{group}={default.replace(' ', '')}"
        yield f"  {typed:<26}{text}"
    yield from ("", "Common keys (--help all lists every key):")
    config = _composed([])
    yield from table((f"{key}={_value(config, key)}", meaning) for key, meaning in COMMON_KEYS.items())


def _composed(overrides: list[str]) -> DictConfig:
    with initialized(CONF):
        return compose("train", overrides=with_user_choices(overrides), return_hydra_config=True)


def _value(config: DictConfig, key: str) -> str:
    """Return the value of a key as it is typed; `...` where it follows from what is not known yet."""
    try:
        value = OmegaConf.select(config, key)
    except OmegaConfBaseException:
        return "..."
    return assignment("", OmegaConf.to_container(value) if OmegaConf.is_config(value) else value)[1:]


def _every_key(overrides: list[str]) -> Iterator[str]:
    """Yield every key of a run with its value and the first sentence of its comment, by group."""
    config = _composed(overrides)
    for title, comments in _comments(config).items():
        yield from (title, *_with_values(config, {key: first_sentence(text) for key, text in comments.items()}), "")
    yield USER_CHOICES


def _comments(config: DictConfig) -> dict[str, dict[str, str]]:
    """Return the comments of all keys of a run, by group."""
    chosen = config.hydra.runtime.choices
    blocks = {f"{group}={chosen[group]}": keys(group, chosen[group]) for group in meanings() if chosen.get(group)}
    of_train = keys_of(CONF / "train.yaml").items()
    return {**blocks, "Others:": {key: text for key, text in of_train if not re.match(r"hydra(?!\.run\.dir)", key)}}


def _key(name: str) -> Iterator[str]:
    """Yield the keys of a default run with this name, or that end in it, with their values and whole comments."""
    config = _composed([])
    for comments in _comments(config).values():
        named = {key: text for key, text in comments.items() if f".{key}".endswith(f".{name}")}
        yield from _with_values(config, named)


def _with_values(config: DictConfig, comments: Mapping[str, str]) -> Iterator[str]:
    """Yield `key=value` and the meaning of each key."""
    for key, comment in comments.items():
        if (value := _value(config, key))[:1] != "{":
            yield from (f"  {key}={value}", *_indented(comment))


def _choice(group: str, choice: str) -> Iterator[str]:
    """Yield what a choice is, its keys with their defaults, and an example."""
    typed = f"{group}=[{choice}]" if group in SEVERAL else f"{group}={choice}"
    summary = _heading(group, choice)
    paper = re.search(r"(?<=\. )[A-Z][\w’' -]+?( and [\w -]+| et al\.)? \d{4}[^.]*\.$", summary)
    yield typed
    yield from textwrap.wrap(summary[: paper.start()] if paper else summary, WIDTH)
    yield from ("", f"Paper: {paper[0].rstrip('.')}") if paper else ()
    if rows := list(_with_values(_composed([typed]), keys(group, choice))):
        yield from ("", "Keys and defaults:", *rows)
    yield from ("", "Example:", f"  {poslab_command('train')} {typed}")


def evaluate_help(words: list[str]) -> str:
    """Return the help of `evaluate`; arguments and errors as of `train_help`."""
    comments = {**keys_of(CONF / "evaluate.yaml"), **parts.meanings()}
    if words and all(comments.get(word) and word not in meanings() for word in words):
        return "\n".join(line for word in words for line in (f"  {word}", *_indented(comments[word])))
    if any("=" not in word for word in words):
        return train_help(words)
    before_training = f"  {poslab_command('evaluate')} model.path=DIR encodings=[pretrained,yarn,none]"
    of_parts = [
        "Parts (parts=[extrapolation,attention]), all of them without a choice:",
        *table(parts.meanings().items()),
    ]
    swap = "encoding@swap=none replaces the encoding of a run at test time."
    pretrained = "A pretrained model before any training, on the data that dataset= chooses:"
    return _help(
        "evaluate", "evaluates a trained run", "run=outputs/RUN", *of_parts, "", swap, pretrained, before_training
    )


def bench_help(words: list[str]) -> str:
    example = "run=outputs/RUN tasks=[ruler] lengths=[512]"
    model = (
        f"  {poslab_command('bench')} model.path=DIR encodings=[pretrained,self_extend] tasks=[ruler] lengths=[4096]"
    )
    lines = ["A pretrained model under several encodings:", model, "", "dry_run=true says how long it takes."]
    return _help("bench", "measures models on RULER and lm-evaluation-harness", example, *lines)


def extend_help(words: list[str]) -> str:
    example = "model.path=DIR to=32768 text='[notes/*.txt]' budget=2h"
    lines = ["The model of a run:", f"  {poslab_command('extend')} run=outputs/RUN to=1024 text='[notes/*.txt]'"]
    return _help("extend", "finds a setting of RoPE for longer texts, and its price", example, *lines)


def generate_help(words: list[str]) -> str:
    what, example = "continues or answers a text with a trained model", 'run=outputs/RUN prompt="A list is"'
    return _help("generate", what, example, "-m seed=1,2,3 makes several texts.")


def export_help(words: list[str]) -> str:
    return _help("export", "writes a trained run for transformers or llama.cpp", "run=outputs/RUN to=my-model")


def _help(name: str, what: str, example: str, *more: str) -> str:
    """Return the help of a command: an example, its keys with the first sentence of their comments, and more lines."""
    lines = [*usage(name, f"{example} [KEY=VALUE ...]", what), ""]
    lines += [f"Keys (key=value), which {as_typed(CONF / name)}.yaml explains in full:"]
    keys = keys_of(CONF / f"{name}.yaml")
    lines += table((key, first_sentence(comment)) for key, comment in keys.items() if comment and key[:5] != "hydra")
    return "\n".join([*lines, "", *more]).rstrip()


def usage(command: str, arguments: str, what: str) -> list[str]:
    """Return the first lines of a command's help: how it is typed, and what it does."""
    return [f"Usage: {poslab_command(command)} {arguments}", *textwrap.wrap(f"{what[0].upper()}{what[1:]}.", WIDTH)]


def questions_help(first: Iterable[str], run: str, own_keys: Mapping[str, str], files: SpecFiles) -> str:
    """Return the help of `sweep` or `compare`: first lines as of `usage`, own keys with their meaning, and questions.

    `run` is the word for what it trains.
    """
    lines = [*first, "", f"Keys of a {files.kind}:", *table(own_keys.items())]
    lines += ["", f"All other keys are keys of {poslab_command('train')}, for every {run}.", USER_CHOICES]
    lines += ["", f"{files.kind.capitalize()}s:"]
    for name in files.names():
        lines += [f"  {name}", *_indented(files.question(name))]
    return "\n".join(lines)


def _choices(group: str) -> Iterator[str]:
    """Yield the choices of a group with what each is, datasets and encodings by family."""
    yield from textwrap.wrap(f"{group}: {meanings()[group]}", WIDTH)
    families = {"": choices(group)}
    if group in COMMON:
        families = {f"Common: {COMMON[group]}": [], **_by_family(group)}
    for name, options in families.items():
        if name:
            yield from ("", name)
        yield from table((choice, description(group, choice)) for choice in options) if options else ()
    yield from ("", f"--help CHOICE explains a choice ({as_typed(CONF / group)}/CHOICE.yaml).", USER_CHOICES)


def _by_family(group: str) -> dict[str, list[str]]:
    """Return the datasets or encodings by the heading of their family: what its file or its package says."""
    headings = {file.stem[1:]: description(group, file.stem) for file in (CONF / group).glob("_*.yaml")}
    for file in (PACKAGE / "encodings").glob("*/__init__.py") if group == "encoding" else ():
        headings[file.parent.name] = file.read_text(encoding="utf-8").strip('"').partition(".")[0]
    families: dict[str, list[str]] = {name: [] for name in sorted(headings)}
    for choice in choices(group):
        families.setdefault(family(group, choice), []).append(choice)
    return {headings.get(name, name.capitalize() or "Others"): names for name, names in families.items() if names}


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ")


def table(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield each name and what it means, in lines of at most `WIDTH` characters."""
    rows = list(rows)
    wide = max(len(name) for name, _ in rows)
    for name, meaning in rows:
        first, after = f"  {name:<{wide}}  ", " " * (wide + 4)
        yield from textwrap.wrap(meaning, WIDTH, initial_indent=first, subsequent_indent=after) or [first.rstrip()]


FAMILY = "override /family@_global_.family"  # entry of the defaults list of a dataset's file that names its family


def meanings() -> dict[str, str]:
    """Return what each group of a run is, as the defaults list of conf/train.yaml says, with the default choice."""
    text = (CONF / "train.yaml").read_text(encoding="utf-8")
    lines = re.findall(r"^  - (\w+): ([\w\[\], ]+?) +# (.*)", text, re.MULTILINE)
    return {group: f"{meaning} (default: {choice})" for group, choice, meaning in lines}


def description(group: str, choice: str) -> str:
    """Return the first sentence of the comment at the start of a file."""
    return first_sentence(_heading(group, choice))


def _heading(group: str, choice: str) -> str:
    """Return the comment at the start of a file."""
    lines = _lines(path_of_choice(group, choice).read_text(encoding="utf-8"))
    comment = takewhile(lambda line: line.startswith("#"), dropwhile(lambda line: not line, lines))
    return " ".join(line.lstrip("# ") for line in comment)


def _lines(text: str) -> list[str]:
    """Return the lines of a file with commands as typed, in which Hydra's directive of a package is empty."""
    lines = text.replace("python -m src.", started_as()).splitlines()
    return ["" if line.startswith("# @package") else line for line in lines]


def first_sentence(comment: str) -> str:
    """Return the first sentence of a comment, without its full stop."""
    return re.split(r"\. (?=[A-Z(])", comment)[0].rstrip(".")


def family(group: str, choice: str) -> str:
    """Return the family of a dataset, such as `classes`, which conf/dataset/_classes.yaml describes; empty without one.

    The family in a file overrides the family in files that it inherits from, as in Hydra. An encoding's is its folder.
    """
    nodes = [_content(file) for file in _parts(group, choice)]
    if group == "encoding":
        targets = re.findall(r"'_target_': 'poslab\.encodings\.(\w+)\.", str(nodes))
        return targets[0] if targets else ""
    names = [str(x[FAMILY]) for node in nodes for x in node.get("defaults", []) if isinstance(x, dict) and FAMILY in x]
    return names[-1] if names else ""


def keys(group: str, choice: str) -> dict[str, str]:
    """Return the keys of a choice as they are typed, each with the comment above it or behind it.

    A choice also has the keys of the files of its group that it inherits from. Raises YAMLError for a broken file.
    """
    package = re.search(r"^# @package (\S+)", path_of_choice(group, choice).read_text(encoding="utf-8"), re.MULTILINE)
    prefix = f"{group}." if package is None else f"{package[1]}.".removeprefix("_global_.")
    comments: dict[str, str] = {}
    for file in _parts(group, choice):
        for key, comment in keys_of(file).items():
            comments[prefix + key] = comment or comments.get(prefix + key, "")
    return comments


def choices_with(key: str) -> str:
    """Return `; hint: it is a key of dataset=text` for a key, such as `dataset.files`; "" if no choice has it."""
    group, _, rest = key.partition(".")
    owners = []
    for choice in choices(group) if rest else []:
        with contextlib.suppress(yaml.YAMLError, ValueError, OSError, RecursionError):  # reported where it is chosen
            if key in keys(group, choice):
                owners.append(f"{group}={choice}")
    return f"; hint: it is a key of {listed(owners if len(owners) < 7 else [*owners[:3], 'others'])}" if owners else ""


def nearest_key(typed: str, known: Iterable[str]) -> str:
    """Return a hint for a key: the nearest one, perhaps by its last part (`lr`, `steps`), or a command that has it."""
    known, (parent, _, last) = [key for key in known if key != typed], typed.rpartition(".")
    by_last_part = {key.rpartition(".")[2]: key for key in reversed(known)}
    for name in (last, *SYNONYMS.get(last, "").split(), *SYNONYMS.get(parent, "").split()):
        if name in by_last_part or "=" in name or "." in name:
            return f"; did you mean {by_last_part.get(name, name)!r}?"
    siblings = {key.rpartition(".")[2]: key for key in known if parent and key.rpartition(".")[0] == parent}
    if matches := difflib.get_close_matches(last, siblings, n=1):
        return f"; did you mean {siblings[matches[0]]!r}?"
    others = {name: keys_of(CONF / f"{name}.yaml") for name in ("evaluate", "bench", "extend", "generate", "export")}
    others |= {"sweep": {"sweep": "", "n_trials": ""}, "compare": {"comparison": ""}}
    if commands := [poslab_command(name) for name, its_keys in others.items() if typed in its_keys]:
        return f"; hint: it is a key of {listed(commands)}"
    close = difflib.get_close_matches(last, by_last_part, 1, 0.8)
    having_part = [key for part, key in by_last_part.items() if typed and typed in part.split("_")]
    whole = nearest(typed, known, 0.7)
    matches = [by_last_part[part] for part in close] or sorted(having_part, key=len)
    return f"; did you mean {matches[0]!r}?" if matches and not whole else whole


def keys_of(file: Path) -> dict[str, str]:
    """Return the dotted keys of a choice's file, each with the comment above it; YAMLError or ValueError if broken."""
    if not file.is_relative_to(CONF):
        read_yaml(file)  # a few aliases in an untrusted file can represent terabytes
    text = file.read_text(encoding="utf-8")
    node = yaml.compose(text, LOADER)
    return dict(_keys(node, "", _lines(text))) if isinstance(node, yaml.MappingNode) else {}


def _parts(group: str, choice: str) -> Iterator[Path]:
    """Yield the files of the same group that the file of a choice inherits from, and the file itself."""
    file = path_of_choice(group, choice)
    for default in _content(file).get("defaults", []):
        if isinstance(default, str) and default != "_self_":
            yield from _parts(group, default)
    yield file


def _content(file: Path) -> dict[str, Any]:
    content = yaml.load(file.read_text(encoding="utf-8"), LOADER)
    return content if isinstance(content, dict) else {}


def _keys(node: yaml.MappingNode, prefix: str, lines: list[str]) -> Iterator[tuple[str, str]]:
    for key, value in node.value:
        if key.value in ("_target_", "_partial_", "defaults"):
            continue
        above = key.start_mark.line
        while lines[above - 1].lstrip().startswith("#"):
            above -= 1
        trailing = re.search(r"\s# (.*)", lines[key.start_mark.line][key.end_mark.column :])
        comment = " ".join(line.lstrip(" #") for line in lines[above : key.start_mark.line])
        yield f"{prefix}{key.value}", trailing[1] if trailing else comment
        if isinstance(value, yaml.MappingNode):
            yield from _keys(value, f"{prefix}{key.value}.", lines)
