"""Choices of the user's own: of ./conf, and of `--config-dir` of sweeps and comparisons."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from poslab.cli.entry_point import UserPackages
from poslab.cli.errors import choices_with
from poslab.configuration.command_line import CONF, choices

from .running import QUESTION, ROOT

ENCODING = """
from poslab.encodings.bias.alibi import Alibi

class Mine(Alibi):
    pass
"""


@pytest.fixture
def encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of an encoding of one's own in ./conf, whose class is in ./my_lab.py."""
    monkeypatch.syspath_prepend(str(tmp_path))  # as `python -m` does
    (tmp_path / "my_lab.py").write_text(ENCODING)
    file = tmp_path / "conf" / "encoding" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("# An encoding of my own.\n_target_: my_lab.Mine\n_partial_: true\n")
    return file


def test_a_choice_of_the_current_directory_is_found_and_listed(encoding, run_command):
    ended = run_command("src.train", "--cfg", "job", "--package", "encoding", "encoding=mine")
    assert "_target_: my_lab.Mine" in ended.output
    assert "did you mean 'mine'?" in run_command("src.train", "encoding=minee").errors
    assert re.search("^  mine +An encoding of my own$", run_command("src.train", "--help", "encoding").output, re.M)
    explained = run_command("src.train", "--help", "encoding=mine").output
    assert "An encoding of my own" in explained and "train encoding=mine\n" in explained


def test_a_run_trains_with_it_and_prints_commands_that_find_it(encoding, run_command, small):
    ended = run_command("src.train", *small, "encoding=mine", "trust=my_lab", "hydra.run.dir=run")
    assert ended.status == 0, ended
    assert "hydra.searchpath" not in ended.output
    assert "trust=my_lab" in ended.output.split("Next steps:")[1]


def test_no_other_package_is_trusted_for_it(encoding, run_command, small):
    ended = run_command("src.train", *small, "encoding=mine")
    assert (ended.status, "add trust=my_lab" in ended.errors) == (2, True)


@pytest.mark.parametrize("content", ["# @package hydra.callbacks\nx: {_target_: os.system}", "a: ${oc.env:SECRET}"])
def test_a_choice_that_could_run_code_or_read_secrets_is_refused_where_it_is_named(content, encoding, run_command):
    encoding.with_name("evil.yaml").write_text(content)
    other = run_command("src.train", "--cfg", "job", "encoding=mine")
    assert (other.status, other.errors) == (0, "")
    named = run_command("src.train", "--cfg", "job", "encoding=evil")
    assert (named.status, named.errors.count("\n")) == (2, 1)
    assert "conf/encoding/evil.yaml must" in named.errors


CALLBACK = "hydra.callbacks\nx: {_target_: logging.FileHandler, filename: ran}\n"
"""A package and its contents by which Hydra writes the file `ran` when a command begins."""


@pytest.mark.parametrize(
    ("file", "words", "is_refused"),
    [
        ("conf/experiment/datasets/None_python_docs.yaml", [], False),
        ("conf/experiment/families/None_text.yaml", [], False),
        ("conf/family/text.yaml", [], False),
        ("conf/encoding/evil.yaml", ["encoding=evil"], True),
        ("conf/encoding/evil.yaml", ["-m", "encoding=rotary,evil"], True),
        ("conf/encoding/evil.yaml", ["encoding=evil.yaml"], True),
        ("folder/experiment/datasets/None_python_docs.yaml", ["--config-dir", "folder"], False),
        ("folder/encoding/evil.yaml", ["--config-dir", "folder", "encoding=evil"], True),
        ("folder/encoding/evil.yaml", ["hydra.searchpath=[file://folder]", "encoding=evil"], True),
        ("folder/best.yaml", ["--config-dir", "folder", "--config-name", "best"], True),
        ("folder/best.yaml", ["--config-dir", "conf", "--config-name", "../folder/best"], True),
        ("folder/train.yaml", ["--config-path", "folder"], True),
    ],
)
def test_no_file_of_a_folder_makes_a_command_run_code(file, words, is_refused, tmp_path, run_command):
    (tmp_path / "conf" / "encoding").mkdir(parents=True)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(f"# @package _global_\n# @package {CALLBACK}")
    ended = run_command("src.train", *words, "+nothing_trains=1")
    assert (ended.status, "+nothing_trains" in ended.errors) == (2, not is_refused), ended
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("settings", "link", "is_refused"),
    [
        ("{run: {dir: link/x}}", "link", True),
        ("{run: {dir: '${hydra:runtime.choices.dataset}/x'}}", "python_docs", True),
        ("{run: {dir: x}, output_subdir: .hydra}", "x/.hydra", True),
        ("{sweep: {dir: x, subdir: y}}", "x/y", True),
        ("{run: {dir: 'outputs/x_${hydra:runtime.choices.dataset}'}}", "outputs", False),
        ("{run: {dir: other/x}}", "link", False),
    ],
)
def test_a_file_leads_no_run_through_a_link_of_the_folder(settings, link, is_refused, encoding, tmp_path, run_command):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(tmp_path / "elsewhere")
    experiment = tmp_path / "conf" / "experiment" / "mine.yaml"
    experiment.parent.mkdir()
    experiment.write_text(f"# @package _global_\nhydra: {settings}\n")
    ended = run_command("src.train", "experiment=mine", "+nothing_trains=1")
    assert (ended.status, "must not set hydra." in ended.errors) == (2, is_refused), ended
    assert not [file for file in (tmp_path / "elsewhere").rglob("*") if file.is_file()]


def test_two_files_together_lead_no_job_through_a_link_of_the_folder(encoding, tmp_path, run_command):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "jobs" / "evil").symlink_to(tmp_path / "elsewhere")
    for group, settings in {"experiment": "{sweep: {dir: jobs}}", "debug": "{sweep: {subdir: evil}}"}.items():
        file = tmp_path / "conf" / group / "mine.yaml"
        file.parent.mkdir()
        file.write_text(f"# @package _global_\nhydra: {settings}\n")
    ended = run_command("src.train", "-m", "experiment=mine", "debug=mine", "encoding=rotary", "+nothing_trains=1")
    assert (ended.status, "must not set hydra.sweep" in ended.errors) == (2, True), ended
    assert not any((tmp_path / "elsewhere").iterdir())


def test_a_choice_of_the_name_of_one_of_poslab_is_not_read_and_named(encoding, run_command):
    encoding.with_name("alibi.yaml").write_text("_target_: my_lab.Mine\n_partial_: true\n")
    ended = run_command("src.train", "--cfg", "job", "--package", "encoding", "encoding=alibi")
    assert ended.errors.startswith("poslab: conf/encoding/alibi.yaml")
    assert "poslab.encodings" in ended.output


def test_a_folder_without_choices_is_not_looked_at(tmp_path, run_command):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "site.yaml").write_text("hydra: {run: {dir: /}}")
    assert run_command("src.train", "--cfg", "job").errors == ""


def test_a_sweep_takes_the_choices_of_a_folder(encoding, run_command, tmp_path):
    encoding.parent.parent.rename(tmp_path / "choices")
    (tmp_path / "question.yaml").write_text(QUESTION.replace("encoding: rotary", "encoding: mine"))
    missing = run_command("src.sweep", "sweep=question.yaml")
    assert "unknown encoding 'mine'" in missing.errors
    found = run_command("src.sweep", "--config-dir", "choices", "sweep=question.yaml")
    assert "_target_ names my_lab.Mine" in found.errors
    ended = run_command("src.sweep", "--config-dir", "no", "sweep=x")
    assert "--config-dir must" in ended.errors and "'no'" in ended.errors


def test_the_choices_of_poslab_are_no_choices_of_ones_own(run_command):
    assert run_command("src.train", "--cfg", "job", directory=CONF.parent).errors == ""


def test_a_broken_file_hides_no_other_choice(tmp_path, monkeypatch):
    (tmp_path / "conf" / "encoding" / "folder.yaml").mkdir(parents=True)
    (tmp_path / "conf" / "encoding" / "mine.yaml").write_text("_target_: mine.Mine\n")
    monkeypatch.chdir(tmp_path)
    assert "mine" in choices("encoding") and "folder" not in choices("encoding")
    (tmp_path / "conf" / "encoding" / "broken.yaml").write_bytes(b"\x00\xff hydra")
    assert {"mine", "rotary"} <= set(choices("encoding"))
    assert choices_with("encoding.base")


def test_files_of_the_current_directory_run_only_if_they_are_trusted(tmp_path):
    """Neither a plugin of Hydra nor a file that is named as a library."""
    for name in ("yaml.py", "torch.py", "hydra_plugins/evil/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("open('ran', 'w')\n")
    program = "import sys; from poslab.cli.entry_point import main; sys.argv[0] = 'poslab'; main()"
    command = [sys.executable, "-P", "-c", program, "train", "--cfg", "job"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_trusted_file_finds_what_stands_beside_it(tmp_path, monkeypatch):
    (tmp_path / "trusted_one.py").write_text("import beside_it\n")
    (tmp_path / "beside_it.py").write_text("value = 3\n")
    finder = UserPackages(["trusted_one"], str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, finder])
    monkeypatch.setattr(sys, "path", sys.path[:])
    assert finder.find_spec("beside_it", None) is None
    assert importlib.import_module("trusted_one").beside_it.value == 3


def test_a_sweep_and_a_comparison_run_no_code_of_a_choice(encoding, run_command, tmp_path):
    encoding.with_name("evil.yaml").write_text(f"# @package {CALLBACK}")
    (tmp_path / "question.yaml").write_text(QUESTION)
    ended = run_command("src.sweep", "sweep=question.yaml", "encoding=evil")
    assert (ended.status, "encoding/evil.yaml must fill" in ended.errors) == (2, True)
    compared = run_command("src.compare", "comparison=text", "encodings=[rotary,evil]", "dry_run=true")
    assert (compared.status, "encoding/evil.yaml must fill" in compared.errors) == (2, True)
    assert not (tmp_path / "ran").exists()
