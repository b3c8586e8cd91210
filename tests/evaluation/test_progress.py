"""An evaluation says how far it is, and continues where it was killed."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from poslab.evaluation.command import SECONDS_BETWEEN_LINES, now_and_then, summary
from poslab.evaluation.evaluation import Evaluation
from poslab.evaluation.extrapolation import extrapolate
from poslab.evaluation.parts.retrieval import _overview
from poslab.evaluation.settings import Progress
from poslab.report.figures import Section, Table
from tests.encoding_choices import VOCAB_SIZE, small_decoder


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def after(self, seconds: float) -> np.ndarray:
        self.now += seconds
        return np.zeros(1)


def test_an_evaluation_that_was_killed_continues_with_equal_numbers(tmp_path):
    text, model, made = np.random.default_rng(0).integers(VOCAB_SIZE, size=400), small_decoder("rotary"), []

    def killed_after(steps: int) -> Progress:
        def announce(line: str) -> None:
            if "windows" in line:
                made.append(line)
                if len(made) > steps:
                    raise KeyboardInterrupt

        progress = Progress(announce, tmp_path / "kept")
        progress.begin("extrapolation", 1)
        return progress

    def run(progress: Progress) -> pd.DataFrame:
        return extrapolate(model, text, [8, 16], 8, VOCAB_SIZE, 1.0, step=progress.of("rotary")).by_length

    with pytest.raises(KeyboardInterrupt):
        run(killed_after(2))
    made.clear()
    progress = killed_after(4)
    continued = run(progress)
    assert len(made) == 2  # of four: two lengths under two protocols
    assert_frame_equal(continued, run(Progress()))
    progress.forget()
    assert not (tmp_path / "kept").exists()


def test_what_is_kept_and_damaged_is_made_again(tmp_path):
    for content in (b"", b"no numbers"):
        for file in tmp_path.glob("*.npy"):
            file.write_bytes(content)
        progress = Progress(kept=tmp_path)
        progress.begin("a part")
        assert progress.step("a step", 1, lambda: np.arange(3)).tolist() == [0, 1, 2]
    assert len(list(tmp_path.iterdir())) == 1


def test_the_time_that_is_left_follows_from_the_steps_that_were_made(tmp_path):
    lines, clock = [], Clock()
    progress = Progress(lines.append, clock=clock)
    progress.begin("retrieval", 4)
    for name, work in (("first", 1), ("second", 2), ("third", 1)):
        progress.step(name, work, lambda work=work: clock.after(100 * work))
    assert lines[:2] == ["retrieval ...", "retrieval: first"]
    assert ["about 5 min" in lines[2], "about 2 min" in lines[3]] == [True, True]


def test_lines_for_a_log_have_some_time_between_them():
    lines, clock = [], Clock()
    announce = now_and_then(lines.append, clock)
    for seconds, line in ((0, "a ..."), (1, "b"), (SECONDS_BETWEEN_LINES, "c"), (1, "d"), (1, "e ...")):
        clock.after(seconds)
        announce(line)
    assert lines == ["a ...", "c", "e ..."]


def test_retrieval_is_in_the_table_of_the_terminal_beside_that_of_lengths():
    frame = pd.DataFrame({"task": ["passkey"] * 3, "length": [256, 256, 512], "accuracy": [100.0, 50.0, math.nan]})
    table = _overview({"rotary": frame})
    assert table.frame.to_dict("records") == [
        {"metric": "retrieval accuracy (%)", "task": "passkey", "256": "75.0", "512": None}
    ]
    evaluation = Evaluation(lead=Section("Conclusion", "It holds.", [Table("overview", "", "", frame)]))
    evaluation.add(Evaluation(lead=Section("Conclusion", "", [table])))
    assert evaluation.lead.text == "It holds." and evaluation.lead.figures[1] is table
    (lines,) = summary(Evaluation(lead=Section("Conclusion", "", [table])))
    assert [column.header for column in lines.columns] == ["", "256", "512"]
    assert list(lines.columns[1].cells) == ["75.0"]
