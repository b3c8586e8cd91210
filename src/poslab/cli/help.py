"""Help of the commands: their groups, the choices of one, the parts of an evaluation, and every key."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable, Iterator, Mapping

from hydra import compose
from omegaconf import OmegaConf

from poslab.cli.choices import choices, description, family, first_sentence, keys_of, meanings
from poslab.cli.mistakes import WIDTH, as_typed
from poslab.cli.own_choices import with_own_choices
from poslab.configuration.command_line import poslab_command
from poslab.configuration.folders import CONF
from poslab.configuration.outside_files import initialized
from poslab.configuration.spec_files import SpecFiles
from poslab.evaluation import parts

INDENT = "    "

OWN = "./conf and --config-dir FOLDER hold choices of your own, beside those of Poslab."


def train_help(words: list[str]) -> str:
    """Return the help of `train` for the other words of a command line.

    Args:
        words: groups, whose choices are listed; or overrides, under which every key is shown.

    Raises:
        ValueError: for a group that there is not.
    """
    if asked := _groups(words):
        return "\n".join(line for group in asked for line in _choices(group))
    lines = [
        "Poslab trains a transformer under a positional encoding:",
        f"  {poslab_command('train')} encoding=rotary",
        "",
        "Groups (group=choice); --help GROUP lists the choices of one:",
        *table(meanings().items()),
        "",
        "Datasets by task (--help dataset says what they are):",
    ]
    for name, datasets in _by_family():
        lines += [
            f"  {name}",
            *textwrap.wrap(", ".join(datasets), WIDTH, initial_indent=INDENT, subsequent_indent=INDENT),
        ]
    lines += ["", f"Every key (key=value), which the file of its choice in {as_typed(CONF)}/ explains:", *_keys(words)]
    lines += [
        "",
        "-m runs every combination of choices with commas between:",
        f"  {poslab_command('train')} -m encoding=rotary,alibi seed=1,2",
        "--cfg job shows a configuration without running it.",
        OWN,
    ]
    return "\n".join(lines)


def evaluate_help(words: list[str]) -> str:
    """Return the help of `evaluate`; arguments and errors as of `train_help`."""
    if asked := _groups(words):
        return "\n".join(line for group in asked for line in _choices(group))
    lines = [
        "Poslab evaluates a trained run:",
        f"  {poslab_command('evaluate')} run=outputs/RUN",
        "",
        "Parts (parts=[extrapolation,attention]), all of them without a choice:",
        *table(parts.meanings().items()),
        "",
        *_own_keys("evaluate"),
        "",
        "encoding@swap=none replaces the encoding of a run at test time.",
        "A pretrained model before any training, on the data that dataset= chooses:",
        f"  {poslab_command('evaluate')} model.path=DIR encodings=[own,yarn,none]",
    ]
    return "\n".join(lines)


def generate_help(words: list[str]) -> str:
    """Return the help of `generate`."""
    lines = [
        "Poslab continues or answers a text with a trained model:",
        f'  {poslab_command("generate")} run=outputs/RUN prompt="A list is"',
        "",
        *_own_keys("generate"),
        "",
        "-m seed=1,2,3 makes several texts.",
    ]
    return "\n".join(lines)


def export_help(words: list[str]) -> str:
    """Return the help of `export`."""
    lines = [
        "Poslab writes a trained run for transformers:",
        f"  {poslab_command('export')} run=outputs/RUN to=my-model",
        "",
        *_own_keys("export"),
    ]
    return "\n".join(lines)


def _own_keys(name: str) -> Iterator[str]:
    """Yield the keys of a command, each with the first sentence of its comment."""
    yield f"Keys (key=value), which {as_typed(CONF / name)}.yaml explains in full:"
    keys = keys_of(CONF / f"{name}.yaml")
    yield from table((key, first_sentence(comment)) for key, comment in keys.items() if comment and key != "hydra")


def _groups(words: list[str]) -> list[str]:
    return [word for word in words if "=" not in word and not word.startswith("-")]


def _keys(words: list[str]) -> Iterator[str]:
    """Yield every key of a run under the overrides of a command line."""
    overrides = with_own_choices([word for word in words if "=" in word])
    with initialized(CONF):
        config = OmegaConf.to_yaml(compose("train", overrides=overrides))
    yield from (f"  {line}" for line in config.splitlines())


def _choices(group: str) -> Iterator[str]:
    """Yield the choices of a group with what each is, those of datasets by family."""
    from poslab.configuration.build import nearest

    if group not in meanings():
        of_choices = {choice: f"{each}={choice}" for each in reversed(meanings()) for choice in choices(each)}
        matches = difflib.get_close_matches(group, of_choices, n=1)
        meant = f"; did you mean '--help {of_choices[matches[0]]}'?" if matches else ""
        raise ValueError(f"{group}: there is no such group{nearest(group, meanings()) or meant}")
    yield f"{group}: {meanings()[group]}"
    if group != "dataset":
        yield from table((choice, description(group, choice)) for choice in choices(group))
    else:
        for name, datasets in _by_family():
            yield from ("", name)
            yield from table((choice, description(group, choice)) for choice in datasets)
    yield from ("", f"{as_typed(CONF / group)}/CHOICE.yaml explains the keys of a choice.")


def _by_family() -> Iterator[tuple[str, list[str]]]:
    """Yield each family of datasets in words, with its datasets."""
    families: dict[str, list[str]] = {}
    for dataset in choices("dataset"):
        families.setdefault(family(dataset), []).append(dataset)
    for name, datasets in sorted(families.items()):
        has_head = (CONF / "dataset" / f"_{name}.yaml").is_file()
        yield f"{name}: {description('dataset', f'_{name}')}" if has_head else name or "others", datasets


def questions_help(first: str, run: str, own_keys: Mapping[str, str], files: SpecFiles) -> str:
    """Return the help of `sweep` or `compare`.

    Args:
        first: its first line.
        run: what it trains: a run or a trial.
        own_keys: its own keys with their meaning.
        files: of its questions.
    """
    lines = [first, "", f"Keys of a {files.kind}:", *table(own_keys.items())]
    lines += ["", f"All other keys are those of {poslab_command('train')}, for every {run}.", OWN]
    return "\n".join([*lines, "", f"{files.kind.capitalize()}s:", *questions(files)])


def questions(files: SpecFiles) -> Iterator[str]:
    """Yield the name of each file, and what it asks."""
    for name in files.names():
        yield f"  {name}"
        yield from textwrap.wrap(files.question(name), WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)


def table(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield each name and what it means, in lines of at most `WIDTH` characters."""
    rows = list(rows)
    wide = max(len(name) for name, _ in rows)
    for name, meaning in rows:
        first, after = f"  {name:<{wide}}  ", " " * (wide + 4)
        yield from textwrap.wrap(meaning, WIDTH, initial_indent=first, subsequent_indent=after) or [first.rstrip()]
