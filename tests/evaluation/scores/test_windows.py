"""Every token but the first is predicted once, by the window that the protocol says."""

import numpy as np
import pytest

from poslab.data.batch import IGNORE
from poslab.evaluation.scores.tokens import TextWindows


def predictions(windows: TextWindows, tokens: np.ndarray, rows: int, processes: int = 1) -> dict[int, list[int]]:
    """For each predicted place of the text, the tokens that were seen before it."""
    seen: dict[int, list[int]] = {}
    for process in range(processes):
        for numbers in windows.numbers(rows, process, processes):
            batch, place_BT = windows.batch(tokens, numbers, None)
            for row, column in zip(*np.nonzero((batch.targets != IGNORE).numpy()), strict=True):
                position = int(place_BT[row, column])
                assert position not in seen
                assert batch.targets[row, column] == tokens[position]
                assert batch.tokens.min() >= tokens[0]
                seen[position] = batch.tokens[row, : column + 1].tolist()
    return seen


@pytest.mark.parametrize("num_tokens", [2, 7, 8, 9, 10, 23])
@pytest.mark.parametrize(("length", "stride"), [(1, 1), (4, 4), (4, 1), (4, 3), (8, 5), (30, 30), (30, 7)])
@pytest.mark.parametrize(("rows", "processes"), [(2, 1), (2, 3), (1, 1)])
def test_each_token_but_the_first_is_predicted_once(num_tokens, length, stride, rows, processes):
    tokens = np.arange(100, 100 + num_tokens)
    seen = predictions(TextWindows(num_tokens, length, stride), tokens, rows, processes)
    assert sorted(seen) == list(range(1, num_tokens))


def test_windows_that_slide_by_one_see_all_that_a_window_holds():
    tokens = np.arange(20)
    for position, context in predictions(TextWindows(20, 6, 1), tokens, 3).items():
        assert context == tokens[max(0, position - 6) : position].tolist()


def test_windows_that_do_not_overlap_see_their_own_beginning_alone():
    tokens = np.arange(20)
    for position, context in predictions(TextWindows(20, 6, 6), tokens, 3).items():
        assert context == tokens[(position - 1) // 6 * 6 : position].tolist()


def test_windows_that_slide_by_a_few_see_at_least_what_the_window_before_held():
    tokens = np.arange(50)
    contexts = predictions(TextWindows(50, 10, 4), tokens, 3)
    assert all(len(context) >= 7 for position, context in contexts.items() if position > 10)


@pytest.mark.parametrize("num_tokens", [2, 9, 23, 61])
@pytest.mark.parametrize(("length", "stride"), [(1, 1), (4, 4), (4, 2), (6, 2), (5, 2), (8, 6), (30, 15)])
def test_windows_that_are_known_begin_where_one_that_does_not_overlap_does(num_tokens, length, stride):
    windows, others = TextWindows(num_tokens, length, stride), TextWindows(num_tokens, length, length)
    starts = {length * number for number in range(len(others))}
    known = windows.is_known(np.arange(len(windows)))
    assert known.tolist() == [stride * number in starts for number in range(len(windows))]
    left = [number for numbers in windows.numbers(3, only_unknown=True) for number in numbers]
    assert left == np.flatnonzero(~known).tolist()
    for numbers in windows.numbers(1):
        batch, position_BT = windows.batch(np.arange(num_tokens), numbers, None)
        predicted = position_BT[batch.targets.numpy() != IGNORE]
        assert (windows.predicting[predicted - 1] == numbers).all()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((1, 4, 4), r"num_tokens must .*got 1"),
        ((9, 0, 1), r"length must .*got 0"),
        ((9, 4, 5), r"stride must .*got 5"),
        ((9, 4, 0), r"stride must .*got 0"),
    ],
)
def test_a_number_out_of_its_range_is_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        TextWindows(*arguments)
