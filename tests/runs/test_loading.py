import pickle
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

import poslab
from poslab.encodings import LayerPattern, LayerSpec, Rotary
from poslab.models import Decoder
from poslab.runs.checkpoint import OWN_STATE, checkpoint_file, load_checkpoint, save_atomically
from poslab.runs.loading import untrained
from tests.runs.trap import Trap
from tests.stacked import stacked
from tests.training.runs import weights as saved_weights
from tests.written_run import write_run

DAMAGED = r"the checkpoint .*best\.safetensors is damaged: it cannot be read, but .*last\.safetensors is whole"


def assert_holds(model, weights):
    state = model.state_dict()
    assert state.keys() == weights.keys()
    assert all(torch.equal(state[name], weight) for name, weight in weights.items())


@pytest.mark.slow
def test_a_trained_run_loads_in_evaluation_mode_with_its_own_weights(trained_run):
    model = poslab.load(trained_run)
    assert_holds(model, saved_weights(trained_run / "checkpoints/best.safetensors"))
    assert not any(module.training for module in model.modules())
    assert model.output.weight is model.embedding.weight
    assert model(torch.tensor([[72, 105]])).shape == (1, 2, 257)


def test_a_run_gives_its_best_checkpoint_and_a_checkpoint_gives_itself(written):
    best, last = (saved_weights(file) for file in (written.best_checkpoint, written.last_checkpoint))
    assert not torch.equal(best["embedding.weight"], last["embedding.weight"])
    assert_holds(poslab.load(str(written.path)), best)
    assert_holds(poslab.load(written.last_checkpoint), last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_keep_the_dtype_in_which_they_were_trained(tmp_path, dtype):
    run = write_run(tmp_path / "run", dtype=dtype)
    model = poslab.load(run.path)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert_holds(model, saved_weights(run.best_checkpoint))


@pytest.mark.slow
def test_importing_poslab_takes_no_torch_and_loading_takes_no_lightning(written):
    code = """
import sys, poslab
assert "torch" not in sys.modules
poslab.load(sys.argv[1])
assert "torch" in sys.modules and "lightning" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, str(written.path)], check=True)


def test_poslab_has_nothing_but_what_it_names():
    with pytest.raises(AttributeError, match="module 'poslab' has no attribute"):
        _ = poslab.lod


# Mistakes


def assert_refused(run, sentence):
    with pytest.raises(ValueError, match=rf"^{sentence}$"):
        poslab.load(run)


def test_a_directory_that_is_no_run_is_refused(tmp_path):
    assert_refused(tmp_path, ".* is not a run .*config.yaml")
    assert_refused(tmp_path / "nothing", ".* is not a run .*config.yaml")
    (tmp_path / "config.yaml").write_text("name: another project\n")
    assert_refused(tmp_path, ".* is not a run .* no adapt")


def test_a_run_without_a_checkpoint_is_refused(run):
    run.best_checkpoint.unlink()
    assert_refused(run.path, r"there is no checkpoint .*best\..*last\.safetensors")
    assert_refused(
        run.checkpoints / "lst.safetensors",
        r"there is no checkpoint .*lst\..*last\.safetensors",
    )


@pytest.mark.parametrize("kept", [0, 10, 0.5, -1])
def test_a_checkpoint_that_was_cut_off_is_refused(run, kept):
    content = run.best_checkpoint.read_bytes()
    run.best_checkpoint.write_bytes(content[: int(kept * len(content)) if kept == 0.5 else kept])
    assert_refused(run.path, DAMAGED)


def test_a_checkpoint_with_one_wrong_bit_in_a_weight_is_refused(run):
    file = run.best_checkpoint
    content = bytearray(file.read_bytes())
    weight = saved_weights(file)["embedding.weight"].numpy().tobytes()
    content[content.index(weight) + 1000] ^= 1
    file.write_bytes(content)
    assert_refused(run.path, DAMAGED)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_a_checkpoint_whose_weights_are_of_another_kind_is_refused(run, dtype):
    checkpoint = load_checkpoint(run.best_checkpoint)
    checkpoint["state_dict"] = {name: weight.to(dtype) for name, weight in checkpoint["state_dict"].items()}
    save_atomically(checkpoint, run.best_checkpoint)
    assert_refused(run.path, r"the checkpoint .*best\..* does not fit .*config\.yaml")


def test_a_checkpoint_that_is_a_pickle_is_refused_and_its_code_not_run(run, tmp_path):
    trap = {"state_dict": {}, "callbacks": {OWN_STATE: Trap(tmp_path / "sprung")}}
    torch.save(trap, run.best_checkpoint)
    assert_refused(run.path, DAMAGED)
    run.best_checkpoint.write_bytes(pickle.dumps(trap))
    assert_refused(run.path, DAMAGED)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("header", [None, {"format": "pt"}, {"poslab": "{}"}])
def test_a_checkpoint_of_another_project_is_refused(run, header):
    save_file({"weight": torch.zeros(3)}, run.best_checkpoint, header)
    assert_refused(run.path, r"the checkpoint .*best\..* not written by Poslab")


def test_a_checkpoint_of_an_earlier_format_is_named(run):
    with pytest.raises(ValueError, match=r"a checkpoint is now .*best\.safetensors$"):
        checkpoint_file(run.checkpoints / "best.ckpt")


def test_a_checkpoint_of_another_model_is_refused(run, tmp_path):
    shutil.copy(write_run(tmp_path / "other", "model.d_model=64").best_checkpoint, run.best_checkpoint)
    assert_refused(run.path, r"the checkpoint .*best\..* does not fit .*config\.yaml")


def test_a_run_without_its_tokenizer_is_refused(run):
    (run.path / "tokenizer.json").unlink()
    assert_refused(run.path, r".*run has no tokenizer\.json")


def test_a_single_encoding_does_not_take_the_place_of_a_pattern(tmp_path):
    run = write_run(tmp_path / "run", "encoding=rnope")
    none = {"_target_": "poslab.encodings.NoPosition", "_partial_": True}
    with pytest.raises(ValueError, match=r"^swap must be a pattern of"):
        poslab.load(run.path, swap={"encoding": none})
    kinds = [{"encoding": none, "window": 4}, {"encoding": none}]
    swap = {"encoding": {"_target_": "poslab.encodings.LayerPattern", "kinds": kinds}}
    assert poslab.load(run.path, swap=swap).encodings.windows[:2] == [4, None]


def test_sinks_that_no_training_has_set_are_counted():
    """As where a swap gives windows to layers that had none, under model.sinks=windows."""
    model = stacked(Decoder, 11, LayerPattern([LayerSpec(Rotary, window=4), Rotary]), 32, 2, 4, sinks="windows")
    assert untrained(model, {}) == {"sink": 4}
    assert untrained(model, dict(model.named_parameters())) == {}
