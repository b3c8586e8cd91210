from __future__ import annotations

import pytest

from poslab.experiments.sweep import SearchObjective, Sweep

METRICS = {"validation/bits_per_byte@64": 1.0, "validation/bits_per_byte@128": 2.0, "validation/bits_per_byte@256": 6.0}


def test_an_objective_is_the_mean_of_its_metrics_at_times_of_the_training_length():
    tags = [f"validation/bits_per_byte@{times}x" for times in (1, 2, 4)]
    objective = SearchObjective.of({"mean": tags, "direction": "minimize"})

    assert objective.value(METRICS, training_length=64) == 3.0
    assert objective.lengths(64) == [64, 128, 256]
    assert objective.label == "validation/bits_per_byte@1x+2x+4x"


def test_lengths_may_be_a_part_of_the_training_length_if_it_is_whole():
    assert SearchObjective.of("validation/bits_per_byte@0.5x").lengths(128) == [64]
    assert SearchObjective.of("validation/bits_per_byte@0.5x").value(METRICS, training_length=128) == 1.0
    with pytest.raises(ValueError, match=r"lengths must .* 0\.3x"):
        SearchObjective.of("validation/bits_per_byte@0.3x").lengths(64)


def test_a_metric_that_a_run_does_not_have_is_named():
    with pytest.raises(ValueError, match="validation/bits_per_byte@512"):
        SearchObjective.of("validation/bits_per_byte@8x").value(METRICS, training_length=64)


def test_only_what_a_validation_tells_can_be_reported_early():
    assert SearchObjective.of("validation/accuracy").is_known_at_validations()
    assert not SearchObjective.of(
        {"mean": ["train/tokens_per_second"], "direction": "maximize"}
    ).is_known_at_validations()


@pytest.mark.parametrize(
    ("nodes", "sentence"),
    [
        ([], "objectives must be a list of"),
        ("validation/loss", "objectives must be a list of"),
        (["test/loss"], "objectives must .* test/loss"),
        (["loss"], "objectives must .* got loss"),
        ([{"mean": []}], "objectives: mean must list metrics"),
        ([{"mean": ["validation/loss"], "direction": "down"}], "direction .* got down"),
        ([{"sum": ["validation/loss"]}], "objectives must be a list of"),
    ],
)
def test_an_objective_that_means_nothing_is_one_sentence(nodes, sentence):
    with pytest.raises(ValueError, match=sentence):
        Sweep(name="a", question="b", output="c", space={"seed": {"int": [1, 2]}}, n_trials=2, objectives=nodes)
