"""The settings of a trainer, and their meaning on this machine."""

import os
from pathlib import Path

import pytest
import torch

from poslab.runs.trainer_settings import TrainerSettings, cpu_has_bfloat16

CORES = max(2, os.cpu_count() or 1)
DEVICES = f"trainer.devices must lie between 1 and the {CORES} CPU cores of this machine"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"max_steps": -1}, "max_steps must .*-1"),
        ({"num_nodes": 0}, "num_nodes must .*0"),
        ({"validations": -1}, "validations must .*-1"),
        ({"saves": 0}, "saves must .*0"),
        ({"log_every": 0}, "log_every must .*0"),
        ({"micro_batch_size": 0}, "micro_batch_size must .*0"),
        ({"devices": 0}, f"{DEVICES}, got 0"),
        ({"devices": CORES + 1}, f"{DEVICES}, got {CORES + 1}"),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        TrainerSettings(**{"max_steps": 1, "accelerator": "cpu", **change}).require_devices()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match=r"^trainer.accelerator=gpu needs a GPU"):
        TrainerSettings(max_steps=1, accelerator="gpu").require_devices()
    assert not TrainerSettings(max_steps=1).on_gpu


def test_all_devices_of_a_machine_without_gpus_are_one_process():
    assert TrainerSettings(max_steps=1, accelerator="cpu", devices="auto").local_processes == 1
    assert TrainerSettings(max_steps=1, accelerator="cpu", devices=2).local_processes == 2


@pytest.mark.parametrize(
    "asked, every, steps",
    [
        *[(5, 120, 600), (5, 120, 599), (10, 60, 600), (4, 3, 10), (5, 2, 9), (100, 2, 199)],
        *[(50, 1, 10), (5, 1, 3), (1, 7, 7), (1, 1, 1)],
    ],
)
def test_a_run_is_validated_and_saved_as_often_as_asked_and_no_oftener(asked, every, steps):
    settings = TrainerSettings(max_steps=steps, accelerator="cpu", validations=asked, saves=asked)
    assert settings.validate_every == settings.save_every == every
    times = len({*range(every, steps + 1, every), steps})
    assert times <= asked
    assert times > asked / 2 or times == steps


def test_precision_is_bfloat16_exactly_where_the_processor_multiplies_it_unless_another_is_asked_for():
    words = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    native = "avx512_bf16" in words or "amx_bf16" in words
    assert cpu_has_bfloat16() == native
    for asked, precision in (("auto", "bf16-mixed" if native else "32-true"), ("32-true", "32-true")):
        settings = TrainerSettings(max_steps=1, accelerator="cpu", precision=asked)
        assert settings.resolved_precision == precision


@pytest.mark.parametrize(
    ("batch_size", "processes", "micro_batch_size", "expected"),
    [(8, 1, None, 1), (8, 2, None, 1), (8, 2, 2, 2), (8, 1, 1, 8), (12, 3, 2, 2)],
)
def test_a_batch_is_shared_out_and_cut(batch_size, processes, micro_batch_size, expected):
    settings = TrainerSettings(1, accelerator="cpu", devices=processes, micro_batch_size=micro_batch_size)
    assert settings.micro_batches(batch_size) == expected
