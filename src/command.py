"""What the commands of this folder share: Hydra's command line, with mistakes told in one sentence."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.hydra_files import check_config_dir

CONF = Path(__file__).resolve().parent.parent / "conf"

MISTAKE = 2
FAILURE = 1

MOST_LISTED = 20
"""Choices of a group that a mistake lists."""


class FailedJobError(Exception):
    """A job that ran in another process has failed, and was told there; its argument is the exit status."""


Main = Callable[[dict[str, Any], Path, list[str]], None]


def command(name: str, main: Main) -> NoReturn:
    """Runs a command and exits: 0; 2 for a mistake of the user's, 1 for a failure, 128 and more after a signal.

    `HYDRA_FULL_ERROR=1` shows the traceback of everything.

    Args:
        name: of its configuration in conf/.
        main: takes the resolved configuration, the directory for its output, which it makes itself where Hydra has not
            found it, and the overrides of the command line.
    """
    tell, statuses = _beginning(name)
    process = os.getpid()

    def job(composed: DictConfig) -> None:
        """One job of perhaps many: its error is told at once, and the next job goes on."""
        hydra_config = HydraConfig.get()
        directory = Path(hydra_config.runtime.output_dir)
        if directory != Path.cwd():
            with contextlib.suppress(OSError):  # it is not empty, and stays
                directory.rmdir()  # a run that is killed before it has begun, or resumes another, leaves none behind
        try:
            config = OmegaConf.to_container(composed, resolve=True)
            assert isinstance(config, dict)
            overrides = list(hydra_config.overrides.task)
            if not any(override.lstrip("+").startswith("trust=") for override in overrides):
                config["trust"] = []  # no file can say that it is trusted
            main({str(key): value for key, value in config.items()}, _as_typed(directory), overrides)
        except BaseException as error:
            tell(error)
            if statuses[-1] > 128:  # asked to stop: the jobs after it are not wanted either
                _leave(statuses[-1])
            if os.getpid() != process:  # a launcher of Hydra's runs jobs elsewhere
                raise FailedJobError(statuses[-1]) from None

    try:
        check_config_dir(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(job)()
    except FailedJobError as failed:
        statuses.append(failed.args[0])
    except HydraException as error:  # before OSError, which some of them are too
        tell(error)
    except OSError as error:
        if error.filename is None:
            raise
        tell(ValueError(f"hydra.run.dir cannot be made: {error.filename}: {error.strerror}"))
    except Exception as error:
        tell(error)
    _leave(max(statuses, default=0))


def choices_of_configuration(name: str) -> list[str]:
    """Return the words of the running job's command line that choose its configuration, its overrides aside.

    Args:
        name: of the configuration unless another one is chosen.
    """
    hydra = HydraConfig.get()
    words = [override for override in hydra.overrides.hydra if override.startswith("hydra.searchpath")]
    if hydra.job.config_name != name:
        words = ["--config-name", hydra.job.config_name, *words]
    folders = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    return [*(word for folder in folders for word in ("--config-dir", str(_as_typed(Path(folder))))), *words]


def command_without_hydra(name: str, main: Callable[[list[str]], None]) -> NoReturn:
    """Runs a command that reads its own command line, and exits as `command` does.

    Args:
        name: of the configuration whose keys it takes.
        main: takes the arguments.
    """
    tell, statuses = _beginning(name)
    try:
        main(sys.argv[1:])
    except BaseException as error:
        tell(error)
    _leave(max(statuses, default=0))


def _beginning(name: str) -> tuple[Callable[[BaseException], None], list[int]]:
    """What tells errors in one sentence, and the exit statuses of those that it has told."""
    show_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then leaves all errors to us
    statuses: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end_at_once)

    def tell(error: BaseException) -> None:
        if not isinstance(error, Exception) and not hasattr(error, "exit_status"):
            raise error
        sentence, status = _explained(error, name)
        if sentence is None or show_traceback:
            traceback.print_exception(error)
        if sentence is not None:
            print(f"error: {sentence}", file=sys.stderr, flush=True)
        statuses.append(status)

    return tell, statuses


def _leave(status: int) -> NoReturn:
    """Ends the command, perhaps as one of several processes."""
    if processes := sys.modules.get("poslab.processes"):
        processes.leave(status)
    sys.exit(status)


def _end_at_once(number: int, frame: FrameType | None) -> NoReturn:
    """Ends a command that has begun nothing. An exception in the midst of an import could abort the process instead."""
    os._exit(128 + number)


def _explained(error: BaseException, name: str) -> tuple[str | None, int]:
    """One sentence and an exit status; no sentence for what only a bug explains."""
    if isinstance(error, MissingConfigException | ConfigCompositionException | OverrideParseException):
        return composition_mistake(error, name, sys.argv[1:]), MISTAKE
    if isinstance(error, HydraException | OmegaConfBaseException | ValueError):
        return " ".join(str(error).split()), MISTAKE
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        return f"{error.filename or 'the output'} cannot be written: {error.strerror}", FAILURE
    status = getattr(error, "exit_status", None)
    return (None, FAILURE) if status is None else (str(error), status)


def composition_mistake(error: Exception, name: str, arguments: list[str]) -> str:
    """What is wrong with an override, with the nearest choice or key.

    Args:
        error: what Hydra raised.
        name: of the configuration.
        arguments: all overrides, of which choices of groups bring in keys.
    """
    from poslab.configuration import nearest

    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        whole = error.missing_cfg_file.removeprefix("/")
        groups = [argument.lstrip("+").partition("=")[0].partition("@")[0] for argument in arguments]
        folder = whole.rpartition("/")[0]
        group = max((own for own in groups if whole.startswith(f"{own}/")), key=len, default=folder)
        choice = whole.removeprefix(f"{group}/")
        found = [*(error.options if group == folder else []), *_files_in(CONF / group)]
        options = sorted({option for option in found if not option.rpartition("/")[2].startswith("_")})
        few = len(options) <= MOST_LISTED
        there_are = f"choices: {', '.join(options)}" if few else f"{len(options)} choices: see conf/{group}"
        return f"{group}={choice}: there is no such choice{nearest(choice, options)} ({there_are})"
    if isinstance(error, OverrideParseException):
        if choices := sorted(CONF.glob(f"*/{error.override}.yaml")):
            return f"{error.override!r} is no key=value; did you mean '{choices[0].parent.name}={error.override}'?"
        return f"{error.override!r} cannot be read as key=value: quote what holds brackets, commas or spaces"
    several = re.search(r"Ambiguous value for argument '([^']+)'", str(error))
    if several:
        values = several.group(1)
        return f"{values}: -m runs several values one after another: python -m src.{name} -m {values}"
    unknown = re.search(r"config group '([^']+)' does not exist", str(error))
    if unknown:
        groups = [path.name for path in CONF.iterdir() if path.is_dir()]
        return f"{unknown.group(1)}: there is no such group{nearest(unknown.group(1), groups)}"
    override = re.search(r"Could not override '([^']+)'", str(error))
    if override:
        key, place, _ = override.group(1).partition("@")
        if place:
            places = re.findall(r"[\w.]+@[\w.]+", str(error).splitlines()[1])
            return f"{override.group(1)}: there is no such place for {key} here{nearest(override.group(1), places)}"
        if elsewhere := _choices_with(key):
            return f"{key}: there is no such key here; it is one of {_listed(elsewhere)}"
        return f"{key}: there is no such key{nearest(key, _known_keys(name, arguments))}"
    cause = f" ({' '.join(str(error.__cause__).split())})" if error.__cause__ else ""
    return str(error).strip().splitlines()[0] + cause


def _files_in(folder: Path) -> list[str]:
    """The choices of a group, those in folders of it too."""
    return [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")]


def _listed(choices: list[str]) -> str:
    """The first of many choices in words."""
    return " and ".join(choices) if len(choices) < 4 else f"{', '.join(choices[:3])} and others"


def _choices_with(key: str) -> list[str]:
    """The choices, as `group=choice`, whose own file has a key: `dataset.files` is one of `dataset=text`."""
    import yaml

    group, _, rest = key.partition(".")
    files = sorted((CONF / group).glob("[!_]*.yaml")) if rest else []
    return [f"{group}={file.stem}" for file in files if rest in yaml.safe_load(file.read_text())]


def _known_keys(name: str, arguments: list[str]) -> list[str]:
    """Every group and dotted key of the default configuration, under the choices among these arguments."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    groups = {path.name for path in CONF.iterdir() if path.is_dir()}
    choices = [argument for argument in arguments if argument.partition("=")[0] in groups and "," not in argument]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose(name, overrides=choices))
    assert isinstance(config, dict)
    return [*sorted(groups), *_dotted_keys(config)]


def _dotted_keys(config: dict[Any, Any], prefix: str = "") -> list[str]:
    keys = []
    for key, value in config.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, dict):
            keys += _dotted_keys(value, f"{prefix}{key}.")
    return keys


def _as_typed(directory: Path) -> Path:
    """A path below the working directory without the part that the user knows."""
    with contextlib.suppress(ValueError):
        return directory.relative_to(Path.cwd())
    return directory
