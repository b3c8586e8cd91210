"""Small texts on the disk, and a cache of their own for every test."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from poslab.data import cache
from poslab.data.corpus import Corpus
from poslab.data.run_data import RunData
from poslab.tasks.language_modelling import LanguageModelling

WORDS = "time of the sea and wind that moved a ship under every star until morning came back home"


def story(seed: int, paragraphs: int = 30) -> str:
    """Text that no other seed gives: its paragraphs name the seed and their number."""
    generator = np.random.default_rng(seed)
    lines = (" ".join(generator.choice(WORDS.split(), size=12)) for _ in range(paragraphs))
    return "\n\n".join(f"story {seed} part {number}: {line}." for number, line in enumerate(lines))


def seal(folder: Path) -> None:
    """Write the checksums that a prepared folder has now, as a stranger can."""
    (folder / cache.CHECKSUMS).write_text(json.dumps(cache._checksums(folder)))


@pytest.fixture
def stories(tmp_path: Path) -> list[Path]:
    """Forty files, a document each."""
    folder = tmp_path / "stories"
    folder.mkdir()
    paths = [folder / f"story{seed:02}.txt" for seed in range(40)]
    for seed, path in enumerate(paths):
        path.write_text(story(seed))
    return paths


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, Any]:
    """Arguments that the small corpora of the tests have in common."""
    return {"cache_dir": str(tmp_path / "cache"), "sequence_length": 32, "batch_size": 12, "length_multiples": [1, 2]}


@pytest.fixture
def text(stories: list[Path], arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a corpus of the forty files."""
    return {"files": [str(path) for path in stories], **arguments}


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own for `load_dataset`, and one for data sets without `cache_dir`."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub-cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))


@pytest.fixture
def attach() -> Callable[..., RunData]:
    """A data module as it stands in one process of a run, without a trainer."""

    def attach(corpus: Corpus, world_size: int = 1, rank: int = 0, accumulate: int = 1, **more: int) -> Any:
        datamodule = RunData(corpus)
        datamodule.trainer = SimpleNamespace(  # type: ignore[assignment]
            world_size=world_size,
            global_rank=rank,
            accumulate_grad_batches=accumulate,
            max_steps=more.get("max_steps", 20),
            global_step=more.get("global_step", 0),
        )
        datamodule.setup()
        datamodule.connect(LanguageModelling.of(datamodule), None)
        return datamodule

    return attach
