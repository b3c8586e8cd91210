"""A run on a CPU computes attention by the compiled operator where `trainer.kernel` says so."""

import shutil
from functools import partial

import pytest
import torch

from poslab.attention import kernel
from poslab.compiled import library
from poslab.training import components
from tests.training.runs import assert_same_weights, recorded, run_of, small, stop_run

needs_a_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="there is no C++ compiler"
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _in_a_cache_of_its_own(cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    yield
    library.disable()


@pytest.fixture
def compiled_before(operators, monkeypatch):
    """What a run compiles is what was compiled for all tests."""
    monkeypatch.setattr(library, "compile_kernel", partial(shutil.copytree, operators, dirs_exist_ok=True))


@pytest.mark.parametrize(
    ("encoding", "precision"), [("rotary", "32-true"), ("t5", "32-true"), ("t5", "bf16-mixed"), ("rnope", "bf16-mixed")]
)
@pytest.mark.slow
@pytest.mark.usefixtures("compiled_before")
@needs_a_compiler
def test_a_run_learns_the_same_and_resumes_bit_for_bit(encoding, precision, tmp_path):
    runs = {}
    for name in ("compiled", "torch"):
        words = [f"trainer.kernel={name}", f"encoding={encoding}", f"trainer.precision={precision}"]
        words += ["model.dropout=0.1", "model.num_layers=2"]
        config = small(tmp_path, *words)
        runs[name] = run_of(config, tmp_path / name)
        assert library._enabled == (name == "compiled")
        if name == "compiled":
            stopped = stop_run(config, tmp_path / "stopped", 1)
            assert_same_weights(run_of(config, stopped.path, stopped.last_checkpoint), runs[name])
    losses = [[value for _, tag, value in recorded(run) if tag == "train/loss"] for run in runs.values()]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5 if precision == "32-true" else 1e-2)


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_before")
@needs_a_compiler
def test_what_another_run_of_the_process_chose_is_forgotten(tmp_path):
    run_of(small(tmp_path, "trainer.kernel=compiled"), tmp_path / "compiled")
    assert library._enabled
    run_of(small(tmp_path), tmp_path / "short")
    assert not library._enabled


def test_a_short_run_compiles_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(library, "load_kernel", lambda _: pytest.fail("it was compiled"))
    run_of(small(tmp_path, "trainer.max_steps=1", "trainer.validations=1"), tmp_path / "run")


def test_a_long_run_goes_on_without_a_compiler_unless_it_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(components, "MIN_PAIRS", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    words = ["trainer.max_steps=1", "trainer.validations=1"]
    assert run_of(small(tmp_path, *words), tmp_path / "auto").is_finished
    assert not kernel.serves(torch.zeros(1, 1, 2, 2), 2)
    with pytest.raises(ValueError, match=r"^trainer\.kernel=compiled is not possible: no C\+\+ compiler"):
        run_of(small(tmp_path, *words, "trainer.kernel=compiled"), tmp_path / "compiled")


def test_a_cache_that_cannot_be_used_is_one_sentence_and_ends_no_run(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(components, "MIN_PAIRS", 1)
    words = ["trainer.max_steps=1", "trainer.validations=1"]
    assert run_of(small(tmp_path, *words), tmp_path / "auto").is_finished
    with pytest.raises(ValueError, match=r"^trainer\.kernel=compiled is not possible: .*kernels cannot be used"):
        run_of(small(tmp_path, *words, "trainer.kernel=compiled"), tmp_path / "compiled")
