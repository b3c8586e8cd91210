"""What the commands of this folder share: Hydra's command line, with mistakes told in one sentence."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

CONF = Path(__file__).resolve().parent.parent / "conf"

MISTAKE = 2
FAILURE = 1

Main = Callable[[dict[str, Any], Path, list[str]], None]


def command(name: str, main: Main) -> NoReturn:
    """Runs a command and exits: 0, or 2 for a mistake of the user's, 1 where something failed, 130 after Ctrl-C.

    Args:
        name: of its configuration in conf/.
        main: takes the resolved configuration, Hydra's output directory and the overrides of the command line.
    """
    show_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then leaves every error to us

    def job(composed: DictConfig) -> None:
        hydra_config = HydraConfig.get()
        directory = Path(hydra_config.runtime.output_dir)
        try:
            config = OmegaConf.to_container(composed, resolve=True)
            assert isinstance(config, dict)
            main(config, _as_typed(directory), list(hydra_config.overrides.task))
        except Exception as error:
            if hydra_config.mode == RunMode.MULTIRUN and not show_traceback:
                _tell(error, name)  # now, since the other jobs come first
                error.add_note(_TOLD)
            raise
        finally:
            with contextlib.suppress(OSError):  # what nothing was written to
                directory.rmdir()

    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(job)()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if show_traceback:
            raise
        sys.exit(_tell(error, name))
    sys.exit(0)


_TOLD = "told"


def _tell(error: Exception, name: str) -> int:
    """Prints what went wrong, and gives the exit status."""
    told = _TOLD in getattr(error, "__notes__", [])
    sentence, status = _explained(error, name)
    if sentence is None:
        raise error
    if not told:
        print(f"error: {sentence}", file=sys.stderr)
    return status


def _explained(error: Exception, name: str) -> tuple[str | None, int]:
    """One sentence and an exit status; None for what only a bug explains."""
    status = getattr(error, "exit_status", None)
    if status is not None:
        return str(error), status
    if isinstance(error, MissingConfigException | ConfigCompositionException | OverrideParseException):
        return _composition_mistake(error, name), MISTAKE
    if isinstance(error, HydraException | OmegaConfBaseException | ValueError):
        return " ".join(str(error).split()), MISTAKE
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        return f"{error.filename or 'the output directory'}: {error.strerror}", FAILURE
    return None, FAILURE


def _composition_mistake(error: Exception, name: str) -> str:
    """What is wrong with an override, with the nearest choice or key."""
    from poslab.configuration import nearest

    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, choice = error.missing_cfg_file.removeprefix("/").rpartition("/")
        options = sorted(option for option in error.options if not option.startswith("_"))
        return f"{group}={choice}: there is no such choice{nearest(choice, options)} (choices: {', '.join(options)})"
    override = re.search(r"Could not override '([^']+)'", str(error))
    if override:
        key = override.group(1).partition("@")[0]
        return f"{key}: there is no such key{nearest(key, _known_keys(name))}"
    first_line = str(error).strip().splitlines()[0]
    cause = f" ({' '.join(str(error.__cause__).split())})" if error.__cause__ else ""
    return first_line + cause


def _known_keys(name: str) -> list[str]:
    """Every group and dotted key of the default configuration, and of the choices made on the command line."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    groups = {path.name for path in CONF.iterdir() if path.is_dir()}
    choices = [a for a in sys.argv[1:] if a.partition("=")[0] in groups and "," not in a]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(name, overrides=choices)
    keys = sorted(groups)

    def collect(node: Any, prefix: str) -> None:
        for key, value in node.items():
            keys.append(f"{prefix}{key}")
            if isinstance(value, dict):
                collect(value, f"{prefix}{key}.")

    collect(OmegaConf.to_container(config, resolve=False), "")
    return keys


def _as_typed(directory: Path) -> Path:
    """A path below the working directory without the part that the user knows."""
    with contextlib.suppress(ValueError):
        return directory.relative_to(Path.cwd())
    return directory
