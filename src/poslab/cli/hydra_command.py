"""The shared part of the commands: command lines of Hydra and of questions, exit statuses, one-sentence errors."""

from __future__ import annotations

import contextlib
import gc
import glob
import os
import select
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import DictConfig, OmegaConf

from poslab.arguments import nearest, shown
from poslab.cli import argv
from poslab.cli.errors import composition_error, explained, known_keys, unreadable
from poslab.configuration.build import DATA, trusted_packages
from poslab.configuration.command_line import (
    CONF,
    as_typed,
    assignment,
    groups,
    in_current_directory,
    key_of,
    poslab_command,
    trusting,
)
from poslab.configuration.outside_files import checked
from poslab.data.composed import check_added_keys, check_choices, resolved
from poslab.io.terminal import harmless, print_error
from poslab.runs.errors import UntrustedRunError

if TYPE_CHECKING:
    from poslab.experiments.comparison import Comparison
    from poslab.experiments.sweep import Sweep

HELP = {"-h", "--help"}
SIGPIPE_STATUS = 128 + signal.SIGPIPE  # exit status where what reads the output, such as `head`, has ended


class FailedJobError(Exception):
    """A job in another process that failed, and was reported there; its argument is the exit status."""


Main = Callable[[dict[str, Any], Path, list[str]], None]


def command(
    name: str, main: Main, help_on: Callable[[list[str]], str], after_jobs: Callable[[], None] = lambda: None
) -> NoReturn:
    """Run a command and exit: 0; 2 for a mistake of the user's, 1 for a failure, 128 and more after a signal.

    `HYDRA_FULL_ERROR=1` shows the traceback of everything.

    Args:
        name: of its configuration in conf/.
        main: takes the resolved configuration, the directory for its output, which it makes itself where Hydra has not
            found it, and the overrides of the command line.
        help_on: returns the help for the other words of the command line.
        after_jobs: called when all jobs have ended.
    """
    report, statuses = _beginning(name)
    process = os.getpid()

    def job(composed: DictConfig) -> None:
        """Run one job of perhaps many; its error is reported at once, and the next job runs."""
        hydra_config = HydraConfig.get()
        directory = Path(hydra_config.runtime.output_dir)
        if os.getpid() == process:
            print_loading_notice()
        if directory != Path.cwd():
            with contextlib.suppress(OSError):  # it is not empty, and stays
                directory.rmdir()  # a run that is killed before it has begun, or resumes another, leaves none behind
        try:
            whole, config_name = OmegaConf.load(CONF / f"{name}.yaml"), hydra_config.job.config_name
            missing = sorted(map(str, set(whole) - {"defaults", "hydra"} - set(composed)))
            if config_name != name and missing:
                raise ValueError(
                    f"--config-name {config_name} must be a whole configuration of {name}, and it has no {missing[0]}"
                )
            overrides: Any = OmegaConf.to_container(hydra_config.overrides.task)  # as typed, unresolved
            if not any(override.lstrip("+").startswith("trust=") for override in overrides):
                composed.trust = []  # no file can say that it is trusted
            chosen = hydra_config.runtime.choices
            check_choices(CONF, chosen, overrides)
            check_added_keys([*groups(), *chosen, *whole], composed, overrides)
            config = resolved(composed)
            for key, part in whole.items():
                if isinstance(part, DictConfig) and key in config and not isinstance(config[str(key)], dict):
                    example = f"{key}.{next(map(str, part))}"
                    raise ValueError(f"{key} must have keys such as {example}, got {config[str(key)]}")
            main({**config, "trust": list(trusted_packages(config))}, as_typed(directory), overrides)
        except BaseException as error:
            report(error)
            if statuses[-1] > 128:  # asked to stop: the jobs after it are not wanted either
                _leave(max(statuses))
            if os.getpid() != process:  # a launcher of Hydra's runs jobs elsewhere
                raise FailedJobError(statuses[-1]) from None

    def run() -> None:
        with checked():
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(job)()

    try:
        words = argv.options_first([word for word in sys.argv[1:] if word not in HELP])
        if HELP & set(sys.argv[1:]):
            print(harmless(help_on([word for word in words if word[:1] != "-"])), flush=True)
            _leave(0)
        sys.argv[1:] = words
        sys.argv[1:] = argv.with_user_choices(sys.argv[1:])
        try:
            run()
        except ConfigCompositionException:
            typed = sys.argv[1:]
            sys.argv[1:] = argv.as_sweep(argv.expand_aliases(typed, known_keys(name, typed)))
            if sys.argv[1:] == typed:
                raise
            run()
        after_jobs()
    except FailedJobError as failed:
        statuses.append(failed.args[0])
    except (HydraException, BrokenPipeError) as error:  # before OSError, which some of them are too
        report(error)
    except OSError as error:
        if error.filename is None:
            raise
        report(ValueError(f"hydra.run.dir cannot be made: {error.filename}: {error.strerror}"))
    except Exception as error:
        report(error)
    _leave(max(statuses, default=0))


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Import libraries without looking for garbage among what they make: that takes a quarter of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def print_loading_notice() -> None:
    """Print to a person who waits at a terminal what the next seconds are for."""
    if "torch" not in sys.modules and sys.stderr.isatty():
        print("loading libraries ...", file=sys.stderr, flush=True)


def choices_of_configuration(name: str) -> list[str]:
    """Return the words of the running job's command line that choose its configuration, whose usual name this is."""
    hydra, folder = HydraConfig.get(), in_current_directory(CONF)
    added = [] if folder is None else argv.searching([], folder)  # by `with_user_choices`, as to the next command here
    words = [word for word in argv.searching_words() if word not in added]
    if hydra.job.config_name != name:
        words = ["--config-name", str(hydra.job.config_name), *words]
    folders = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    return [*(word for folder in folders for word in ("--config-dir", str(as_typed(folder)))), *words]


def without_hydra(main: Callable[[list[str]], None]) -> Callable[[], NoReturn]:
    """Return what runs a command that reads its own command line, and exits as `command` does."""

    def run() -> NoReturn:
        report, statuses = _beginning("train")  # whose keys it takes
        try:
            main(sys.argv[1:])
        except BaseException as error:
            report(error)
        _leave(max(statuses, default=0))

    return run


def _beginning(name: str) -> tuple[Callable[[BaseException], None], list[int]]:
    """Report errors in one sentence, and collect the exit statuses of those reported."""
    typed = sys.argv[1:]
    show_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then leaves all errors to us
    statuses: list[int] = []
    # A command that has begun nothing ends at once: an exception in the midst of an import could abort the process.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: os._exit(128 + number))
    warnings.filterwarnings("error", message=r"provider=hydra\.searchpath", category=UserWarning)

    def report(error: BaseException) -> None:
        if not isinstance(error, Exception) and not hasattr(error, "exit_status"):
            raise error
        if isinstance(error, BrokenPipeError):
            stdout = select.poll()
            stdout.register(1, 0)
            if any(event & select.POLLERR for _, event in stdout.poll(0)):  # its reader, such as `head`, has ended
                statuses.append(SIGPIPE_STATUS)
                return
        from poslab.experiments.storage_url import without_password

        sentence, status = explained(error, name, sys.argv[1:])
        if isinstance(error, UntrustedRunError):
            trusted = trusting(list(dict.fromkeys([*error.trust, DATA])))
            words = [word for word in typed if not word.startswith("trust=")]
            sentence = f"{sentence}; hint: if you want that: {poslab_command(name, *words, *trusted)}"
        if sentence is None or show_traceback:
            print(harmless(without_password("".join(traceback.format_exception(error)))), end="", file=sys.stderr)
        if sentence is not None:
            print_error(without_password(sentence))
        statuses.append(status)

    return report, statuses


def _leave(status: int) -> NoReturn:
    """End the command, perhaps as one of several processes."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = max(status, SIGPIPE_STATUS)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more
    if processes := sys.modules.get("poslab.runs.processes"):
        processes.leave(status)
    sys.exit(status)


def check_figure_width(width: Any) -> None:
    """Raise ValueError for a `figure.width` that is neither None nor a width in inches that a plot can have."""
    if width is not None and (isinstance(width, bool) or not isinstance(width, int | float) or not 3 <= width <= 20):
        raise ValueError(f"figure.width must be inches, between 3 and 20, got {width!r}")


DISTRIBUTED_ENV = ("SLURM_NTASKS", "SLURM_PROCID", "TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "JSM_NAMESPACE_RANK")
"""Environment variables that mark a run as one process of several; a worker's is never one, not even under srun."""

AS_TYPED = ("sweep", "comparison", "storage", "output", "name")
"""Keys whose values are names, URLs or paths, which need no quotes."""


def own_keys_and_overrides(
    arguments: list[str], command: str, own_keys: Collection[str]
) -> tuple[dict[str, Any], list[str]]:
    """Return the values of the own keys of a command, and the choices of every run as they were typed.

    ValueError for an option, a key that is given twice, and values that Hydra cannot read.
    """
    given: dict[str, Any] = {}
    overrides: list[str] = []
    argv.refuse_repeated(word for word in arguments if "=" in word)
    for argument in arguments:
        if argument in ("-m", "--multirun"):
            raise ValueError(f"{argument}: a {command} takes key=value only; --help lists the keys")
        if argument.startswith("-"):
            raise ValueError(argv.undashed(argument))
        key, equals, value = argument.partition("=")
        if key in AS_TYPED and key in own_keys and equals:
            given[key] = None if value == "null" else value
            continue
        try:
            (override,) = argv.parsed([argument])
        except HydraException:
            raise ValueError(unreadable(argument, arguments, command)) from None
        if override.is_sweep_override() and key in own_keys:
            raise ValueError(f"{argument}: a list is written in brackets: {shlex.quote(f'{key}=[{value}]')}")
        if override.is_sweep_override():
            raise ValueError(f"{argument}: the file of the {command} says what varies")
        argv.validate_overrides(argument)
        if key in own_keys:
            given[key] = override.value()
        else:
            overrides.append(argument)
    if overrides and not {command, "runs"} & given.keys() and (near := nearest(key_of(overrides[0]), own_keys)):
        raise ValueError(f"unknown key {key_of(overrides[0])!r}{near}")
    return given, overrides


def run_question(
    question: Comparison | Sweep,
    run: Callable[[], None],
    own_keys: Iterable[str],
    explained: Callable[[str], str] = str,
) -> None:
    """Run a sweep or a comparison; ValueError for a configuration that cannot be composed, and as `run`.

    Args:
        own_keys: of the command, in addition to the keys of a run.
        explained: returns the sentence for a configuration that cannot be composed, from `composition_error`'s.
    """
    words = [*(assignment(key, value) for key, value in question.train.items()), *question.overrides]
    try:
        run()
    except HydraException as error:
        raise ValueError(explained(composition_error(error, "train", words, own_keys))) from error


def clear_distributed_env() -> None:
    """Remove the environment variables by which a launcher has started this process as one of several."""
    for name in DISTRIBUTED_ENV:
        os.environ.pop(name, None)


def runs_of(config: Mapping[str, Any]) -> list[str]:
    """Return the runs of `run=` or `runs=`, none if neither is given; ValueError for both, or what is not a path."""
    run, runs = config["run"], config["runs"]
    if run is not None and runs is not None:
        raise ValueError("runs and run cannot both be given: name several runs in runs=, or a single run in run=")
    if runs is not None:
        return named_runs(runs)
    if not isinstance(run, str | None):
        raise ValueError(f"run must name a run directory or a checkpoint, as in run=outputs/RUN, got {shown(run)}")
    return [] if run is None else [run]


def named_runs(value: Any) -> list[str]:
    """Return the runs of `runs=`: a path or a list, in which `outputs/2026*` names all run directories like it.

    ValueError for something else, a pattern without a run, or a run that is named twice.
    """
    paths = [value] if isinstance(value, str) else value
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) and path for path in paths):
        raise ValueError(f"runs must name run directories, as in runs=[outputs/A,outputs/B], got {shown(value)}")
    runs: dict[Path, str] = {}
    for path in paths:
        matches = [path]
        if glob.has_magic(path) and not Path(path).exists():
            matches = [run for run in sorted(glob.glob(path)) if (Path(run) / "config.yaml").is_file()]
        if not matches:
            raise ValueError(f"runs={path}: there is no run directory like that")
        for run in matches:
            directory = Path(run).resolve()
            if directory in runs:
                raise ValueError(f"runs must all be different, got {runs[directory]} and {run}")
            runs[directory] = run
    return list(runs.values())
