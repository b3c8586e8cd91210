"""Runs of one task on small data, for the tests of its file, which names their words by a fixture `words_of`."""

from collections.abc import Callable
from functools import cache

import pytest

from poslab.runs.directory import RunDirectory
from tests.training.runs import composed, run_of


@pytest.fixture(scope="module")
def trained(
    words_of: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., RunDirectory]:
    """Trains a run, once for all tests that read it."""

    @cache
    def trained(*overrides: str) -> RunDirectory:
        return run_of(composed(*words_of(*overrides)), tmp_path_factory.mktemp("run") / "run")

    return trained
