"""Every choice that conf/ offers composes, and trains."""

import json
import re
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import torch

import poslab.data.composed
from poslab.cli.help import family, keys
from poslab.configuration.build import build
from poslab.configuration.command_line import choices, groups
from poslab.data.corpus import Corpus
from poslab.data.source import DataSource
from poslab.runs.checkpoint import load_checkpoint
from poslab.runs.directory import RunDirectory
from poslab.training.checking import check
from tests.data.test_choices import CHOICES as CORPORA
from tests.encoding_choices import EVERY_ENCODING
from tests.training.runs import CONF, composed, recorded, run_of, small, words

MODELS = [model for model in choices("model") if model != "pretrained"]
"""Models that are made anew; a pretrained one has tests of its own."""

TRAINED = (
    *("abacus", "bipe", "cope", "deberta", "dual_chunk", "dynamic_position_bias", "fire", "forgetting", "grape_ap"),
    *("learned", "longrope", "mrope", "none", "path", "per_layer", "pope", "repo", "rnope", "rotary_learned"),
    *("rotary_values", "selective_rotary", "shaw", "stick_breaking", "swin_v2", "t5", "yarn"),
)
"""An encoding of each set of hooks, route of attention and kind of parameters; the contract is that of every one."""

TWO_STEPS = ("trainer.max_steps=2", "trainer.validations=1")

TINY_MODEL = (
    *("model.d_model=16", "model.num_layers=1", "model.num_heads=2"),
    *("dataset.sequence_length=16", "dataset.batch_size=4", "dataset.length_multiples=[1,2]"),
    *TWO_STEPS,
)


def test_the_positions_of_a_model_are_not_those_of_a_pretrained_one() -> None:
    chosen = {"model": "pretrained", "experiment": "models/gemma3"}
    with pytest.raises(ValueError, match=r"^experiment=models/gemma3 goes with "):
        poslab.data.composed.check_choices(CONF, chosen, [])
    poslab.data.composed.check_choices(CONF, {**chosen, "model": "decoder"}, [])


def test_a_pretrained_model_has_one_name() -> None:
    def check(*words: str) -> None:
        chosen = {"model": "pretrained", "pretrained": "minilm"}
        poslab.data.composed.check_choices(CONF, chosen, ["model=pretrained", *words])

    with pytest.raises(ValueError, match=r"^pretrained=minilm and model.path= "):
        check("pretrained=minilm", "model.path=DIR")
    check("pretrained=minilm")
    check("experiment=huang2020_small", "model.path=DIR")  # in place of the one that the file names


def assert_trained(run: RunDirectory, steps: int = 2) -> None:
    """A run that came to its end and changed the model."""
    assert run.metrics()["steps"] == steps
    first, second = ({tag: v for s, tag, v in recorded(run) if s == step} for step in (1, steps))
    assert first["train/gradient_norm"] > 0
    assert second["train/loss"] != first["train/loss"]


@pytest.mark.parametrize(
    "chosen",
    [
        *(pytest.param(f"encoding={encoding}", marks=pytest.mark.slow) for encoding in TRAINED),
        *(f"optimizer={optimizer}" for optimizer in choices("optimizer")),
        *(f"optimizer=muon model={model}" for model in MODELS),  # it asks a model for its matrices
        *("trainer=auto", "trainer=cpu"),
        *(f"adapt={adapt} encoding=t5" for adapt in choices("adapt")),
        "trainer=fsdp trainer.accelerator=cpu",  # a model which processes share, where one process has it to itself
        "dataset.tokenizer=bytes dataset.document_boundaries=true",
        "dataset.tokenizer=bpe dataset.vocab_size=300 dataset.document_boundaries=true",
    ],
)
def test_a_choice_trains(tmp_path, chosen):
    assert_trained(run_of(small(tmp_path, *chosen.split(), *TWO_STEPS), tmp_path / "run"))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_a_precision_trains(tmp_path, precision):
    run = run_of(small(tmp_path, f"trainer.precision={precision}", *TWO_STEPS), tmp_path / "run")
    assert_trained(run)
    state = load_checkpoint(run.last_checkpoint)["state_dict"]
    kind = torch.bfloat16 if precision == "bf16-true" else torch.float32
    assert {weight.dtype for name, weight in state.items() if name.startswith("model.")} == {kind}
    assert f"parameters, {precision}" in run.log_file.read_text()


def test_the_precision_that_the_hardware_chose_is_printed(tmp_path):
    run = run_of(small(tmp_path, "trainer.precision=auto", *TWO_STEPS), tmp_path / "run")
    chosen = check(run.config()).trainer.resolved_precision
    assert f"parameters, {chosen} (" in run.log_file.read_text()
    assert json.loads((run.path / "environment.json").read_text())["precision"] == chosen


@pytest.mark.slow
@pytest.mark.parametrize("adapt", ["full", "lora", "norms"])  # all learn, updates do, and a part of the weights does
def test_two_processes_that_share_a_model_train_as_one(start, tmp_path, adapt):
    config = small(tmp_path)["dataset"]
    data = ["dataset=text", f"dataset.files={config['files']}", f"dataset.cache_dir={config['cache_dir']}"]
    shared = ["trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2"]
    exact = ["trainer.precision=32-true", "trainer.log_every=1", "encoding=t5", "optimizer.lr=3e-3", f"adapt={adapt}"]
    ended = start(*TINY_MODEL, *data, *shared, *exact, "hydra.run.dir=run").wait()
    assert ended.status == 0, ended.errors
    run = RunDirectory(tmp_path / "run")
    assert_trained(run)

    alone = run_of(small(tmp_path, "encoding=t5", f"adapt={adapt}", *TWO_STEPS), tmp_path / "alone")
    for tag, value in alone.metrics().items():
        if tag.startswith(("test/", "validation/")):
            assert run.metrics()[tag] == pytest.approx(value, rel=1e-4), tag
    ours, theirs = (load_checkpoint(r.best_checkpoint)["state_dict"] for r in (run, alone))
    for name, weight in theirs.items():  # whole in the file, wherever its parts were
        torch.testing.assert_close(ours[name], weight, atol=1e-4, rtol=1e-3, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.slow
def test_the_python_reference_trains(tmp_path):
    more = [f"dataset.cache_dir={tmp_path / 'cache'}", "trainer=cpu", "trainer.log_every=1"]
    assert_trained(run_of(composed("dataset=python_docs", *TINY_MODEL, *more), tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.parametrize("streaming", ["false", "true"])
def test_a_data_set_in_local_files_trains(tmp_path, monkeypatch, streaming):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub-cache")
    documents = [{"body": words(12, seed=number)} for number in range(1600)]
    (tmp_path / "docs.jsonl").write_text("\n".join(map(json.dumps, documents)))
    more = ["dataset=hub", "dataset.path=json", f"dataset.data_files={tmp_path / 'docs.jsonl'}", "dataset.column=body"]
    cache = [f"dataset.cache_dir={tmp_path / 'cache'}", f"dataset.streaming={streaming}"]
    config = composed(*more, *TINY_MODEL, *cache, "trainer=cpu", "trainer.log_every=1")
    assert_trained(run_of(config, tmp_path / "run"))


@pytest.mark.parametrize("dataset", sorted(set(CORPORA) - {"text", "hub", "packages"}))
def test_a_data_set_makes_a_corpus_that_passes_its_check(dataset):
    config = composed(f"dataset={dataset}")
    check(config)
    assert isinstance(build(config, "dataset", DataSource), Corpus)


@pytest.mark.slow
@pytest.mark.parametrize("size", choices("size"))
def test_a_size_composes_with_an_encoding_of_each_kind(size):
    for encoding in ("rotary", "t5", "shaw", "fourier", "deberta", "path"):
        check(composed(f"size={size}", f"encoding={encoding}"))


@pytest.mark.slow
@pytest.mark.parametrize("encoding", EVERY_ENCODING)
def test_an_encoding_composes_with_the_widest_heads(encoding):
    check(composed("size=1b", f"encoding={encoding}"))


def test_the_recipe_for_a_gpu_composes():
    config = composed("experiment=small_gpu")
    check(config)
    assert config["model"]["d_model"] == 512 and config["dataset"]["path"] == "roneneldan/TinyStories"
    changed = composed("experiment=small_gpu", "optimizer.lr=5", "size=tiny")
    assert (changed["optimizer"]["lr"], changed["model"]["d_model"]) == (5, 192)


PAPERS = {"ruoss2023": ("chomsky", "Encoder"), "kazemnejad2023": ("length_generalization", "Decoder")}


@pytest.mark.slow
@pytest.mark.parametrize("paper", PAPERS)
def test_a_paper_has_its_setting_and_a_small_form_of_it_for_all_of_its_tasks(paper):
    family_of_paper, kind = PAPERS[paper]
    datasets = [name for name in choices("dataset") if family("dataset", name) == family_of_paper]
    assert datasets
    for dataset in datasets:
        own, small_form = (
            composed(f"experiment={name}", f"dataset={dataset}", "encoding=t5") for name in (paper, "small")
        )
        for config in (own, small_form):
            check(config)
            assert config["model"]["_target_"].endswith(f".{kind}")
        assert small_form["trainer"]["max_steps"] <= 2500 < own["trainer"]["max_steps"]
        assert small_form["trainer"]["precision"] == "32-true"


@pytest.mark.parametrize("paper", ["peng2023", "zhu2023", "gelberg2025", "huang2020"])
def test_a_paper_on_pretrained_models_has_its_setting_and_a_small_form(paper, monkeypatch):
    monkeypatch.setattr(poslab.data.composed, "in_package", lambda path: path)
    own, small_form = (composed(f"experiment={paper}{form}", "model.path=x") for form in ("", "_small"))
    for config in (own, small_form):
        assert config["model"] == {
            "_target_": "poslab.pretrained.hosted.HostedModel",
            "path": "x",
            "pooling": None,
            "layers": None,
        }
    assert own["encoding"]["_target_"] == small_form["encoding"]["_target_"]
    assert own["positions"]["_target_"] == small_form["positions"]["_target_"]
    steps = [config["trainer"]["max_steps"] for config in (own, small_form)]
    tokens = [config["dataset"]["batch_size"] * config["dataset"]["sequence_length"] for config in (own, small_form)]
    assert steps[0] * tokens[0] > 50 * steps[1] * tokens[1]


@pytest.mark.slow
def test_texts_with_classes_and_pairs_of_texts_have_a_small_form():
    for dataset in ("bbc_topics", "trec", "bbc_headlines", "multi30k", "sms_spam"):
        config = composed("experiment=small", f"dataset={dataset}")
        check(config)
        assert config["dataset"]["_target_"] == composed(f"dataset={dataset}")["dataset"]["_target_"]
        assert config["trainer"]["max_steps"] * config["dataset"]["batch_size"] < 100_000
        assert config["model"]["d_model"] == 128


def test_the_family_of_a_file_goes_before_that_of_the_files_that_it_begins_with():
    found = {name: family("dataset", name) for name in ("glyphs", "captions", "pixels")}
    assert found == {"glyphs": "images", "captions": "captions", "pixels": "pixels"}


def test_what_an_experiment_sets_of_one_dataset_goes_before_what_it_sets_of_its_family():
    steps = [composed("experiment=kazemnejad2023", f"dataset={x}")["trainer"]["max_steps"] for x in ("copy", "pcfg")]
    assert steps == [40_000, 100_000]
    files = [file for kind in ("datasets", "families") for file in (CONF / "experiment" / kind).glob("*.yaml")]
    assert files
    for file in files:
        experiment = next(x for x in (*PAPERS, "small") if file.stem.startswith(f"{x}_"))
        rest = file.stem.removeprefix(f"{experiment}_")
        assert rest in (
            choices("dataset")
            if file.parent.name == "datasets"
            else (family("dataset", name) for name in choices("dataset"))
        )


@pytest.mark.parametrize("match", ["logits", "relations"])
def test_a_small_student_asks_for_its_teacher_and_leaves_the_encoding_open(match):
    assert f"small/distil_{match}" in choices("experiment")
    config = composed(f"experiment=small/distil_{match}", "encoding=alibi")
    assert config["objective"]["match"] == match and config["encoding"]["_target_"].endswith("Alibi")
    with pytest.raises(ValueError, match=r"^objective.teacher=untouched needs "):
        check(config)


def on_a_small_text(folder: Path, *overrides: str) -> dict[str, Any]:
    """A run whose recipe is that of the overrides, and whose text is small."""
    data = small(folder)["dataset"]
    files = ["dataset=text", f"dataset.files={data['files']}", f"dataset.cache_dir={data['cache_dir']}"]
    return composed(*files, "dataset.length_multiples=[1]", "trainer=cpu", *overrides)


def test_no_comment_of_a_key_has_a_directive_of_hydra():
    comments = [comment for group in groups() for one in choices(group) for comment in keys(group, one).values()]
    assert len(comments) > 1000 and not [comment for comment in comments if "@package" in comment]


def test_debug_fast_is_over_after_a_few_steps(tmp_path):
    run = run_of(on_a_small_text(tmp_path, "debug=fast"), tmp_path / "run")
    assert_trained(run, steps=4)
    assert run.metrics()["parameters"] < 100_000


def test_debug_overfit_brings_the_training_loss_near_zero(tmp_path):
    shape = ["model.d_model=64", "model.num_layers=2", "model.num_heads=2", "dataset.sequence_length=32"]
    config = on_a_small_text(tmp_path, "debug=overfit", "dataset.batch_size=2", "optimizer.lr=3e-3", *shape)
    run = run_of(config, tmp_path / "run")
    losses = [value for _, tag, value in recorded(run) if tag == "train/loss"]
    assert losses[0] > 5 and losses[-1] < 0.3
    assert run.metrics()["test/loss"] > 2  # it has learned its one batch by heart, and nothing else


def test_debug_profiler_prints_where_the_time_went(tmp_path, capsys):
    sizes = ["model.d_model=16", "model.num_layers=1", "model.num_heads=2", "dataset.sequence_length=16"]
    run_of(on_a_small_text(tmp_path, "debug=profiler", *sizes), tmp_path / "run")
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert re.search(r"Total time \(s\)", text), text
    assert "run_training_batch" in text


RELIED_ON = [
    *("model.d_model", "model.num_layers", "model.num_heads", "model.head_dim", "dataset.sequence_length"),
    *("dataset.batch_size", "optimizer.lr", "optimizer.encoding_lr_multiplier", "trainer.max_steps"),
    *("trainer.precision", "trainer.devices", "trainer.num_nodes", "encoding.base", "seed", "resume", "init_from"),
]


def test_names_that_users_type_and_other_parts_rely_on_can_be_set():
    before, after = composed(), composed(*(f"{name}=77" for name in RELIED_ON))
    for name in RELIED_ON:
        values = [reduce(getitem, name.split("."), config) for config in (before, after)]
        assert values[0] != 77 == values[1], name
