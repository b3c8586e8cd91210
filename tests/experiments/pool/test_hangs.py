from __future__ import annotations

import os

from poslab.experiments.pool.hangs import HangDetector


class Clock:
    """Seconds that a test lets pass."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_worker_hangs_when_nothing_new_appears_for_too_long(tmp_path):
    clock = Clock()
    detector = HangDetector(60, clock)
    (tmp_path / "train.log").touch()
    assert not detector.hangs(tmp_path)

    clock.now = 50
    os.utime(tmp_path / "train.log", (1, 1))
    assert not detector.hangs(tmp_path), "it has written"
    clock.now = 105
    assert not detector.hangs(tmp_path)
    clock.now = 115
    assert detector.hangs(tmp_path)


def test_a_worker_without_a_job_does_not_hang():
    clock = Clock()
    detector = HangDetector(60, clock)
    clock.now = 1000

    assert not detector.hangs(None)


def test_a_job_whose_directory_is_not_there_yet_has_the_same_time(tmp_path):
    clock = Clock()
    detector = HangDetector(60, clock)
    clock.now = 50
    assert not detector.hangs(tmp_path / "none")
    clock.now = 61
    assert detector.hangs(tmp_path / "none")
