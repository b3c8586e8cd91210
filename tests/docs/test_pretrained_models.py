"""docs/pretrained-models.md is true: its Python runs, its commands compose, and its lists are those of the code."""

from __future__ import annotations

import re
import shlex

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

import poslab.data.composed
from poslab.cli.argv import expand_aliases
from poslab.pretrained.families import FAMILIES
from tests.conftest import ROOT
from tests.pretrained.tiny import some_tokens, tiny
from tests.training.runs import composed

GUIDE = (ROOT / "docs" / "pretrained-models.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.M | re.S)
OF_OURS = ("trainer.max_steps=2000", "init_from=outputs/RUN encoding=kerple_log start=fitted")
"""The commands that train models of ours."""
COMMANDS = re.findall(r"^poslab train (.*?)(?: +#.*)?$", GUIDE, re.M)


def test_a_model_is_borrowed_and_exchanged_as_the_guide_does(tmp_path):
    llama = tiny("llama", torch.float32)
    llama.save_pretrained(tmp_path)
    names = {"ids_BT": some_tokens(), "llama": llama}
    exec(PYTHON[0].replace("path/to/llama", str(tmp_path)), names)
    assert names["logits_BTV"].shape == (2, 11, 40)
    assert names["text"].shape == (2, 16)
    assert not hasattr(llama, "poslab_encodings")


def test_the_chinese_example_prints_what_the_guide_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(PYTHON[1], {})
    (printed,) = re.findall(r"It prints `(.*?)`", GUIDE)
    assert capsys.readouterr().out.strip().endswith(printed)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_composes(command, tmp_path, monkeypatch):
    tiny("bert", torch.float32).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").touch()  # only that it is there is checked before data is read
    monkeypatch.setattr(poslab.data.composed, "in_package", lambda path: str(tmp_path))
    words = shlex.split(command.removeprefix("-m "))
    words = expand_aliases(words, ["encoding.scaling.factor"] if "encoding=yarn" in words else [])
    OverridesParser.create().parse_overrides(words)
    config = composed(*(re.sub(r",(?![^\[]*\]).*", "", word) for word in words))  # the first job of several
    assert config["model"].get("path") == (None if command in OF_OURS else str(tmp_path))


def test_the_families_of_the_guide_are_those_of_the_code():
    listed = " ".join(GUIDE.split()).partition(" are proved by the tests")[0].rpartition(". ")[2]
    named = {re.sub(r"[^a-z0-9]", "", name.lower()) for name in re.split(", | and ", listed)}
    assert named == {re.sub(r"[^a-z0-9]", "", name) for name in FAMILIES}
