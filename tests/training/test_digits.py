"""The tokens that an encoding knows by their ids are those of the data of a run, wherever its model is made."""

import re

import pytest

import poslab
from poslab.data.tokenizers import load_tokenizer
from tests.training.runs import assert_resumes, composed, run_of, small, words

TINY = (
    *("model.d_model=16", "model.num_layers=1", "model.num_heads=2", "dataset.batch_size=8", "encoding=abacus"),
    *("dataset.test_examples=8", "dataset.test_lengths=[4,6]", "trainer=cpu", "trainer.precision=32-true"),
    *("trainer.max_steps=4", "trainer.validations=2", "trainer.log_every=1"),
)
ADDITION = ("dataset=addition", "dataset.task.reversed=true")


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_of_a_text_they_are_those_of_its_tokenizer(tmp_path, tokenizer):
    (tmp_path / "text.txt").write_text(" ".join(f"{word} {number}" for number, word in enumerate(words(900).split())))
    more = ["dataset.vocab_size=300"] if tokenizer == "bpe" else []
    run = run_of(small(tmp_path, "encoding=abacus", f"dataset.tokenizer={tokenizer}", *more), tmp_path / "run")
    digits = load_tokenizer(run.path).digits
    assert len(digits) == 10
    assert poslab.load(run.path).encodings.layer(0).digits == tuple(digits)


@pytest.mark.parametrize("model", ["decoder", "encoder"])
def test_of_an_algorithmic_task_they_are_its_symbols(tmp_path, model):
    run = run_of(composed(*ADDITION, f"model={model}", *TINY), tmp_path / "run")
    loaded = poslab.load(run.path)
    assert [load_tokenizer(run.path).decode([number]) for number in loaded.encodings.layer(0).digits] == [*"0123456789"]
    swapped = poslab.load(run.path, swap={"encoding": composed("encoding=abacus", "encoding.max_k=0")["encoding"]})
    assert swapped.encodings.layer(0).digits == loaded.encodings.layer(0).digits


def test_a_vocabulary_without_digits_is_refused_in_one_sentence(tmp_path):
    config = composed("dataset=reverse", *TINY)
    with pytest.raises(ValueError, match=r"^encoding Abacus needs digits, and"):
        run_of(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("encoding", "mistake"), [("bipe", "encoding.ends=[46,257]"), ("abacus", "+encoding.digits=[48,257]")]
)
def test_a_token_beyond_the_vocabulary_is_refused_in_one_sentence(tmp_path, encoding, mistake):
    with pytest.raises(ValueError) as error:
        run_of(small(tmp_path, f"encoding={encoding}", mistake), tmp_path / "run")
    key = mistake.strip("+").partition("=")[0]
    assert re.fullmatch(rf"{key} must be below 257, .* got 257", str(error.value))


def test_a_resumed_run_draws_the_offsets_that_it_would_have_had(tmp_path):
    assert_resumes(composed(*ADDITION, *TINY, "trainer.micro_batch_size=4"), tmp_path)


def test_abacus_stands_beside_an_encoding_of_the_layers(tmp_path):
    beside = ["encoding=per_layer", "+encoding@encoding.embedding=abacus", "encoding.embedding.max_k=9"]
    config = composed(*ADDITION, *TINY, *beside)
    model = poslab.load(run_of(config, tmp_path / "run").path)
    assert [type(encoding).__name__ for encoding in model.encodings] == ["Alibi", "Abacus"]
