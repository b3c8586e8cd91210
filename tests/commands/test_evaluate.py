"""`python -m src.evaluate`, as a user types it."""

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from src.evaluate import in_full, with_training_length
from tests.training.runs import words
from tests.written_run import write_run

ROOT = Path(__file__).parents[2]
ONLY_LENGTHS = "parts=[extrapolation]"
FIGURES = [
    f"{protocol}{figure}@{length}"
    for length in (16, 32, 64)
    for protocol in ("", "sliding_")
    for figure in ("loss", "bits_per_byte", "perplexity", "accuracy")
]


def evaluate(*arguments: str, directory: Path, command: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*(command or [sys.executable]), "-m", "src.evaluate", *arguments],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> list[str]:
    """Overrides for a small text of one's own."""
    folder = tmp_path_factory.mktemp("text")
    for number in range(40):
        (folder / f"{number}.txt").write_text(words(60, seed=number))
    return [
        "dataset=text",
        f"dataset.files={folder}/*.txt",
        f"dataset.cache_dir={folder}",
        "dataset.sequence_length=16",
    ]


@pytest.fixture(scope="module")
def rotary(tmp_path_factory, text) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "rotary", *text, "encoding=rotary").path


@pytest.fixture(scope="module")
def learned(tmp_path_factory, text) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "learned", *text, "encoding=learned").path


@pytest.mark.slow
def test_one_run_is_evaluated_into_its_own_directory(rotary, tmp_path):
    ended = evaluate(f"run={rotary}", "lengths=[16,32,64]", ONLY_LENGTHS, directory=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert max(map(len, ended.stdout.splitlines()[:-1])) <= 80
    assert list(tmp_path.iterdir()) == []
    made = rotary / "evaluation"
    figures = json.loads((made / "metrics.json").read_text())
    assert set(figures) >= set(FIGURES)
    assert figures["perplexity@32"] == pytest.approx(math.exp(figures["loss@32"]))
    for name in ("per_length", "per_position"):
        assert len(list(csv.DictReader((made / f"{name}.csv").open()))) >= 6
    for name in ("bits_by_length", "loss_by_context"):
        assert (made / f"{name}.png").stat().st_size > 5_000
        assert (made / f"{name}.svg").stat().st_size > 5_000
    assert "Length extrapolation" in (made / "report.html").read_text()
    board = EventAccumulator(str(rotary), {"images": 0}).Reload()
    assert set(board.Tags()["images"]) >= {"evaluation/bits_by_length", "evaluation/loss_by_context"}


@pytest.mark.slow
def test_every_part_has_its_section_and_its_files(rotary, tmp_path):
    ended = evaluate(f"run={rotary}", "lengths=[16,256]", "output=here", directory=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    page = (tmp_path / "here" / "report.html").read_text()
    for title in (
        "Length extrapolation",
        "Retrieval",
        "What the heads look at",
        "Receptive field",
        "Rotary diagnostics",
    ):
        assert f">{title}</h2>" in page
    made = {path.name for path in (tmp_path / "here").iterdir()}
    assert {"retrieval.csv", "retrieval_passkey.png", "attention_by_head.csv", "receptive_field.svg"} <= made
    assert {"passkey_accuracy@256", "receptive_field"} <= json.loads(
        (tmp_path / "here" / "metrics.json").read_text()
    ).keys()


@pytest.mark.slow
def test_the_heads_of_two_runs_are_compared(rotary, learned, tmp_path):
    parts = "parts=[attention,encoding]"
    ended = evaluate(f"runs=[{rotary},{learned}]", "lengths=[16]", parts, "output=here", directory=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    made = {path.name for path in (tmp_path / "here").iterdir()}
    assert {"attention_divergence.png", "attention_overview_rotary.png", "attention_overview_learned.png"} <= made


@pytest.mark.slow
def test_an_encoding_without_a_run_is_diagnosed(tmp_path):
    typed = ("encoding=rotary", "encoding.base=1e4", "model.head_dim=64", "lengths=[1024]", "output=here")
    ended = evaluate(*typed, directory=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    (row,) = [line.split() for line in ended.stdout.splitlines() if line.split()[:1] == ["1,024"]]
    assert row[:4] == ["1,024", "10,000", "no", "725"]
    assert {"report.html", "rotary_wavelengths.png", "rotary_islands.svg"} <= {
        p.name for p in (tmp_path / "here").iterdir()
    }


@pytest.mark.slow
def test_runs_stand_side_by_side_and_a_dash_is_where_an_encoding_ends(rotary, learned, tmp_path):
    ended = evaluate(f"runs=[{rotary},{learned}]", "lengths=[16,32]", ONLY_LENGTHS, directory=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    (made,) = (tmp_path / "outputs").iterdir()
    figures = json.loads((made / "metrics.json").read_text())
    assert {"Rotary/loss@16", "Rotary/loss@32", "Learned/loss@16"} <= set(figures)
    assert "Learned/loss@32" not in figures
    (line, *_) = [line for line in ended.stdout.splitlines() if line.split()[:1] == ["Learned"]]
    assert line.split()[-1] == "-"


@pytest.mark.slow
def test_an_encoding_that_is_swapped_for_itself_changes_nothing_and_another_does(rotary, tmp_path):
    arguments = (f"run={rotary}", "lengths=[16]", ONLY_LENGTHS)
    same = evaluate(*arguments, "encoding@swap=rotary", directory=tmp_path)
    other = evaluate(*arguments, "encoding@swap=yarn", "swap.factor=4", directory=tmp_path)
    assert (same.returncode, same.stderr, other.returncode, other.stderr) == (0, "", 0, "")
    own, swapped, *_ = [line.split()[-1] for line in same.stdout.splitlines() if line.strip().startswith("Rotary")]
    assert own == swapped
    figures = json.loads((rotary / "evaluation_yarn" / "metrics.json").read_text())
    assert figures["Rotary/loss@16"] != figures["Rotary -> Rotary (yarn)/loss@16"]


@pytest.mark.slow
def test_two_processes_equal_one(rotary, tmp_path):
    arguments = (f"run={rotary}", "lengths=[16,64]", ONLY_LENGTHS)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    alone = evaluate(*arguments, directory=tmp_path)
    expected = json.loads((rotary / "evaluation" / "metrics.json").read_text())
    together = evaluate(*arguments, directory=tmp_path, command=torchrun)
    assert (alone.returncode, together.returncode) == (0, 0), together.stderr
    figures = json.loads((rotary / "evaluation" / "metrics.json").read_text())
    assert figures.keys() == expected.keys()
    np.testing.assert_allclose(list(figures.values()), list(expected.values()), rtol=1e-6)


MISTAKES = {
    "": "run must name a run directory or one of its checkpoints: run=outputs/RUN",
    "run=nowhere": "nowhere is not a run directory: it holds no config.yaml",
    "run={rotary} lengths=[0]": "lengths must lie between 1 and",
    "run={rotary} lengths=[16,1000000]": "lengths must lie between 1 and",
    "run={learned} lengths=[32]": "lengths must begin at no more than 16 tokens, where the encoding ends, got [32]",
    "run={rotary} lengths=[16] stride=17": "stride must lie between 1 and the window length 16, got 17",
    "run={rotary} tokens=1": "tokens must be an integer of at least 2 or null, got 1",
    "run={rotary} split=train": "split must be test or validation, got train",
    "run={rotary} parts=[maps]": "parts must be of extrapolation",
    "run={rotary} device=abacus": "device must be auto, or one that this machine has, such as cpu, got abacus",
    "run={rotary} encoding@swap=rotery": "there is no such choice; did you mean 'rotary'?",
    "encoding=t5": "encoding must turn queries and keys, as rotary, xPos and PoPE do, got T5Bias",
    "encoding=rotary model.head_dim=0": "model.head_dim must be a positive integer, got 0",
    "run={rotary} runs=[{learned}]": "runs takes the place of run: give one of the two",
}


@pytest.mark.slow
@pytest.mark.parametrize("typed", MISTAKES, ids=str)
def test_a_mistake_is_one_sentence(typed, rotary, learned, tmp_path):
    ended = evaluate(*typed.format(rotary=rotary, learned=learned).split(), directory=tmp_path)
    assert ended.returncode == 2
    assert MISTAKES[typed] in ended.stderr
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_training_length_of_the_run_is_given_to_what_is_swapped_in(rotary):
    assert with_training_length([f"run={rotary}"])[-1] == "dataset.sequence_length=16"
    assert with_training_length([f"runs=[{rotary},other]"])[-1] == "dataset.sequence_length=16"
    assert with_training_length(["run=nowhere"]) == ["run=nowhere"]


def test_keys_of_a_scaling_may_be_written_short():
    given = ["encoding@swap=yarn", "swap.factor=4", "swap.base=1e5", "run=a"]
    assert in_full(given) == ["encoding@swap=yarn", "swap.scaling.factor=4", "swap.base=1e5", "run=a"]
    assert in_full(["encoding@swap=none", "swap.factor=4"]) == ["encoding@swap=none", "swap.factor=4"]
