"""Every command that is printed works as it is printed."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from poslab.cli.argv import options_first
from poslab.configuration.command_line import CONF
from tests.training.runs import SMALL

from .running import Ended

pytestmark = pytest.mark.slow

SHORT = {"src.evaluate": ["parts=[extrapolation]", "tokens=600", "lengths=[16]"], "src.generate": [], "src.train": []}
SHORT["src.compare"] = ["lengths=[16]"]
"""Choices that keep an evaluation short; the other commands run as they are printed."""


@pytest.fixture
def typed_again(run_command: Callable[..., Ended], tmp_path: Path) -> Callable[[str], dict[str, Ended]]:
    """Types every command of what has been printed, as a shell reads it; `curves` is known by its folder."""

    def typed_again(output: str) -> dict[str, Ended]:
        ended = {}
        for name, line in re.findall(r"^  ([a-z ]+?)  +((?:python|tensorboard) .*)$", output, re.M):
            spelled = subprocess.run(
                ["bash", "-c", f'printf "%s\\0" {line}'], capture_output=True, text=True, check=True
            )
            program, *arguments = spelled.stdout.rstrip("\0").split("\0")
            if program == "tensorboard":
                assert list((tmp_path / arguments[-1]).glob("**/events.out.tfevents.*"))
                continue
            module = arguments[1]
            options_first(arguments[2:])  # which refuses a key that is printed twice
            ended[name] = run_command(module, *arguments[2:], *SHORT[module])
            assert ended[name].status == 0, (line, ended[name])
        return ended

    return typed_again


def test_the_commands_of_jobs_with_odd_directories_work(small, run_command, typed_again):
    directories = ["hydra.sweep.dir=several runs", "hydra.sweep.subdir='n=${hydra.job.num},t5'"]
    ended = run_command("src.train", "-m", *small, "encoding=alibi,t5", *directories)
    assert ended.status == 0, ended
    _, first, second = ended.output.split("Next steps:")
    again = typed_again(second)
    assert again.keys() == {"report", "sample", "all runs", "compare", "continue"}
    assert "with alibi" in again["compare"].output
    assert "weights of several runs/n=1,t5" in again["continue"].output
    assert "n=0" in first and "n=1" not in first.splitlines()[5]


def test_the_commands_of_a_run_of_a_whole_configuration_work(small, run_command, typed_again, tmp_path):
    assert run_command("src.train", *small, "hydra.run.dir=first").status == 0
    config = yaml.safe_load((tmp_path / "first" / "config.yaml").read_text())
    hydra = {"output_subdir": None, "run": {"dir": "outputs/${now:%H-%M-%S-%f}_best"}}
    defaults = ["_self_", {"override hydra/job_logging": "none"}, {"override hydra/hydra_logging": "none"}]
    (tmp_path / "a sweep").mkdir()
    (tmp_path / "a sweep" / "best.yaml").write_text(yaml.safe_dump({"defaults": defaults, **config, "hydra": hydra}))
    ended = run_command("src.train", "--config-dir", "a sweep", "--config-name", "best", "trainer.max_steps=2")
    assert ended.status == 0, ended
    again = typed_again(ended.output)
    assert again.keys() == {"report", "sample", "continue"}
    assert "weights of outputs/" in again["continue"].output
    assert "2 steps" in again["continue"].output


def test_the_commands_of_a_run_with_an_encoding_of_ones_own_work(small, run_command, typed_again, tmp_path):
    own = tmp_path / "mine" / "conf" / "encoding"
    own.mkdir(parents=True)
    (own / "my_own.yaml").write_text((CONF / "encoding" / "t5.yaml").read_text())
    ended = run_command(
        "src.train", f"hydra.searchpath=[file://{tmp_path}/mine/conf]", *small, "encoding=my_own", "hydra.run.dir=own"
    )
    assert ended.status == 0, ended
    again = typed_again(ended.output)
    assert again.keys() == {"report", "sample", "compare", "continue"}
    assert "with t5" in again["continue"].output


def test_a_run_that_holds_its_directory_is_resumed_by_the_command_of_the_mistake(small, run_command, tmp_path):
    run = "lr=1, seed=2"
    assert run_command("src.train", *small, f"hydra.run.dir='{run}'").status == 0
    ended = run_command("src.train", *small, f"hydra.run.dir='{run}'")
    assert ended.status == 2
    hint = re.search(r"resume it with (.*), or choose", ended.errors)
    assert hint is not None
    ended = run_command("src.train", hint.group(1))
    assert (ended.status, ended.errors) == (0, "")
    assert f"{run} is finished already" in ended.output


def test_auto_that_finds_nothing_says_so_before_it_trains(small, run_command):
    first = run_command("src.train", *small, "resume=auto", "hydra.run.dir=outputs/first")
    assert first.status == 0
    assert first.output.startswith("resume=auto: there is no unfinished run in outputs; a new one starts\n")


HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\u202e[bold]"
"""A name that clears the screen, sets the title, goes back in its line, turns it round and is bold."""


def test_nothing_that_a_terminal_obeys_comes_from_the_names_of_a_run(run_command, tmp_path):
    rows = [{"text": f"{kind} day {number}", "label": f"{kind}{HOSTILE}"} for number in range(60) for kind in "ab"]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    choices = [*SMALL[:3], *SMALL[7:], "dataset=classification_file", "dataset.files=rows.jsonl", "dataset.text=text"]
    more = ["dataset.label=label", "dataset.batch_size=4", "dataset.cache_dir=cache", "dataset.sequence_length=32"]
    ended = run_command("src.train", *choices, *more, f"hydra.run.dir='run{HOSTILE}'")
    assert ended.status == 0, ended
    run = next(tmp_path.glob("run*"))
    run.rename(tmp_path / "run")  # the name of a directory with a carriage return is no word of a command
    printed = [ended.output, (tmp_path / "run" / "train.log").read_text()]
    for arguments in (["prompt=a day"], ["prompt=a day", "beams=2"], [f"promt='{HOSTILE}'"], [f"device='{HOSTILE}'"]):
        answered = run_command("src.generate", "run=run", *arguments)
        printed += [answered.output, answered.errors]
    assert "[bold]" in printed[2]
    for text in printed:
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text), text
