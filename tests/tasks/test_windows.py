"""Targets of a window: the next token, masked tokens, spans that were taken out."""

import numpy as np
import pytest
import torch

from poslab.data.batch import IGNORE
from poslab.data.corpus import WindowRows
from poslab.tasks.language_modelling import LanguageModelling, MaskedLanguageModelling, SpanCorruption

WINDOWS = np.random.default_rng(0).integers(50, size=(6, 101)).astype(np.uint16)
ALL_THERE = np.ones(WINDOWS.shape, dtype=bool)
MASKED = MaskedLanguageModelling(vocab_size=50)
CORRUPTED = SpanCorruption(60, 51, longest=100)
MASK, END, FIRST_SENTINEL = 50, 51, 60


def missing_from(position: int) -> np.ndarray:
    counts = ALL_THERE.copy()
    counts[-1, position:] = False
    return counts


def test_the_next_token_is_predicted_up_to_the_end_of_the_text():
    batch = LanguageModelling({}).collate(WindowRows(WINDOWS, range(6)), missing_from(31))
    assert torch.equal(batch.tokens, torch.from_numpy(WINDOWS[:, :-1].astype(np.int64)))
    assert torch.equal(batch.targets[:5], torch.from_numpy(WINDOWS[:5, 1:].astype(np.int64)))
    assert (batch.targets[5] != IGNORE).sum() == 30


def test_fifteen_percent_are_predicted_and_all_others_are_seen():
    batch = MASKED.collate(WindowRows(WINDOWS, range(6)), ALL_THERE)
    text = torch.from_numpy(WINDOWS[:, :-1].astype(np.int64))
    chosen = batch.targets != IGNORE
    assert (chosen.sum(1) == 15).all()
    assert torch.equal(batch.targets[chosen], text[chosen])
    assert torch.equal(batch.tokens[~chosen], text[~chosen])
    assert batch.real is None


def test_of_them_80_percent_are_masked_10_percent_stay_and_10_percent_are_others():
    windows = np.random.default_rng(1).integers(50, size=(400, 101))
    batch = MASKED.collate(WindowRows(windows, range(400)), np.ones_like(windows, dtype=bool))
    chosen = batch.targets != IGNORE
    masked, kept = batch.tokens[chosen] == MASK, batch.tokens[chosen] == batch.targets[chosen]
    assert masked.float().mean() == pytest.approx(0.8, abs=0.02)
    assert kept.float().mean() == pytest.approx(0.1 + 0.1 / 50, abs=0.02)


def test_what_is_masked_is_a_function_of_the_window_alone():
    together = MASKED.collate(WindowRows(WINDOWS, [7, 3, 9, 1, 0, 2]), ALL_THERE)
    alone, other = (MASKED.collate(WindowRows(WINDOWS[1:2], [number]), ALL_THERE[1:2]) for number in (3, 4))
    assert torch.equal(alone.tokens[0], together.tokens[1])
    assert not torch.equal(other.targets, alone.targets)


def test_behind_the_end_of_the_text_nothing_is_masked_or_seen():
    batch = MASKED.collate(WindowRows(WINDOWS, range(6)), missing_from(41))
    assert (batch.targets[5, :41] != IGNORE).sum() == round(0.15 * 41)
    assert (batch.targets[5, 41:] == IGNORE).all()
    assert batch.real[5].sum() == 41 and batch.real[:5].all()


def test_a_row_behind_the_end_counts_nothing_and_sees_itself():
    batch = MASKED.collate(WindowRows(WINDOWS, range(6)), missing_from(0))
    assert (batch.targets[5] == IGNORE).all() and batch.real[5].tolist() == [True] + [False] * 99


def restored(source: list[int], target: list[int]) -> list[int]:
    """The text whose spans the target holds."""
    spans: dict[int, list[int]] = {}
    for token in target:
        if token >= FIRST_SENTINEL:
            current = spans.setdefault(token, [])
        else:
            current.append(token)
    return [t for token in source for t in (spans[token] if token >= FIRST_SENTINEL else [token])]


def test_the_spans_put_back_give_the_text():
    batch = CORRUPTED.collate(WindowRows(WINDOWS, range(6)), ALL_THERE)
    for row in range(6):
        source, target = batch.source[row].tolist(), batch.targets[row].tolist()
        assert target[-1] == END
        assert restored(source, target[:-1]) == WINDOWS[row, :-1].tolist()
        sentinels = [token for token in source if token >= FIRST_SENTINEL]
        assert sentinels == [FIRST_SENTINEL + number for number in range(5)]  # 15 tokens in spans of 3
        assert len(source) == 100 - 15 + 5
        assert batch.target[row].tolist() == [END, *target[:-1]]


def test_spans_have_the_mean_length_that_was_asked_for_and_never_touch():
    corrupted = SpanCorruption(FIRST_SENTINEL, END, longest=100, share=0.5, mean_span=2.0)
    batch = corrupted.collate(WindowRows(WINDOWS, range(6)), ALL_THERE)
    assert corrupted.num_spans(100) == 25
    is_sentinel = batch.source >= FIRST_SENTINEL
    assert (is_sentinel.sum(1) == 25).all()
    assert not (is_sentinel[:, 1:] & is_sentinel[:, :-1]).any()


def test_a_window_that_the_text_does_not_fill_counts_nothing():
    batch = CORRUPTED.collate(WindowRows(WINDOWS, range(6)), missing_from(80))
    assert (batch.targets[5] == IGNORE).all() and (batch.targets[:5] != IGNORE).all()
