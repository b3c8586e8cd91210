"""The cost of the command before it trains: help and mistakes are there at once, and so is the first step.

Time is that of the processor, since other work on the machine is no fault of the command. It is compared with the time
to import torch just after, in some attempts, since a processor that does other work as well is slower.
"""

import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml

from poslab.cli.help import COMMON_KEYS
from poslab.configuration.command_line import choices as choices_of
from poslab.evaluation import parts

from .running import ROOT, rows


def seconds_of(command: list[str], status: int = 0) -> float:
    """The processor time of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == status, done.stderr
    assert status == 0 or len(re.findall("^error: ", done.stderr, re.M)) == 1, done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def assert_cheap(taken: Callable[[], float], seconds: float, times_torch: float) -> None:
    """In one of three attempts it takes at most so many seconds, or so many times what it takes to import torch."""
    attempts = []
    for _ in range(3):
        attempts.append(taken())
        if attempts[-1] <= seconds or attempts[-1] <= times_torch * seconds_of(["-c", "import torch"]):
            return
    pytest.fail(f"seconds taken: {attempts}")


@pytest.mark.slow
def test_help_is_there_at_once():
    assert_cheap(lambda: seconds_of(["-m", "src.train", "--help"]), 0.8, 1)


@pytest.mark.slow
def test_the_list_of_commands_is_there_at_once():
    assert_cheap(lambda: seconds_of(["-m", "poslab", "--help"]), 0.3, 0.15)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mistake",
    [
        "encoding=rotry",
        "encoding.bass=3",
        "dataset=text dataset.files=nothing.txt",
        "dataset.batch_size=0",
        "resume=nothing",
    ],
)
def test_a_mistake_that_needs_no_torch_is_told_at_once(mistake):
    assert_cheap(lambda: seconds_of(["-m", "src.train", *mistake.split()], status=2), 0.8, 0.6)


@pytest.mark.slow
@pytest.mark.parametrize("mistake", ["model.num_heads=5", "encoding=t5 encoding.max_distance=0"])
def test_a_mistake_that_needs_torch_takes_little_more_than_to_import_it(mistake):
    assert_cheap(lambda: seconds_of(["-m", "src.train", *mistake.split()], status=2), 2, 1.7)


def test_the_command_line_takes_no_torch():
    commands = "poslab.cli.hydra_command, src.train, src.evaluate"
    program = f"import sys, {commands}; print({{'torch', 'lightning', 'datasets'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.fixture
def help_of(run_command):
    """Return the help of a command for further words."""

    def help_of(*words: str, of: str = "src.train") -> str:
        ended = run_command(of, "--help", *words, directory=ROOT)
        assert ended.status == 0 and max(map(len, ended.output.splitlines())) <= 80
        return ended.output

    return help_of


def test_help_names_every_group_and_common_keys_on_one_screen(help_of):
    lines = [re.split("[ =]", line.strip()) for line in help_of().splitlines()]
    assert len(lines) <= 40
    for name in (*(path.name for path in Path(ROOT, "conf").iterdir() if path.is_dir()), *COMMON_KEYS):
        assert any(line[0] == name and len(line) > 2 for line in lines), name


def test_help_has_every_key_with_its_value(help_of):
    text = help_of("all", "encoding=yarn", "optimizer.lr=0.5")
    assert "  encoding.base=10000.0\n" in text and "  optimizer.lr=0.5\n" in text
    for key in ("model.d_model", "encoding.scaling.factor", "trainer.precision", "seed", "resume", "init_from"):
        assert re.search(rf"^  {re.escape(key)}=.+\n    \w+", text, re.M), key
    assert "_target_=" not in text and "${" not in text


def test_help_of_a_choice_has_its_summary_its_keys_and_its_paper(help_of):
    text = help_of("yarn")
    assert text == help_of("encoding=yarn")
    assert "Paper: Peng et al. 2023\n" in text and "train encoding=yarn\n" in text
    assert re.search(r"^  encoding.scaling.factor=4.0\n    \w+", text, re.M)


@pytest.mark.parametrize("group", ["encoding", "dataset"])
def test_help_of_many_choices_starts_with_the_common_ones_and_has_families(group, help_of):
    headings = [line for line in help_of(group).splitlines() if re.match(r"[A-Z]", line)]
    named = set(re.findall(r"\w+", headings[0]))
    assert headings[0].startswith("Common: ") and len(named & set(choices_of(group))) >= 3
    assert len(headings) > 6


@pytest.mark.parametrize("group", ["encoding", "dataset"])
def test_help_of_a_group_has_a_line_for_each_of_its_choices(group, help_of):
    choices = sorted(path.stem for path in Path(ROOT, "conf", group).glob("[!_]*.yaml"))
    lines = [line for line in help_of(group).splitlines() if re.match(r"  \S", line)]
    assert sorted(line.split()[0] for line in lines) == choices
    assert all(len(line.split()) > 2 for line in lines)


def test_help_of_experiments_lists_those_of_folders_in_a_terminals_width(help_of):
    assert "models/gemma3" in help_of("experiment")


def test_help_of_evaluate_has_a_line_for_each_part_and_every_key_and_lists_choices_too(help_of):
    lines = [line.split() for line in help_of(of="src.evaluate").splitlines() if line.startswith("  ")]
    keys = yaml.safe_load(Path(ROOT, "conf", "evaluate.yaml").read_text()).keys() - {"defaults", "hydra"}
    for name in {*parts.names(), *keys}:
        assert any(line[0].partition(".")[0] == name and len(line) > 2 for line in lines), name
    assert help_of("temperature", of="src.evaluate") == help_of("temperature")


def test_help_of_evaluate_explains_its_keys_and_parts(help_of):
    text = help_of("lengths", "extrapolation", of="src.evaluate")
    assert re.match(r"  lengths\n    \w", text) and re.search(r"^  extrapolation\n    \w", text, re.M)


def test_help_explains_the_run_directory(help_of):
    assert re.match(r"  hydra.run.dir=\S+\n    \w", help_of("hydra.run.dir"))


@pytest.mark.slow
def test_the_first_step_comes_within_six_seconds_of_work(start, tiny, tmp_path):
    def taken() -> float:
        run = tmp_path / str(len(list(tmp_path.iterdir())))
        long = [f"hydra.run.dir={run}", "trainer.max_steps=100000", "trainer.log_every=1"]
        running = start(*tiny, *long, imports=True)
        running.wait_until(lambda: bool(rows(run)))
        times = psutil.Process(running.process.pid).cpu_times()
        running.kill()
        return times.user + times.system

    assert_cheap(taken, 6, 4.6)


@pytest.mark.parametrize(
    ("module", "given", "expected"),
    [
        ("poslab.cli.train", {}, "1000"),
        ("poslab.cli.train", {"OMP_WAIT_POLICY": "ACTIVE"}, None),
        ("poslab.cli.train", {"GOMP_SPINCOUNT": "7"}, "7"),
        ("poslab.encodings", {}, None),
    ],
)
def test_only_commands_shorten_the_spin_of_threads_that_wait(module, given, expected):
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    }
    program = f"import {module}, os, sys; print('torch' in sys.modules, os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment | given, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(module == "poslab.encodings"), str(expected)]
