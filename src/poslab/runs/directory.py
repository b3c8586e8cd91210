"""Run directories, which contain a run's configuration, environment, metrics, checkpoints and logs."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import hmac
import io
import json
import os
import secrets
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from omegaconf import OmegaConf

from poslab.arguments import nearest
from poslab.configuration.build import DATA, package_names
from poslab.data.source import default_cache
from poslab.io.files import locked_folder, neighbours, read_json, read_yaml, refuse_links, replacing, write_atomically
from poslab.io.terminal import one_line
from poslab.runs.errors import RunTakenError, UntrustedRunError

LOCK_TIMEOUT_S = 7  # wait for a lock: data loading processes outlive a killed run by 5 seconds, and hold it
CHECKSUM = "checksum"  # key of the checksum in `metrics.json` and `start.json`, by which damage is found

KEY_BYTES = 32

JOB_FILE = "job.json"  # record of the attempts at a run of a comparison
CHECKPOINT = ".safetensors"  # end of the names of checkpoints

GROUPS = {"model", "encoding", "dataset", "objective", "optimizer", "step", "adapt", "start", "trainer"}
"""Groups of a configuration, of each of which a run has a choice."""

LOCAL_LOGGERS = (
    {"_target_": "poslab.training.loggers.RunTensorBoard"},
    {"_target_": "poslab.training.loggers.MetricsCsv"},
)
"""Loggers that write only into the run directory."""

LARGEST_INTEGER = 2**63 - 1  # largest metric, such as of steps, that TensorBoard supports


class _File:
    """The path of a file or a folder of a run, below its directory."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, run: RunDirectory, _: type[RunDirectory]) -> Path:
        return run.path / self._name


@dataclass(frozen=True)
class RunDirectory:
    """Files of a run.

    Args:
        path: the directory; it need not exist yet.
        trust: packages other than Poslab that its configuration may name, as the user says who opens it, and `data` for
            data of anywhere.
    """

    path: Path
    trust: tuple[str, ...] = ()

    @classmethod
    def of(cls, run: str | Path, trust: str | Sequence[str] = ()) -> RunDirectory:
        """Find the run of a directory, or of a checkpoint inside one.

        ValueError if there is none, or it contains something that a run does not write, such as a link.
        """
        path = Path(run)
        if path.suffix == CHECKPOINT and path.parent.name == "checkpoints":
            path = path.parent.parent
        directory = cls(path, package_names(trust))
        if not directory.config_file.is_file():
            raise ValueError(f"{run} is not a run directory: it has no config.yaml{instead(path)}")
        directory.check_files()
        return directory

    config_file = _File("config.yaml")  # resolved configuration
    environment_file = _File("environment.json")  # versions, commit, hardware and precision
    metrics_file = _File("metrics.json")
    """Final metrics, one flat object of tag to number; it exists once the run is finished."""
    task_file = _File("task.json")  # facts of the data that the task needs, such as the names of classes
    tokenizer_file = _File("tokenizer.json")  # tokenizer of its data
    start_file = _File("start.json")  # hashes of the first batch and of the first weights
    checkpoints = _File("checkpoints")  # folder of the last and the best checkpoint
    last_checkpoint = _File(f"checkpoints/last{CHECKPOINT}")  # newest state, from which a run resumes
    best_checkpoint = _File(f"checkpoints/best{CHECKPOINT}")  # best state by validation (`Task.chosen_by`)
    log_file = _File("train.log")  # printed lines of the run's training
    metrics_csv = _File("metrics.csv")  # all metrics in order of time, one line each

    @property
    def is_finished(self) -> bool:
        return self.metrics_file.is_file()

    @property
    def is_fresh(self) -> bool:
        """True while the directory has no more than a run that was killed before it began leaves there."""
        written = [entry for folder in (self.path, self.checkpoints) if folder.is_dir() for entry in folder.iterdir()]
        begun = (self.checkpoints, self.log_file, self.environment_file, self.path / JOB_FILE)
        return all(entry in begun or entry.suffix == ".writing" for entry in written)

    @property
    def is_held(self) -> bool:
        """True while a process trains the run."""
        with contextlib.suppress(FileNotFoundError, IsADirectoryError), self.log_file.open("rb") as log:
            return not _locked(log, fcntl.LOCK_SH)
        return False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Make the directory and lock it, so that no other process trains the run; a lock ends with its process.

        RunTakenError if another process trains it; ValueError if the directory cannot be written, or contains a link.
        """
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
            self.check_files()
            log = self.log_file.open("a")
        with log:
            if not _locked(log, fcntl.LOCK_EX):
                raise RunTakenError(f"{self.path} is being trained by another process at this moment")
            yield

    def check_files(self) -> None:
        """Raise ValueError for an entry that is a link, or no file or folder as it must be, before any is opened."""
        refuse_links(self.path)
        files = (
            *(self.config_file, self.environment_file, self.metrics_file, self.metrics_csv, self.task_file),
            *(self.start_file, self.tokenizer_file, self.log_file, self.last_checkpoint, self.best_checkpoint),
        )
        for file in files:
            if file.is_dir():
                raise ValueError(f"{file} must be a file, and is a folder")
        if self.checkpoints.is_file():
            raise ValueError(f"{self.checkpoints} must be a folder, and is a file")

    def config(self) -> dict[str, Any]:
        """Read the configuration that the run was started with; ValueError if the file does not contain one.

        Anybody may have written it: `build` makes objects of it only from the packages of `trust`, whatever it says.
        """
        config = read_yaml(self.config_file)
        for group in GROUPS & config.keys():
            if not isinstance(config[group], Mapping):
                raise ValueError(f"{self.config_file} is not the configuration of a run: {group} must contain keys")
        return config | {"trust": list(self.trust)}

    def config_hashes(self) -> dict[str, str]:
        """Return the hash of each group and key of `config.yaml`, by which a checkpoint knows its configuration."""
        return _hashes(read_yaml(self.config_file))

    def require_trust(self, reached: Sequence[str]) -> None:
        """Raise UntrustedRunError unless the user lets the run reach beyond this machine's files and the user's cache.

        Users have started their own runs that way: `start` has signed the configuration. Others need `trust=data`.
        `reached` is in words, such as `read dataset.path=owner/name`.
        """
        if not reached:
            return
        with contextlib.suppress(ValueError):  # a damaged environment.json
            signature = read_json(self.environment_file).get("signature")
            if signature is not None and signature == _signature(self.config_hashes()):
                return
        if DATA in self.trust:
            print(one_line(f"trust={DATA}: {self.path} may {' and '.join(reached)}"), file=sys.stderr)
            return
        does = f"{self.path} was not started here, and would {' and '.join(reached)}"
        raise UntrustedRunError(f"{does}, which needs trust={DATA}", self.trust)

    def choices(self) -> list[str] | None:
        """Read the words of the command line that composed its configuration; None if they are lost or damaged."""
        with contextlib.suppress(ValueError):
            typed = read_json(self.environment_file).get("choices")
            return typed if isinstance(typed, list) and all(isinstance(word, str) for word in typed) else None
        return None

    def metrics(self) -> dict[str, float]:
        """Read the final metrics of a finished run; ValueError if they are not numbers, or its steps are not a count.

        A metric may be infinite, or not a number: a test can be of a model that fails at some length.
        """
        metrics = read_with_checksum(self.metrics_file)
        for tag, value in metrics.items():
            if not (isinstance(value, float) or (type(value) is int and abs(value) <= LARGEST_INTEGER)):
                raise ValueError(f"{self.metrics_file}: {tag} must be a number, got {str(value)[:40]!r}")
        steps = metrics.get("steps", 0)
        if type(steps) is not int or steps < 0:
            raise ValueError(f"{self.metrics_file}: steps must be an integer of at least 0, got {steps}")
        return metrics

    def start(self, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Write the resolved configuration and the environment of the run, before it begins or is resumed.

        The configuration is written once, and signed. The environment of a resumption is listed under `resumed` of the
        first. ValueError if the directory cannot be written.
        """
        with self._writing():
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            for folder in (self.path, self.checkpoints):
                for leftover in filter(Path.is_file, folder.glob(".*.writing")):  # of a run that was killed meanwhile
                    leftover.unlink()
            if self.config_file.exists():
                self.config_file.touch()  # by its time, `resume=auto` finds the newest run
            else:
                text = OmegaConf.to_yaml(OmegaConf.create(dict(config)))
                _make_key()
                signature = _signature(_hashes(OmegaConf.to_container(OmegaConf.load(io.StringIO(text)))))
                self._write_environment({**environment, "signature": signature})  # first: else a kill leaves none
                write_atomically(self.config_file, text)
                return
            if self.environment_file.is_file():
                began = read_json(self.environment_file)
                earlier = began.get("resumed", [])
                resumed = [*(earlier if isinstance(earlier, list) else []), dict(environment)]
                environment = {**began, "resumed": resumed}
            self._write_environment(environment)

    def _write_environment(self, environment: Mapping[str, Any]) -> None:
        write_atomically(self.environment_file, json.dumps(environment, indent=2) + "\n")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ValueError(f"hydra.run.dir={self.path} cannot be written: {error.strerror}") from error

    def discard(self) -> None:
        """Remove the files of `start`, and the log, of a run that was a mistake; others may be the user's own."""
        for file in (self.config_file, self.environment_file, self.log_file):
            file.unlink(missing_ok=True)
        for directory in (self.checkpoints, self.path):
            with contextlib.suppress(OSError):  # not empty
                directory.rmdir()

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Write the final metrics, which marks the run as finished."""
        write_with_checksum(self.metrics_file, metrics)


def write_with_checksum(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file of values with a checksum among them, by which `read_with_checksum` finds damage."""
    write_atomically(path, json.dumps({**values, CHECKSUM: _checksum(values)}, indent=2) + "\n")


def read_with_checksum(path: Path) -> dict[str, Any]:
    """Return the values of a file of `write_with_checksum`; ValueError as of `read_json`, and if they are others."""
    values = read_json(path)
    known = values.pop(CHECKSUM, None)
    if known is not None and known != _checksum(values):
        raise ValueError(f"{path} is damaged, or was edited: its checksum is wrong")
    return values


def _checksum(values: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def _hashes(config: Any) -> dict[str, str]:
    """Return the hash of each group and key of a configuration, other than what only a command line decides."""
    stored = {key: value for key, value in config.items() if key not in ("trust", "resume")}
    return {str(key): hashlib.sha256(repr(_sorted(value)).encode()).hexdigest() for key, value in stored.items()}


def _signature(hashes: Mapping[str, str]) -> str | None:
    """Return what only this user's key makes of the hashes of a configuration; None without a key."""
    key = _key()
    return None if key is None else hmac.new(key, json.dumps(hashes, sort_keys=True).encode(), "sha256").hexdigest()


def _key() -> bytes | None:
    """Return the key by which a user's runs are known; None if there is none, or it is damaged, which many may know."""
    try:
        key = (default_cache() / "key").read_bytes()
    except OSError:
        return None
    return key if len(key) == KEY_BYTES else None


def _sorted(value: Any) -> Any:
    """Return plain data with the keys of its dictionaries in order."""
    if isinstance(value, Mapping):
        return sorted((repr(key), _sorted(item)) for key, item in value.items())
    return list(map(_sorted, value)) if isinstance(value, list) else value


def _make_key() -> None:
    """Make the key of `_key`, in the user's cache, unless it is there or cannot be written."""
    file = default_cache() / "key"
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with locked_folder(file.parent):
            if _key() is not None:
                return
            with replacing(file) as new:
                os.fchmod(new.fileno(), 0o600)
                new.write(secrets.token_bytes(KEY_BYTES))


def instead(path: Path) -> str:
    """Return a hint for a path that is not a run directory: the run that it is in, the newest in it, or the nearest."""
    if (path / "sweep.yaml").is_file():
        return f"; it belongs to a sweep, whose runs are in {path / 'trials'}"
    around = [parent for parent in path.parents if path.exists() and (parent / "config.yaml").is_file()]
    within = sorted(path.glob("*/config.yaml"), key=lambda file: file.stat().st_mtime)
    meant = [*around[:1], *(file.parent for file in within[-1:])]
    if meant or path.exists():
        return f"; did you mean {str(meant[0])!r}?" if meant else ""
    files = sorted(Path().glob("outputs/*/config.yaml"), key=lambda file: file.stat().st_mtime)
    runs = [str(file.parent) for file in files]
    newest = f"; hint: the newest run is {runs[-1]!r}" if runs and path.parts[:1] == ("outputs",) else ""
    return nearest(str(path), [*neighbours(str(path)), *runs]) or newest


def _locked(file: IO[Any], kind: int) -> bool:
    """Lock an open file until it is closed, unless another process has; return True too if the disk has no locks."""
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
                raise
            return True
        else:
            return True
