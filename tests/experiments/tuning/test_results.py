"""Words of a sweep's results."""

import pytest

from poslab.experiments.tuning import results


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("bits_per_byte", "bits per byte by length: 2.5000 at 16, 3.1250 at 1,024"),
        ("accuracy", "accuracy by length: 50.0000 at 16"),
        ("f1", ""),
    ],
)
def test_the_test_of_the_best_trial_is_in_the_metric_of_its_task(metric: str, words: str) -> None:
    scores = {
        "test/bits_per_byte": 2.5,
        "test/bits_per_byte@16": 2.5,
        "test/bits_per_byte@1024": 3.125,
        "test/accuracy@16": 50.0,
        "test/examples@16": 7.0,
    }
    assert results.tested_by_length(scores, metric) == words
