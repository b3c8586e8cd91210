"""Labels of runs: the encoding, and the keys in which it or the run differs, by the names that people type."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from poslab.configuration.command_line import CONF
from poslab.io.files import LOADER

OF_THE_ENCODING = ("encoding", "positions", "temperature")  # groups that together are the encoding of a run

GROUPS = ("positions", "temperature", "model", "objective", "step", "optimizer", "adapt", "start", "dataset")
"""Groups whose choice is named instead of the class that it makes."""

IGNORED_KEYS = ("trust", "resume", "callbacks", "logger", "dataset.num_workers", "dataset.cache_dir", "trainer.devices")
"""Keys that do not change what a run learns, and are in no label."""

OF_A_SCALING = "encoding.scaling.factor"  # key that is in all labels of runs side by side
MANY = 4  # keys in a label, unless labels of different runs would be equal
LONG = 40  # characters of a value in a label, with the same exception


class Choice(NamedTuple):
    """Choice of a group in a run."""

    name: str  # as people type it, or the class that it makes where there is no file of it
    # dotted keys with another value than in the file, or that only the run has, with their values
    changed: dict[str, Any]
    follow: frozenset[str]  # dotted keys whose value the file takes from another key, as it is in the run


def label(config: Mapping[str, Any], conf: Path = CONF) -> str:
    """Return the encoding of a run with its positions and temperature, and what differs from their choices.

    label(config) == "rotary base=1e5 temperature=ssmax"
    """
    encoding, *around = (
        (group, choice_of(config, group, conf)) for group in OF_THE_ENCODING if isinstance(config.get(group), Mapping)
    )
    differing = {f"encoding.{key}": value for key, value in encoding[1].changed.items()}
    for group, choice in around:
        differing |= {group: choice.name} if choice.name not in ("contiguous", "Contiguous") else {}
        differing |= {f"{group}.{key}": value for key, value in choice.changed.items()}
    return _joined(encoding[1].name, differing, list(differing), MANY, LONG)


def labels(configs: Sequence[Mapping[str, Any]], conf: Path = CONF) -> list[str]:
    """Return the label of each of several runs: its encoding, and the keys in which they differ.

        labels([...]) == ["rotary base=1e5", "rotary base=1e6", "alibi"]

    Labels are equal where configurations are, seeds of parts aside. They name four keys, and more only where four are
    not enough. The factor of a scaling is always there, since it says how far an encoding is meant to reach.
    """
    flat = [dict(_flat(config, conf)) for config in configs]
    keys = [key for key in dict.fromkeys(key for run in flat for key in run) if _differs(key, flat)]
    kept = [key for key in keys if key != "encoding" and (key == "seed" or not key.endswith("seed"))]
    keys_of = [(run, (*_named_keys(run, kept, flat), OF_A_SCALING)) for run in flat]
    named = [(run["encoding"], {key: run[key] for key in keys if key in run}) for run, keys in keys_of]
    short = [_joined(name, values, kept, MANY, LONG) for name, values in named]
    whole = [_joined(name, values, kept, None, None) for name, values in named]
    return short if len(set(short)) == len(set(whole)) else whole


def _joined(name: str, values: Mapping[str, Any], keys: Sequence[str], many: int | None, long: int | None) -> str:
    """Return a label of some values, whose names are short and distinguish them among keys."""
    return " ".join([name, *(f"{short_key(key, keys)}={cut(shown(values[key]), long)}" for key in list(values)[:many])])


def cut(text: str, long: int | None) -> str:
    """Return a text without its middle if it is too long, since paths and numbers differ at their ends."""
    return text if long is None or len(text) <= long else f"{text[: long // 2 - 1]}...{text[2 - long // 2 :]}"


def _named_keys(run: Mapping[str, Any], keys: Sequence[str], flat: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys that the label of a run names: those within a group differ among runs of its choice."""
    named = []
    for key in keys:
        group = key.partition(".")[0]
        of_choice = [other for other in flat if "." not in key or other.get(group) == run.get(group)]
        if key in run and _differs(key, of_choice):
            named.append(key)
    return named


def _differs(key: str, flat: Sequence[Mapping[str, Any]]) -> bool:
    values = (run.get(key) for run in flat)
    return len({value if is_number(value) else shown(value) for value in values}) > 1  # 1e5 is 100000


def _flat(config: Mapping[str, Any], conf: Path) -> Iterator[tuple[str, Any]]:
    """Yield each group with its choice, and dotted keys with their values, without those that follow from others."""
    choices = choices_of(config, conf)
    yield from ((group, choice.name) for group, choice in choices.items())
    follow = {f"{group}.{key}" for group, choice in choices.items() for key in choice.follow}
    leaves = ((key, value) for key, value in _leaves(config, "") if not isinstance(config.get(key), Mapping))
    yield from ((key, value) for key, value in leaves if not key.startswith(IGNORED_KEYS) and key not in follow)


def _leaves(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield dotted keys with their values, and each node within with only its class."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            if "_target_" in value:
                yield f"{prefix}{key}", {"_target_": value["_target_"]}
            yield from _leaves(value, f"{prefix}{key}.")
        elif key not in ("_target_", "_partial_"):
            yield f"{prefix}{key}", value


def choices_of(config: Mapping[str, Any], conf: Path = CONF) -> dict[str, Choice]:
    """Return the choices of a run, by group."""
    groups = [group for group in ("encoding", *GROUPS) if isinstance(config.get(group), Mapping)]
    return {group: choice_of(config, group, conf) for group in groups}


def choice_of(config: Mapping[str, Any], group: str, conf: Path = CONF) -> Choice:
    """Return the choice of a group of a run."""
    node = config[group]
    name = choice_name(conf, group, node)
    usual = {} if name is None else dict(_leaves(_files(conf, group)[name], ""))
    here = {key: _resolved(value, config) for key, value in usual.items()}
    leaves = dict(_leaves(node, ""))
    return Choice(
        name or str(node.get("_target_")).rpartition(".")[2],
        {key: value for key, value in leaves.items() if key not in here or here[key] != value},
        frozenset(key for key in leaves if key in here and here[key] is not usual[key] and here[key] == leaves[key]),
    )


def is_number(value: Any) -> bool:
    """Return whether a value is a number, which true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _resolved(value: Any, config: Mapping[str, Any]) -> Any:
    """Return a value of a file of choices in a run, where `${dataset.sequence_length}` represents another key.

    `${oc.select:dataset.grid,[${dataset.sequence_length}]}` is the first key, and without it the list, which may have
    integers too.
    """
    if not isinstance(value, str):
        return value
    if selected := re.fullmatch(r"\$\{oc\.select:([\w.]+),\[(.*)\]\}", value):
        first = _resolved(f"${{{selected[1]}}}", config)
        others = (int(item) if item.isdecimal() else _resolved(item, config) for item in selected[2].split(","))
        return list(others) if first is None else first
    reference = re.fullmatch(r"\$\{([\w.]+)\}", value)
    if reference is None:
        return value
    node: Any = config
    for word in reference[1].split("."):
        node = node.get(word) if isinstance(node, Mapping) else None
    return node


def choice_name(conf: Path, group: str, node: Mapping[str, Any]) -> str | None:
    """Return the choice of a group that makes what a node describes, from the nearest file; None if there is none.

    Files may make the same class, such as the files of rotary scalings: classes must be equal everywhere, and of
    several files that fit, the one with most equal values is taken.
    """
    fitting = {name: file for name, file in _files(conf, group).items() if _classes(file) == _classes(node)}
    return max(fitting, key=lambda name: _likeness(fitting[name], node), default=None)


def _likeness(file: Mapping[str, Any], node: Mapping[str, Any]) -> tuple[int, int]:
    leaves, others = dict(_leaves(file, "")), dict(_leaves(node, ""))
    return sum(others.get(key) == value for key, value in leaves.items()), -len(leaves)


def _classes(node: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return the `_target_` at each path of a node; one of Poslab may be named by any of its packages."""
    classes = {prefix: re.sub(r"^poslab\..*\.", "poslab.", str(node["_target_"]))} if "_target_" in node else {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            classes |= _classes(value, f"{prefix}{key}.")
    return classes


@cache
def _files(conf: Path, group: str) -> dict[str, Mapping[str, Any]]:
    """Return the contents of the files of a group, without those that start with an underscore or are broken."""
    files = [file for file in sorted((conf / group).glob("*.yaml")) if not file.name.startswith("_")]
    return {file.stem: content for file in files if (content := _content(file))}


def choice_file(group: str, name: str, conf: Path = CONF) -> dict[str, Any]:
    """Return the content of a choice, with the values that it has in a Poslab model; {} if there is no such file."""
    return _content(conf / group / f"{name}.yaml")


def _content(file: Path) -> dict[str, Any]:
    """Return the content of a file over the content of the files of its group that it names as its defaults."""
    try:
        node = yaml.load(file.read_text(encoding="utf-8"), Loader=LOADER)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):  # Hydra reports it where it is chosen
        return {}
    if not isinstance(node, dict):
        return {}
    whole: dict[str, Any] = {}
    for other in node.pop("defaults", []):
        if isinstance(other, str) and (base := file.with_name(f"{other}.yaml")).is_file():
            whole |= _content(base)
    return whole | with_scratch_default(node)


def written(label: str, conf: Path = CONF) -> str:
    """Return a label with its encoding as people write it in papers: `ALiBi max_exponent=10`.

    The comment that a file of `conf/encoding` starts with has that name before its first colon.
    """
    name, space, rest = label.partition(" ")
    if name not in _files(conf, "encoding"):
        return label
    first = (conf / "encoding" / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
    title = re.match(r"# ([^:.]{1,30}):", first)
    return f"{title[1] if title else name}{space}{rest}"


def names_in_plots(labels: Iterable[str], conf: Path = CONF) -> str:
    """Return which encodings of these labels plots name otherwise than people type them; "" if none.

    names_in_plots(["rotary_axial", "alibi"]) == "rotary_axial is Axial rotary"
    """
    names = {name: written(name, conf) for name in dict.fromkeys(label.partition(" ")[0] for label in labels)}
    return "; ".join(f"{name} is {shown}" for name, shown in names.items() if _letters(name) != _letters(shown))


def _letters(text: str) -> str:
    return re.sub(r"[\W_]", "", text.lower())


def short_key(key: str, others: Sequence[str]) -> str:
    """Return the last word of a key, or as many as distinguish it from the other keys."""
    words = key.split(".")
    for count in range(1, len(words) + 1):
        short = ".".join(words[-count:])
        if sum(other == short or other.endswith(f".{short}") for other in {*others, key}) == 1:
            return short
    return key


def shown(value: Any) -> str:
    """Return a value as people type it, without spaces: `1e5`, `0.001`, `null`, `[Alibi,Rotary(base=1e5)]`."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(shown, value))}]"
    if isinstance(value, Mapping):
        items = [f"{key}={shown(item)}" for key, item in value.items() if key not in ("_target_", "_partial_")]
        name = str(value.get("_target_", "")).rpartition(".")[2]
        return f"{name}({','.join(items)})" if items or not name else name
    return "".join(str(value).split())


def _number(value: float) -> str:
    """Return a number in its shortest form with all digits, in powers of ten from 10,000 on."""
    plain = re.sub(r"\.0$|(?<=e)\+|(?<=e-)0", "", repr(value))
    mantissa, _, exponent = f"{value:.16e}".partition("e")
    short = f"{float(mantissa):.15g}e{int(exponent or 0)}"
    return short if exponent and abs(value) >= 1e4 and len(short) < len(plain) and float(short) == value else plain


# Values of conf/ that a pretrained model gives itself: `${oc.select:pretrained.base,10000.0}`. There is no key
# `pretrained`, so that Poslab's models have the value after the comma. For a pretrained model, the key is left out of
# the configuration, and what is built takes the model's own value.

_VALUE = re.compile(r"\$\{oc\.select:pretrained\.\w+,(.*)\}")


def usual(value: Any) -> Any:
    """Return what a value of conf/ is for a Poslab model: a number, a word, or another interpolation."""
    match = _VALUE.fullmatch(value) if isinstance(value, str) else None
    return value if match is None else match[1] if "$" in match[1] else yaml.load(match[1], Loader=LOADER)


def with_scratch_default(node: Any) -> Any:
    """Return a node of conf/ with the values that it has in a Poslab model."""
    return {key: with_scratch_default(value) for key, value in node.items()} if isinstance(node, dict) else usual(node)


def without_scratch_default(node: Any, unresolved: Any) -> Any:
    """Return a resolved node without the keys that a pretrained model gives itself."""
    if not isinstance(node, Mapping) or not isinstance(unresolved, Mapping):
        return node
    return {
        key: without_scratch_default(value, unresolved[key])
        for key, value in node.items()
        if not (isinstance(unresolved[key], str) and _VALUE.fullmatch(unresolved[key]))
    }
