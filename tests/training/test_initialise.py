"""`init_from`: a run that begins with the weights of another, as far as they fit."""

from pathlib import Path

import pytest
import torch
from torch import nn

from poslab.configuration.build import build
from poslab.data.tokenizers import ByteTokenizer, SymbolTokenizer
from poslab.encodings import EncodingFactory
from poslab.models import Model
from poslab.runs.checkpoint import save_atomically
from poslab.runs.directory import RunDirectory
from poslab.runs.recipe import Recipe
from poslab.training.initialise import initialise_from
from tests.training.runs import composed, run_of, small, weights

BYTES = ByteTokenizer()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    folder = tmp_path_factory.mktemp("trained")
    return run_of(small(folder, "encoding=rotary"), folder / "run")


def model(*overrides: str, vocab_size: int = 257) -> Model:
    """A small model with weights of its own."""
    sizes = ["model.d_model=16", "model.num_layers=1", "model.num_heads=2", "dataset.sequence_length=16"]
    config = composed(*sizes, *overrides)
    torch.manual_seed(99)
    made: Model = build(
        config, "model", Model, vocab_size=vocab_size, encoding=build(config, "encoding", EncodingFactory)
    )
    return made


@pytest.mark.parametrize(
    "overrides",
    [["encoding=rotary"], ["encoding.base=500000"], ["encoding=none"], ["encoding=sinusoidal"], ["encoding=alibi"]],
)
def test_under_an_encoding_without_parameters_a_model_takes_all_weights(trained, overrides):
    other = model(*overrides)
    assert initialise_from(other, str(trained.path), BYTES) == []
    torch.testing.assert_close(dict(other.state_dict()), weights(trained.best_checkpoint), rtol=0, atol=0)


@pytest.mark.parametrize("encoding", ["t5", "learned"])
def test_what_another_encoding_learns_starts_afresh_and_is_listed(trained, encoding):
    other, untouched = model(f"encoding={encoding}"), model(f"encoding={encoding}")
    lines = initialise_from(other, str(trained.path), BYTES)
    (own,) = [name for name in other.state_dict() if name.startswith("encodings.")]
    assert [line.partition(" ")[0] for line in lines] == [own]
    assert torch.equal(other.state_dict()[own], untouched.state_dict()[own])
    assert torch.equal(other.state_dict()["norm.weight"], weights(trained.best_checkpoint)["norm.weight"])


def saved(model: nn.Module, file: Path) -> str:
    """Save the weights of a model as a run does, and return where."""
    state = {f"model.{name}": weight for name, weight in model.state_dict().items()}
    save_atomically({"state_dict": state, "callbacks": {"RunCheckpoints": {}}}, file)
    return str(file)


def test_a_model_with_names_of_its_own_takes_what_fits(trained):
    own = nn.Module()
    own.norm = nn.RMSNorm(16)
    own.tokens = nn.Embedding(257, 16)
    lines = initialise_from(own, str(trained.path), BYTES)
    assert torch.equal(own.norm.weight, weights(trained.best_checkpoint)["norm.weight"])
    assert any(line.startswith("tokens.weight is not in that run") for line in lines)
    assert any(line.startswith("embedding.weight is not in this model") for line in lines)


def test_what_is_left_out_or_has_another_shape_is_listed(trained):
    other = model("encoding=alibi", "model.mlp_ratio=8", "model.qk_norm=true", vocab_size=300)
    lines = initialise_from(other, str(trained.path), SymbolTokenizer(["a", "b"]))
    assert any(line.startswith("embedding.weight has another shape ((257, 16)") for line in lines)
    assert any(line.startswith("blocks.0.mlp.gate_up.weight has") for line in lines)
    assert any("norm" in line and "is not in that run" in line for line in lines)

    deeper = model("encoding=t5", "model.num_layers=2")
    initialise_from(deeper, str(trained.path), BYTES)
    lines = initialise_from(model("encoding=rotary"), saved(deeper, trained.checkpoints / "deeper.safetensors"), BYTES)
    assert any(line.startswith("blocks.1.") and "not in this model" in line for line in lines)


def test_of_two_matrices_there_the_one_of_the_embeddings_becomes_the_one_matrix_here(tmp_path):
    run = run_of(small(tmp_path, "model.tie_embeddings=false"), tmp_path / "untied")
    tied, theirs = model("encoding=rotary"), weights(run.best_checkpoint)
    (line,) = initialise_from(tied, str(run.path), BYTES)
    assert line.startswith("output.weight is the embedding here")
    assert torch.equal(tied.state_dict()["output.weight"], theirs["embedding.weight"])
    assert not torch.equal(theirs["output.weight"], theirs["embedding.weight"])


@pytest.mark.parametrize(("there", "here"), [(257, 300), (258, 257), (258, 300)])
@pytest.mark.parametrize("tied", ["true", "false"])
def test_the_tokens_of_the_same_tokenizer_keep_their_rows_beside_those_of_the_task(trained, there, here, tied):
    source = model(f"model.tie_embeddings={tied}", vocab_size=there)
    nn.init.ones_(source.output.weight)
    file = saved(source, trained.checkpoints / "other.safetensors")
    ours = model(f"model.tie_embeddings={tied}", vocab_size=here)
    untouched = {name: weight.clone() for name, weight in ours.state_dict().items()}
    rows = f"takes the 257 rows of the tokenizer ({there} "
    names = ["embedding.weight"] if tied == "true" else ["embedding.weight", "output.weight"]
    lines = initialise_from(ours, file, BYTES)
    assert [line.startswith(f"{name} {rows}") for name, line in zip(names, lines, strict=True)] == [True] * len(names)
    for name in ("embedding.weight", "output.weight"):
        assert torch.equal(ours.state_dict()[name][:257], source.state_dict()[name][:257])
        assert torch.equal(ours.state_dict()[name][257:], untouched[name][257:])


def test_the_tokens_of_another_tokenizer_start_afresh(trained):
    """The two vocabularies have the same size, as those that `bpe` learns on two data sets."""
    ours = model("model.tie_embeddings=false")
    untouched = {name: weight.clone() for name, weight in ours.state_dict().items()}
    names = ["embedding.weight", "output.weight"]
    lines = initialise_from(ours, str(trained.path), SymbolTokenizer(["a", "b"]))
    assert [line.partition(" there")[0] for line in lines] == [
        f"{name} has the tokens of another tokenizer" for name in names
    ]
    theirs = weights(trained.best_checkpoint)
    for name, weight in ours.state_dict().items():
        assert torch.equal(weight, untouched[name] if name in names else theirs[name])


def test_what_has_learned_to_fill_in_text_goes_on_to_classes_with_its_embeddings(tmp_path):
    masked = run_of(small(tmp_path, "model=encoder"), tmp_path / "masked")
    (tmp_path / "classes.csv").write_text("text,label\n" + "".join(f"word {n},{'ab'[n % 2]}\n" for n in range(200)))
    data = ["dataset=classification_file", f"dataset.files={tmp_path}/classes.csv", "dataset.tokenizer=bytes"]
    still = ["optimizer.lr=1e-30", "optimizer.weight_decay=0", f"init_from={masked.path}"]
    shape = ["model.d_model=16", "model.num_layers=1", "model.num_heads=2", "trainer=cpu", "trainer.max_steps=4"]
    config = composed(*data, *still, *shape, f"dataset.cache_dir={tmp_path}/cache", "trainer.precision=32-true")
    run = run_of(config, tmp_path / "classes")
    log = run.log_file.read_text()
    assert "embedding.weight takes the 257 rows" in log
    assert "output.weight has another shape ((258, 16)" in log
    theirs, ours = (weights(path)["embedding.weight"] for path in (masked.best_checkpoint, run.last_checkpoint))
    torch.testing.assert_close(ours, theirs[:257], atol=1e-20, rtol=0)


@pytest.mark.parametrize(("others", "verify_or_discard"), [("ab", True), ("ac", False)])
def test_an_output_layer_is_kept_for_the_same_classes(tmp_path, others, verify_or_discard):
    def classifier(names: str, *overrides: str) -> RunDirectory:
        file = tmp_path / f"{len(overrides)}.csv"
        file.write_text("text,label\n" + "".join(f"word {n},{names[n % 2]}\n" for n in range(200)))
        data = ["dataset=classification_file", f"dataset.files={file}", "dataset.tokenizer=bytes", *overrides]
        shape = ["model.d_model=16", "model.num_layers=1", "model.num_heads=2", "trainer=cpu", "trainer.max_steps=1"]
        config = composed(*data, *shape, f"dataset.cache_dir={tmp_path}/cache", "trainer.precision=32-true")
        return run_of(config, tmp_path / f"run_{len(overrides)}")

    first = classifier("ab")
    second = classifier(others, f"init_from={first.path}", "optimizer.lr=1e-30", "optimizer.weight_decay=0")
    line = "output.weight has other classes"
    assert (line in second.log_file.read_text()) != verify_or_discard
    theirs, ours = (weights(run.last_checkpoint)["output.weight"] for run in (first, second))
    assert torch.allclose(theirs, ours) == verify_or_discard


def test_an_empty_name_is_refused():
    with pytest.raises(ValueError, match=r"^init_from must be .*got ''"):
        Recipe.of(composed("init_from=''"))


def test_a_run_of_which_nothing_fits_is_refused(trained):
    with pytest.raises(ValueError) as error:
        initialise_from(model("model.d_model=24"), str(trained.path), BYTES)
    assert str(error.value).startswith(f"init_from={trained.path} has no weights")
    assert "key_value.weight is (32, 16) there, (48, 24)" in str(error.value)


def test_a_run_stretches_a_trained_one_to_longer_windows_and_says_what_it_took(trained, tmp_path):
    stretch = [f"init_from={trained.path}", "encoding.base=500000", "dataset.sequence_length=32"]
    run = run_of(small(tmp_path, *stretch, "optimizer.lr=1e-30", "optimizer.weight_decay=0"), tmp_path / "run")
    assert f"weights of {trained.path}" in run.log_file.read_text()
    theirs, ours = weights(trained.best_checkpoint), weights(run.last_checkpoint)
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, atol=1e-20, rtol=0)
