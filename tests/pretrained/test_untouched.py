"""A pretrained model under another encoding learns from itself, as it was."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as Library
from tokenizers import models, normalizers, pre_tokenizers, processors
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from poslab.pretrained.borrow import borrow
from poslab.runs.directory import RunDirectory
from poslab.runs.distillation import Distillation
from poslab.runs.steps import Teacher
from poslab.training.checking import check
from poslab.training.teacher import teacher_of
from tests.pretrained import tiny as tiny_models
from tests.training.runs import WORDS, composed, opened, recorded, run_of, words

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set(WORDS.split()))]
DISTIL = ("encoding=t5", "objective=distil")
STEPS = (
    *("trainer=cpu", "trainer.precision=32-true", "trainer.max_steps=3", "trainer.validations=1"),
    *("trainer.log_every=1", "dataset.batch_size=4"),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tiny models of whole words and their tokenizer, as published for BERT, with a text and texts with classes."""
    library = Library(models.WordPiece({word: n for n, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer()
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {name: f"[{name[:-6].upper()}]" for name in ("pad_token", "cls_token", "sep_token", "mask_token")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=library, unk_token="[UNK]", **special)
    monkeypatch.setattr(tiny_models, "VOCAB_SIZE", len(VOCABULARY))
    for name in ("llama", "bert"):
        tiny_models.tiny(name, torch.float32).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    headless = AutoModel.from_pretrained(tmp_path / "bert")
    headless.save_pretrained(tmp_path / "headless")
    tokenizer.save_pretrained(tmp_path / "headless")
    (tmp_path / "text.txt").write_text(words(1200))
    rows = [f"{words(3 + n % 9, seed=n)},{'ab'[n % 2]}" for n in range(120)]
    (tmp_path / "classes.csv").write_text("\n".join(["text,label", *rows]))
    return tmp_path


def on_text(folder: Path, name: str, *overrides: str) -> dict[str, Any]:
    data = ["dataset=text", f"dataset.files={folder / 'text.txt'}", "dataset.length_multiples=[1]"]
    data += [f"dataset.cache_dir={folder / 'cache'}", "dataset.sequence_length=16"]
    return composed(*data, *STEPS, "model=pretrained", f"model.path={folder / name}", *overrides)


def on_classes(folder: Path, name: str, *overrides: str) -> dict[str, Any]:
    data = ["dataset=classification_file", f"dataset.files={folder / 'classes.csv'}"]
    data += [f"dataset.cache_dir={folder / 'cache'}", "dataset.sequence_length=16"]
    return composed(*data, *STEPS, "model=pretrained", f"model.path={folder / name}", *overrides)


def curve(run: RunDirectory, tag: str) -> list[float]:
    return [value for _, own, value in recorded(run) if own == tag]


def first_batch(data: Any) -> Any:
    data.trainer = SimpleNamespace(world_size=1, global_rank=0, accumulate_grad_batches=1, max_steps=1, global_step=0)
    return next(iter(data.train_dataloader()))


def taught(config: dict[str, Any]) -> tuple[Distillation, Teacher]:
    recipe = check(config)
    data, task = opened(config)
    teacher = teacher_of(recipe, recipe.objective, task, data.tokenizer)
    assert isinstance(recipe.objective, Distillation) and teacher is not None
    return recipe.objective, teacher


@pytest.mark.parametrize(("name", "match"), [("llama", "logits"), ("bert", "logits"), ("headless", "hidden")])
def test_a_text_is_learned_from_logits_where_there_are_any_else_from_hidden_states(folder, name, match):
    config = on_text(folder, name, *DISTIL)
    objective, teacher = taught(config)
    assert objective.matched(teacher) == match
    run = run_of(config, folder / "run")
    assert "which reads 24 tokens (untouched)" in run.log_file.read_text()
    assert len(curve(run, "train/distillation")) == 3


def test_the_teacher_is_the_untouched_model_and_reads_as_far_as_it_was_trained(folder):
    _, teacher = taught(on_text(folder, "llama", *DISTIL, "dataset.sequence_length=32"))
    tokens = tiny_models.some_tokens()
    untouched = borrow(str(folder / "llama"))
    assert torch.equal(teacher.model(tokens), untouched(tokens))
    assert (teacher.longest, teacher.source) == (tiny_models.ROWS, "untouched")
    assert not teacher.model.training
    _, shorter = taught(on_text(folder, "llama", *DISTIL, "objective.within=7"))
    assert shorter.longest == 7


@pytest.mark.parametrize(("name", "make"), [("headless", on_classes), ("bert", on_text), ("llama", on_text)])
def test_a_model_that_keeps_its_positions_has_nothing_to_learn(folder, name, make):
    config = make(folder, name, "encoding=pretrained", "objective=distil")
    objective, teacher = taught(config)
    data, task = opened(config)
    model = check(config).model.build(data.vocab_size, task.outputs).eval()
    step = objective.sums(task, model, first_batch(data), teacher)
    assert step.terms[0][0].item() == pytest.approx(0, abs=1e-4)


def test_classes_are_learned_from_labels_and_hidden_states(folder):
    config = on_classes(folder, "headless", *DISTIL)
    objective, teacher = taught(config)
    assert objective.matched(teacher) == "hidden"
    run = run_of(config, folder / "run")
    assert len(curve(run, "train/distillation")) == 3
    assert "validation/accuracy" in {tag for _, tag, _ in recorded(run)}


def test_an_untouched_model_without_an_output_layer_for_the_task_has_no_logits(folder):
    for config in (on_classes(folder, "bert", *DISTIL), on_text(folder, "headless", *DISTIL)):
        with pytest.raises(ValueError, match=r"^objective.match.*has no trained"):
            check({**config, "objective": {**config["objective"], "match": "logits"}})


def test_learning_within_more_positions_than_the_untouched_model_has_is_refused(folder):
    check(on_text(folder, "bert", *DISTIL, f"objective.within={tiny_models.ROWS}"))
    with pytest.raises(ValueError, match=r"^objective.within.*of the teacher"):
        check(on_text(folder, "bert", *DISTIL, "objective.within=25"))


def test_a_mask_that_the_model_lacks_is_refused(folder):
    path = folder / "bert" / "tokenizer.json"
    path.write_text(path.read_text().replace("[MASK]", "[COVER]"))
    with pytest.raises(ValueError, match=r"^objective.teacher=untouched.*the model"):
        taught(on_text(folder, "bert", *DISTIL))


def test_texts_begin_and_end_as_the_tokenizer_of_the_model_has_them(folder):
    config = on_classes(folder, "bert", "encoding=t5")
    data, _ = opened(config)
    published = AutoTokenizer.from_pretrained(folder / "bert")
    batch = first_batch(data)
    for row in batch.tokens.tolist():
        ids = row[: row.index(VOCABULARY.index("[SEP]")) + 1]
        assert ids == published(published.decode(ids[1:-1]))["input_ids"]


def test_masked_tokens_are_those_of_the_tokenizer_of_the_model(folder):
    data, task = opened(on_text(folder, "bert", "encoding=t5"))
    batch = first_batch(data)
    assert task.extra_tokens == 0 and bool((batch.tokens == VOCABULARY.index("[MASK]")).any())
    assert int(batch.tokens.max()) < len(VOCABULARY)


def test_a_new_model_has_no_untouched_one():
    recipe = check(composed("trainer=cpu"))
    assert recipe.model.untouched() is None
