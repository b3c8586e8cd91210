"""Every mistake on the command line is one sentence, an exit status and nothing left behind."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from poslab.cli.choices import choices
from poslab.cli.mistakes import explained
from tests.training.runs import words

from .running import Ended


@pytest.fixture
def train(mistaken: Callable[..., Ended]) -> Callable[..., Ended]:
    """`python -m src.train` in the empty directory of the test."""
    return partial(mistaken, "src.train")


def left_behind(folder: Path) -> list[Path]:
    """The paths below a directory, `outputs` itself aside."""
    return [path for path in folder.rglob("*") if path != folder / "outputs"]


MISTAKES = {
    # Choices and keys
    "encoding=rotry": "encoding=rotry: there is no such choice; did you mean 'rotary'? "
    f"choices: {', '.join(choices('encoding'))}\n",
    "encoding=ssmax": "encoding=ssmax: that is a temperature: write encoding=rotary temperature=ssmax\n",
    "dataset=bbc_headlines encoding@model.cross_encoding=log_n": "encoding=log_n: that is a temperature: "
    "write encoding@model.cross_encoding=rotary temperature=log_n\n",
    "dataset=python_doc": "dataset=python_doc: there is no such choice; did you mean 'python_docs'? "
    f"({len(choices('dataset'))} choices: python -m src.train --help dataset lists them)\n",
    "dataset=_text": "dataset must have a _target_, as the choices in conf/dataset do",
    "size=huge": "size=huge: there is no such choice choices: 1b, base, large, small, tiny\n",
    "objective=own": "objective=own is now objective=task\n",
    "trainer=tpu": "trainer=tpu: there is no such choice",
    "debug=fats": "debug=fats: there is no such choice; did you mean 'fast'? choices: fast, overfit, profiler\n",
    "experiment=smal dataset=bbc_topics": "experiment=smal: there is no such choice; did you mean 'small'? choices: "
    "gelberg2025, gelberg2025_small, huang2020, huang2020_small, kazemnejad2023, models/afmoe, ",
    "experiment=small/bbc_topics": "experiment=small/bbc_topics: that is written experiment=small dataset=bbc_topics\n",
    "experiment=ruoss2023/small/copy": "experiment=ruoss2023/small/copy: that is written experiment=small "
    "dataset=copy\n",
    "experiment=kazemnejad2023/copy": "experiment=kazemnejad2023/copy: that is written experiment=kazemnejad2023 "
    "dataset=copy\n",
    "experiment=ruoss2023": "experiment=ruoss2023 must go with a dataset of chomsky, got dataset=python_docs: ",
    "experiment=small dataset=wikitext103": "experiment=small must go with a dataset of captions or chomsky or "
    "classes or length_generalization or pairs or pictures or pixels or sounds or videos, got dataset=wikitext103: ",
    "experiment=families/small_classes": "experiment=families/small_classes is a part of experiments",
    "callbacks={a:1}": "callbacks must be a list of choices of conf/callbacks, such as callbacks=[A,B], got {a:1}\n",
    "logger=csv,tensorboard": "logger=csv,tensorboard: several choices are a list, such as logger=[csv,tensorboard]\n",
    "optimizer=adam": "optimizer=adam: there is no such choice; did you mean 'adamw'? choices: adamw, lion, muon\n",
    "dataset=bbc_headlines encoding@model.cross_encodin=rotary": "encoding@model.cross_encodin: "
    "there is no such place for encoding here; did you mean 'encoding@model.cross_encoding'?",
    "encoding@model.cross_encoding=rotary": "encoding@model.cross_encoding: there is no such place for encoding here\n",
    "dataset=bbc_headlines encodin@model.cross_encoding=rotary": "encodin: there is no such group; "
    "did you mean 'encoding'?",
    "encodng=alibi": "encodng: there is no such key; did you mean 'encoding'?",
    "model.num_head=4": "model.num_head: there is no such key; did you mean 'model.num_heads'?",
    "model.dim=64": "model.dim: there is no such key; did you mean 'model.d_model'?",
    "heads=4": "heads: there is no such key; did you mean 'model.num_heads'?",
    "encoding=t5 encoding.max_distnce=4": "encoding.max_distnce: there is no such key; "
    "did you mean 'encoding.max_distance'?",
    "encoding=alibi encoding.num_buckets=4": "encoding.num_buckets: there is no such key here; "
    "it is one of encoding=deberta, encoding=t5, encoding=t5_axes and encoding=tupe\n",
    "encoding=alibi encoding.base=4": "encoding.base: there is no such key here; it is one of ",
    "encoding=yarn encoding.scaling.factor=0": "encoding.scaling.factor must be a number of at least 1, got 0",
    "encoding=per_layer encoding.windows=[4]": "encoding.windows must have one entry for each of the 2 encodings",
    "encoding=rnope encoding.every=1": "encoding.every must be an integer of at least 2, got 1",
    "encoding=stick_breaking temperature=ssmax": "temperature needs a softmax, which StickBreaking replaces",
    "temperature=log_n temperature.training_length=1": "temperature.training_length must be an integer of at least 2",
    "positions=randomized positions.max_position=10": "positions.max_position",
    "encoding=learned positions=shifted": "encoding.max_length",
    "dataset.files=nothing.txt": "dataset.files: there is no such key here; it is one of "
    f"{', '.join(f'dataset={name}' for name in choices('dataset') if name.endswith('_file'))} and dataset=text\n",
    "sed=3": "sed: there is no such key; did you mean 'seed'?",
    "trainer.max_step=3": "trainer.max_step: there is no such key; did you mean 'trainer.max_steps'?",
    "resumee=auto": "resumee: there is no such key; did you mean 'resume'?",
    "+foo=1": "+foo: there is no such key\n",
    "++foo.bar=1": "+foo.bar: there is no such key\n",
    "+sed=3": "+sed: there is no such key; did you mean 'seed'?\n",
    "+encoding.dim=4": "encoding.dim: poslab.encodings.rotary.rotary.Rotary has no such argument",
    "+trainer.step=4": "trainer.step: poslab.runs.trainer_settings.TrainerSettings has no such argument",
    "~encoding": "encoding must have a _target_, as the choices in conf/encoding do",
    "~dataset": "~dataset must be left out: the settings of an experiment follow it\n",
    "~logger=csv": "~logger: a group without a choice is written logger=[]\n",
    "~dataset.files": "dataset.files: there is no such key here; it is one of ",
    "~logger": "~logger: a group without a choice is written logger=[]\n",
    "~callbacks": "~callbacks: a group without a choice is written callbacks=[]\n",
    "~loger": "loger: there is no such key; did you mean 'logger'?\n",
    "~trainer.max_step": "trainer.max_step: there is no such key; did you mean 'trainer.max_steps'?\n",
    "encoding=rotary,alibi": "encoding=rotary,alibi: -m runs several values one after another: "
    "python -m src.train -m encoding=rotary,alibi",
    "rotary": "'rotary' is not key=value; did you mean 'encoding=rotary'?",
    "model.mlp_ratio=inf": "model.mlp_ratio must be a positive number, got inf",
    "encoding": "'encoding' is not key=value; did you mean 'encoding=...'?",
    "dataset.files=[a": "'dataset.files=[a' cannot be read as key=value: quote what holds brackets, commas, "
    "spaces or non-ASCII letters",
    "encoding._target_=my.Encoding": "encoding._target_ names my.Encoding, which is not part of poslab and could run "
    "any code: if you trust it, add trust=my",
    # Model
    "model.num_heads=0": "model.num_heads must be a positive integer, got 0",
    "model.d_model=wide": "model.d_model must be an integer, got 'wide'",
    "model.qk_norm=yes": "model.qk_norm must be true or false, got 'yes'",
    "model=pointer_generator model.qk_norm=3": "model.qk_norm must be true or false, got 3",
    "model=pointer_generator +model.drop_out=1": "model.drop_out: poslab.models.pointer_generator.PointerGenerator "
    "has no such argument; did you mean 'dropout'?",
    "attention=flush": "attention must be one of auto, flash, distance, flex, blockwise, dense, got 'flush'",
    "encoding=alibi attention=flash": "attention must not be flash, which leaves out the bias of Alibi",
    # Encoding
    "encoding=t5 encoding.max_distance=9": "encoding.max_distance must be greater than 16",
    "encoding.base=1": "encoding.base must be a number greater than 1, got 1",
    "encoding.fraction=0.3": "encoding.fraction must turn an even, positive number of the head's 32 channels, got 0.3",
    "model.head_dim=33": "encoding.fraction must turn an even, positive number of the head's 33 channels, got 1.0",
    "encoding=sinusoidal model.d_model=33 model.num_heads=1": "model.d_model must be even for sinusoidal positions",
    # Objective
    "objective=distil": "objective.teacher=untouched needs a pretrained model, which has ",
    "objective=distil objective.teacher=nothing": "objective.teacher: nothing is not a run directory: it holds no",
    "objective=distill": "objective=distill: there is no such choice; did you mean 'distil'?",
    # Optimizer
    "optimizer.lr=fast": "optimizer.lr must be a number, got 'fast'",
    "optimizer.betas=0.9": "optimizer.betas must be a list of 2 items, each a number, got 0.9",
    # Trainer
    "trainer.devices=all": "trainer.devices must be an integer or auto, got 'all'",
    "trainer.max_steps=1.5": "trainer.max_steps must be an integer, got 1.5",
    "trainer.precision=32-tru": "trainer.precision must be one of auto, 32-true, bf16-mixed, 16-mixed, bf16-true, "
    "got '32-tru'; did you mean '32-true'?",
    "trainer.accelerator=tpu": "trainer.accelerator must be one of auto, cpu, gpu, got 'tpu'; did you mean 'gpu'?",
    "trainer.micro_batch_size=3": "trainer.micro_batch_size must divide the 8 windows that each device has of a batch",
    "trainer=ddp_cpu dataset.batch_size=3": "dataset.batch_size must be divisible by the number of devices, 2, got 3",
    "trainer=cpu trainer.num_nodes=2": "trainer.num_nodes=2 needs torchrun or SLURM to start this on every machine",
    "trainer.max_steps=${nothing}": "trainer.max_steps: Interpolation key 'nothing' not found\n",
    "trainer.max_steps=1000000000000000000000": "trainer.max_steps must be an integer of at most 1000000000000, got ",
    # Data
    "dataset=text dataset.files=nothing.txt": "dataset.files names 'nothing.txt', which does not exist",
    "dataset=text dataset.files=nots.txt": "dataset.files names 'nots.txt', which does not exist; "
    "did you mean 'notes.txt'?",
    "dataset=text dataset.files=short.txt": "dataset.files hold 9 bytes of text, fewer than the 257 tokens of a window",
    "dataset=text dataset.files=latin.txt": "dataset.files must be UTF-8 text, but 'latin.txt' is not at byte 1",
    "dataset=hub dataset.path=json dataset.data_files=gone.json": "dataset.data_files names 'gone.json'",
    "dataset.sequence_length=9999999": "dataset.sequence_length of 9999999 takes 10000000 tokens a window",
    "dataset.batch_size=many": "dataset.batch_size must be an integer, got 'many'",
    "dataset.tokenizer=byte": "dataset.tokenizer must be bytes, bpe or the path of a tokenizer.json, got 'byte'; "
    "did you mean 'bytes'?",
    # The run itself
    "seed=abc": "seed must be an integer from 0 to 4294967295, got abc",
    "resume=nothing": "resume=nothing: there is no such run directory or checkpoint",
    "resume=notes.txt": "notes.txt is not a run directory: it holds no config.yaml",
    "init_from=nothing": "init_from: nothing is not a run directory: it holds no config.yaml",
    "init_from=gone.ckpt": "init_from: there is no checkpoint gone.ckpt",
    "init_from=foreign.ckpt": "init_from: the checkpoint foreign.ckpt was not written by Poslab",
    "init_from=damaged.ckpt": "init_from: the checkpoint damaged.ckpt is damaged: it cannot be read",
    "hydra.run.dir=notes.txt/run": "hydra.run.dir cannot be made: ",
}


@pytest.fixture
def files(tmp_path: Path) -> set[Path]:
    """Files that mistakes are about."""
    (tmp_path / "notes.txt").write_text(words(3000))
    (tmp_path / "short.txt").write_text("too short")
    (tmp_path / "latin.txt").write_bytes("Déjà vu. ".encode("latin-1") * 3000)
    torch.save({"callbacks": {}}, tmp_path / "foreign.ckpt")
    (tmp_path / "damaged.ckpt").write_bytes((tmp_path / "foreign.ckpt").read_bytes()[:-50])
    return set(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("arguments", MISTAKES, ids=lambda arguments: arguments.replace("/", "|"))
def test_a_mistake_is_one_sentence_that_names_the_key(arguments, tmp_path, files, train):
    ended = train(*arguments.split())
    assert ended.sentences.startswith(f"error: {MISTAKES[arguments]}")
    assert ended.sentences.count("\n") == 1, ended.errors
    assert ended.status == 2
    assert set(left_behind(tmp_path)) == files


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("choice", ["gpu", "ddp"])
def test_a_gpu_that_is_not_there_is_told_in_one_sentence(choice, train):
    ended = train(f"trainer={choice}")
    assert ended == (2, "", "error: trainer.accelerator=gpu needs a GPU, and this machine has none\n")


def test_a_loss_that_is_no_number_ends_with_status_1_and_one_sentence(small, train):
    ended = train(*small, "optimizer.lr=1e30", "trainer.max_steps=20")
    assert ended.status == 1
    assert ended.errors.startswith("error: the ") and ended.errors.count("\n") == 1
    assert "optimizer.lr" in ended.errors or "validation loss" in ended.errors
    assert "resume with" not in ended.output  # it would end in the same way


def test_one_wrong_job_of_two_leaves_the_other_alone(small, tmp_path, train):
    ended = train("-m", *small, "encoding=rotary", "encoding.base=0,100", "hydra.sweep.dir=sweep")
    assert ended.status == 2
    assert ended.errors == "error: encoding.base must be a number greater than 1, got 0\n"
    finished = [path.parent.name for path in (tmp_path / "sweep").rglob("metrics.json")]
    assert finished == ["1_text_rotary_base-100"]
    assert not list((tmp_path / "sweep").glob("0_*"))
    assert "failed: rotary base=0: encoding.base must be a number greater than 1, got 0" in ended.output


def test_an_unknown_choice_among_several_jobs_is_told_before_the_first(small, tmp_path, train):
    ended = train("-m", *small, "encoding=alibi,rotry", "hydra.sweep.dir=sweep")
    assert ended.status == 2
    assert ended.errors.startswith("error: encoding=rotry: there is no such choice; did you mean 'rotary'?")
    assert not list(tmp_path.rglob("metrics.json"))


def test_a_run_is_not_written_over(small, train, tmp_path):
    assert train(*small, "hydra.run.dir=run").status == 0
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    ended = train(*small, "hydra.run.dir=run")
    assert ended.status == 2
    assert ended.errors.startswith("error: run holds a run already: resume it with resume=run, or choose another")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == written


def test_a_damaged_checkpoint_is_told_when_a_run_resumes(small, train, tmp_path):
    assert train(*small, "hydra.run.dir=run").status == 0
    (tmp_path / "run" / "metrics.json").unlink()
    file = tmp_path / "run" / "checkpoints" / "last.ckpt"
    file.write_bytes(file.read_bytes()[:-1000])
    before = set(tmp_path.rglob("*"))
    ended = train("resume=run")
    assert (ended.status, ended.errors) == (
        2,
        "error: resume: the checkpoint run/checkpoints/last.ckpt is damaged: it cannot be read, "
        "but run/checkpoints/best.ckpt is whole\n",
    )
    assert set(left_behind(tmp_path)) == before


def test_the_traceback_can_be_asked_for(train):
    ended = train("model.num_heads=5", full_error="1")
    assert "Traceback (most recent call last)" in ended.errors
    assert ended.errors.endswith("error: model.num_heads must divide d_model=192 (or set head_dim), got 5\n")
    assert ended.status == 2


NO_SIZE = (
    "; size= gives it: leave that out with ~size, or for good by a line of the model's file (docs/your-own-model.md)"
)


def test_a_long_list_of_choices_stands_on_lines_of_its_own(train):
    first, *others = train("encoding=rotry").errors.splitlines()
    assert first == "error: encoding=rotry: there is no such choice; did you mean 'rotary'?"
    assert others[0].startswith("  choices: ") and all(line.startswith("    ") for line in others[1:])
    assert max(map(len, others)) <= 80
    assert " ".join(others).removeprefix("  choices:").replace(",", "").split() == choices("encoding")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["model=thin"], NO_SIZE),
        (["model=thin", "debug=profiler"], NO_SIZE),
        (["model=thin", "size=small"], "; size=small gives it: leave that out"),
        (["model=thin", "debug=fast"], "; debug=fast gives it: leave that out"),
        (["model.d_model=8"], ""),
    ],
)
def test_a_model_without_a_width_is_said_to_go_without_a_size(words, hint):
    sentence = "model.d_model: mylab.Thin has no such argument"
    assert explained(ValueError(sentence), "train", words) == (sentence + hint, 2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("/size: null", "cannot override size in this way: write override /size@_global_.size"),
        (
            "/encoding@_global_.encoding: t5",
            "cannot override encoding: choose encoding= on the command line",
        ),
    ],
)
def test_an_override_that_a_file_cannot_make_is_explained(train, tmp_path, override, message):
    (tmp_path / "my_conf" / "model").mkdir(parents=True)
    (tmp_path / "my_conf" / "model" / "thin.yaml").write_text(f"defaults:\n  - override {override}\n")
    ended = train("--config-dir", "my_conf", "model=thin")
    assert ended.status == 2
    assert ended.errors.endswith(f"model/thin.yaml {message}\n")
