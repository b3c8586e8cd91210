"""Metrics beside those of a task are those of the evaluation's own functions, item by item."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from poslab.evaluation.embeddings import TEXTS, fitted_probe, nearest_answers, passkey_texts, sentence_vectors
from poslab.evaluation.opening import open_run
from poslab.evaluation.parts.retrieval import retrieval
from poslab.evaluation.scores.extra_metrics import DEPTHS, PROMPTS, SEED, extra_metrics_of, measure_extra
from poslab.runs.directory import RunDirectory
from poslab.runs.recipe import recipe_of
from tests.tasks import test_runs as kinds
from tests.training.runs import run_of, small

files = kinds.files


@pytest.fixture(scope="module")
def of_text(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    folder = tmp_path_factory.mktemp("text")
    return run_of(small(folder, "encoding=learned", "encoding.max_length=200"), folder / "run")


@pytest.fixture(scope="module")
def of_classes(files: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    config = kinds.config_of(files, "classes", "model=encoder", "encoding=rotary")
    return run_of(config, tmp_path_factory.mktemp("classes") / "run")


def test_a_metric_of_retrieval_is_that_of_the_part_of_an_evaluation(of_text):
    result = measure_extra(of_text.path, [("passkey_loss", 160), ("passkey_accuracy", 160)])
    opened = open_run(of_text.path)
    filler = np.asarray(opened.data.splits.tokens("test"))
    asked = {"lengths": [160], "depths": DEPTHS, "samples": PROMPTS, "seed": SEED, "filler": filler}
    expected = retrieval(opened.model, opened.data.tokenizer, ["passkey"], **asked)
    loss = result.scores["passkey_loss", 160]
    assert len(loss.sums) == len(DEPTHS) * PROMPTS
    assert loss.value == pytest.approx(expected["loss"].mean(), rel=1e-5)
    assert result.scores["passkey_accuracy", 160].value == pytest.approx(expected["accuracy"].mean())


def test_no_prompt_counts_twice_where_a_task_has_no_depth(of_text):
    result = measure_extra(of_text.path, [("copying_loss", 40)]).scores["copying_loss", 40]
    assert len(result.sums) == len(set(result.sums)) == len(DEPTHS) * PROMPTS


def test_a_length_beyond_the_end_of_an_encoding_has_no_score(of_text):
    result = measure_extra(of_text.path, [("passkey_loss", 160), ("passkey_loss", 201)])
    assert {length for _, length in result.scores} == {160}


def test_what_is_known_is_not_measured_again(of_text):
    kept = []
    run = of_text.path
    first = measure_extra(run, [("passkey_loss", 150), ("passkey_loss", 160)], keep=kept.append)
    assert [{length for _, length in item.scores} for item in kept] == [{150}, {150, 160}]

    def fail() -> None:
        raise AssertionError("a batch is read")

    again = measure_extra(
        of_text.path,
        [("passkey_loss", 150), ("passkey_accuracy", 160)],
        known=first,
        check_cancelled=fail,
    )
    assert again.scores.keys() == first.scores.keys()


def test_a_length_without_room_is_one_sentence(of_text):
    with pytest.raises(ValueError, match=r"^task=passkey needs a length of at least \d+ tokens .*got 20$"):
        measure_extra(of_text.path, [("passkey_loss", 20)])


def test_a_run_of_classes_has_a_probe_and_a_search(of_classes):
    result = measure_extra(of_classes.path, [("probe_accuracy", None), ("passkey_ndcg", 150)])
    opened = open_run(of_classes.path)
    model = opened.model
    questions, texts = passkey_texts(opened.data.tokenizer, 150, TEXTS, SEED)
    is_nearest = nearest_answers(sentence_vectors(model, questions), sentence_vectors(model, texts))
    np.testing.assert_array_equal(result.scores["passkey_ndcg", 150].sums, 100.0 * is_nearest)

    def vectors(split: str) -> tuple[np.ndarray, np.ndarray]:
        examples = opened.data.splits.examples(split)
        rows = [np.asarray(tokens[:64]) for tokens in examples["tokens"]]
        numbers = np.array([opened.task.classes.index(label) for label in examples["label"]])
        return sentence_vectors(model, rows), numbers

    (learned, its), (read, actual) = vectors("train"), vectors("test")
    accuracy = 100 * (fitted_probe(learned, its)(read) == actual).mean()
    probe = result.scores["probe_accuracy", None]
    assert len(probe.sums) == len(actual) == probe.counts.sum()
    assert probe.value == pytest.approx(accuracy, abs=15)  # the probe learns from whole batches alone


def test_each_task_has_its_own(of_text, of_classes):
    text, classes = (extra_metrics_of(recipe_of(run)) for run in (of_text, of_classes))
    assert {"passkey_accuracy", "passkey_loss", "json_kv_accuracy", "vt_loss"} <= set(text)
    assert classes == ["passkey_ndcg", "probe_accuracy"]  # there is no untouched model to be like
