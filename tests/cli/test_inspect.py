"""The command `inspect`: a table, a file of JSON and a plot, without importing torch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from PIL import Image

from poslab.cli.inspect import main

from .running import ROOT

SCRIPT = "import sys; from poslab.cli.inspect import run; sys.argv[1:] = {words}; run()"


def typed(*words: str, before: str = "", after: str = "") -> subprocess.CompletedProcess[str]:
    program = f"{before}import atexit; {after}{SCRIPT.format(words=[*words])}"
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)


def test_a_table_json_and_a_plot(tmp_path):
    to, plot = tmp_path / "positions.json", tmp_path / "positions.png"
    done = typed("gpt_oss", "context=262144", f"json={to}", f"plot={plot}")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.split()[:2] == ["base", "150,000"] for line in lines)
    content = json.loads(to.read_text())
    assert content["context"] == 262_144 and content["groups"][0]["layers"] == list(range(0, 36, 2))
    assert len(content["groups"][1]["rope"]["inverse_frequencies"]) == 32
    assert {*content["findings"][0]} == {"code", "level", "message", "source"}
    assert Image.open(plot).width > 500


def test_a_configuration_needs_no_torch():
    done = typed("llama", after="atexit.register(lambda: print('torch' in sys.modules)); ")
    assert done.stdout.splitlines()[-1] == "False", done.stderr


def test_without_transformers_a_sentence_says_what_to_install():
    hidden = "import importlib.metadata as m, importlib.util as u; v, f = m.version, u.find_spec\n"
    hidden += (
        "def version(name):\n    if name == 'transformers': raise m.PackageNotFoundError(name)\n    return v(name)\n"
    )
    hidden += "m.version = version; u.find_spec = lambda name, *x: None if name == 'transformers' else f(name, *x)\n"
    done = typed("llama", before=hidden)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "pip install" in done.stderr and "pretrained" in done.stderr


@pytest.mark.parametrize(
    "words", ["", "a b", "llama contxt=3", "llama context=x", "llama plot=x.txt", "llama json=/no/such/x", "--verbose"]
)
def test_a_mistake_is_a_sentence(words, capsys):
    with pytest.raises(ValueError) as raised:
        main(words.split())
    assert "\n" not in str(raised.value) and capsys.readouterr().out == ""


def test_an_unknown_key_is_named_with_the_nearest():
    with pytest.raises(ValueError, match="unknown key 'contxt'; did you mean 'context'"):
        main(["llama", "contxt=3"])


def test_json_is_printed_for_another_program(capsys):
    main(["llama", "json=-"])
    assert json.loads(capsys.readouterr().out)["num_layers"] == 32


def test_an_error_of_the_command_is_one_line():
    done = typed("nonsense")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: ")
