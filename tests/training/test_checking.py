"""The checks before anything slow starts, and their cost."""

import re
import resource
import subprocess
import sys
from typing import Any

import pytest

from poslab.io.files import NotInstalledError
from poslab.training.checking import check
from tests.training.runs import composed


def imported_by_check(config: dict[str, Any]) -> set[str]:
    """Return which of torch and Lightning a process has imported once it has checked a configuration."""
    program = f"""
import sys
from poslab.training.checking import check
try:
    check({config!r})
except ValueError:
    pass
print(*({{"torch", "lightning"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.slow
def test_checking_takes_no_lightning():
    assert imported_by_check(composed()) == {"torch"}


@pytest.mark.parametrize(
    ("overrides", "mistake"),
    [
        (["dataset=text", "dataset.files=nothing.txt"], "dataset.files names 'nothing.txt'"),
        (["dataset.batch_size=0"], "dataset.batch_size must be a"),
        (["seed=-1"], "seed must be .*got -1"),
    ],
)
def test_a_mistake_in_the_data_is_found_without_torch(overrides, mistake):
    config = composed(*overrides)
    assert imported_by_check(config) == set()
    with pytest.raises(ValueError, match=f"^{mistake}"):
        check(config)


def test_a_model_of_a_billion_parameters_is_checked_without_its_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check(composed("size=1b", "encoding=t5", "trainer.precision=bf16-true"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB; its weights are 4 GB


def test_a_model_that_memory_cannot_hold_is_refused_before_it_is_made():
    with pytest.raises(ValueError, match=r"^model has [\d,]+ parameters, which take"):
        check(composed("model.d_model=1000000", "model.num_layers=1", "model.num_heads=100"))


def test_it_gives_how_the_run_is_trained():
    settings = check(composed("trainer=ddp_cpu", "trainer.max_steps=7")).trainer
    assert (settings.max_steps, settings.local_processes, settings.on_gpu) == (7, 2, False)


@pytest.mark.parametrize("seed", [-1, 1.5, "abc", None, True, 2**32])
def test_a_seed_is_an_integer(seed):
    with pytest.raises(ValueError, match=r"^seed must be an integer"):
        check({**composed(), "seed": seed})


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_any_seed_in_the_range_is_taken(seed):
    check(composed(f"seed={seed}"))


def test_an_encoding_that_ends_before_the_window_is_refused():
    with pytest.raises(ValueError) as error:
        check(composed("encoding=learned", "encoding.max_length=100", "dataset.sequence_length=101"))
    assert re.fullmatch(r"encoding\.max_length=100 .*dataset\.sequence_length=101", str(error.value))
    check(composed("encoding=learned", "encoding.max_length=101", "dataset.sequence_length=101"))


def test_a_sampler_of_positions_that_attention_never_reads_is_refused():
    with pytest.raises(ValueError) as error:
        check(composed("encoding=bipe", "positions=randomized"))
    assert re.fullmatch("positions must be contiguous .* Randomized", str(error.value))
    check(composed("encoding=bipe"))


@pytest.mark.parametrize(
    "words", ["encoding=bipe_alibi", "encoding=t5 positions=randomized", "encoding=alibi positions=cape"]
)
def test_a_route_that_cannot_read_the_positions_of_a_bias_is_refused(words):
    with pytest.raises(ValueError) as error:
        check(composed(*words.split(), "attention=distance"))
    assert str(error.value).startswith("attention must not be distance")
    check(composed(*words.split(), "attention=blockwise"))


@pytest.mark.parametrize(
    "words", ["encoding=bipe", "encoding=t5 positions=shifted", "dataset=glyphs model=encoder encoding=t5_axes"]
)
def test_a_route_that_can_read_them_is_taken(words):
    check(composed(*words.split(), "attention=distance"))


def test_a_route_without_gradients_is_refused():
    with pytest.raises(ValueError, match=r"^attention must not be flex"):
        check(composed("encoding=t5", "attention=flex", "trainer=cpu"))


@pytest.mark.parametrize(
    ("words", "mistake"),
    [
        (
            "dataset=moving_glyphs encoding=mhrope model.num_kv_heads=2",
            "model.num_kv_heads must",
        ),
        (
            "dataset=glyphs encoding=mhrope encoding.sections=[1,1,1]",
            "encoding.sections must have a number",
        ),
        (
            "dataset=moving_glyphs encoding=rotary_mixed encoding.axes=2",
            "encoding.axes must be 3, as",
        ),
    ],
)
def test_an_encoding_of_other_axes_than_those_of_the_data_is_refused(words, mistake):
    with pytest.raises(ValueError) as error:
        check(composed("model=encoder", *words.split()))
    assert str(error.value).startswith(mistake)


def test_data_that_is_not_installed_is_named_only_once_the_configuration_is_right(monkeypatch):
    def missing(_):
        raise NotInstalledError("it needs matplotlib: pip install matplotlib")

    monkeypatch.setattr("poslab.data.patched.glyphs.Glyphs.check", missing)
    words = ["dataset=glyphs", "encoding=mhrope"]
    with pytest.raises(ValueError, match=r"num_kv_heads"):
        check(composed("model=encoder", *words, "model.num_kv_heads=1"))
    with pytest.raises(ValueError, match="pip install matplotlib"):
        check(composed("model=encoder", *words))


@pytest.mark.parametrize("without", [["dataset=glyphs", "model=encoder"], ["dataset=python_docs", "model.registers=1"]])
def test_a_bias_that_no_token_would_train_is_refused_on_several_devices(without):
    beit = ["encoding=beit", *without]
    check(composed(*beit))
    with pytest.raises(ValueError, match=r"^encoding BeitBias needs model.registers"):
        check(composed(*beit, "trainer=ddp_cpu"))


def test_a_bias_that_tokens_train_or_that_is_frozen_may_be_on_several_devices():
    beit = ["dataset=glyphs", "model=encoder", "encoding=beit", "trainer=ddp_cpu"]
    check(composed(*beit, "model.registers=1"))
    check(composed(*beit, "adapt=frozen_encoding"))
