"""docs/your-own-model.md is true: its files, its commands and its tables, as they are printed."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

from poslab.cli.errors import explained
from poslab.data.composed import resolved
from poslab.models import Model
from poslab.runs.recipe import Recipe
from poslab.tasks.task import tasks
from poslab.training.checking import check
from tests.conftest import ROOT
from tests.docs.guides import copy_of_repository, typed
from tests.encoding_choices import EVERY_ENCODING, factory
from tests.training.runs import small

GUIDE = (ROOT / "docs" / "your-own-model.md").read_text()

BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.M | re.S)
(PYTHON_FILE, LOAD), (YAML_FILE,), (COMMANDS,) = (
    [text for language, text in BLOCKS if language == wanted] for wanted in ("python", "yaml", "bash")
)
NO_SIZE = re.findall(r"`(defaults: \[.*?\])`", GUIDE)[0]

QUICK = {
    "train": "debug=fast trainer=cpu trainer.validations=1 dataset.sequence_length=64 "
    "dataset.length_multiples=[1,2] dataset.validation_fraction=0.01 dataset.test_fraction=0.01",
    "evaluate": "lengths=[64] tokens=1000 parts=[extrapolation,attention,encoding]",
    "generate": "max_new_tokens=5",
}
"""Choices with which each command of the guide takes seconds."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the guide's files where it says."""
    for file, text in {"mine/mylab.py": PYTHON_FILE, "my_conf/model/thin.yaml": YAML_FILE}.items():
        assert f"`{file}`" in GUIDE
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(text)
    return tmp_path


@pytest.fixture
def thin(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> type[Model]:
    """The class of the guide."""
    monkeypatch.syspath_prepend(checkout / "mine")
    monkeypatch.delitem(sys.modules, "mylab", raising=False)
    import mylab

    monkeypatch.delitem(sys.modules, "mylab")
    monkeypatch.setitem(sys.modules, "mylab", mylab)
    return mylab.Thin


@pytest.fixture
def composed(checkout: Path) -> Callable[..., dict[str, Any]]:
    """A small configuration of `model=thin`, as `--config-dir my_conf` composes it."""

    def compose_thin(*overrides: str) -> dict[str, Any]:
        data = small(checkout)
        searchpath = f"hydra.searchpath=[file://{checkout / 'my_conf'}]"
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            config = resolved(compose("train", overrides=["model=thin", searchpath, *overrides]))
        groups = ("dataset", "trainer", "optimizer")
        return {**config, **{group: data[group] for group in groups}, "trust": ["mylab"]}

    return compose_thin


def sizes(config: dict[str, Any]) -> set[str]:
    return {"d_model", "num_layers", "num_heads"} & config["model"].keys()


def test_it_is_short_and_every_block_is_run_below() -> None:
    assert len(GUIDE.splitlines()) <= 120
    assert len(PYTHON_FILE.splitlines()) <= 45
    assert len(BLOCKS) == 4 and GUIDE.count("```") == 8


def test_its_python_is_well_formed(checkout: Path) -> None:
    copy_of_repository(checkout)
    (checkout / "load.py").write_text(LOAD)
    for command in ("format --check", "check --ignore D"):
        typed(checkout, f"python -m ruff {command} mine/mylab.py load.py")


def test_its_links_lead_to_files_and_headings() -> None:
    for file, _, heading in (link.partition("#") for link in re.findall(r"\]\(([^)]+)\)", GUIDE)):
        headings = re.findall(r"^#+ (.*)$", (ROOT / "docs" / file).read_text(), re.M)
        assert not heading or heading in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
    for file in re.findall(r"`(src/[\w/.]+\.py)`", GUIDE):
        assert (ROOT / file).exists()


@pytest.mark.parametrize("name", EVERY_ENCODING)
def test_its_model_is_causal_and_decodes_with_a_cache_under_every_encoding(thin: type[Model], name: str) -> None:
    torch.manual_seed(0)
    model = thin(257, range(48, 58), factory(name), d_model=32, num_layers=4, num_heads=2, std=1.0).eval()
    tokens = torch.randint(48, 58, (2, 10))
    changed = torch.cat([tokens[:, :9], tokens[:, 9:] + 1], dim=1)
    with torch.no_grad():
        whole = model(tokens)
        torch.testing.assert_close(model(changed)[:, :9], whole[:, :9])
        cache = model.new_cache()
        pieces = [model(piece, cache=cache) for piece in tokens.split([4, 1, 5], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-4, atol=1e-4)


def test_the_group_size_gives_its_sizes_and_its_file_the_rest(
    composed: Callable[..., dict[str, Any]], thin: type[Model]
) -> None:
    assert composed()["model"].items() >= {"d_model": 192, "std": 0.02}.items()
    model = Recipe.of(composed("size=small", "model.std=0.1")).model.on_meta
    assert isinstance(model, thin) and model.encodings.shape.d_model == 512
    assert composed("debug=fast")["model"]["d_model"] == 32


def test_a_file_can_say_that_no_size_applies(
    checkout: Path, composed: Callable[..., dict[str, Any]], thin: type[Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sizeless(thin):  # type: ignore[misc, valid-type]
        def __init__(self, vocab_size, encoding, std: float):
            super().__init__(vocab_size, (), encoding, 16, 1, 2, std)

    monkeypatch.setattr(Sizeless, "__module__", "mylab")
    monkeypatch.setattr(sys.modules["mylab"], "Thin", Sizeless)
    said = re.findall(r"`(model\.d_model: .* has no such argument)`", GUIDE)[0]
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$") as refused:
        check(composed())
    printed = explained(refused.value, "train", ["model=thin"])[0]
    assert printed.startswith(said) and "size=" in printed and "~size" in printed
    check(composed("~size"))

    (checkout / "my_conf" / "model" / "thin.yaml").write_text(f"{NO_SIZE}\n{YAML_FILE}")
    assert not sizes(composed())
    check(composed())
    assert sizes(composed("size=small")) == {"d_model", "num_layers", "num_heads"}
    assert not sizes(composed("~size"))


def test_an_attention_that_calls_bias_alone_refuses_other_encodings(thin: type[Model]) -> None:
    call = re.findall(r"`self\.(encodings\.require_hooks\(.*?\))`", GUIDE)[0]
    for name, is_refused in (("alibi", False), ("t5", False), ("rotary", True), ("cope", True)):
        model = thin(257, (), factory(name), d_model=16, num_layers=1, num_heads=2)
        if is_refused:
            with pytest.raises(ValueError, match="does not call"):
                eval(call, {"encodings": model.encodings})
        else:
            eval(call, {"encodings": model.encodings})


def test_a_choice_that_it_does_not_name_is_refused(composed: Callable[..., dict[str, Any]], thin: type[Model]) -> None:
    assert "`temperature=ssmax`, raises an error" in GUIDE
    with pytest.raises(ValueError, match=r"^model\.temperature:.*no such argument"):
        check(composed("temperature=ssmax"))


def test_its_first_table_names_what_a_model_has() -> None:
    section = GUIDE.partition("## 1. ")[2].partition("\n## ")[0]
    first_cells = re.findall(r"^\| (`.*?`) \|", section, re.M)
    members = [name for cell in first_cells for name in re.findall(r"`(\w+)", cell)]
    known = {name for name in (*vars(Model), *Model.__annotations__) if not name.startswith("_")}
    assert set(members) <= known


def test_its_second_table_is_the_tasks_and_what_they_need() -> None:
    rows = re.findall(r"^\| ((?:`\w+` ?)+) \| (.*) \|$", GUIDE.partition("## 4. ")[2], re.M)
    stated = {
        (frozenset(re.findall(r"\w+", needs)), task.partition(":")[0])
        for needs, cell in rows
        for task in cell.split("; ")
    }
    assert stated == {(task.needs, task.kind.name) for task in tasks()}


@pytest.mark.slow
def test_its_commands_train_evaluate_generate_and_load(checkout: Path) -> None:
    commands = COMMANDS
    for name, more in QUICK.items():
        commands, count = re.subn(rf"(poslab {name} .*)", rf"\1 {more}", commands)
        assert count == 1
    copy_of_repository(checkout, "src", "conf")
    (checkout / "load.py").write_text(LOAD)
    printed = typed(checkout, f"{commands}\npython load.py")
    assert printed.strip().endswith(re.findall(r"# (Thin with .*)$", LOAD, re.M)[0])

    report = (checkout / "outputs" / "thin" / "evaluation" / "report.html").read_text()
    heads = re.findall(r'has no section "(.*?)"', GUIDE)[0]
    assert "Thin" in (checkout / "outputs" / "thin" / "train.log").read_text()
    assert "The encoding" in report and heads in report
