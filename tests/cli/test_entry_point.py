"""The command `poslab`, which runs the others from any directory."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import poslab
from poslab.cli.entry_point import COMMANDS, main
from poslab.configuration.command_line import MODULES, STARTED_AS, poslab_command

from .running import ROOT

SCRIPT = "import sys; from poslab.cli.entry_point import main; sys.argv[0] = '/usr/bin/poslab'; main()"
"""The program that an installation writes."""


def typed(*words: str, directory: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `poslab` with these words."""
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *words],
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[object, str, str]]:
    """Runs `poslab` with these words in this process; returns its exit status, output and errors."""

    def ended(*words: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["/usr/bin/poslab", *words])
        monkeypatch.setenv(STARTED_AS, "poslab ")
        with pytest.raises(SystemExit) as end:
            main()
        return (end.value.code, *capfd.readouterr())

    return ended


def test_help_has_a_line_for_each_command(ended):
    for words in ([], ["--help"], ["-h"]):
        status, output, errors = ended(*words)
        assert (status, errors) == (0, "")
        lines = output.splitlines()
        assert [line.split()[0] for line in lines if line.startswith("  ")] == list(COMMANDS)
        assert max(map(len, lines)) <= 80
    modules = {path.stem for path in (ROOT / "src").glob("*.py")} - {"__init__"}
    assert modules <= {MODULES.get(name, name) for name in COMMANDS}
    assert not modules & sys.stdlib_module_names


def test_help_and_version_import_nothing_that_takes_time():
    program = f"import atexit; {SCRIPT.replace('main()', '')}"
    for word in ("--help", "--version", "nonsense"):
        check = "import sys; atexit.register(lambda: print({'torch', 'hydra', 'yaml', 'rich'} & set(sys.modules)))"
        whole = f"import atexit; {check}; {program}sys.argv[1:] = [{word!r}]; main()"
        done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "set()", done


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_that_of_the_package(option, ended):
    assert ended(option)[1] == f"poslab {poslab.__version__}\n"


def test_help_of_a_command_is_its_help():
    assert typed("help", "train").stdout == typed("train", "--help").stdout
    assert typed("help", "train", "yarn").stdout == typed("train", "--help", "yarn").stdout
    assert typed("train", "--help", "max_steps").stdout.startswith("  trainer.max_steps=600\n")


def test_the_package_lists_its_functions_and_nothing_that_it_imports():
    assert {"load", "serve", "borrow", "exchange", "export", "__version__"} <= set(dir(poslab))
    assert not {"Any", "TYPE_CHECKING"} & set(dir(poslab))


def test_a_command_that_there_is_not_is_one_sentence_with_the_nearest(ended):
    status, output, errors = ended("trian", "encoding=rotary")
    assert (status, output, errors.count("\n")) == (2, "", 2)
    assert "'trian'" in errors and "'train'" in errors
    assert "poslab --help" in ended("nonsense")[2]


def test_messages_name_the_command_as_it_was_typed(tmp_path):
    assert (
        ": poslab train -m encoding=rotary,alibi\n"
        in typed("train", "encoding=rotary,alibi", directory=tmp_path).stderr
    )
    module = [sys.executable, "-m", "poslab", "train", "encoding=rotary,alibi"]
    done = subprocess.run(module, cwd=tmp_path, capture_output=True, text=True)
    assert "poslab train -m encoding=rotary,alibi" in done.stderr


def test_a_printed_command_is_that_of_its_environment(monkeypatch):
    monkeypatch.delenv(STARTED_AS, raising=False)
    assert poslab_command("evaluate", "run=a b") == "python -m src.evaluate 'run=a b'"
    monkeypatch.setenv(STARTED_AS, "poslab ")
    assert poslab_command("evaluate", "run=a b") == "poslab evaluate 'run=a b'"


@pytest.mark.slow
def test_a_command_at_a_terminal_says_that_libraries_load(tmp_path):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", SCRIPT, "train", "encoding.base=0"]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    lines = os.read(ours, 4096).decode().splitlines()
    os.close(ours)
    assert (done.returncode, lines[0]) == (2, "loading libraries ...")
    assert lines[1].startswith("error: encoding.base must")
    assert "loading" not in typed("train", "encoding.base=0", directory=tmp_path).stderr


@pytest.mark.parametrize("name", ["sweep", "compare"])
def test_questions_in_the_current_directory_are_found_by_name(name, tmp_path):
    folder = tmp_path / ("sweeps" if name == "sweep" else "comparisons")
    folder.mkdir()
    (folder / "mine.yaml").write_text("question: Does it work at all?\n")
    done = typed(name, "--help", directory=tmp_path)
    assert "  mine\n    Does it work at all?\n" in done.stdout
    key = "sweep" if name == "sweep" else "comparison"
    assert "mine.yaml must have" in typed(name, f"{key}=mine", directory=tmp_path).stderr


def test_a_directory_that_is_gone_and_a_reader_that_has_ended_leave_no_traceback(tmp_path):
    gone = tmp_path / "gone"
    program = f'mkdir {gone}; cd {gone}; rmdir {gone}; exec {sys.executable} -c "{SCRIPT}" train --cfg job'
    done = subprocess.run(["sh", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "error: the current directory does not exist any more\n")
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    ended = subprocess.run([sys.executable, "-c", SCRIPT, "--help"], stdout=reader.stdin, stderr=subprocess.PIPE)
    assert ended.stderr == b""
