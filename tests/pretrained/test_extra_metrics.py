"""Sentence vectors of a pretrained model are compared with those of the model that it was."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np

from poslab.evaluation.scores.extra_metrics import measure_extra
from tests.pretrained.tiny import ROWS
from tests.training.runs import SMALL, WORDS, composed, run_of


def measured(folder: Path, encoding: str, *overrides: str):
    """The extra scores of a run of zero steps of the tiny BERT."""
    if not (folder / "classes.csv").exists():
        rng = random.Random(0)
        with (folder / "classes.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["text", "label"])
            for _ in range(200):
                text = rng.choices(WORDS.split(), k=rng.randint(3, 7))
                rows.writerow([" ".join(text), text[0] < "n"])
    of_ours = [word for word in SMALL if not word.startswith(("model.", "dataset", "trainer.max", "trainer.valid"))]
    data = ["dataset=classification_file", f"dataset.files={folder / 'classes.csv'}", f"dataset.sequence_length={ROWS}"]
    model = ["model=pretrained", f"model.path={folder / 'bert'}", f"encoding={encoding}", "trainer.max_steps=0"]
    cache = [f"dataset.cache_dir={folder / 'cache'}", "dataset.deduplicate=false"]
    run = run_of(composed(*of_ours, *data, *model, *cache, *overrides), folder / encoding)
    wanted = [("cosine", None), ("probe_accuracy", None), ("passkey_ndcg", 100)]
    return measure_extra(run.path, wanted).scores


def test_the_untouched_model_is_like_itself_and_ends_with_its_rows(folder):
    scores = measured(folder, "pretrained")
    np.testing.assert_allclose(scores["cosine", None].sums, 1, atol=1e-5)
    assert ("passkey_ndcg", 100) not in scores
    assert 0 <= scores["probe_accuracy", None].value <= 100


def test_under_another_encoding_it_is_less_like_itself_on_the_same_items_and_reads_longer_texts(folder):
    own, other = measured(folder, "pretrained"), measured(folder, "alibi")
    assert 0 < other["cosine", None].value < 0.999
    assert other["passkey_ndcg", 100].counts.sum() == 32
    for key in own:
        assert other[key].identity == own[key].identity


def test_rows_that_are_copied_change_nothing_within_their_length(folder):
    longer = ["encoding.max_length=120", "start=copied"]
    scores = measured(folder, "learned", *longer)
    np.testing.assert_allclose(scores["cosine", None].sums, 1, atol=1e-5)
    assert scores["passkey_ndcg", 100].counts.sum() == 32
