"""The command `poslab`: `poslab train encoding=rotary` equals `python -m src.train encoding=rotary`.

Nothing that takes time is imported before it is known which command runs.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import NoReturn

from poslab.configuration.command_line import STARTED_AS

COMMANDS = {
    "train": "train a model under an encoding, and test it beyond its length",
    "evaluate": "show how far trained models reach, and what they have learned",
    "bench": "measure models on RULER and the tasks of lm-evaluation-harness",
    "extend": "find a setting of RoPE for longer texts, its price and its files",
    "generate": "continue a text with a trained model, or answer it",
    "sweep": "tune an encoding, or whatever else a run has",
    "advise": "look up what is known of a size, a context and a kind of data",
    "compare": "compare encodings on cases and seeds, with intervals",
    "export": "write a trained model for transformers",
    "inspect": "show what a model does with positions, without its weights",
    "explore": "plot two encodings as their hyperparameters change, in a page",
}


def main(started_as: str = "poslab") -> NoReturn:
    """Run the command that the first word names, and exit."""
    try:
        os.getcwd()
        _main(started_as)
    except KeyboardInterrupt:  # before the command has its own way to stop
        os._exit(128 + signal.SIGINT)
    except FileNotFoundError as error:
        if error.filename is not None:
            raise
        print("error: the current directory does not exist any more", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # what reads the output, such as `head`, has ended
        os._exit(128 + signal.SIGPIPE)


def _main(started_as: str) -> NoReturn:
    os.environ.setdefault(STARTED_AS, f"{started_as} ")  # a launcher has set it for its jobs
    name, *words = sys.argv[1:] or ["--help"]
    if name == "help" and words:
        name, words = words[0], [*words[1:], "--help"]
    if name in COMMANDS:
        sys.argv[0] += f" {name}"  # as a run records it
        _run(name, words)
    elif name in ("-h", "--help", "help"):
        print(_help(started_as), flush=True)
    elif name in ("-V", "--version"):
        from importlib.metadata import version

        print(f"poslab {version('poslab')}")
    else:
        from poslab.arguments import nearest

        meant = nearest(name, [*COMMANDS, "--help", "help"])
        hint = meant.removeprefix("; ") or f"{started_as} --help lists the commands"
        print(f"error: unknown command {name!r}\nhint: {hint}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)


def _help(started_as: str) -> str:
    lines = [f"Usage: {started_as} COMMAND [KEY=VALUE ...]"]
    lines += ["Trains, compares, tunes, inspects and replaces positional encodings.", ""]
    lines += [f"Commands, as in {started_as} train encoding=rotary:"]
    lines += [f"  {name:<10}{meaning}" for name, meaning in COMMANDS.items()]
    lines += [
        "",
        f"{started_as} help COMMAND lists the groups and keys of a command.",
        f"{started_as} --version prints the version.",
    ]
    return "\n".join(lines)


class UserPackages(MetaPathFinder):
    """Finds packages of the user, by their top-level names, in a directory, after everything that is installed.

    `python -m src.train` has the whole directory on its path, as Python does it; `poslab train` has it only once a
    trusted package is imported, so that a file there named as a library, or as a plugin of Hydra, is not run by itself.
    """

    def __init__(self, names: Sequence[str], directory: str) -> None:
        self._names = names
        self._directory = directory

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or fullname not in self._names:
            return None
        spec = PathFinder.find_spec(fullname, [self._directory])
        if spec is not None and self._directory not in sys.path:
            sys.path.append(self._directory)
        return spec


def _run(name: str, words: list[str]) -> None:
    """Run a command, for which `trust=` may name packages in the current directory."""
    trust = " ".join(word.partition("=")[2] for word in words if word.lstrip("+").startswith("trust="))
    names = [package.partition(".")[0] for package in re.findall(r"[\w.]+", trust) if package != "data"]
    if names and not sys.flags.safe_path:
        sys.meta_path.append(UserPackages(names, os.getcwd()))
    sys.argv[1:] = words
    importlib.import_module(f"poslab.cli.{name}").run()
