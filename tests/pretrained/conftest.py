"""What several tests of pretrained models share."""

from __future__ import annotations

import pytest

from poslab.pretrained.export import fresh_process, verify


@pytest.fixture
def in_this_process(monkeypatch):
    """Load directories here: a fresh process takes seconds to import transformers."""
    monkeypatch.setattr(
        verify, "_load_in_fresh_process", lambda written, folder: fresh_process.main(str(written), folder, folder)
    )
