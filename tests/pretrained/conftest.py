"""What several tests of pretrained models share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from poslab.data.tokenizers import SubwordTokenizer
from poslab.pretrained import register
from poslab.pretrained.export import directory, fresh_process
from tests.pretrained import tiny as tiny_models
from tests.training.runs import words


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tiny models that read the tokens of a tokenizer, and a text."""
    (tmp_path / "text.txt").write_text(words(1200))
    tokenizer = SubwordTokenizer.train([[words(300)]], 280)
    monkeypatch.setattr(tiny_models, "VOCAB_SIZE", tokenizer.vocab_size)
    for name in ("llama", "bert"):
        tiny_models.tiny(name, torch.float32).save_pretrained(tmp_path / name)
        tokenizer.save(tmp_path / name)
    return tmp_path


@pytest.fixture
def in_this_process(monkeypatch):
    """Load directories here: a fresh process takes seconds to import transformers."""
    register()
    monkeypatch.setattr(directory, "_load_in_fresh_process", fresh_process.main)
