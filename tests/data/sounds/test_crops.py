"""All sounds are cropped to one length: in training at places drawn by seed and step, else at their beginning."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from poslab.data.order import BatchPlan
from poslab.data.patched.sounds import SoundFolder
from poslab.data.run_data import RunData
from poslab.tasks.patch_classification import PatchBatch, SoundClassification

from .small import write_sounds


def source_of(tmp_path: Path, **arguments: Any) -> SoundFolder:
    """Sounds of 18, 28 and 48 frames, with crops of 16."""
    if not (tmp_path / "s").exists():
        write_sounds(tmp_path / "s")
    settings: dict[str, Any] = {"path": str(tmp_path / "s"), "cache_dir": str(tmp_path / "cache"), "seconds": 0.16}
    return SoundFolder(**settings | {"length_multiples": [2, 4], "sequence_length": 4, "batch_size": 8} | arguments)


def opened(source: SoundFolder) -> RunData:
    data = RunData(source)
    data.prepare_data()
    data.setup()
    data.connect(SoundClassification.of(data), None)
    return data


def training(data: RunData, **plan: Any) -> list[PatchBatch]:
    return list(data.training_batches(BatchPlan(8, last_step=4, **plan)))


def test_crops_of_training_are_a_function_of_seed_and_step(tmp_path):
    data = opened(source_of(tmp_path))
    batches, again = training(data), training(opened(source_of(tmp_path)))
    assert all(torch.equal(one.patches, other.patches) for one, other in zip(batches, again, strict=True))
    resumed = training(data, first_step=2)
    assert all(torch.equal(one.patches, other.patches) for one, other in zip(batches[2:], resumed, strict=True))
    halves = training(data, accumulate=2)
    together = torch.cat([half.patches for half in halves[:2]])
    assert torch.equal(together, batches[0].patches)
    other = training(opened(source_of(tmp_path, seed=1)))
    assert not torch.equal(batches[0].patches, other[0].patches)


def test_a_crop_of_training_lies_anywhere_within_its_sound(tmp_path):
    data = opened(source_of(tmp_path))
    stored, found = data.splits.stored("train", 16), set()
    wholes = [stored[number][..., 0].astype(np.float64) for number in range(len(stored))]
    for batch in list(data.training_batches(BatchPlan(8, last_step=20))):
        assert batch.grid == {"time": 4} and batch.real is None and batch.tokens.shape == (8, 4)
        for patches in batch.patches.double().numpy():
            frames = patches.reshape(4, 80, 4).swapaxes(1, 2).reshape(16, 80)
            crop = frames * data.splits.facts.deviation[0] + data.splits.facts.mean[0]
            places = [
                (number, first)
                for number, whole in enumerate(wholes)
                for first in range(len(whole) - 15)
                if np.abs(whole[first : first + 16] - crop).max() < 1e-3
            ]
            assert len(places) == 1
            found.add((len(wholes[places[0][0]]), places[0][1]))
    assert {first for length, first in found if length == 18} == {0, 1, 2}
    assert max(first for length, first in found if length == 48) > 25


def test_the_test_begins_at_the_beginning_and_counts_sounds_that_are_long_enough(tmp_path):
    data = opened(source_of(tmp_path))
    stored = data.splits.stored("test", 16)
    lengths = stored.sizes[:, 0]
    assert data.lengths_of("test") == [16, 32]  # no sound has 64 frames
    assert data.splits.lengths == [16, 32, 64] and data.lengths_of("validation") == [16]
    for length in (16, 32):
        items = data.held_out("test", length)
        fitting = np.flatnonzero(lengths >= length)
        assert items.num_tokens.tolist() == [length // 4] * len(fitting)
        batch = items.__getitems__([0, len(fitting) - 1, len(fitting)])
        assert (batch.classes == -100).tolist() == [False, False, True]
        whole = stored[fitting[-1]][:length, :, 0].astype(np.float64)
        first = (whole[:4].T - data.splits.facts.mean[0]) / data.splits.facts.deviation[0]
        assert np.abs(batch.patches[1, 0].numpy() - first.ravel()).max() < 1e-4
    shares = {16: 0.0, 32: 0.0, 64: 0.0}
    for length in (16, 32):
        long_enough = stored.labels[lengths >= length]
        shares[length] = 100 * np.bincount(long_enough).max() / len(long_enough)
    counts = (f"{(lengths >= length).sum()} of {length} frames, {share:.1f}%" for length, share in shares.items())
    assert data.report_lines()[-1].endswith(f": {'; '.join(counts)}")
    assert f"the most frequent one is {shares[16]:.1f}% of the test" in data.report_lines()[1]


def test_the_most_frequent_class_is_that_of_sounds_that_count(tmp_path):
    """Sounds that are too short are not tested, and may be those of one class."""
    folder = write_sounds(tmp_path / "s", durations=[0.3])
    for path in sorted((folder / "rising").iterdir())[::2]:
        soundfile.write(path, soundfile.read(path)[0][:1600], 16_000)
    data = opened(source_of(tmp_path))
    long_enough = data.splits.stored("test", 16).sizes[:, 0] >= 16
    assert not long_enough.all()
    share = 100 * (data.splits.stored("test", 16).labels[long_enough] == 0).mean()
    assert share > 50 and f"is {share:.1f}% of the test" in data.report_lines()[1]


def test_patches_of_bins_and_frames_lie_on_two_axes(tmp_path):
    data = opened(source_of(tmp_path, patch=[20, 8], sequence_length=8))
    batch = data.held_out("test", 16).__getitems__([0])
    assert batch.grid == {"frequency": 4, "time": 2} and batch.tokens.shape == (1, 8)
    places = batch.positions.places
    assert places is not None and places.axes == ("frequency", "time")
    whole = (
        data.splits.stored("test", 16)[0][:16, :, 0].astype(np.float64) - data.splits.facts.mean[0]
    ) / data.splits.facts.deviation[0]
    for number, (bins, frames) in enumerate(places.cells.tolist()):
        patch = whole[8 * frames : 8 * frames + 8, 20 * bins : 20 * bins + 20].T
        assert np.abs(batch.patches[0, number].numpy() - patch.ravel()).max() < 1e-4


def test_spectrograms_are_made_once_for_all_lengths_and_patches(tmp_path):
    one, other = source_of(tmp_path), source_of(tmp_path, seconds=0.08, patch=[20, 8], sequence_length=4)
    assert len({source.prepare_at(length) for source in (one, other) for length in source.all_lengths}) == 1


def test_spectrograms_that_an_earlier_version_made_are_made_again(tmp_path, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr("poslab.data.patched.sounds.VERSION", 1)
        old = source_of(tmp_path).prepare_at(16)
    assert source_of(tmp_path).prepare_at(16) != old


def test_sounds_that_are_all_too_short_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^seconds must .*got 4$"):
        opened(source_of(tmp_path, seconds=4, sequence_length=100))


def test_a_first_batch_that_is_repeated_has_the_same_crops(tmp_path):
    batches = training(opened(source_of(tmp_path, overfit=True)))
    assert all(torch.equal(batches[0].patches, batch.patches) for batch in batches)
