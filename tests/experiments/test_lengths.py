"""Lengths of a test, which the data must have before anything is trained."""

from __future__ import annotations

import pytest

from poslab.data.run_data import RunData
from poslab.experiments.configurations import checked_lengths
from poslab.experiments.metrics import extra_tags, is_share
from poslab.runs.recipe import Recipe
from poslab.tasks.language_modelling import LanguageModelling
from poslab.training.components import prepared_data
from tests.experiments.comparisons import comparison
from tests.training.runs import composed, small


def lengths_of(config, metric, lengths, **changes):
    """The checked lengths of a case on this data."""
    recipe = Recipe.of(config)
    data: RunData = prepared_data(recipe)
    case = {"train": {}, "lengths": lengths, "metrics": {metric: {"direction": "minimize"}}}
    return checked_lengths(comparison(cases={"this": case}, **changes), "this", recipe, data)


def test_multiples_are_of_the_training_length(tmp_path):
    assert lengths_of(small(tmp_path), "bits_per_byte@2x", ["1x", 32, "4x"]) == [16, 32, 64]
    assert lengths_of(small(tmp_path), "bits_per_byte@0.5x", ["0.5x", "1x"]) == [8, 16]
    with pytest.raises(ValueError, match=r"^cases.this: lengths must be .*0.3x"):
        lengths_of(small(tmp_path), "bits_per_byte@1x", ["0.3x", "1x"])
    with pytest.raises(ValueError, match=r"^cases.this:.*of its test, 16 "):
        lengths_of(small(tmp_path), "bits_per_byte@0.3x", ["1x"])


def test_a_window_longer_than_the_text_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"^cases.this:.*must lie between"):
        lengths_of(small(tmp_path), "bits_per_byte@1x", ["1x", 100_000])


def test_a_length_of_which_the_test_has_no_example_is_one_sentence():
    config = composed("dataset=copy", "dataset.task.num_words=2", "dataset.train_lengths=[3,8]")
    assert lengths_of(config, "exact_match@8", [8, 12]) == [8, 12]
    with pytest.raises(ValueError, match=r"^cases\.this:.*be .* none of 1$"):
        lengths_of(config, "exact_match@8", [1, 8])


def test_a_metric_beside_those_of_the_task_names_the_length_of_its_texts(tmp_path):
    assert lengths_of(small(tmp_path), "passkey_loss@150", [16, 32]) == [16, 32]
    assert lengths_of(small(tmp_path), "passkey_accuracy@16x", [16]) == [16]
    for tag in ("passkey_loss", "passkey_loss@beyond"):
        with pytest.raises(ValueError, match=rf"^cases.this: {tag} must have a length"):
            lengths_of(small(tmp_path), tag, [16])


def test_a_length_without_room_for_the_texts_of_a_metric_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"^cases.this:.*needs a length of at least"):
        lengths_of(small(tmp_path), "passkey_loss@2x", [16])


def test_a_prediction_of_a_metric_that_the_task_lacks_is_one_sentence(tmp_path):
    def with_metric(metric):
        low = {"say": "low", "case": "this", "of": "none", "metric": metric, "at_most": 1}
        return lengths_of(small(tmp_path), "bits_per_byte@1x", ["1x"], predictions=[low])

    assert with_metric("bits_per_byte@8x") == [16]  # at a length that a small preset may leave out
    with pytest.raises(ValueError, match=r"^predictions: there is no metric bits_per_bite in this.*'bits_per_byte'"):
        with_metric("bits_per_bite@1x")


def test_a_metric_of_another_task_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"^cases.this: .* metric probe_accuracy"):
        lengths_of(small(tmp_path), "probe_accuracy", [16])


def test_a_tuning_beyond_the_training_length_needs_longer_validation():
    def tuned(*test_lengths):
        config = composed("dataset=copy", "dataset.task.num_words=2", "dataset.train_lengths=[3,8]")
        config["dataset"]["test_lengths"] = [*test_lengths]
        tuning = {"metric": "exact_match_beyond", "direction": "maximize", "space": {"optimizer.lr": [0.1, 0.2]}}
        return lengths_of(config, "exact_match@8", [*test_lengths], tuning=tuning)

    assert tuned(8, 12) == [8, 12]
    with pytest.raises(ValueError, match=r"^cases.this: tuning.metric must be one of .* got exact_match_beyond"):
        tuned(8)


@pytest.mark.parametrize("tag", ["perplexity@4x", "loss@4x", "accuracy@4x", "loss", "accuracy@beyond"])
def test_a_metric_that_a_text_has_no_scores_of_is_refused_before_training(tmp_path, tag):
    message = rf"^cases.this: .* no metric {tag.partition('@')[0]} .* bits_per_byte, sliding_"
    with pytest.raises(ValueError, match=message):
        lengths_of(small(tmp_path), tag, ["1x", "4x"])


def test_the_gain_of_context_is_beyond_the_training_length(tmp_path):
    assert lengths_of(small(tmp_path), "context_gain@2x", ["1x", "2x"]) == [16, 32]
    with pytest.raises(ValueError, match=r"^cases.this: context_gain@1x is at none of the lengths"):
        lengths_of(small(tmp_path), "context_gain@1x", ["1x", "2x"])


def test_extra_metrics_have_lengths_in_tokens():
    tags = ("bits_per_byte@4x", "passkey_loss@4x", "passkey_accuracy@300", "cosine")
    metrics = {tag: {"direction": "minimize"} for tag in tags}
    gate = {"metric": "passkey_accuracy@20x", "at_least": 50}
    found = extra_tags(comparison(metrics=metrics, gate=gate), "copying", 10)
    assert found == ["passkey_loss@40", "passkey_accuracy@300", "cosine", "passkey_accuracy@200"]


def test_losses_and_cosines_are_no_shares():
    assert is_share("passkey_accuracy", LanguageModelling.open_ended) and is_share("probe_accuracy", ())
    for metric in ("passkey_loss", "cosine", "sliding_bits_per_byte", "context_gain", "loss"):
        assert not is_share(metric, LanguageModelling.open_ended)
