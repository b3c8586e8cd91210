"""Each kind of data trains with each kind of model that has a task on it, is measured as by hand, and serves."""

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import poslab
from poslab.checking import check
from poslab.data.examples.datamodule import ExampleDataModule
from poslab.evaluation.subjects import subject
from poslab.run_directory import RunDirectory
from poslab.tasks.choice import data_of, task_of
from src.generate import main as generate
from tests.training.runs import CONF, composed, run_of, words

TINY = (
    *("model.d_model=32", "model.num_layers=1", "model.num_heads=2"),
    *("trainer=cpu", "trainer.precision=32-true", "trainer.validations=2", "trainer.log_every=1"),
)
SEA = ["ship", "sail", "wave", "harbour", "tide", "anchor", "deck"]
LAND = ["field", "tree", "road", "hill", "house", "horse", "barn"]


def sentence(rng: random.Random, about: list[str], least: int = 3, most: int = 12) -> str:
    return " ".join(rng.choices(about, k=1) + rng.choices([*about, *words(9).split()], k=rng.randint(least, most)))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files of every kind."""
    folder, rng = tmp_path_factory.mktemp("files"), random.Random(0)
    with (folder / "classes.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["review", "stars", "tags"])
        for number in range(300):
            about = (SEA, LAND, SEA + LAND)[number % 3]
            tags = "|".join(name for name, own in (("sea", SEA), ("land", LAND)) if own[0] in about)
            rows.writerow([sentence(rng, about), ["both", "sea", "land"][(number + 1) % 3], tags])
    with (folder / "pairs.jsonl").open("w") as file:
        for _ in range(300):
            text = " ".join(rng.choices(SEA, k=rng.randint(2, 5)))
            print(json.dumps({"en": text, "up": " ".join(text.upper().split()[::-1])}), file=file)
    with (folder / "answers.jsonl").open("w") as file:
        for number in range(300):
            thing, place = rng.choice(SEA), rng.choice(LAND)
            context = f"{sentence(rng, LAND[3:])} the {thing} is at the {place} {number}."
            answer = {"text": [place], "answer_start": [context.index(f"at the {place}") + 7]}
            question = f"where is the {thing}?"
            if number % 5 == 0:
                answer, question = {"text": [], "answer_start": []}, "who is there?"
            print(json.dumps({"question": question, "context": context, "answers": answer}), file=file)
    (folder / "text.txt").write_text(words(3000))
    return folder


KINDS: dict[str, list[str]] = {
    "classes": [
        "dataset=classification_file",
        "dataset.files={}/classes.csv",
        "dataset.text=review",
        "dataset.label=stars",
    ],
    "several classes": [
        *("dataset=classification_file", "dataset.files={}/classes.csv", "dataset.text=review"),
        *("dataset.label=tags", "dataset.separator=|"),
    ],
    "pairs": ["dataset=pairs_file", "dataset.files={}/pairs.jsonl", "dataset.source=en", "dataset.target=up"],
    "answers": ["dataset=answers_file", "dataset.files={}/answers.jsonl", "dataset.answer=answers"],
    "text": ["dataset=text", "dataset.files={}/text.txt", "dataset.length_multiples=[1,2]"],
    "reversing": ["dataset=reverse_string", "dataset.train_lengths=[1,6]", "dataset.test_lengths=[4,8]"],
}
CASES = [
    *[("classes", "encoder"), ("classes", "decoder"), ("several classes", "encoder"), ("pairs", "encoder_decoder")],
    *[("pairs", "decoder"), ("answers", "encoder"), ("text", "encoder"), ("text", "encoder_decoder")],
    *[("reversing", "encoder"), ("reversing", "decoder")],
]


def config_of(files: Path, kind: str, *overrides: str) -> dict[str, Any]:
    data = [line.format(files) for line in KINDS[kind]]
    if kind != "reversing":
        data += ["dataset.tokenizer=bytes", "dataset.sequence_length=64", f"dataset.cache_dir={files}/cache"]
        data += [] if kind == "text" else ["dataset.max_length=256"]
        data += ["dataset.sequence_length=96"] if kind == "answers" else []
    return composed(*data, *TINY, "dataset.batch_size=16", "trainer.max_steps=4", *overrides)


def trained(files: Path, folder: Path, kind: str, *overrides: str) -> RunDirectory:
    return run_of(config_of(files, kind, *overrides), folder / "run")


@pytest.mark.parametrize(("kind", "model"), CASES)
def test_a_task_trains_and_is_measured_as_a_whole_and_by_length(tmp_path, files, kind, model):
    run = trained(files, tmp_path, kind, f"model={model}")
    figures = run.metrics()
    by_length = [tag for tag in figures if tag.startswith("test/loss@")]
    assert len(by_length) >= 2
    assert all(0 <= figures[tag] <= 1 for tag in figures if "accuracy" in tag)
    assert figures["steps"] == 4 and figures["train/tokens_per_second"] > 0
    log = run.log_file.read_text()
    assert "by length of" in log and "test, best checkpoint" in log


@pytest.mark.parametrize(("kind", "model"), [case for case in CASES if case[0] != "text"])
def test_the_loss_of_a_test_is_that_of_all_examples_one_by_one(tmp_path, files, kind, model):
    """Padding, batches, lengths and rows that fill up the last batch change no figure."""
    run = trained(files, tmp_path, kind, f"model={model}")
    config = run.config()
    data = data_of(config)
    data.prepare_data()
    data.setup()
    task = task_of(config, data)
    module = poslab.load(run.path)
    losses, counted = 0.0, 0.0
    for length in data.lengths_of("test"):
        for example in every_example(data, length):
            with torch.no_grad():
                sums = task.sums(module, example)
            losses, counted = losses + sums.loss.item(), counted + sums.counted.item()
    assert run.metrics()["test/loss"] == pytest.approx(losses / counted, rel=1e-4)


def every_example(data: Any, length: int) -> Any:
    """The held-out examples of a length, one a batch."""
    counts = np.array([True])
    if isinstance(data, ExampleDataModule):
        return [data.make_batch(data.examples("test")[[n]], counts) for n in data.numbers("test", length).tolist()]
    return [data.make_batch([example], counts) for example in data.examples("test", length)]


@pytest.mark.slow
def test_classes_that_words_tell_are_learned_and_served(tmp_path, files):
    run = trained(
        files, tmp_path, "classes", "trainer.max_steps=120", "dataset.tokenizer=bpe", "dataset.vocab_size=400"
    )
    assert run.metrics()["test/accuracy"] > 0.8
    classify = poslab.serve(run.path)
    answer = classify("ship sail wave anchor deck tide")
    assert answer.text == "sea" and next(iter(answer.probabilities)) == "sea"
    assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert classify("horse barn field hill").text == "land"


@pytest.mark.slow
def test_an_encoder_learns_to_reverse_what_it_has_not_seen(tmp_path, files):
    shape = ["model.d_model=64", "model.num_layers=2", "dataset.train_lengths=[1,10]", "dataset.test_lengths=[10]"]
    steps = ["trainer.max_steps=500", "dataset.batch_size=64", "optimizer.lr=3e-3", "trainer.log_every=50"]
    run = trained(files, tmp_path, "reversing", *shape, *steps)
    assert run.metrics()["test/accuracy"] > 0.7  # chance is 0.5
    assert len(poslab.serve(run.path)("0 1 1 1 0 1 0 0").text.split()) == 8


@pytest.mark.parametrize("model", ["encoder", "decoder"])
def test_symbols_are_answered_by_symbols_and_others_are_told(tmp_path, files, model):
    answer = poslab.serve(trained(files, tmp_path, "reversing", f"model={model}").path)
    assert set(answer("0 1 1").text.split()) <= {"0", "1"}
    with pytest.raises(ValueError, match=r"^prompt: '2' is no symbol of this task: it has 0, 1"):
        answer("0 2")


def test_an_answer_in_a_text_is_served(tmp_path, files):
    answer = poslab.serve(trained(files, tmp_path, "answers").path)
    context = "the ship is at the barn 7."
    assert answer(f"where is the ship?\t{context}").text in context
    with pytest.raises(ValueError, match=r"^prompt must be a question and a context"):
        answer("where is the ship?")


def test_written_answers_are_measured_by_their_likeness(tmp_path, files):
    figures = trained(files, tmp_path, "pairs").metrics()
    for name in ("bleu", "chrf", "rouge_1", "rouge_2", "rouge_l", "exact_match"):
        assert figures[f"test/{name}"] >= 0
        assert f"validation/{name}" not in figures


@pytest.mark.parametrize(
    ("kind", "model", "choices"),
    [
        ("classes", "encoder_decoder", "decoder or encoder"),
        ("pairs", "encoder", "decoder or encoder_decoder"),
        ("answers", "decoder", "encoder"),
        ("reversing", "encoder_decoder", "decoder or encoder"),
    ],
)
def test_a_model_without_a_task_on_its_data_is_refused(files, kind, model, choices):
    with pytest.raises(ValueError, match=f"^model must be {choices} for "):
        check(config_of(files, kind, f"model={model}"))


def test_longer_examples_than_are_trained_on_are_tested_alone(tmp_path, files):
    run = trained(files, tmp_path, "classes", "dataset.sequence_length=48")
    lengths = {int(tag.partition("@")[2]) for tag in run.metrics() if tag.startswith("test/loss@")}
    assert max(lengths) > 48
    data = data_of(run.config())
    data.setup()
    assert max(data.examples("train")["length"]) <= 48 < max(data.examples("test")["length"])


@pytest.mark.slow
def test_the_command_answers_a_prompt_with_probabilities_and_lines_with_a_line_each(
    tmp_path, files, capsys, monkeypatch
):
    run = trained(files, tmp_path, "classes")
    capsys.readouterr()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose("generate", overrides=[f"run={run.path}"]))
    generate(config, Path(), [], "ship sail, wave")
    told, *classes = capsys.readouterr().out.splitlines()
    assert {line.split()[1] for line in classes} == {"both", "land", "sea"}
    assert classes[0].split()[1] == told
    monkeypatch.setattr("sys.stdin", io.StringIO("ship sail\nhorse barn\n\n"))
    generate(config, Path(), [], "-")
    assert [line in ("both", "land", "sea") for line in capsys.readouterr().out.splitlines()] == [True] * 3
    with pytest.raises(ValueError, match=r"^prompt must be a text to answer"):
        generate(config, Path(), [], "")


@pytest.mark.parametrize(("kind", "model"), [("text", "encoder"), ("text", "encoder_decoder")])
def test_what_fills_in_text_answers_nothing(tmp_path, files, kind, model):
    run = trained(files, tmp_path, kind, f"model={model}")
    with pytest.raises(ValueError, match=r"answers nothing$"):
        poslab.serve(run.path)
    with pytest.raises(ValueError, match="another task"):
        subject(run.path)
    assert "src.generate" not in run.log_file.read_text()
