"""Let files of `./conf`, `--config-dir` and `hydra.searchpath` fill only their own part of a configuration."""

from __future__ import annotations

import copy
import glob
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import hydra._internal.hydra as hydras_own
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository, IConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import GroupDefault, ResultDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

from poslab.io.files import read_yaml

PATHS = {"run.dir", "sweep.dir", "sweep.subdir"}
"""Keys of Hydra that such a file may set: they say where below the working directory a run is written."""
FIXED = {"output_subdir": None, "job.name": "train"}
"""Further keys of Hydra that such a file may have, with their only value."""
LOGGING = {"hydra/job_logging", "hydra/hydra_logging"}  # groups of Hydra of which such a file may choose `none`
OF_THE_JOB = re.compile(r"\$\{(now:[\w%-]*|hydra:runtime\.choices\.\w+|hydra:job\.num|hydra\.job\.num)\}")
"""Interpolations whose values are names, not paths."""

PACKAGES = {"debug": "_global_", "experiment": "_global_", "pretrained": "_global_", "size": "model"}
"""Packages that the choices of a group fill, where it is not the group itself; files of conf/ do too."""
ALSO_CHOSEN = {"dataset": {"family", "model"}, "model": {"size"}}
"""Groups of which the choices of another group choose; files of conf/ do too. Choices in `PACKAGES` choose of any."""


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
    the package of its group. Of the node `hydra` it says where below the working directory a run is written, and
    nothing else. `compose` and `hydra.main` raise ValueError that names the file.
    """

    def load_configuration(self, *args: Any, **kwargs: Any) -> DictConfig:
        try:
            return super().load_configuration(*args, **kwargs)
        except RecursionError:
            raise ValueError("defaults of configuration files must not name one another in a circle") from None

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str]
    ) -> tuple[list[Override], CachingConfigRepository]:
        typed = OverridesParser.create().parse_overrides(overrides)
        repository = _Repository(self.repository, config_name, typed)
        # Without a name, since a primary configuration could name packages to search, which Hydra imports.
        self._process_config_searchpath(None, typed, repository)
        return typed, repository

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        composed = super()._compose_config_from_defaults_list(defaults, repo)
        if isinstance(repo, _Repository):
            repo.check_packages(defaults)
            repo.check_sweep(composed)
        return composed


class _Repository(CachingConfigRepository):
    """The files of one composition: Poslab's and Hydra's, then files from outside that are named."""

    delegate: ConfigRepository

    def __init__(self, delegate: ConfigRepository, config_name: str | None, typed: Sequence[Override]) -> None:
        super().__init__(delegate)
        self._find_ours()
        self.outside: dict[str | None, Path] = {}  # files from outside that were read, by their names
        self.of_sweeps: set[Path] = set()
        """The files from outside that say where the jobs of `-m` are written."""
        self._named = {config_name}
        for word in typed:
            value = None if word.is_sweep_override() else word.value()
            self._named |= {f"{word.key_or_group}/{name}" for name in (value if isinstance(value, list) else [value])}

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        super().initialize_sources(config_search_path)
        self._find_ours()

    def _find_ours(self) -> None:
        self._ours = copy.copy(self.delegate)
        # A folder that is named on a command line may be untrusted.
        named = ("command-line", "hydra.searchpath")
        self._ours.sources = [source for source in self.delegate.sources if not source.provider.startswith(named)]

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
            raise ValueError(f"{file} must fill only the package {package}, got # @package {header}")
        settings = _checked_hydra_node(file, OmegaConf.to_container(loaded.config), package)
        if any(key.startswith("sweep.") for key in settings):
            self.of_sweeps.add(file)
        for default in copy.deepcopy(loaded.defaults_list or []):
            chosen = str(default.group).lstrip("/") if isinstance(default, GroupDefault) else ""
            allowed = package == "_global_" and (
                not chosen.startswith("hydra") or (chosen in LOGGING and default.get_name() == "none")
            )
            if default.is_override() and not allowed and chosen not in ALSO_CHOSEN.get(package, ()):
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
            if parent not in self.outside:
                continue
            packages = {str(each.package) for each in defaults if each.config_path == parent}
            is_of_run = _package(parent) == "_global_" and not f"{default.package}.".startswith("hydra.")
            if not is_of_run and not any(f"{default.package}.".startswith(f"{package}.") for package in packages):
                raise ValueError(
                    f"{self.outside[parent]} must fill only {' or '.join(sorted(packages))}, and puts "
                    f"{default.config_path} into {default.package or 'the whole configuration'}"
                )

    def check_sweep(self, composed: DictConfig) -> None:
        """Raise ValueError if files from outside lead the jobs of `-m` through a symbolic link, perhaps together."""
        if self.of_sweeps:
            sweep: Any = OmegaConf.to_container(composed.hydra.sweep)  # unresolved
            of_all, of_job = sweep["dir"], sweep["subdir"]
            if not Path(of_all).is_absolute() and _has_link(f"{of_all}/{of_job}"):
                raise ValueError(
                    f"{' and '.join(map(str, sorted(self.of_sweeps)))} must not set hydra.sweep, which leads through a "
                    f"symbolic link, {of_all}/{of_job}: if it is yours, type it on the command line"
                )


def _checked_hydra_node(file: Path, node: Any, package: str) -> Collection[str]:
    """Return what a file sets of Hydra, which can run any code: ValueError for more than where a run is written."""
    if "hydra" not in node:
        return ()
    settings = dict(_dotted(node["hydra"])) if isinstance(node["hydra"], Mapping) else {"": node["hydra"]}
    for key, value in settings.items():
        if package != "_global_" or not ((key in PATHS and _is_below(value)) or (key in FIXED and value == FIXED[key])):
            name = f"hydra.{key}".rstrip(".")
            raise ValueError(f"{file} must not set {name}, got {value!r}: if it is yours, type it on the command line")
    return settings


def _package(config_path: str) -> str:
    """Return the package that a file may fill: its group's, or the root for a primary configuration."""
    group, slash, _ = config_path.partition("/")
    return PACKAGES.get(group, group) if slash else "_global_"


def _is_below(path: Any) -> bool:
    """Return whether a path of Hydra's stays below the working directory whatever its interpolations become."""
    if not isinstance(path, str):
        return False
    rest = Path(OF_THE_JOB.sub("x", path))
    return not ("${" in str(rest) or rest.is_absolute() or ".." in rest.parts or _has_link(path))


def _has_link(path: str) -> bool:
    """Return whether a path of Hydra's may lead through a symbolic link, other than `outputs`, where all runs are."""
    parts = Path(OF_THE_JOB.sub("*", glob.escape(path))).parts
    existing = (file for count in range(1, len(parts) + 1) for file in Path().glob(str(Path(*parts[:count]))))
    return any(file.is_symlink() and file != Path("outputs") for file in existing)


def _dotted(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of nested nodes with their values."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


_KNOWN = re.compile(
    r"\$\{(now:[^${}]*|hydra:[\w.]+|oc\.select:(?:pretrained|dataset)\.[^${}]*|(?:divided|groups):[\w.,]*|"
    r"[\w.\[\]]*)\}"
)
"""Interpolations of conf/: another key, the time, Hydra's facts of the job, what a model or dataset may know, and
shares of a number."""
DEEPEST = 3  # most interpolations within each other; files of conf/ have 1
MAX_INTERPOLATIONS = 24
"""Interpolations of a file; files of conf/ have up to 11. A value that repeats another twice doubles it: a chain of 40
such values would fill any memory."""


def check_interpolations(node: Any, file: Path) -> None:
    """Raise ValueError for interpolations of a file that are more than `MAX_INTERPOLATIONS`, or of other things.

    Another key, a share of one, `now` and `hydra` are allowed; `${oc.env:SECRET}` would put a secret into printed and
    stored text.
    """
    if (count := sum(text.count("${") for text in texts(node))) > MAX_INTERPOLATIONS:
        raise ValueError(f"{file} must have at most {MAX_INTERPOLATIONS} interpolations, got {count}")
    for text in texts(node):
        rest = text
        for _ in range(DEEPEST):
            rest = _KNOWN.sub("x", rest)
        if "${" in rest:
            raise ValueError(
                f"{file} must have no interpolations but of other keys, now: and hydra:, got {text[:80]!r}"
            )


def texts(node: Any) -> Iterator[str]:
    """Yield every key and every text of plain data."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield str(key)
            yield from texts(value)
    elif isinstance(node, list):
        for item in node:
            yield from texts(item)
    elif isinstance(node, str):
        yield node
