"""Let files of `./conf`, `--config-dir` and `hydra.searchpath` fill their own part of a configuration alone."""

from __future__ import annotations

import copy
import glob
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import hydra._internal.hydra as hydras_own
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository, IConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import GroupDefault, ResultDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from poslab.configuration.interpolations import check_interpolations
from poslab.io.files import read_yaml

PATHS = {"job.name", "run.dir", "sweep.dir", "sweep.subdir"}
"""Keys of Hydra that such a file may set: they say where below the working directory a run is written."""
OUTPUT_SUBDIRS = (None, ".hydra")
"""Folders of a run into which such a file may let Hydra write: none, or one that nothing else uses."""
OF_THE_JOB = re.compile(r"\$\{(now:[\w%-]*|hydra:runtime\.choices\.\w+|hydra:job\.num|hydra\.job\.num)\}")
"""Interpolations whose values are names, not paths."""

PACKAGES = {"debug": "_global_", "experiment": "_global_", "pretrained": "_global_", "size": "model"}
"""Packages that the choices of a group fill, where it is not that of the group; those of conf/ do too."""
ALSO_CHOSEN = {"dataset": {"family", "model"}, "model": {"size"}}
"""Groups of which the choices of another group choose; those of conf/ do too. Those of `PACKAGES` choose of any."""

REMARKABLE = {"seed", "optimizer.lr", "dataset.cache_dir"}
"""Keys of a run, beside `logger`, of which a command says that such a file sets them."""


@contextmanager
def checked() -> Iterator[None]:
    """Let Hydra compose with `CheckedLoader`."""
    hydras_own.ConfigLoaderImpl = CheckedLoader  # type: ignore[attr-defined]
    try:
        yield
    finally:
        hydras_own.ConfigLoaderImpl = ConfigLoaderImpl  # type: ignore[attr-defined]


@contextmanager
def initialized(conf: Path) -> Iterator[None]:
    """Let `hydra.compose` compose from a folder with `CheckedLoader`."""
    with checked(), initialize_config_dir(str(conf), version_base="1.3"):
        yield


class CheckedLoader(ConfigLoaderImpl):
    """Loader of configurations that Hydra may have from anybody's files, as it builds what the node `hydra` names.

    A file from outside conf/ is read only if the command line names it, or a file from outside that is read. It fills
    the package of its group. The node `hydra` is what Poslab's own files make of the typed words, except for where
    below the working directory a run is written. `compose` and `hydra.main` raise ValueError that names the file.
    """

    remark = ""
    """Keys set by files from outside in the last composition that a user may not expect of them."""

    def load_configuration(self, *args: Any, **kwargs: Any) -> DictConfig:
        try:
            return super().load_configuration(*args, **kwargs)
        except RecursionError:
            raise ValueError("defaults of configuration files must not name one another in a circle") from None

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str]
    ) -> tuple[list[Override], CachingConfigRepository]:
        self.remark = ""
        typed = OverridesParser.create().parse_overrides(overrides)
        repository = _Repository(self.repository, config_name, typed)
        # Without a name, since a primary configuration could name packages to search, which Hydra imports.
        self._process_config_searchpath(None, typed, repository)
        return typed, repository

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        composed = super()._compose_config_from_defaults_list(defaults, repo)
        if isinstance(repo, _Repository) and repo.outside:
            repo.check_packages(defaults)
            primary = next(default.config_path for default in defaults if default.primary)
            ours = self._composed_of_ours(repo, "train" if primary in repo.outside else primary)
            self._compare(dict(_dotted(OmegaConf.to_container(composed))), dict(_dotted(ours)), repo)
        return composed

    def _composed_of_ours(self, repo: _Repository, primary: str | None) -> Any:
        """Return what Poslab's own files make of the typed choices, as plain data."""
        path = ConfigSearchPathImpl()
        path.config_search_path = [e for e in self.config_search_path.get_path() if not _is_outside(str(e.provider))]
        loader = ConfigLoaderImpl(path)
        of_hydra = [str(word.input_line) for word in repo.typed if word.key_or_group.startswith("hydra/")]
        try:
            defaults = loader.compute_defaults_list(primary, [*of_hydra, *repo.choices_of_ours()], RunMode.RUN).defaults
        except HydraException:  # a choice goes only with one from outside
            defaults = loader.compute_defaults_list(primary, of_hydra, RunMode.RUN).defaults
        return OmegaConf.to_container(loader._compose_config_from_defaults_list(defaults, loader.repository))

    def _compare(self, settings: dict[str, Any], ours: dict[str, Any], repo: _Repository) -> None:
        """Raise ValueError if the node `hydra` is another one than that of Poslab's own files; note the `remark`."""
        files = " or ".join(map(str, repo.outside.values()))
        differing = sorted(key for key in {**settings, **ours} if settings.get(key, ...) != ours.get(key, ...))
        typed = {word.key_or_group for word in repo.typed}
        names = [key for key in differing if key in settings and key not in typed]
        remarkable = [f"{key}={settings[key]}" for key in names if key in REMARKABLE]
        loggers = {".".join(key.split(".")[:2]) for key in names if key.startswith("logger.") and "logger" not in typed}
        self.remark = f"{files} sets {', '.join([*remarkable, *sorted(loggers)])}" if remarkable or loggers else ""
        of_hydra = [key.removeprefix("hydra.") for key in differing if f"{key}.".startswith("hydra.")]
        for key in of_hydra:
            value = settings.get(f"hydra.{key}")
            if key not in PATHS | {"output_subdir"}:
                raise ValueError(
                    f"{files} must not set hydra.{key} of Hydra, which can run any code: if it is "
                    "yours, give it on the command line"
                )
            if not (value in OUTPUT_SUBDIRS if key == "output_subdir" else _is_below(value)):
                allowed = "null or .hydra" if key == "output_subdir" else "a path below the working directory"
                raise ValueError(f"{files}: hydra.{key} must be {allowed}, got {value!r}: give it on the command line")
        run, sweep, subdir = (settings.get(f"hydra.{name}") for name in ("run.dir", "sweep.dir", "sweep.subdir"))
        written = (f"{run}/.hydra", f"{sweep}/{subdir}/.hydra") if of_hydra else ()
        if link := next(filter(None, map(_link_in, written)), None):
            raise ValueError(
                f"{files}: hydra.{of_hydra[0]} must not lead through a symbolic link, and {link} is one: "
                "give it on the command line"
            )


class _Repository(CachingConfigRepository):
    """The files of one composition: those of Poslab and Hydra, then those from outside that are named.

    Args:
        delegate: repository of all of them.
        config_name: of the primary configuration.
        typed: overrides of the command line.
    """

    delegate: ConfigRepository

    def __init__(self, delegate: ConfigRepository, config_name: str | None, typed: Sequence[Override]) -> None:
        super().__init__(delegate)
        self._find_ours()
        self.typed = typed
        self.outside: dict[str | None, Path] = {}
        """Files from outside that were read, by their names."""
        self._named = {config_name}
        for word in typed:
            value = None if word.is_sweep_override() else word.value()
            self._named |= {f"{word.key_or_group}/{name}" for name in (value if isinstance(value, list) else [value])}

    def choices_of_ours(self) -> list[str]:
        """Return the words that choose files of Poslab."""
        chosen = [word for word in self.typed if not word.is_sweep_override() and isinstance(word.value(), str)]
        names = {word.input_line: f"{word.key_or_group}/{word.value()}" for word in chosen}
        return [str(word) for word, name in names.items() if self._ours.config_exists(name)]

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        super().initialize_sources(config_search_path)
        self._find_ours()

    def _find_ours(self) -> None:
        self._ours = copy.copy(self.delegate)
        self._ours.sources = [source for source in self.delegate.sources if not _is_outside(source.provider)]

    def group_exists(self, config_path: str) -> bool:
        return self._ours.group_exists(config_path)

    def load_config(self, config_path: str) -> ConfigResult | None:
        key = f"config_path={config_path}"
        if key not in self.cache:
            if Path(config_path).is_absolute() or ".." in Path(config_path).parts:
                raise ValueError(f"{config_path} must be a file of conf/ or --config-dir, and not one elsewhere")
            if self._ours.config_exists(config_path):
                self.cache[key] = self._ours.load_config(config_path)
            else:
                self.cache[key] = self._load_from_outside(config_path) if config_path in self._named else None
        return self.cache[key]

    def _load_from_outside(self, config_path: str) -> ConfigResult | None:
        source = next((source for source in self.delegate.sources if source.is_config(config_path)), None)
        if source is None:
            return None
        folder = Path(source.path)
        file = folder / (config_path if config_path.endswith(".yaml") else f"{config_path}.yaml")
        if source.scheme() == "file":
            if not file.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"{file} must not be a symbolic link to a file outside {folder}: put a copy there")
            check_interpolations(read_yaml(file), file)
        loaded = self.delegate.load_config(config_path)
        assert loaded is not None
        package, header = _package(config_path), loaded.header["package"]
        if header not in (None, package):
            raise ValueError(f"{file} must fill the package {package} alone, got # @package {header}")
        for default in copy.deepcopy(loaded.defaults_list or []):
            chosen = str(default.group).lstrip("/") if isinstance(default, GroupDefault) else ""
            if default.is_override() and package != "_global_" and chosen not in ALSO_CHOSEN.get(package, ()):
                raise ValueError(f"{file} cannot override {chosen}: choose {chosen}= on the command line")
            for base in PurePosixPath(config_path).parents:
                default.parent_base_dir = base.as_posix().removeprefix(".")
                if isinstance(default, GroupDefault) and default.is_options():
                    names = {f"{default.get_group_path()}/{name}" for name in default.get_options()}
                else:
                    names = {default.get_config_path()}
                self._named |= {name for name in names if package == "_global_" or _package(name) != "_global_"}
        self.outside[config_path] = file
        return loaded

    def check_packages(self, defaults: Sequence[ResultDefault]) -> None:
        """Raise ValueError for a choice that a file from outside puts elsewhere than into the package of its group."""
        for default in defaults:
            parent = str(default.parent)
            if parent in self.outside and _package(parent) != "_global_":
                packages = {str(each.package) for each in defaults if each.config_path == parent}
                if not any(f"{default.package}.".startswith(f"{package}.") for package in packages):
                    raise ValueError(
                        f"{self.outside[parent]} must fill {' or '.join(sorted(packages))} alone, and puts "
                        f"{default.config_path} into {default.package or 'the whole configuration'}"
                    )


def _package(config_path: str) -> str:
    """Return the package that a file may fill: that of its group, or all of it for a primary configuration."""
    group, slash, _ = config_path.partition("/")
    return PACKAGES.get(group, group) if slash else "_global_"


def _is_outside(provider: str) -> bool:
    """Return whether a folder is named on a command line, and may be a stranger's."""
    return provider == "command-line" or provider.startswith("hydra.searchpath")


def _is_below(path: Any) -> bool:
    """Return whether a path of Hydra's stays below the working directory whatever its interpolations become."""
    if not isinstance(path, str):
        return False
    rest = OF_THE_JOB.sub("x", path)
    return "${" not in rest and not Path(rest).is_absolute() and ".." not in Path(rest).parts


def _link_in(path: str) -> Path | None:
    """Return a symbolic link that a path of Hydra's may lead through, other than `outputs`, where all runs are.

    An absolute path has none: only a user types one.
    """
    if Path(path).is_absolute():
        return None
    parts = Path(OF_THE_JOB.sub("*", glob.escape(path))).parts
    paths = (path for count in range(1, len(parts) + 1) for path in Path().glob(str(Path(*parts[:count]))))
    return next((path for path in paths if path.is_symlink() and path != Path("outputs")), None)


def _dotted(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of nested nodes with their values."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
