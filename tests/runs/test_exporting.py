"""Runs as directories of transformers; `tests/pretrained` holds what is written against transformers itself."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from poslab.data.python_docs import PythonDocs
from poslab.runs import loading


def test_a_run_whose_configuration_leaves_out_its_length_is_exported_at_that_of_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {
        "model": {"_target_": "poslab.models.Decoder"},
        "dataset": {"_target_": "poslab.data.python_docs.PythonDocs"},
    }
    recipe = SimpleNamespace(config=config, source=PythonDocs(), task=SimpleNamespace(predicts_next_tokens=True))
    parts = {"load": "model", "load_tokenizer": "tokenizer", "recipe_of": recipe}
    for name, made in parts.items():
        monkeypatch.setattr(loading, name, lambda *_, made=made, **__: made)
    monkeypatch.setattr(loading.RunDirectory, "of", lambda run, trust: loading.RunDirectory(Path(run)))
    monkeypatch.setattr(loading, "write_directory", lambda *written: written)
    assert loading.export("run", tmp_path / "new") == ("model", tmp_path / "new", "tokenizer", 256, None)
