"""Each kind of data trains with each kind of model that has a task on it, is measured as by hand, and serves."""

import csv
import io
import json
import random
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torchmetrics.functional.text import squad

import poslab
from poslab.cli.generate import main as generate
from poslab.data.examples.source import ExampleSplits
from poslab.runs.directory import RunDirectory
from poslab.tasks.question_answering import QuestionAnswering
from poslab.tasks.sequence_to_sequence import SequenceToSequence
from poslab.training.checking import check
from tests.training.runs import CONF, composed, opened, run_of, words

from .same_metrics import assert_two_processes_come_to_the_metrics_of

TINY = (
    *("model.d_model=32", "model.num_layers=1", "model.num_heads=2"),
    *("trainer=cpu", "trainer.precision=32-true", "trainer.validations=2", "trainer.log_every=1"),
)
SQUAD = ("exact_match", "f1")
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
            tags = "|".join(name for name, words in (("sea", SEA), ("land", LAND)) if words[0] in about)
            rows.writerow([sentence(rng, about), ["both", "sea", "land"][(number + 1) % 3], tags])
    with (folder / "pairs.jsonl").open("w") as file:
        for _ in range(300):
            text = " ".join(rng.choices(SEA, k=rng.randint(2, 5)))
            print(json.dumps({"en": text, "up": " ".join(text.upper().split()[::-1])}), file=file)
    with (folder / "answers.jsonl").open("w") as file:
        for number in range(300):
            thing, position = rng.choice(SEA), rng.choice(LAND)
            context = f"{sentence(rng, LAND[3:])} the {thing} is at the {position} {number}."
            answer = {"text": [position], "answer_start": [context.index(f"at the {position}") + 7]}
            question = f"where is the {thing}?"
            if number % 5 == 0:
                answer, question = {"text": [], "answer_start": []}, "who is there?"
            print(json.dumps({"question": question, "context": context, "answers": answer}), file=file)
    (folder / "text.txt").write_text(words(3000))
    return folder


REVIEWS = ["dataset=classification_file", "dataset.files={}/classes.csv", "dataset.text=review"]
KINDS: dict[str, list[str]] = {
    "classes": [*REVIEWS, "dataset.label=stars"],
    "several classes": [*REVIEWS, "dataset.label=tags", "dataset.separator=|"],
    "pairs": ["dataset=pairs_file", "dataset.files={}/pairs.jsonl", "dataset.source=en", "dataset.target=up"],
    "answers": ["dataset=answers_file", "dataset.files={}/answers.jsonl", "dataset.answer=answers"],
    "text": ["dataset=text", "dataset.files={}/text.txt", "dataset.length_multiples=[1,2]"],
    "reversing": ["dataset=reverse_string", "dataset.train_lengths=[1,6]", "dataset.test_lengths=[4,8]"],
}
CASES = [
    *[("classes", "encoder"), ("classes", "decoder"), ("several classes", "encoder"), ("pairs", "encoder_decoder")],
    *[("pairs", "pointer_generator"), ("pairs", "decoder"), ("answers", "encoder"), ("text", "encoder")],
    *[("text", "encoder_decoder"), ("reversing", "encoder"), ("reversing", "decoder")],
]


def overrides_of(files: Path, kind: str) -> list[str]:
    data = [line.format(files) for line in KINDS[kind]]
    if kind != "reversing":
        data += ["dataset.tokenizer=bytes", "dataset.sequence_length=64", f"dataset.cache_dir={files}/cache"]
        data += [] if kind == "text" else ["dataset.max_length=256"]
        data += ["dataset.sequence_length=96"] if kind == "answers" else []
    return [*data, *TINY, "dataset.batch_size=16", "trainer.max_steps=4"]


def config_of(files: Path, kind: str, *overrides: str) -> dict[str, Any]:
    return composed(*overrides_of(files, kind), *overrides)


@pytest.fixture(scope="module")
def trained(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunDirectory]:
    """Trains a run on a kind of data, once for all tests that read it."""

    @cache
    def trained(kind: str, *overrides: str) -> RunDirectory:
        return run_of(config_of(files, kind, *overrides), tmp_path_factory.mktemp("run") / "run")

    return trained


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "model"), CASES)
def test_a_task_trains_and_is_measured_as_a_whole_and_by_length(trained, kind, model):
    run = trained(kind, f"model={model}")
    metrics = run.metrics()
    by_length = [tag for tag in metrics if tag.startswith("test/loss@")]
    assert len(by_length) >= 2
    accuracies = [value for tag, value in metrics.items() if "accuracy" in tag]
    assert accuracies and all(0 <= value <= 100 for value in accuracies)
    assert metrics["steps"] == 4 and metrics["train/tokens_per_second"] > 0
    log = run.log_file.read_text()
    assert "validation: " in log and "best checkpoint" in log


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "model"), [case for case in CASES if case[0] != "text"])
def test_the_loss_of_a_test_is_that_of_all_examples_one_by_one(trained, kind, model):
    """Padding, batches, lengths and rows that fill up the last batch change no metric, and each says of how many."""
    run = trained(kind, f"model={model}")
    data, task = opened(run.config())
    module = poslab.load(run.path)
    losses, counted, examples = 0.0, 0.0, 0
    for length in data.lengths_of("test"):
        of_length = every_example(data, length)
        assert run.metrics()[f"test/examples@{length}"] == len(of_length) > 0
        examples += len(of_length)
        for example in of_length:
            with torch.no_grad():
                sums = task.loss(module, example)
            losses, counted = losses + sums.loss.item(), counted + sums.counted.item()
    assert run.metrics()["test/loss"] == pytest.approx(losses / counted, rel=1e-4)
    assert run.metrics()["test/examples"] == examples


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "metric", "best"), [("classes", "accuracy", max), ("pairs", "loss", min)])
def test_the_state_is_kept_that_is_best_by_the_figure_of_its_task(trained, kind, metric, best):
    steps = ["trainer.max_steps=24", "trainer.validations=8", "optimizer.lr=2e-2"]
    run = trained(kind, *steps)
    with (run.path / "metrics.csv").open(newline="") as file:
        validated = [float(row["value"]) for row in csv.DictReader(file) if row["tag"] == f"validation/{metric}"]
    assert len(set(validated)) > 2
    assert run.metrics()[f"validation/{metric}"] == pytest.approx(best(validated))


@pytest.mark.slow
def test_two_processes_come_to_the_metrics_of_one(trained, tmp_path, files):
    """Also where the examples of a length do not divide by two, and one process has none of them."""
    assert_two_processes_come_to_the_metrics_of(trained("answers"), overrides_of(files, "answers"), tmp_path)


def every_example(data: Any, length: int) -> Any:
    """The held-out examples of a length, one a batch."""
    counts = np.array([True])
    splits = data.splits
    if isinstance(splits, ExampleSplits):
        return [
            data.task.collate(splits.examples("test")[[n]], counts) for n in splits.numbers("test", length).tolist()
        ]
    return [data.task.collate([example], counts) for example in splits.examples("test", length)]


@pytest.mark.slow
def test_classes_that_words_tell_are_learned_and_served(trained):
    more = ["trainer.max_steps=120", "dataset.tokenizer=bpe", "dataset.vocab_size=400"]
    run = trained("classes", *more)
    assert run.metrics()["test/accuracy"] > 80
    classify = poslab.serve(run.path)
    answer = classify("ship sail wave anchor tide")
    assert answer.text == "sea" and next(iter(answer.probabilities)) == "sea"
    assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert classify("horse barn field hill").text == "land"


@pytest.mark.slow
def test_an_encoder_learns_to_reverse_what_it_has_not_seen(trained):
    shape = ["model.d_model=64", "model.num_layers=2", "dataset.train_lengths=[1,10]", "dataset.test_lengths=[10]"]
    steps = ["trainer.max_steps=300", "dataset.batch_size=32", "optimizer.lr=3e-3", "trainer.log_every=50"]
    run = trained("reversing", *shape, *steps)
    assert run.metrics()["test/accuracy"] > 70  # chance is 50
    assert len(poslab.serve(run.path)("0 1 1 1 0 1 0 0").text.split()) == 8


@pytest.mark.parametrize("model", ["encoder", "decoder"])
def test_symbols_are_answered_by_symbols_and_others_are_told(trained, model):
    answer = poslab.serve(trained("reversing", f"model={model}").path)
    assert set(answer("0 1 1").text.split()) <= {"0", "1"}
    with pytest.raises(ValueError, match=r"^prompt: '2' is not a symbol of"):
        answer("0 2")


def test_an_answer_does_not_depend_on_those_before_it(trained):
    """Where a long prompt leaves little room under an encoding that ends."""
    ends = ["model=decoder", "encoding=learned", "encoding.max_length=90"]
    answer = poslab.serve(trained("reversing", *ends).path)
    before = answer("0 1 1")
    answer(" ".join(["0 1"] * 40))
    assert answer("0 1 1") == before


def test_beams_and_devices_that_there_are_not_are_refused(trained):
    run = trained("reversing").path
    with pytest.raises(ValueError, match=r"^beams must .*got 0$"):
        poslab.serve(run, beams=0)
    with pytest.raises(ValueError, match=r"^device must .*got abacus$"):
        poslab.serve(run, "abacus")
    reads = trained("answers").path
    with pytest.raises(ValueError, match=r"^beams must .*got 2$"):
        poslab.serve(reads, beams=2)


def test_an_answer_in_a_text_is_served(trained):
    answer = poslab.serve(trained("answers").path)
    context = "the ship is at barn 7."
    assert answer(f"where is the ship?\t{context}").text in context
    with pytest.raises(ValueError, match=r"^prompt must be a question and a"):
        answer("where is the ship?")


def test_training_on_questions_reads_no_texts(tmp_path, files, monkeypatch):
    read, make = set(), QuestionAnswering.collate

    def spy(self, rows, counts):
        read.add(frozenset(rows))
        return make(self, rows, counts)

    monkeypatch.setattr(QuestionAnswering, "collate", spy)
    metrics = run_of(config_of(files, "answers"), tmp_path / "run").metrics()
    of_training = frozenset({"tokens", "first", "span"})
    assert read == {of_training, of_training | {"places", "context", "answers"}}
    assert {"test/exact_match", "test/f1"} <= metrics.keys()


def test_found_answers_are_measured_as_by_squads_script(trained):
    run = trained("answers", "trainer.max_steps=40", "optimizer.lr=1e-2")
    (data, task), module, metrics = opened(run.config()), poslab.load(run.path), run.metrics()
    with torch.no_grad():
        batches = [
            task.collate(data.splits.examples("test")[[n]], np.array([True])) for n in range(metrics["test/examples"])
        ]
        answers = [answer for batch in batches for answer in task.observe(module, batch, "test").answers]
    scores = []
    for text, right in answers:
        target = {"id": "0", "answers": {"text": right, "answer_start": [0] * len(right)}}
        agree = 100.0 * (not text and not right)
        result = squad({"id": "0", "prediction_text": text}, target) if text and right else dict.fromkeys(SQUAD, agree)
        scores.append([float(result[name]) for name in SQUAD])
    assert [metrics[f"test/{name}"] for name in SQUAD] == pytest.approx(np.mean(scores, 0).tolist(), abs=1e-3)
    assert 0 < metrics["test/f1"] < 100


@pytest.mark.slow
def test_written_answers_are_measured_as_sacrebleu_and_rouge_score_do_in_the_test_alone(trained):
    from rouge_score.rouge_scorer import RougeScorer  # takes seconds, which other processes here need not wait

    run = trained("pairs", "trainer.max_steps=40", "optimizer.lr=1e-2")
    (data, task), module, metrics = opened(run.config()), poslab.load(run.path), run.metrics()
    examples, item = data.splits.examples("test"), np.array([True])
    with torch.no_grad():
        written = [task.written(module, data.task.collate(examples[[n]], item))[0] for n in range(len(examples))]
    texts, right = [data.tokenizer.decode(tokens.tolist()) for tokens in written], list(examples["target"])
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    rouge = [scorer.score(target, text) for text, target in zip(texts, right, strict=True)]
    expected = {
        "bleu": sacrebleu.corpus_bleu(texts, [right], force=True).score,
        "chrf": sacrebleu.corpus_chrf(texts, [right]).score,
        "exact_match": 100 * sum(map(str.__eq__, texts, right)) / len(right),
        **{f"rouge_{n}": 100 * np.mean([result[f"rouge{n.upper()}"].fmeasure for result in rouge]) for n in "12l"},
    }
    assert {name: metrics[f"test/{name}"] for name in expected} == pytest.approx(expected, abs=1e-3)
    assert 0 < expected["chrf"] < 100
    assert not any(f"validation/{name}" in metrics for name in expected)


@pytest.mark.parametrize("model", ["decoder", "encoder_decoder", "pointer_generator"])
def test_what_is_written_of_a_source_does_not_depend_on_its_batch(trained, model):
    """Also where a text does not end, as that of an untrained model."""
    run = trained("pairs", f"model={model}", "trainer.max_steps=1", "trainer.validations=1")
    data, task = opened(run.config())
    module = poslab.load(run.path)
    assert isinstance(task, SequenceToSequence)
    task.longest = 1000
    examples = data.splits.examples("test")
    shortest, longest = np.argsort(examples["length"])[[0, -1]].tolist()
    with torch.no_grad():
        alone, other, together = (
            task.written(module, data.task.collate(examples[rows], np.array([True] * len(rows))))
            for rows in ([shortest], [longest], [shortest, longest])
        )
    assert len(alone[0]) < len(other[0])
    assert [text.tolist() for text in together] == [alone[0].tolist(), other[0].tolist()]


@pytest.mark.parametrize(
    ("kind", "model", "choices"),
    [
        ("classes", "encoder_decoder", "decoder or encoder"),
        ("pairs", "encoder", "decoder or encoder_decoder or pointer_generator"),
        ("answers", "decoder", "encoder"),
        ("reversing", "pointer_generator", "decoder or encoder"),
    ],
)
def test_a_model_without_a_task_on_its_data_is_refused_with_those_that_have_one(files, kind, model, choices):
    with pytest.raises(ValueError) as refused:
        check(config_of(files, kind, f"model={model}"))
    said = re.fullmatch(rf"model must be (.*) for .*, got {model}", str(refused.value))
    named = said[1].split(" or ")
    assert set(named) <= {path.stem for path in CONF.glob("model/*.yaml")}
    computed = [name for name in named if name in ("decoder", "encoder", "encoder_decoder", "pointer_generator")]
    assert " or ".join(computed) == choices


@pytest.mark.slow
@pytest.mark.parametrize("model", ["decoder", "encoder_decoder"])
def test_a_source_is_cut_and_its_target_is_whole(trained, model):
    run = trained("pairs", f"model={model}", "dataset.source_length=9")
    data, _ = opened(run.config())
    examples = data.splits.examples("train")
    end = data.tokenizer.end_id
    for source, read, target in zip(examples["source"], examples["source_tokens"], examples["target"], strict=True):
        assert read == [*source.encode()[:8], end] and len(target) >= len(source)
    answer = poslab.serve(run.path)
    assert answer("ship sail wave") == answer("ship sai")


def test_a_text_without_a_target_has_no_source_to_cut(files):
    with pytest.raises(ValueError, match=r"^dataset.source_length must be"):
        check(config_of(files, "classes", "dataset.source_length=9"))


def test_longer_examples_than_are_trained_on_are_tested_alone(trained):
    run = trained("classes", "dataset.sequence_length=48")
    lengths = {int(tag.partition("@")[2]) for tag in run.metrics() if tag.startswith("test/loss@")}
    assert max(lengths) > 48
    data, _ = opened(run.config())
    assert max(data.splits.examples("train")["length"]) <= 48 < max(data.splits.examples("test")["length"])


@pytest.mark.slow
def test_the_command_answers_a_prompt_with_probabilities_and_lines_with_a_line_each(trained, capsys, monkeypatch):
    run = trained("classes")
    capsys.readouterr()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose("generate", overrides=[f"run={run.path}"]))
    generate(config, Path(), [], "ship sail, wave")
    told, *classes = capsys.readouterr().out.splitlines()
    assert {line.split()[1] for line in classes} == {"both", "land", "sea"}
    assert classes[0].split()[1] == told
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("ship sail\n\nhörse barn\n".encode())))
    generate(config, Path(), [], "-")
    first, blank, last = capsys.readouterr().out.splitlines()
    assert {first, last} <= {"both", "land", "sea"} and blank == ""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("hörse barn\n".encode("latin-1"))))
    with pytest.raises(ValueError, match=r"^prompt=- must .*line 1"):
        generate(config, Path(), [], "-")
    with pytest.raises(ValueError, match=r"^prompt must be UTF-8 text"):
        generate(config, Path(), [], "h\udcf6rse")
    with pytest.raises(ValueError, match=r"^prompt must be a text to"):
        generate(config, Path(), [], "")


@pytest.mark.parametrize("model", ["encoder", "encoder_decoder"])
def test_what_fills_in_text_answers_nothing(trained, model):
    run = trained("text", f"model={model}")
    with pytest.raises(ValueError, match=r"answers nothing$"):
        poslab.serve(run.path)
    assert "src.generate" not in run.log_file.read_text()
