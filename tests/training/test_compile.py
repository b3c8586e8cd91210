"""`trainer.compile=auto` follows from the recipe, whatever the encoding, and is kept by a run that resumes."""

import shutil

import pytest

from poslab.models.blocks import Block
from poslab.runs.recipe import Recipe
from poslab.training import components
from poslab.training.components import with_compile
from tests.training.runs import assert_resumes, opened, run_of, small

needs_a_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="there is no C++ compiler")

AUTO = ("trainer.compile=auto", "trainer.max_steps=1000")


def decided(folder, *words):
    config = small(folder, *AUTO, *words)
    recipe, (data, task) = Recipe.of(config), opened(config)
    return with_compile(recipe, recipe.model.build(data.vocab_size + task.extra_tokens), data).compile


@needs_a_compiler
def test_long_runs_compile_and_short_ones_do_not_under_every_encoding(tmp_path, monkeypatch):
    config = small(tmp_path, *AUTO, "encoding=none")
    recipe, (data, _) = Recipe.of(config), opened(config)
    size = sum(weight.numel() for weight in recipe.model.build(data.vocab_size).parameters())
    flops = 6 * size * 1000 * 4 * 16
    for encoding in ("none", "rotary", "learned", "t5", "fire", "cope", "repo"):
        monkeypatch.setattr(components, "MIN_FLOPS", flops)
        assert decided(tmp_path, f"encoding={encoding}") == "blocks"
        monkeypatch.setattr(components, "MIN_FLOPS", flops + 1)
        assert decided(tmp_path, f"encoding={encoding}") is False


@pytest.mark.parametrize("words", [["step=private", "optimizer.gradient_clip=null"], ["trainer.context_parallel=2"]])
def test_runs_that_cannot_be_compiled_are_not(tmp_path, monkeypatch, words):
    monkeypatch.setattr(components, "MIN_FLOPS", 0)
    assert decided(tmp_path, *words) is False


def test_without_a_compiler_a_long_run_is_not_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr(components, "MIN_FLOPS", 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert decided(tmp_path) is False


@pytest.mark.parametrize("choice", ["false", "true", "blocks"])
def test_a_choice_that_was_typed_stays(tmp_path, monkeypatch, choice):
    monkeypatch.setattr(components, "MIN_FLOPS", 0)
    assert str(decided(tmp_path, f"trainer.compile={choice}")).lower() == choice


@pytest.mark.slow
@needs_a_compiler
def test_a_run_that_compiles_resumes_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(components, "MIN_FLOPS", 0)
    compiled = []
    compile_block = Block.compile
    monkeypatch.setattr(Block, "compile", lambda block: (compiled.append(block), compile_block(block)))
    assert_resumes(small(tmp_path, "trainer.compile=auto"), tmp_path)
    assert len(compiled) == 3  # a run, one that stops, and its resumption


def test_a_short_run_says_nothing_of_a_compiler(tmp_path):
    run = run_of(small(tmp_path, "trainer.compile=auto"), tmp_path / "run")
    assert "compiled" not in run.log_file.read_text()
