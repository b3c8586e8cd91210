"""A run directory, a sweep or a checkpoint of a stranger runs no code, takes no memory and ends in one sentence."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save_file

import poslab
from poslab.cli import evaluate, generate
from poslab.cli.argv import options_first
from poslab.configuration.outside_files import ALSO_CHOSEN, PACKAGES, check_interpolations, initialized
from poslab.experiments.search import build_pruner, sampler_of
from poslab.experiments.sweep import read_sweep
from poslab.experiments.sweep_command import run_sweep
from poslab.experiments.trial_run import TrialConfigurations
from poslab.io.files import read_json, read_yaml
from poslab.runs.checkpoint import OWN_STATE, load_checkpoint, load_weights, save_atomically
from poslab.runs.directory import RunDirectory
from tests.runs.trap import Trap
from tests.written_run import CONF, write_run

MARK = "sprung"


def hostile_nodes(folder: Path) -> list[dict[str, Any]]:
    """Nodes that make the file `sprung` in a folder, or import what makes it, where anything calls or imports them."""
    mark, touch = str(folder / MARK), f"touch {folder / MARK}"
    code = f"open({mark!r}, 'w')"
    (folder / "evil_package.py").write_text(f"{code}\nclass Payload:\n    def __init__(self, **x): pass\n")
    np.save(folder / "evil.npy", np.array([Trap(folder / MARK)], dtype=object), allow_pickle=True)
    torch.save(Trap(folder / MARK), folder / "evil.pt")
    nested = {"_target_": "os.system", "command": touch}
    calls: dict[str, dict[str, Any]] = {
        "evil_package.Payload": {},
        "evil_package": {},
        "os.system": {"command": touch},
        "os.mkdir": {"path": mark},
        "os.makedirs": {"name": mark},
        "os.popen": {"cmd": touch},
        "os.mknod": {"path": mark},
        "posix.system": {"command": touch},
        "subprocess.run": {"args": ["touch", mark]},
        "subprocess.Popen": {"args": ["touch", mark]},
        "subprocess.call": {"_args_": [["touch", mark]]},
        "subprocess.check_output": {"_args_": [["touch", mark]]},
        "subprocess.getoutput": {"cmd": touch},
        "builtins.exec": {"_args_": [code]},
        "builtins.eval": {"_args_": [code]},
        "builtins.open": {"file": mark, "mode": "w"},
        "io.open": {"file": mark, "mode": "w"},
        "pathlib.Path.touch": {"_args_": [{"_target_": "pathlib.Path", "_args_": [mark]}]},
        "shutil.copy": {"src": "/dev/null", "dst": mark},
        "runpy.run_path": {"path_name": str(folder / "evil_package.py")},
        "runpy.run_module": {"mod_name": "evil_package"},
        "importlib.import_module": {"name": "evil_package"},
        "pydoc.locate": {"path": "evil_package.Payload"},
        "timeit.timeit": {"stmt": code, "number": 1},
        "cProfile.run": {"statement": code},
        "code.InteractiveInterpreter.runsource": {"source": code},
        "functools.partial": {"_args_": [nested]},
        "functools.reduce": {"_args_": [{"_target_": "builtins.eval", "_partial_": True}, [code]]},
        "logging.FileHandler": {"filename": mark},
        "logging.config.dictConfig": {"config": {"version": 1, "handlers": {"x": {"()": "os.system"}}}},
        "sqlite3.connect": {"database": mark},
        "tarfile.open": {"name": mark, "mode": "w"},
        "zipfile.ZipFile": {"file": mark, "mode": "w"},
        "numpy.load": {"file": str(folder / "evil.npy"), "allow_pickle": True},
        "numpy.save": {"file": mark, "arr": [1]},
        "torch.load": {"f": str(folder / "evil.pt"), "weights_only": False},
        "torch.save": {"obj": 1, "f": mark},
        "torch._inductor.codecache.PyCodeCache.load": {"source_code": code},
        "torch.distributed.run.main": {"args": ["--nproc_per_node=1", str(folder / "evil_package.py")]},
        "torch.utils.cpp_extension.load_inline": {"name": "x", "cpp_sources": code},
        "torch.hub.load": {"repo_or_dir": str(folder), "model": "x", "source": "local"},
        "pandas.read_pickle": {"filepath_or_buffer": str(folder / "evil.pt")},
        "hydra.utils.instantiate": {"config": nested},
        "hydra.utils.call": {"config": nested},
        "hydra.utils.get_method": {"path": "evil_package.Payload"},
        "hydra._internal.utils._locate": {"path": "evil_package.Payload"},
        "omegaconf.OmegaConf.save": {"config": {}, "f": mark},
        "lightning.pytorch.cli.LightningCLI": {},
        "poslab.io.files.write_atomically": {"path": mark, "text": "x"},
        "poslab.runs.checkpoint.save_atomically": {"checkpoint": {}, "path": mark},
        "poslab.configuration.build.build": {"config": {"x": nested, "trust": ["os"]}, "key": "x", "kind": None},
        "poslab.configuration.build.importlib.import_module": {"name": "evil_package"},
        "poslab.training.checking.check": {"config": {"trust": ["evil_package"], "seed": 1, "dataset": nested}},
        "poslab.runs.recipe.Recipe.of": {"config": {"trust": ["os"], "dataset": nested}},
        "poslab.training.checkpoints.RunCheckpoints": {"directory": mark},
        "poslab.encodings.rotary.longrope.longrope": {"short_factor": nested},
        "poslab.encodings.Rotary": {"scaling": nested},
        "poslab.encodings.Rotary.__class__": {},
        "poslab.encodings.LayerPattern": {"kinds": [nested], "embedding": nested},
        "poslab.encodings.layers.partial": {"_args_": [nested]},
        "${oc.create:{_target_:os.system}}": {"command": touch},
        "../../evil_package.Payload": {},
        "poslab:evil_package": {},
    }
    nodes = [{"_target_": target, **arguments} for target, arguments in calls.items()]
    return [*nodes, {"_target_": 7}, {"_target_": ["os.system"]}, {"_target_": {"_target_": "os.system"}}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("hostile")
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def command_configs() -> dict[str, dict[str, Any]]:
    """The configurations of the commands without choices."""
    composed = {}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for name in ("generate", "evaluate"):
            found = OmegaConf.to_container(compose(name), resolve=True)
            assert isinstance(found, dict)
            composed[name] = found
    return composed


Place = Callable[[dict[str, Any], dict[str, Any]], None]


def put(where: str) -> Place:
    """Puts a node at a path of a configuration."""

    def placed(config: dict[str, Any], node: dict[str, Any]) -> None:
        *path, last = where.split(".")
        for part in path:
            config = config[part] if part in config else config.setdefault(part, {})
        config[last] = node

    return placed


def in_a_pattern(config: dict[str, Any], node: dict[str, Any]) -> None:
    config["encoding"] = {"_target_": "poslab.encodings.layers.alternating", "encodings": [node]}


def in_a_layer(name: str) -> Place:
    def placed(config: dict[str, Any], node: dict[str, Any]) -> None:
        config["model"]["layers"] = {"kinds": [{name: node}, {}]}

    return placed


def beside_a_pattern(config: dict[str, Any], node: dict[str, Any]) -> None:
    alibi = {"_target_": "poslab.encodings.Alibi", "_partial_": True}
    config["encoding"] = {"_target_": "poslab.encodings.layers.alternating", "encodings": [alibi], "embedding": node}


GROUPS = {part: put(part) for part in ("encoding", "encoding.scaling", "dataset", "dataset.task", "trainer")}
GROUPS["encoding.encodings"] = in_a_pattern
GROUPS |= {f"model.layers.kinds.{name}": in_a_layer(name) for name in ("encoding", "temperature", "mixer")}
"""Where every node is tried: as a whole group, as a part, and as a part in a list."""
OF_A_MODEL = ["model", "model.cross_encoding", "model.window", "positions", "encoding.base", "encoding._args_"]
OF_TRAINING = ["optimizer", "optimizer.betas", "trainer.devices", "trainer.lightning", "callbacks.one", "logger.one"]
OF_OTHERS = ["objective", "temperature", "adapt", "adapt.rank", "start", "dataset.files", "dataset.tokenizer"]
OTHERS = {part: put(part) for part in (*OF_A_MODEL, *OF_TRAINING, *OF_OTHERS)}
OTHERS["encoding.embedding"] = beside_a_pattern
"""Where some nodes are tried."""


def changed(run: RunDirectory, place: Place, node: dict[str, Any], **more: Any) -> str:
    config = yaml.safe_load(run.config_file.read_text()) | more
    place(config, node)
    return yaml.safe_dump(config)


def resume(run: RunDirectory) -> None:
    from poslab.training.checking import check
    from poslab.training.resume import plan

    own = yaml.safe_load(run.config_file.read_text())
    planned = plan({**own, "resume": str(run.path), "trust": []}, run.path.parent / "new", [])
    check(planned.config, planned.checkpoint)


@pytest.mark.slow
def test_nothing_that_a_run_directory_names_is_run(run, folder, command_configs):
    original = run.config_file.read_text()
    asked = {name: {**config, "run": str(run.path)} for name, config in command_configs.items()}
    ways: dict[str, Callable[[], object]] = {
        "load": lambda: poslab.load(run.path),
        "serve": lambda: poslab.serve(run.path),
        "resume": lambda: resume(run),
        "generate": lambda: generate.main(asked["generate"], Path.cwd(), []),
        "evaluate": lambda: evaluate.main(asked["evaluate"], Path.cwd(), []),
    }
    all_ways = dict.fromkeys(("model", "encoding", "positions", "temperature", "objective", "adapt", "start"), ways)
    all_ways["dataset"] = {name: way for name, way in ways.items() if name != "load"}
    all_ways |= {part: {"resume": ways["resume"]} for part in ("optimizer", "trainer", "callbacks", "logger")}

    nodes = hostile_nodes(folder)
    tried = 0
    for number, node in enumerate(nodes):
        every = number % 10 == 0
        for where, place in {**GROUPS, **(OTHERS if every else {})}.items():
            run.config_file.write_text(changed(run, place, node, trust=["os", "subprocess", "evil_package"]))
            opened = list(all_ways[where.partition(".")[0]].items())
            for name, way in opened if every else opened[:1]:
                with pytest.raises(ValueError):
                    way()
                tried += 1
                assert not (folder / MARK).exists(), f"{node} at {where} was run by {name}"
                assert "evil_package" not in sys.modules, f"{node} at {where} was imported by {name}"
            run.config_file.write_text(original)
    assert len(nodes) >= 60 and tried >= 60 * len(GROUPS)


def sweep_file(folder: Path, content: dict[str, Any]) -> str:
    """Write the file of a sweep over seeds which says this too, and return its path."""
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump({"question": "?", "n_trials": 1, "space": {"seed": {"int": [1, 2]}}, **content}))
    return str(file)


@pytest.mark.parametrize("name", ["sampler", "pruner"])
def test_nothing_that_a_sweep_file_names_is_run(folder, name):
    for node in hostile_nodes(folder):
        other = {"_target_": "optuna.pruners.PatientPruner", "wrapped_pruner": node, "patience": 1}
        for one in (node, other) if name == "pruner" else (node,):
            file = sweep_file(folder, {"pruner": None, name: one})
            with pytest.raises(ValueError):
                sweep = read_sweep(folder, {"sweep": file}, [])
                sampler_of(sweep, 1, 1, {})
                build_pruner(sweep.pruner, sweep.trust)
                raise AssertionError(f"{node} as {name} was taken")
            assert not (folder / MARK).exists() and "evil_package" not in sys.modules


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"trust": ["os"]}, "there is no key trust"),
        ({"train": {"trust": ["evil_package"]}}, "train must not have trust"),
        ({"train": {"encoding._target_": "evil_package.Payload"}}, "evil_package.Payload, which is"),
        ({"train": {"hydra.launcher._target_": "os.system"}}, "must not have"),
        ({"space": {"encoding._target_": ["os.system", "evil_package.Payload"]}}, "space.encoding._target_ must be"),
    ],
)
def test_a_sweep_file_grants_no_trust_and_names_nothing_of_others(folder, content, reason):
    file = sweep_file(folder, content)
    with pytest.raises(ValueError, match=reason):
        run_sweep(read_sweep(folder, {"sweep": file, "output": str(folder / "out")}, []), CONF)
    assert "evil_package" not in sys.modules


def composed_with(folder: Path, *words: str, name: str = "train") -> DictConfig:
    """Compose a configuration with a folder of choices that may be a stranger's."""
    overrides = [f"hydra.searchpath=['file://{folder}']", *words]
    with initialized(CONF):
        return compose(name, overrides=overrides, return_hydra_config=True)


def test_the_best_file_of_a_sweep_says_where_it_writes(tmp_path):
    best = {
        "defaults": ["_self_", {"override hydra/job_logging": "none"}, {"override hydra/hydra_logging": "none"}],
        "hydra": {"output_subdir": None, "job": {"name": "train"}, "run": {"dir": "outputs/${now:%Y}"}},
    }
    (tmp_path / "best.yaml").write_text(yaml.safe_dump(best))
    composed = OmegaConf.to_container(composed_with(tmp_path, name="best").hydra)
    assert isinstance(composed, dict) and composed["run"] == {"dir": "outputs/${now:%Y}"}


@pytest.mark.parametrize(
    "content",
    [
        "hydra: {callbacks: {x: {_target_: os.system}}}",
        "hydra: {launcher: {_target_: os.system}}",
        "hydra: {job_logging: {handlers: {x: {(): os.system}}}}",
        "hydra: {job: {name: train, env_set: {LD_PRELOAD: evil.so}}}",
        "hydra: {job: {env_copy: [NOT_SET]}}",
        "hydra: {searchpath: ['pkg://evil_package']}",
        "hydra: ${x}\nx: {searchpath: ['pkg://evil_package']}",
        '"\\x68ydra": {callbacks: {x: {_target_: os.system}}}',
        "defaults: [{override hydra/launcher: basic}, {override hydra/job_logging: stdout}]",
        "defaults: [/encoding@hydra.callbacks: rotary]",
        "# @package hydra.callbacks\nx: {_target_: os.system}",
        "# @package _global_\n# @package hydra.callbacks\nx: {_target_: os.system}",
        "hydra: [1",
        "hydra: &a [1]\nx: *a",
    ],
)
@pytest.mark.parametrize("name", ["best", "experiment/evil"])
def test_a_folder_of_choices_cannot_make_hydra_run_code(tmp_path, content, name):
    file = tmp_path / f"{name}.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(content if name == "best" else f"# @package _global_\n{content}")
    with pytest.raises((ValueError, HydraException, yaml.YAMLError), match=rf"{tmp_path}/{name}.yaml|'{name}'"):
        composed_with(tmp_path, name="best") if name == "best" else composed_with(tmp_path, "experiment=evil")
    assert "evil_package" not in sys.modules


@pytest.mark.parametrize(
    "name",
    [
        *("experiment/datasets/None_python_docs", "experiment/families/None_text", "family/text", "encoding/rotary"),
        *("hydra/job_logging/none", "hydra/launcher/basic", "hydra/callbacks/x", "seed/1", "train"),
    ],
)
def test_a_folder_of_choices_answers_only_names_that_were_typed(tmp_path, name):
    (tmp_path / f"{name}.yaml").parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / f"{name}.yaml").write_text("# @package _global_\nseed: 666\nhydra: {job: {name: evil}}\n")
    assert OmegaConf.select(composed_with(tmp_path, "seed=1"), "seed") == 1


@pytest.mark.parametrize(
    "content",
    [
        "# @package _global_\nseed: 666",
        "# @package optimizer\nlr: 666",
        "# @package encoding\n# @package dataset\ncache_dir: /victim",
        "defaults: [/experiment: small]",
        "defaults: [/logger@_global_.logger: wandb]",
        "defaults: [override /optimizer: lion]",
        "defaults: [override /dataset@_global_.dataset: copy]",
        "defaults: [_base]",
    ],
)
def test_a_choice_fills_the_package_of_its_group_alone(tmp_path, content):
    (tmp_path / "encoding").mkdir()
    (tmp_path / "encoding" / "evil.yaml").write_text(content)
    (tmp_path / "encoding" / "_base.yaml").write_text("# @package _global_\nseed: 666")
    with pytest.raises(ValueError, match=f"{tmp_path}/encoding/\\w+.yaml"):
        composed_with(tmp_path, "encoding=evil")


def test_a_choice_names_no_experiment_that_nobody_typed(tmp_path):
    (tmp_path / "encoding").mkdir()
    (tmp_path / "experiment" / "datasets").mkdir(parents=True)
    defaults = "defaults: [rotary, optional /experiment/datasets@x: None_python_docs]"
    (tmp_path / "encoding" / "evil.yaml").write_text(defaults)
    evil = tmp_path / "experiment" / "datasets" / "None_python_docs.yaml"
    evil.write_text("# @package _global_\nseed: 666")
    assert composed_with(tmp_path, "encoding=evil").seed == 1


def test_choices_of_ones_own_name_others_and_experiments_set_any_key_of_a_run(tmp_path):
    files = {
        "encoding/_head.yaml": "base: 3",
        "encoding/mine.yaml": "defaults: [_head, rotary, _self_]\nbase: 5",
        "dataset/mine.yaml": "# @package dataset\ndefaults: [_classes, _self_]\ntest_fraction: 0.5",
        "model/mine.yaml": "defaults: [_self_, /encoding@cross: mine, override /size@_global_.size: null]\nwide: 7",
        "experiment/models/mine.yaml": "# @package _global_\n"
        "defaults: [override /encoding: mine, override /dataset: mine, override /model: mine]\n"
        "seed: 9\nlogger: null\nhydra: {run: {dir: elsewhere}}",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    composed = composed_with(tmp_path, "experiment=models/mine")
    assert (composed.seed, composed.encoding.base, composed.hydra.run.dir) == (9, 5, "elsewhere")
    assert (composed.dataset.test_fraction, composed.model.wide, composed.model.cross.base) == (0.5, 7, 5)
    assert composed_with(tmp_path, "+encoding@other=mine").other.base == 5


def test_what_files_from_outside_may_fill_and_choose_is_what_those_of_conf_do():
    headers: dict[str, set[str]] = {}
    chosen: dict[str, set[str]] = {}
    for file in CONF.glob("*/**/*.yaml"):
        check_interpolations(read_yaml(file), file)
        group, text = file.relative_to(CONF).parts[0], file.read_text()
        headers.setdefault(group, set()).update(re.findall("^# @package (.*)", text, re.M) or [group])
        chosen.setdefault(group, set()).update(re.findall(r"override /(\w+)", text))
    assert {group: found.pop() for group, found in headers.items() if group not in found} == PACKAGES
    own = {group: found for group, found in chosen.items() if found and group not in PACKAGES}
    assert own == ALSO_CHOSEN


def test_files_that_choose_one_another_are_a_mistake(tmp_path):
    (tmp_path / "encoding").mkdir()
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / "encoding" / f"{name}.yaml").write_text(f"defaults: [{other}]")
    with pytest.raises(ValueError, match="in a circle"):
        composed_with(tmp_path, "encoding=a")


@pytest.mark.parametrize("link", ["dataset", "dataset/evil.yaml", "best.yaml"])
def test_a_folder_of_choices_leads_to_no_file_outside_it(tmp_path, link):
    """Hydra follows links, and what they lead to may be a secret."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "evil.yaml").write_text("seed: 1")
    (tmp_path / "mine" / "dataset").mkdir(parents=True)
    if link == "dataset":
        (tmp_path / "mine" / "dataset").rmdir()
    (tmp_path / "mine" / link).symlink_to(elsewhere / ("" if link == "dataset" else "evil.yaml"))
    with pytest.raises(ValueError, match=f"{tmp_path}/mine/.* must not be a symbolic"):
        if link == "best.yaml":
            composed_with(tmp_path / "mine", name="best")
        else:
            composed_with(tmp_path / "mine", "dataset=evil")


def test_a_folder_of_choices_may_lie_behind_a_link(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "best.yaml").write_text("defaults: [train]\nseed: 4")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    assert composed_with(tmp_path / "link", name="best").seed == 4


@pytest.mark.parametrize(
    "defaults", ["[../evil]", "[/../evil]", "[dataset: ../../evil]", "[dataset: [a, ../../evil]]", "[../evil@x: y]"]
)
def test_a_folder_of_choices_chooses_no_file_outside_it(tmp_path, defaults):
    (tmp_path / "mine" / "dataset").mkdir(parents=True)
    (tmp_path / "mine" / "dataset" / "a.yaml").write_text("a: 1")
    (tmp_path / "mine" / "best.yaml").write_text(f"defaults: {defaults}")
    (tmp_path / "evil.yaml").write_text("seed: 666")
    with pytest.raises(ValueError, match=r"\.\./evil.* must be a file of"):
        composed_with(tmp_path / "mine", name="best")
    with pytest.raises(ValueError, match=r"\.\./evil must be a file of"):
        composed_with(tmp_path / "mine", name="../evil")


OUTSIDE = ["/victim", "../victim", "outputs/../../victim", "'${now:/victim}'", "'${now:..}/victim'"]
OUTSIDE += ["'${now:..}/${now:..}/victim'", "'${place}/victim'", "'${hydra:runtime.cwd}/victim'"]


@pytest.mark.parametrize(
    "hydra",
    [
        *(f"{{output_subdir: {folder}}}" for folder in ("../victim", "/victim", "src")),
        *(f"{{run: {{dir: {folder}}}}}" for folder in OUTSIDE),
        "{sweep: {dir: ../victim}}",
        "{sweep: {subdir: ../../victim}}",
        "{job: {name: ../victim}}",
    ],
)
def test_a_folder_of_choices_writes_below_the_working_directory(tmp_path, hydra):
    defaults = "defaults: [_self_, override hydra/job_logging: none, override hydra/hydra_logging: none]"
    (tmp_path / "best.yaml").write_text(f"{defaults}\nplace: ..\nhydra: {hydra}")
    with pytest.raises(ValueError, match=r"best\.yaml must not set hydra\."):
        composed_with(tmp_path, name="best")


SECRETS = [
    "${oc.env:SECRET}",
    "a ${oc.env:SECRET} b",
    "${oc.env:[SECRET]}",
    "${oc.decode:${oc.env:SECRET}}",
    "${now:${oc.env:SECRET}}",
    "${${resolver}:SECRET}",
    "${oc.${name}:SECRET}",
    "${oc.env:${oc.env:SECRET}}",
    "${oc.create:{a:b}}",
    "${python_version:major}",
    "${ oc.env:SECRET}",
    "${" * 1000 + "a" + "}" * 1000,
]


@pytest.mark.parametrize("text", SECRETS, ids=range(len(SECRETS)))
@pytest.mark.parametrize("place", ["{seed: X}", "{dataset: {files: [a, {b: X}]}}", "{hydra: {run: {dir: X}}}"])
def test_a_folder_of_choices_reads_no_environment(tmp_path, text, place):
    (tmp_path / "best.yaml").write_text(place.replace("X", f"'{text}'"))
    with pytest.raises(ValueError, match=r"best\.yaml .*(interpolation|not YAML)"):
        composed_with(tmp_path, name="best")


@pytest.mark.parametrize(
    "content",
    [
        *({"train": {"dataset.files": text}} for text in SECRETS[:3]),
        {"train": {"hydra.searchpath": ["file:///evil"]}},
        {"train": {"hydra/launcher": "evil"}},
        {"train": {"+hydra/launcher": "evil"}},
        {"train": {"dataset": "../../evil"}},
        {"train": {"+experiment": "../../evil"}},
        {"train": {"dataset@x": "../../evil"}},
        {"train": {"../evil": "x"}},
        {"space": {"encoding": {"choices": ["rotary", "../../evil"]}}},
        {"presets": {"small": {"train": {"seed": "${oc.env:SECRET}"}}}},
    ],
    ids=str,
)
def test_a_sweep_file_reads_neither_the_environment_nor_files_of_others(folder, content):
    file = sweep_file(folder, content)
    with pytest.raises(ValueError, match=r"interpolations|must not have|of conf"):
        TrialConfigurations(CONF, read_sweep(folder, {"sweep": file}, [])).check()


@pytest.mark.parametrize("link", ["sweep.yaml", "trials", "study.db", "workers"])
def test_a_sweep_with_a_link_in_it_is_refused(folder, tmp_path, link):
    file = sweep_file(folder, {})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / link).symlink_to(tmp_path / "victim")
    with pytest.raises(ValueError, match=rf"no symbolic links.*out/{link}"):
        run_sweep(read_sweep(folder, {"sweep": file, "output": str(tmp_path / "out")}, ["debug=fast"]), CONF)
    assert not (tmp_path / "victim").exists()


BOMB = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 1}]" for i in range(12))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (BOMB, "must not use aliases"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested more|maximum nesting"),
        ("a: [\n" + "1,\n" * 200_000 + "]", "must be at most 200,000 bytes"),
        ("a: " + "9" * 5000, "must not have a number of"),
        ("a: " + "5" + ":59" * 5000, "must not have a number of"),
        ("a: 0x" + "f" * 5000, "must not have a number of"),
        ("a: '" + "${" * 5000 + "'", "must not have an interpolation"),
        ("a: '" + "${" * 40 + "'", "must not have more than 32"),
        ("a: '${a:" + "[" * 900 + "'", "is not YAML"),
        ("a: !!timestamp x", "is not YAML"),
        ("a: !!python/object/apply:os.system [id]", "is not YAML"),
        ("model: gpt2\nencoding: rotary", "(model|encoding) must contain keys"),
        ("a: b: c", "line 1 is not YAML: mapping"),
        ("a: ${b", "is not YAML"),
        ("42", "is not YAML: Invalid loaded"),
        ("\x00", "is not YAML"),
    ],
)
def test_a_configuration_that_is_none_is_one_sentence(tmp_path, content, reason):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(ValueError, match=reason) as error:
        poslab.load(tmp_path)
    assert str(tmp_path / "config.yaml") in str(error.value)


@pytest.mark.parametrize("read", [read_yaml, read_json])
def test_a_pipe_and_a_device_are_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for file in (tmp_path / "pipe", tmp_path / "device", tmp_path):
        with pytest.raises(ValueError, match=f"^{file} cannot be read: it is"):
            read(file)


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "3", '"x"', "{", "[" * 100_000, "\x00"),
        *(json.dumps({"outputs": outputs}) for outputs in (3, [1], {"size": 3})),
        *(json.dumps({"outputs": pair}) for pair in ([True, False], [0, False], [10**12, True], ["4", True])),
        *(json.dumps({"extra_tokens": count}) for count in (-1, 1e9, 10**12, "1", None)),
        *(json.dumps({"outputs": [1, True], "classes": classes}) for classes in ([3], "a", {"a": 1}, ["a", "b"])),
        *('{"classes": ["a"]}', '{"several": 1}', '{"two_texts": "yes"}'),
    ],
)
def test_a_task_file_of_another_form_is_one_sentence(run, content):
    run.task_file.write_text(content)
    with pytest.raises(ValueError, match=r"task\.json|does not fit"):
        poslab.load(run.path)


@pytest.mark.parametrize(
    "content",
    [
        *("", "{}", "[]", '{"poslab"', '{"poslab": "bytes"', "\udcff"),
        *(json.dumps({"poslab": kind}) for kind in ("words", 3, "symbols")),
        *(
            json.dumps({"poslab": "symbols", "symbols": symbols})
            for symbols in ("abc", {"a": 1}, [1, 2], ["a", "a"], ["a b"], [""])
        ),
        '{"model": {"type": "BPE", "vocab": {"a": 4000000000}, "merges": []}}',
        '{"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 9999999}, "unk_token": "a"}}',
    ],
)
def test_a_tokenizer_of_another_form_is_one_sentence(run, content):
    (run.path / "tokenizer.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"tokenizer\.json|vocab_size|not fit"):
        poslab.load(run.path)


@pytest.mark.parametrize(
    "change",
    [
        *({"state_dict": weights} for weights in (None, [], {}, {3: torch.zeros(1)})),
        *({"state_dict": {"model.embedding.weight": weight}} for weight in (3, torch.zeros(3))),
        {"state_dict": {"embedding.weight": torch.zeros(3)}},
        *({"global_step": step} for step in (-1, "3", None)),
        {"optimizer_states": {}},
        {"lr_schedulers": 3},
        {"loops": []},
        {"callbacks": {}},
        {"callbacks": {OWN_STATE: 3}},
    ],
)
def test_a_checkpoint_of_another_form_is_one_sentence(run, change):
    save_atomically({**load_checkpoint(run.best_checkpoint), **change}, run.best_checkpoint)
    with pytest.raises(ValueError, match=r"^the checkpoint .*best\.safetensors"):
        poslab.load(run.path)


@pytest.mark.parametrize(
    "state",
    ["", "3", "[" * 100_000, '{"$tensor": "none"}', '{"$tuple": 3}', '{"$items": [[[1], 2]]}', '{"$items": [1]}'],
)
def test_a_checkpoint_with_other_json_is_one_sentence(run, state):
    save_file({}, run.best_checkpoint, {"poslab": state, "checksum": hashlib.sha256(state.encode()).hexdigest()})
    with pytest.raises(ValueError, match=r"^the checkpoint .*best\.safetensors is"):
        poslab.load(run.path)


def test_a_model_that_is_larger_than_its_checkpoint_takes_no_memory(run):
    original = yaml.safe_load(run.config_file.read_text())
    heads = {"d_model": 2**30, "num_heads": 2**29}
    for change in ({"d_model": 10**7}, {"num_layers": 10**9}, {"mlp_ratio": 900}, {"head_dim": 10**9}, heads):
        for encoding in ("Rotary", "Alibi", "LearnedAlibi"):
            config = {"model": original["model"] | change, "encoding": {"_target_": f"poslab.encodings.{encoding}"}}
            run.config_file.write_text(yaml.safe_dump(original | config))
            with pytest.raises(ValueError, match="does not fit the model"):
                poslab.load(run.path)


def test_an_encoding_without_weights_takes_no_memory_for_its_sizes(run):
    config = yaml.safe_load(run.config_file.read_text())
    sandwich = {"_target_": "poslab.encodings.Sandwich", "dim": 2**31 - 2}
    run.config_file.write_text(yaml.safe_dump(config | {"encoding": sandwich}))
    poslab.load(run.path)


OWN_MODEL = """
import torch
from torch import nn

from poslab.encodings import StackEncodings, StackShape
from poslab.models import Model


class Mixture(Model):
    capabilities = frozenset({"causal"})

    def __init__(self, vocab_size: int, encoding, width: int = 4, depth: int = 1, experts: int = 3, idle: int = 2,
                 steps: list[int] = (2,), reach: int = 16) -> None:
        super().__init__()
        self.encodings = StackEncodings(encoding, StackShape(width, depth, 1, 1, width))
        self.embedding = nn.Embedding(vocab_size, width)
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(experts))
        self.idle = nn.ModuleList(nn.Identity() for _ in range(idle))
        self.scale = nn.Parameter(torch.ones(min(reach, 16)))
        self.steps = nn.ParameterList(torch.ones(1) for step in steps for _ in range(step))
        self.depths = nn.ParameterList(torch.ones(1) for _ in range(depth))
"""


def test_no_integer_of_a_model_of_ones_own_takes_more_than_its_checkpoint(tmp_path, monkeypatch):
    (tmp_path / "mixture_of_a_user.py").write_text(OWN_MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    node = {"_target_": "mixture_of_a_user.Mixture"}
    run = write_run(tmp_path / "run", "encoding=alibi", "trust=[mixture_of_a_user]", model=node)
    original = yaml.safe_load(run.config_file.read_text())

    def load(**change: Any) -> torch.nn.Module:
        run.config_file.write_text(yaml.safe_dump(original | {"model": node | change}))
        return poslab.load(run.path, trust="mixture_of_a_user")

    for change in ({}, {"reach": 2**31 - 1}, {"idle": 100}):
        load(**change)
    huge = 2**31 - 1
    for change in ({"width": huge}, {"experts": huge}, {"idle": huge}, {"steps": [2, huge]}, {"depth": huge}):
        with pytest.raises(ValueError, match="does not fit the model"):
            load(**change)


@pytest.mark.parametrize("num_heads", [1, 3, 2**31 - 1])
@pytest.mark.parametrize("encoding", ["Alibi", "LearnedAlibi", "Sandwich"])
def test_an_encoding_of_other_heads_than_its_model_is_one_sentence(run, encoding, num_heads):
    config = yaml.safe_load(run.config_file.read_text())
    config["encoding"] = {"_target_": f"poslab.encodings.{encoding}", "num_heads": num_heads}
    run.config_file.write_text(yaml.safe_dump(config))
    with pytest.raises(ValueError, match=r"num_heads must be .* stack"):
        poslab.load(run.path)


@pytest.mark.slow
def test_a_checkpoint_with_one_wrong_bit_never_loads_as_other_weights(run):
    file = run.best_checkpoint
    content = file.read_bytes()
    right = load_weights(file)
    bits = np.random.default_rng(0).choice(8 * len(content), 2300, replace=False)
    refused = 0
    for bit in map(int, bits):
        spoilt = bytearray(content)
        spoilt[bit // 8] ^= 1 << bit % 8
        file.write_bytes(spoilt)
        try:
            loaded = load_weights(file)
        except ValueError:
            refused += 1
        else:
            assert loaded.keys() == right.keys()
            assert all(torch.equal(loaded[name], weight) for name, weight in right.items()), f"bit {bit}"
    assert refused > 2000


def test_a_pickle_of_hydra_is_not_read():
    with pytest.raises(ValueError, match="reads a pickle"):
        options_first(["--experimental-rerun", "outputs/RUN/config.pickle"])
