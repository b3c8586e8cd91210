"""docs/your-own-encoding.md is true: its files, its blocks and its commands, as they are printed."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import poslab.encodings.bias
from poslab.attention import Visibility, attend, choose_route
from poslab.encodings import CoPE, PositionalEncoding, Positions
from poslab.encodings.base import HOOKS
from poslab.runs.checkpoint import load_checkpoint
from tests.conftest import ROOT
from tests.docs.guides import copy_of_repository, typed
from tests.encoding_choices import EVERY_ENCODING, factory, stack

GUIDE = (ROOT / "docs" / "your-own-encoding.md").read_text()

PYTHON_FILE = "src/poslab/encodings/bias/log_cpb.py"
YAML_FILE = "conf/encoding/log_cpb.yaml"
TEST_FILE = "tests/encodings/bias/test_log_cpb.py"

CHECK_IN_A_LINE, OWN_TESTS, TRAIN, COMPARE, COMPARISON, ELSEWHERE, MAKE_PAGES = range(7)
"""The places of its shell blocks."""
CHECK, MISTAKE, LOAD, OWN_MODEL, OWN_ATTENTION, SPEAKING = range(6)
"""The places of its Python blocks that are no file."""


REFUSED = r"^encoding (has a window, which |\w+ acts through .* does not call: |\w+ needs digits)"


class Block(NamedTuple):
    """A block of the guide, and the file whose name and a colon end the paragraph above it."""

    language: str
    text: str
    file: str | None


def blocks() -> Iterator[Block]:
    around = GUIDE.split("\n```")  # text, block, text, block, ..., text
    for above, block in zip(around[0::2], around[1::2], strict=False):
        language, _, text = block.partition("\n")
        paragraph = above.strip().rpartition("\n\n")[2]
        named = re.search(r"`((?:src|conf|tests)/[\w/]+\.(?:py|yaml))`[^`]*:$", paragraph)
        yield Block(language, f"{text}\n", named[1] if named else None)


BLOCKS = list(blocks())
FILES = {block.file: block.text for block in BLOCKS if block.file}


def of(language: str) -> list[str]:
    return [block.text for block in BLOCKS if block.language == language and not block.file]


QUICK = [
    *("debug=fast", "trainer=cpu", "trainer.validations=1"),
    *("dataset.sequence_length=64", "dataset.length_multiples=[1,2]"),
    *("dataset.validation_fraction=0.01", "dataset.test_fraction=0.01"),
]
"""Choices with which a run of the guide's commands takes seconds."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository in which the guide's files are where it says."""
    folder = tmp_path_factory.mktemp("checkout")
    copy_of_repository(folder, "src", "conf", "comparisons", "tests", "docs", "benchmarks")
    for file, text in FILES.items():
        assert not (folder / file).exists(), f"{file} is not new"
        (folder / file).write_text(text)
    return folder


@pytest.fixture
def here(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The copy as working directory, with its new module to be imported as a part of the library."""
    monkeypatch.chdir(checkout)
    folders = [*poslab.encodings.bias.__path__, str((checkout / PYTHON_FILE).parent)]
    monkeypatch.setattr(poslab.encodings.bias, "__path__", folders)
    yield checkout
    sys.modules.pop("poslab.encodings.bias.log_cpb", None)
    vars(poslab.encodings.bias).pop("log_cpb", None)


def run(checkout: Path, place: int) -> dict[str, Any]:
    """Runs a Python block as a script, and gives the names that it has made."""
    script = checkout / f"block_{place}.py"
    script.write_text(of("python")[place])
    return runpy.run_path(str(script))


def test_it_takes_one_file_of_40_lines_and_one_yaml_file() -> None:
    assert set(FILES) == {PYTHON_FILE, YAML_FILE, TEST_FILE}
    assert len(FILES[PYTHON_FILE].splitlines()) <= 40
    assert len(of("bash")) == 7 and len(of("python")) == 6 and len(of("text")) == 3  # each is run below


def test_its_files_are_well_formed(checkout: Path) -> None:
    for command in ("format --check", "check"):
        typed(checkout, f"python -m ruff {command} {PYTHON_FILE} {TEST_FILE}")


def test_its_table_names_every_hook_and_the_route_that_it_leads_to() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| (flash|distance|blockwise) \|$", GUIDE, re.M)
    assert [hook for hook, _ in rows] == list(HOOKS)
    for hook, route in rows:
        encoding = type("Encoding", (PositionalEncoding,), {hook: lambda self: None})()
        assert choose_route(encoding) == route, hook


def test_every_file_of_the_repository_that_it_names_is_there(checkout: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", GUIDE):
        assert (ROOT / "docs" / link.partition("#")[0]).exists(), link
    for name in re.findall(r"See `(\w+\.py)`|(?:Learned|fixed): `(\w+\.py)`", GUIDE):
        assert list((ROOT / "src/poslab/encodings").rglob("".join(name))), name
    for name in re.findall(r"`((?:src|conf|tests)/[\w/.]+\.(?:py|yaml))`", GUIDE):
        assert (checkout / name).exists() or "my_cpb" in name, name


@pytest.mark.slow
def test_its_line_in_the_shell_finds_nothing_wrong(checkout: Path) -> None:
    assert typed(checkout, of("bash")[CHECK_IN_A_LINE]) == ""


@pytest.mark.slow
def test_its_check_in_python_finds_nothing_wrong(here: Path) -> None:
    run(here, CHECK)


def test_its_mistake_is_found_with_the_sentence_that_it_prints(here: Path) -> None:
    with pytest.raises(AssertionError) as caught:
        run(here, MISTAKE)
    said = of("text")[0].strip().removeprefix("AssertionError: ")
    assert str(caught.value).partition("off by")[0] == said.partition("off by")[0]
    assert "check_a_block_of_query_rows_is_that_part_of_the_whole" in [entry.name for entry in caught.traceback]
    assert "`check_a_block_of_query_rows_is_that_part_of_the_whole`" in GUIDE


@pytest.mark.slow
def test_its_own_test_passes_among_those_of_the_project(checkout: Path) -> None:
    printed = typed(checkout, of("bash")[OWN_TESTS], "-n 0 -v")
    assert printed.count("test_log_cpb_is_its_formula_in_a_double_loop") == 2
    assert "test_every_encoding_keeps_the_contract" in printed
    assert "test_a_file_has_every_hyperparameter_with_the_default_of_its_class" in printed


@pytest.mark.slow
def test_its_training_command_trains_all_that_the_encoding_learns(checkout: Path) -> None:
    run_directory = checkout / "run"
    settings = ["trainer.precision=bf16-true", "optimizer.encoding_lr_multiplier=5", f"hydra.run.dir={run_directory}"]
    typed(checkout, of("bash")[TRAIN], *QUICK, *settings)
    state = load_checkpoint(run_directory / "checkpoints" / "last.safetensors")
    names = [name for name in state["state_dict"] if ".distinct." in name]
    assert len(names) == 6 and "width: 32" in (run_directory / "config.yaml").read_text()
    moments = state["optimizer_states"][0]["state"].values()
    assert all(moment["exp_avg"].abs().max() > 0 for moment in moments)
    assert [group["weight_decay"] for group in state["optimizer_states"][0]["param_groups"]][-1] == 0
    rates = [group["initial_lr"] for group in state["optimizer_states"][0]["param_groups"]]
    assert rates[-1] == pytest.approx(5 * rates[0])


@pytest.mark.slow
def test_the_files_may_be_in_a_folder_of_ones_own(checkout: Path) -> None:
    mine = checkout / "home" / "mine"
    (mine / "conf" / "encoding").mkdir(parents=True)
    (mine / "my_cpb.py").write_text(FILES[PYTHON_FILE])
    choice = re.sub(r"(?m)^_target_: .*$", "_target_: my_cpb.LogCPB", FILES[YAML_FILE])
    assert "`_target_: my_cpb.LogCPB`" in GUIDE
    (mine / "conf" / "encoding" / "my_cpb.yaml").write_text(choice)
    typed(checkout, of("bash")[ELSEWHERE], *QUICK, "hydra.run.dir=elsewhere")
    assert "_target_: my_cpb.LogCPB" in (checkout / "elsewhere" / "config.yaml").read_text()


@pytest.mark.slow
def test_its_multirun_trains_each_encoding_and_is_loaded(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    title, header, *rows = [line.split() for line in of("text")[1].splitlines() if line]
    printed = typed(here, of("bash")[COMPARE], *QUICK).rpartition(" ".join(title))[2]
    assert header == ["encoding", "256", "512", "1,024", "2,048"]
    shown = [line.split() for line in printed.splitlines() if line]
    assert shown[0] == ["encoding", "64", "128"] and [row[0] for row in shown[1:]] == [row[0] for row in rows]
    runs = sorted(file.parent.name for file in here.glob("outputs/*_multirun/*/metrics.json"))
    assert [run.partition("python_docs_")[2] for run in runs] == [row[0] for row in rows]

    model = run(here, LOAD)["model"]
    assert type(model.encodings.layer(0)).__name__ == "LogCPB"
    assert "tensor(" in capsys.readouterr().out


@pytest.mark.slow
def test_its_comparison_has_runs_of_both_encodings(checkout: Path) -> None:
    printed = typed(checkout, of("bash")[COMPARISON], "dry_run=true")
    assert re.search(r"text +rotary .*\n.*text +log_cpb ", printed), printed


def test_its_own_model_takes_every_encoding(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = run(here, OWN_MODEL)["MyModel"]
    printed = capsys.readouterr().out.strip()
    assert of("python")[OWN_MODEL].strip().endswith(f"# {printed}")
    for name in EVERY_ENCODING:
        torch.manual_seed(0)
        ours, tokens = model(factory(name)).eval(), torch.randint(255, (1, 10))
        changed = torch.cat([tokens[:, :9], tokens[:, 9:] + 1], dim=1)
        torch.testing.assert_close(ours(changed)[:, :9], ours(tokens)[:, :9], msg=f"{name} is not causal")


def test_its_own_attention_takes_the_encodings_whose_hooks_it_calls(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attention = run(here, OWN_ATTENTION)["MyAttention"]
    assert f"# {capsys.readouterr().out.strip()}" in of("python")[OWN_ATTENTION]
    served, positions = [], Positions.range(10)
    for name in EVERY_ENCODING:
        is_windowed = any(getattr(kind, "window", None) for kind in getattr(factory(name), "kinds", ()))
        hooks = {hook for one in stack(name, num_layers=1) for hook in one.hooks}
        if hooks <= {"rotate_query", "rotate_key", "scale", "bias"} and not is_windowed:
            served.append(name)
            ours = attention(factory(name))
            q, k, v = torch.randn(3, 1, 4, 10, 16, generator=torch.Generator().manual_seed(0)).unbind()
            tables = ours.encoding.prepare(positions, positions)
            expected = attend(q, k, v, ours.encoding, tables, Visibility())
            torch.testing.assert_close(ours(q, k, v), expected, rtol=1e-4, atol=1e-5, msg=name)
        else:
            with pytest.raises(ValueError, match=REFUSED):
                attention(factory(name))
    assert {"rotary", "yarn", "t5"} <= set(served)
    with pytest.raises(ValueError) as refused:
        attention(CoPE)
    assert str(refused.value) == of("text")[2].strip()


def test_it_says_in_reports_what_its_parameters_stand_for(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = run(here, SPEAKING)["SpeakingLogCPB"](num_heads=4)
    assert capsys.readouterr().out == "[('bend in tokens', 64), ('height', 64, 4)]\n"
    bend = made.learned()["bend in tokens"]
    units = bend.sign() * bend.abs().log1p() * made.slope + made.offset
    assert units[bend.isfinite()].abs().max() < 1e-4


def test_its_table_names_what_reports_ask_for() -> None:
    section = GUIDE.partition("\n## 6. ")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)(?:\(.*?\))?` \|.*\| (.*) \|$", section, re.M)
    of_turns = ("spectrum", "spectrum_on_axes", "is_pure_rotation")
    assert [name for name, _ in rows] == ["learned", "vectors", *of_turns, "content_positions"]
    assert all(hasattr(PositionalEncoding, name) for name, _ in rows)


@pytest.mark.slow
def test_it_is_in_the_list_that_one_command_fills_in(checkout: Path) -> None:
    assert of("bash")[MAKE_PAGES].strip() == "python docs/make.py"
    typed(checkout, of("bash")[MAKE_PAGES], "--text", "encodings")
    assert "[log_cpb](../conf/encoding/log_cpb.yaml)" in (checkout / "docs" / "encodings.md").read_text()
