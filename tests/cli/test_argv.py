"""Mistakes of typing, and of files in conf/, are one helpful sentence of every command."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from poslab.cli.argv import as_sweep, expand_aliases, options_first
from poslab.cli.errors import known_keys
from poslab.configuration.build import NAMES_IN_PAPERS
from poslab.configuration.command_line import choices
from tests.training.runs import CONF, composed

from .running import ROOT


@pytest.mark.parametrize("command", ["train", "evaluate"])
@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("_partial_: true\n\tbase: 1\n", 2),
        ("_partial_: true\nbase 1\nlayout: x\n", 3),
        ("_target_: a\n  _partial_: true\n", 2),
        ("base: 1\nlayout: x\nbase: 2\n", 3),
    ],
    ids=["tab", "colon", "indent", "twice"],
)
def test_a_broken_yaml_file_is_named_with_its_line(content, line, command, tmp_path, run_command):
    file = tmp_path / "mine" / "encoding" / "broken.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    ended = run_command(f"src.{command}", f"hydra.searchpath=[file://{tmp_path}/mine]", "encoding=broken")
    assert ended.errors.startswith(f"error: {file}, line {line} is not YAML")
    assert (ended.status, ended.errors.count("\n")) == (2, 1)


def test_a_file_that_is_not_utf_8_is_named(tmp_path, run_command):
    file = tmp_path / "mine" / "encoding" / "latin.yaml"
    file.parent.mkdir(parents=True)
    file.write_bytes("# é\n_target_: a.b\n".encode("latin-1"))
    ended = run_command("src.train", f"hydra.searchpath=[file://{tmp_path}/mine]", "encoding=latin")
    assert ended.errors == f"error: {file} is not UTF-8 text\n"


SCALED = sorted(
    path.stem for path in (CONF / "encoding").glob("[!_]*.yaml") if "\nscaling:\n" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize(
    ("command", "key", "words"),
    [
        ("train", "encoding", ["encoding=rotary", "encoding=alibi"]),
        ("train", "seed", ["seed=1", "++seed=1"]),
        ("train", "encoding.base", ["-m", "encoding.base=5,6", "--config-dir", ".", "encoding.base=7"]),
        ("train", "hydra.run.dir", ["hydra.run.dir=a", "hydra.run.dir=b"]),
        ("evaluate", "run", ["run=a", "run=b"]),
        ("sweep", "workers", ["sweep=rotary_base", "workers=1", "workers=2"]),
        ("compare", "encoding", ["encoding=rotary", "encoding=alibi", "comparison=text"]),
    ],
)
def test_a_key_that_is_given_twice_is_a_mistake(command, key, words, run_command):
    ended = run_command(f"src.{command}", *words, repeated=True)
    assert (ended.status, ended.errors.count("\n")) == (2, 1)
    assert f"{key} is given twice" in ended.errors


def test_the_same_group_at_two_places_is_no_mistake():
    words = ["encoding=rotary", "encoding@swap=alibi", "encoding.base=5"]
    assert options_first(words) == words


def test_an_option_may_stand_among_the_choices():
    words = ["seed=1,2", "-m", "encoding=rotary", "--config-dir", "mine", "~debug"]
    assert options_first(words) == ["-m", "--config-dir", "mine", "seed=1,2", "encoding=rotary", "~debug"]


@pytest.mark.slow
@pytest.mark.parametrize("encoding", SCALED)
@pytest.mark.parametrize(
    ("name", "place", "node"),
    [
        ("train", "encoding", "encoding"),
        ("evaluate", "encoding", "encoding"),
        ("evaluate", "encoding@swap", "swap"),
        ("train", "encoding@model.cross_encoding", "model.cross_encoding"),
    ],
)
def test_every_key_of_a_scaling_may_be_written_short(encoding, name, place, node):
    keys = [key for key in composed(f"encoding={encoding}")["encoding"]["scaling"] if not key.startswith("_")]
    before = [f"{place}={encoding}", f"{node}.base=5", "seed=1", *(["model=encoder_decoder"] if "." in node else [])]
    short = [*before, *(f"{node}.{key}=3" for key in keys)]
    assert expand_aliases(short, known_keys(name, short)) == [*before, *(f"{node}.scaling.{key}=3" for key in keys)]


def test_a_key_of_a_group_that_varies_belongs_to_each_job():
    words = ["-m", "encoding=t5,deberta", "encoding.num_buckets=64", "seed=1,2", "model.d_model=32"]
    held = ["-m", "encoding=t5,deberta", "encoding.num_buckets=choice(64)", "seed=1,2", "model.d_model=32"]
    assert as_sweep(words) == held
    assert as_sweep(words[1:]) == words[1:]


def test_a_key_that_an_encoding_has_itself_is_not_that_of_its_scaling():
    words = ["encoding=yarn", "encoding.base=5", "encoding.nothing=3", "+encoding.factor"]
    assert expand_aliases(words, known_keys("train", words)) == words


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "train encoding=yarn encoding.factor=0",
        "train -m encoding=rope_ntk,yarn encoding.factor=0",
        "evaluate encoding=yarn encoding.factor=0",
        "sweep sweep=rotary_base output=out encoding=yarn encoding.factor=0",
    ],
)
def test_every_command_takes_short_keys_of_a_scaling(line, run_command):
    command, *arguments = line.split()
    ended = run_command(f"src.{command}", *arguments)
    assert ended.errors.startswith("error: encoding.scaling.factor must")
    assert ended.status == 2


def test_help_whose_reader_ends_is_silent(tmp_path):
    line = f"set -o pipefail; {sys.executable} -m src.train --help | true"
    ended = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (141, "", "")


@pytest.mark.parametrize(
    ("line", "meant"),
    {
        "train encoding=rope": "'rotary'",
        "train encoding=RoPE": "'rotary'",
        "train encoding=nope": "'none'",
        "train encoding=fox": "'forgetting'",
        "train encoding=ntk": "'rope_ntk'",
        "train encoding=sin": "'sinusoidal'",
        "train encoding=absolute": "'learned' or 'sinusoidal'",
        "train encoding=relative": "'shaw' or 't5'",
        "train encoding=t5_bias": "'t5'",
        "evaluate run=outputs/rotary encoding@swap=nope": "'none'",
        "sweep sweep=rotary_base encoding=rope": "'rotary'",
        "train rope": "'encoding=rotary'",
        "train lora=true": "'adapt=lora'",
        "train epochs=3": "'trainer.max_steps'",
        "train trainer.epochs=3": "'trainer.max_steps'",
        "train output_dir=x": "'hydra.run.dir'",
        "evaluate output_dir=x": "'output'",
        "sweep sweep=rotary_base output_dir=x": "'output'",
        "sweep sweep=rotary_base n_trial=3": "'n_trials'",
        "compare comparison=text worker=3": "'workers'",
        "export output=x run=outputs/rotary": "'to'",
        "train --hepl": "'--help'",
        "sweep --hepl": "'--help'",
        "train --help rotery": "'rotary'",
        "train --help encoding=rope": "'rotary'",
        "train --help --hepl": "'--help'",
        "train --encoding=rotary": "'encoding=rotary'",
        "train dataset=kera": None,
        "train encoding=kerp": "'kerple_log'",
        "train n_layers=3": "'model.num_layers'",
        "evaluate run=outputs/rotery": "'outputs/rotary'",
        "evaluate run=output/rotary": "'outputs/rotary'",
        "generate run=outputs/rotari prompt=x": "'outputs/rotary'",
        "train resume=outputs/rot": "'outputs/rotary'",
        "train init_from=outputs/rot": "'outputs/rotary'",
        "export run=outputs/rotery to=x": "'outputs/rotary'",
        "compare runs=outputs/rotery": "'outputs/rotary'",
    }.items(),
    ids=lambda text: str(text).replace("/", "|"),
)
def test_names_of_the_literature_and_slips_have_a_hint(line, meant, tmp_path, run_command):
    (tmp_path / "outputs" / "rotary").mkdir(parents=True)
    (tmp_path / "outputs" / "rotary" / "config.yaml").write_text("seed: 1\n")
    command, *arguments = line.split()
    ended = run_command(f"src.{command}", *arguments)
    assert ended.status == 2
    mistake, hint = ended.errors.splitlines()
    assert mistake.startswith("error: ") and hint.startswith("hint: ")
    assert ("did you mean" in hint) == (meant is not None) and str(meant or "") in hint


def test_hints_name_choices_of_conf_and_no_choice_is_in_their_way():
    meant = {ours for names in NAMES_IN_PAPERS.values() for ours in names.split("' or '")}
    assert meant <= set(choices("encoding")) and not NAMES_IN_PAPERS.keys() & set(choices("encoding"))
