"""`python -m src.evaluate`, as a user types it."""

import csv
import json
import math
import re
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from poslab.data.tokenizers import SubwordTokenizer
from tests.evaluation.scores.test_measure import ADDITION
from tests.pretrained import tiny as tiny_models
from tests.training.runs import composed, run_of, words
from tests.written_run import write_run

from .running import Ended, Running

ONLY_LENGTHS = "parts=[extrapolation]"
FIGURES = [
    f"{protocol}{figure}@{length}"
    for length in (16, 32, 64)
    for protocol in ("", "sliding_")
    for figure in ("loss", "bits_per_byte", "perplexity", "accuracy")
]


@pytest.fixture
def evaluate(run_command, monkeypatch) -> Callable[..., Ended]:
    """Runs the command in this process, in the directory of the test."""
    monkeypatch.setenv("COLUMNS", "80")
    return partial(run_command, "src.evaluate")


def evaluate_alone(*arguments: str, directory: Path, command: list[str] | None = None) -> Ended:
    """Runs the command in a process of its own, or in several."""
    whole = [*(command or [sys.executable]), "-m", "src.evaluate", *arguments]
    return Running(whole, directory, {"COLUMNS": "80"}).wait(200)


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> list[str]:
    """Overrides for a small text of one's own."""
    folder = tmp_path_factory.mktemp("text")
    for number in range(40):
        (folder / f"{number}.txt").write_text(words(60, seed=number))
    files = [f"dataset.files={folder}/*.txt", f"dataset.cache_dir={folder}"]
    return ["dataset=text", *files, "dataset.sequence_length=16"]


@pytest.fixture(scope="module")
def rotary(tmp_path_factory, text) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "rotary", *text, "encoding=rotary").path


@pytest.fixture(scope="module")
def learned(tmp_path_factory, text) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "learned", *text, "encoding=learned").path


def test_the_run_of_a_stranger_asks_for_trust_with_the_command_to_type(rotary, evaluate, tmp_path):
    """Here for its cache, which is not that of the user."""
    shutil.copytree(rotary, tmp_path / "run")
    (tmp_path / "run" / "environment.json").write_text("{}")  # without the user's signature
    ended = evaluate("run=run", "trust=my_package", ONLY_LENGTHS)
    assert (ended.status, ended.output) == (2, "")
    assert "dataset.cache_dir=" in ended.errors
    assert ended.errors.rstrip().endswith(f"src.evaluate run=run '{ONLY_LENGTHS}' 'trust=[my_package,data]'")


@pytest.mark.slow
def test_one_run_is_evaluated_into_its_own_directory(rotary, tmp_path):
    ended = evaluate_alone(f"run={rotary}", "lengths=[0.5x,16,2x,64]", ONLY_LENGTHS, directory=tmp_path)
    assert (ended.status, ended.errors) == (0, "")
    assert max(map(len, ended.output.splitlines()[:-1])) <= 80
    assert list(tmp_path.iterdir()) == []
    made = rotary / "evaluation"
    figures = json.loads((made / "metrics.json").read_text())
    assert set(figures) >= set(FIGURES)
    assert figures["perplexity@32"] == pytest.approx(math.exp(figures["loss@32"]))
    (row,) = [line.split() for line in ended.output.splitlines() if line.split()[:1] == ["64"]]
    assert row[3] == f"{figures['context_gain@64']:.3f}".replace("-", "−")
    assert (made / "longer_context.csv").exists()
    for name in ("per_length", "per_position"):
        assert len(list(csv.DictReader((made / f"{name}.csv").open()))) >= 6
    for name in ("bits_by_length", "loss_by_context"):
        assert (made / f"{name}.png").stat().st_size > 5_000
        assert (made / f"{name}.svg").stat().st_size > 5_000
    assert "Length extrapolation" in (made / "report.html").read_text()
    board = EventAccumulator(str(rotary), {"images": 0}).Reload()
    assert set(board.Tags()["images"]) >= {"evaluation/bits_by_length", "evaluation/loss_by_context"}


@pytest.mark.slow
def test_every_part_has_its_section_and_its_files(rotary, tmp_path, evaluate):
    ended = evaluate(f"run={rotary}", "lengths=[16,256]", "output=here")
    assert (ended.status, ended.errors) == (0, "")
    page = (tmp_path / "here" / "report.html").read_text()
    titles = ("Length extrapolation", "Retrieval", "What the heads look at", "Receptive field", "Rotary diagnostics")
    for title in titles:
        assert f">{title}</h2>" in page
    made = {path.name for path in (tmp_path / "here").iterdir()}
    assert {"retrieval.csv", "attention_by_head.csv", "receptive_field.svg"} <= made
    assert "retrieval_passkey.png" not in made  # its weights are random
    metrics = json.loads((tmp_path / "here" / "metrics.json").read_text())
    assert {"passkey_accuracy@256", "receptive_field"} <= metrics.keys()


@pytest.fixture(scope="module")
def addition(tmp_path_factory) -> Path:
    """A run of another task, trained for three steps."""
    return run_of(composed(*ADDITION), tmp_path_factory.mktemp("runs") / "addition").path


@pytest.mark.slow
def test_a_run_of_another_task_is_evaluated_and_says_which_parts_it_has_no_use_for(addition, evaluate):
    ended = evaluate(f"run={addition}")
    assert (ended.status, ended.errors) == (0, "")
    assert max(map(len, ended.output.splitlines()[:-1])) <= 80
    left_out = ended.output.partition("left out:")[2]
    assert re.findall(r"(\w+)\s+\(", left_out)[:3] == ["retrieval", "receptive_field", "encoding"]
    metrics = json.loads((addition / "evaluation" / "metrics.json").read_text())
    expected = json.loads((addition / "metrics.json").read_text())
    assert metrics["exact_match@4"] == pytest.approx(expected["test/exact_match@4"])
    made = {path.name for path in (addition / "evaluation").iterdir()}
    assert {"per_length.csv", "metrics_by_length.png", "attention_overview.svg", "rotary_turns.csv"} <= made


@pytest.mark.slow
def test_the_heads_of_two_runs_are_compared(rotary, learned, tmp_path, evaluate):
    parts = "parts=[attention,encoding]"
    ended = evaluate(f"runs=[{rotary},{learned}]", "lengths=[16]", parts, "output=here")
    assert (ended.status, ended.errors) == (0, "")
    made = {path.name for path in (tmp_path / "here").iterdir()}
    assert {"attention_overview_rotary.png", "attention_overview_learned.png"} <= made


@pytest.mark.slow
def test_an_encoding_without_a_run_is_diagnosed(tmp_path, evaluate):
    typed = ("encoding=rotary", "encoding.base=1e4", "model.head_dim=64", "lengths=[1024]", "output=here")
    ended = evaluate(*typed)
    assert (ended.status, ended.errors) == (0, "")
    (row,) = [line.split() for line in ended.output.splitlines() if line.split()[:1] == ["1,024"]]
    assert row[:4] == ["1,024", "10,000", "no", "725"]
    made = {path.name for path in (tmp_path / "here").iterdir()}
    assert {"report.html", "rotary_wavelengths.png", "rotary_sum_of_cosines.svg"} <= made


@pytest.mark.slow
def test_runs_stand_side_by_side_and_a_dash_is_where_an_encoding_ends(rotary, learned, tmp_path, evaluate):
    ended = evaluate(f"runs=[{rotary},{learned}]", "lengths=[16,32]", ONLY_LENGTHS)
    assert (ended.status, ended.errors) == (0, "")
    (made,) = (tmp_path / "outputs").iterdir()
    figures = json.loads((made / "metrics.json").read_text())
    assert {"rotary/loss@16", "rotary/loss@32", "learned/loss@16"} <= set(figures)
    assert "learned/loss@32" not in figures
    rows = [line.split() for line in ended.output.splitlines() if line.split()[:1] == ["learned"]]
    assert any("-" in cells for cells in rows), rows


@pytest.mark.slow
def test_an_encoding_that_is_swapped_for_itself_changes_nothing_and_another_does(rotary, tmp_path, evaluate):
    arguments = (f"run={rotary}", "lengths=[16]", ONLY_LENGTHS)
    same = evaluate(*arguments, "encoding@swap=rotary")
    other = evaluate(*arguments, "encoding@swap=yarn", "swap.factor=8")
    assert (same.status, same.errors, other.status, other.errors) == (0, "", 0, "")
    own, swapped, *_ = [line.split()[-1] for line in same.output.splitlines() if line.startswith("  rotary")]
    assert own == swapped
    figures = json.loads((rotary / "evaluation_yarn" / "metrics.json").read_text())
    assert figures["rotary/loss@16"] != figures["rotary -> yarn factor=8/loss@16"]


@pytest.mark.slow
def test_a_temperature_stays_with_a_swap_unless_another_is_given(text, tmp_path, evaluate):
    run = write_run(tmp_path / "log_n", *text, "temperature=log_n").path
    arguments = (f"run={run}", "lengths=[64]", ONLY_LENGTHS)
    same = evaluate(*arguments, "encoding@swap=rotary")
    without = evaluate(*arguments, "encoding@swap=rotary", "~temperature", "output=without")
    ssmax = evaluate(*arguments, "encoding@swap=rotary", "temperature=ssmax", "output=ssmax")
    assert [ended.status for ended in (same, without, ssmax)] == [0, 0, 0], ssmax.errors

    def losses(folder: Path) -> set[float]:
        figures = json.loads((folder / "metrics.json").read_text())
        return {value for tag, value in figures.items() if tag.endswith("/loss@64")}

    assert len(losses(run / "evaluation_rotary")) == 1
    assert len(losses(tmp_path / "without")) == 2
    assert len(losses(tmp_path / "ssmax")) == 2


@pytest.mark.slow
def test_jobs_have_a_directory_each_and_a_swap_is_for_the_training_length_of_its_run(rotary, text, tmp_path, evaluate):
    longer = write_run(tmp_path / "longer", *text, "dataset.sequence_length=32").path
    swap = ("lengths=[64]", ONLY_LENGTHS, "encoding@swap=rope_dynamic_ntk")
    ended = evaluate("-m", f"run={rotary},{longer}", *swap)
    assert (ended.status, ended.errors) == (0, "")
    (jobs,) = (tmp_path / "outputs").iterdir()
    assert evaluate(f"runs=[{longer},{rotary}]", *swap, "output=both").status == 0
    both = json.loads((tmp_path / "both" / "metrics.json").read_text())
    for job, run in enumerate((rotary, longer)):
        alone = json.loads((jobs / f"{job}" / "metrics.json").read_text())
        loss = alone["rotary -> rope_dynamic_ntk/loss@64"]
        length = 32 if run is longer else 16
        own = f"rotary sequence_length={length} -> rope_dynamic_ntk"
        assert loss == pytest.approx(both[f"{own}/loss@64"], rel=1e-6)
    assert not (rotary / "evaluation_rope_dynamic_ntk").exists()


@pytest.mark.slow
def test_an_evaluation_takes_the_place_of_the_one_before(rotary, tmp_path, evaluate):
    made = rotary / "evaluation"
    for chosen, expected in (("[extrapolation,encoding]", True), ("[rotary]", False)):
        assert evaluate(f"run={rotary}", "lengths=[16]", f"parts={chosen}").status == 0
        assert (made / "per_length.csv").exists() == expected
    assert len(list(rotary.glob("events.*.evaluation"))) == 1


@pytest.mark.slow
def test_two_processes_equal_one(rotary, tmp_path, evaluate):
    arguments = (f"run={rotary}", "lengths=[16,64]", ONLY_LENGTHS)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    alone = evaluate(*arguments)
    expected = json.loads((rotary / "evaluation" / "metrics.json").read_text())
    together = evaluate_alone(*arguments, directory=tmp_path, command=torchrun)
    assert (alone.status, together.status) == (0, 0), together.errors
    figures = json.loads((rotary / "evaluation" / "metrics.json").read_text())
    assert figures.keys() == expected.keys()
    np.testing.assert_allclose(list(figures.values()), list(expected.values()), rtol=1e-6)


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    """A tiny pretrained model in a directory with its tokenizer."""
    folder = tmp_path_factory.mktemp("pretrained") / "llama"
    tokenizer = SubwordTokenizer.train([[words(300)]], 280)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_models, "VOCAB_SIZE", tokenizer.vocab_size)
        tiny_models.tiny("llama", torch.float32).save_pretrained(folder)
    tokenizer.save(folder)
    return folder


@pytest.mark.slow
def test_a_pretrained_model_is_evaluated_under_encodings_before_any_training(llama, text, tmp_path, evaluate):
    encodings = "encodings=[pretrained,{name: linear_2, encoding: rope_linear, encoding.factor: 2}]"
    of_text = [word for word in text if "sequence_length" not in word]
    ended = evaluate(f"model.path={llama}", encodings, "lengths=[16,48]", ONLY_LENGTHS, "output=here", *of_text)
    assert ended.status == 0, ended.errors
    metrics = json.loads((tmp_path / "here" / "metrics.json").read_text())
    # 24 is the length that the model was trained at
    assert {f"{name}/loss@{length}" for name in ("pretrained", "linear_2") for length in (16, 24, 48)} <= metrics.keys()
    page = (tmp_path / "here" / "report.html").read_text()
    assert "llama under pretrained and linear_2" in page and str(llama) in page


@pytest.mark.slow
def test_a_mistake_is_one_sentence_of_a_process_of_its_own_too(rotary, tmp_path):
    ended = evaluate_alone(f"run={rotary}", "lengths=[16,1000000]", directory=tmp_path)
    assert ended.status == 2
    assert ended.errors.startswith("error: lengths must") and ended.errors.count("\n") == 1


HARMFUL = {
    "evaluation is a file": lambda run: (run / "evaluation").write_text("mine"),
    ".evaluation.writing is a file": lambda run: (run / ".evaluation.writing").write_text("mine"),
    "evaluation is a link": lambda run: (run / "evaluation").symlink_to(run.parent),
    ".evaluation.writing is a link": lambda run: (run / ".evaluation.writing").symlink_to(run.parent),
    "metrics.json has no steps": lambda run: (run / "metrics.json").write_text('{"steps": Infinity}'),
}


@pytest.mark.slow
@pytest.mark.parametrize("harm", HARMFUL)
def test_a_run_that_an_evaluation_cannot_be_written_into_is_refused_before_it(harm, rotary, tmp_path, run_command):
    """And nothing is written, least of all where a link leads."""
    shutil.copytree(rotary, tmp_path / "run", ignore=shutil.ignore_patterns("*evaluation*"))
    HARMFUL[harm](tmp_path / "run")
    before = sorted(tmp_path.rglob("*"))
    ended = run_command("src.evaluate", "run=run", ONLY_LENGTHS, "lengths=[16]", "tokens=100")
    assert ended.status == 2
    assert harm.split()[0] in ended.errors and ended.errors.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_a_length_that_is_text_is_not_given_to_hydra(rotary, tmp_path, run_command, monkeypatch):
    monkeypatch.setenv("POSLAB_SECRET", "64")
    shutil.copytree(rotary, tmp_path / "run")
    config = (tmp_path / "run" / "config.yaml").read_text()
    config = config.replace("sequence_length: 16", "sequence_length: ${oc.env:POSLAB_SECRET}")
    (tmp_path / "run" / "config.yaml").write_text(config)
    ended = run_command("src.evaluate", "run=run", "encoding@swap=alibi")
    assert ended.status == 2
    assert "dataset.sequence_length must" in ended.errors and "64" not in ended.errors
