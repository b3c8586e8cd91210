"""docs/tutorials/ is true: its commands run one after the other, in a reduced form, and leave what the pages say."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.running import last_of_each
from tests.conftest import ROOT
from tests.docs.guides import blocks, copy_of_repository, typed

TUTORIALS = ROOT / "docs" / "tutorials"
CHINESE = ROOT / "docs" / "zh"

QUICK = (
    "debug=fast trainer=cpu trainer.validations=1 dataset.sequence_length=64 dataset.length_multiples=[1,2] "
    "dataset.validation_fraction=0.01 dataset.test_fraction=0.01"
)
SMALL_MODEL = "model.d_model=16 model.num_layers=1 model.num_heads=2 trainer=cpu trainer.max_steps=2"


def lines(page: Path) -> list[str]:
    """The commands of a page that are Poslab's own, as `python -m src.PROGRAM`."""
    found = [line for block in blocks(page) if block.language == "bash" for line in block.text.splitlines()]
    return [re.sub(r"^poslab ", "python -m src.", line) for line in found if re.match(r"python -m src\.|poslab ", line)]


def reduced(line: str, more: dict[str, str]) -> str:
    """The command with the choices of its program, which replace its own, and without a comment."""
    (program,) = re.findall(r"-m (src\.\w+)", line)
    return shlex.join(last_of_each(shlex.split(f"{line.partition('  #')[0]} {more.get(program, '')}")))


@pytest.mark.parametrize("page", [TUTORIALS / "first-run.md", CHINESE / "first-run.md"])
def test_the_first_run_embeds_the_explorer_and_links_to_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    (embedded,) = re.findall(r'<iframe src="([^"]+)"', text)
    assert (page.parent / embedded).resolve() == ROOT / "docs" / "explorer.html" and f"]({embedded})" in text


@pytest.mark.slow
def test_the_first_run_is_trained_evaluated_compared_and_sampled(tmp_path: Path) -> None:
    copy_of_repository(tmp_path, "src", "conf")
    more = {
        "src.train": QUICK,
        "src.evaluate": "lengths=[64] tokens=1000 parts=[extrapolation]",
        "src.generate": "max_new_tokens=5",
    }
    commands = lines(TUTORIALS / "first-run.md")
    assert [command.split()[2] for command in commands] == [
        *("src.train", "src.evaluate", "src.train", "src.evaluate", "src.generate")
    ]
    commands[-1] = commands[-1].removesuffix(" max_new_tokens=100")
    load = next(block.text for block in blocks(ROOT / "docs/guides/training.md") if block.language == "python")
    (tmp_path / "load.py").write_text(load.replace("outputs/RUN", "outputs/rotary") + "print(logits.shape)\n")
    printed = typed(tmp_path, "\n".join([*(reduced(line, more) for line in commands), "python load.py"]))
    assert "# (1, 9, 257)" in load and printed.strip().endswith("torch.Size([1, 9, 257])")
    assert (tmp_path / "outputs" / "rotary" / "evaluation" / "report.html").exists()
    assert (tmp_path / "outputs" / "both" / "report.html").exists()


@pytest.mark.slow
def test_a_chinese_text_is_learned_and_continued(tmp_path: Path) -> None:
    copy_of_repository(tmp_path, "src", "conf")
    text = "话说天下大势，分久必合，合久必分。"
    (tmp_path / "小说").mkdir()
    for file in ("hongloumeng.txt", "小说/一.txt"):
        (tmp_path / file).write_text("\n".join(f"{text}{number}" for number in range(400)), encoding="utf-8")
    more = {"src.train": f"{QUICK} dataset.cache_dir=cache".replace("=0.01", "=0.1")}
    one, several, sampled, _ = lines(CHINESE / "index.md")
    sampled = sampled.replace("max_new_tokens=300", "max_new_tokens=5")
    printed = typed(tmp_path, "\n".join(reduced(line, more) for line in (one, several, sampled)))
    assert "话说" in printed


def choosing(folder: Path) -> list[str]:
    """The commands of choosing.md, in a copy of the repository with the files of that page, in their smallest form."""
    copy_of_repository(folder, "src", "conf", "sweeps", "comparisons")
    for block in blocks(TUTORIALS / "choosing.md"):
        if block.file is not None:
            text = re.sub(r"seeds: 3", "seeds: 1", block.text)
            text = re.sub(r"encodings: .*", "encodings: [none, rotary]", text)
            text = re.sub(r"steps: \d+", "steps: 2", text)
            (folder / block.file).write_text(re.sub(r"n_trials: \d+", "n_trials: 1", text), encoding="utf-8")
    small = f"{SMALL_MODEL} dataset.validation_fraction=0.01 dataset.test_fraction=0.01"
    more = {
        "src.sweep": f"workers=1 n_trials=1 {small}",
        "src.compare": f"workers=1 {small.replace(' trainer.max_steps=2', '')}",
    }
    return [reduced(line, more) for line in lines(TUTORIALS / "choosing.md")]


@pytest.mark.slow
def test_a_base_and_a_max_distance_are_tuned(tmp_path: Path) -> None:
    base, rotary_base, t5, own, *_ = choosing(tmp_path)
    typed(tmp_path, "\n".join((base, rotary_base, t5, own)))
    assert (tmp_path / "outputs" / "base_1e4" / "report.html").exists()
    for name in ("rotary_base", "t5_max_distance", "my_sweep"):
        assert list((tmp_path / "outputs" / "sweeps").glob(f"{name}*/report.html")), name


@pytest.mark.slow
def test_an_encoding_is_chosen(tmp_path: Path) -> None:
    *_, dry, compared, recommended = choosing(tmp_path)
    printed = typed(tmp_path, "\n".join((dry, compared, recommended)))
    assert (tmp_path / "outputs" / "comparisons" / "mine" / "report.html").exists()
    assert "text:" in printed
