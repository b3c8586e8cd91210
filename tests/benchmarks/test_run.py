"""`benchmarks/run.py` and `gpu.py` measure each contestant of each part, and the page is made of their files."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from pages.performance import draw, page
from pages.performance_bounds import Measured

from tests.conftest import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),  # every script imports and compiles
    pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="there is no C++ compiler"),
]


def measured(script, output, *arguments, threads=1):
    """The figures in a file after a script has run in its tiny form, and what it printed."""
    command = [sys.executable, f"benchmarks/{script}.py", "--tiny", "--output", str(output), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "GOMP_SPINCOUNT": "1000"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Measured.read(output), done.stdout


def contestants(figures, part, **values):
    """Every contestant of these rows, which all have figures."""
    return list(dict.fromkeys(row["contestant"] for row in figures.of(part, **values)))


def test_attention_is_measured_in_every_way(tmp_path):
    output = tmp_path / "cpu.json"
    parts = ["attention", "distance", "lattice", "layers", "blockwise"]
    figures, text = measured("run", output, "--encodings", "none", "alibi", "forgetting", "--parts", *parts)
    assert not [row for row in figures.rows if "left_out" in row]
    for precision in ("float32", "bfloat16"):
        assert contestants(figures, "attention", precision=precision) == ["kernel", "SDPA"]
        ways = ["no encoding", "learned bias", "fixed bias", "as a mask"]
        assert contestants(figures, "distance", precision=precision) == ways
    assert contestants(figures, "lattice", encoding="swin_v2") == ["no encoding", "lattice", "as a mask", "pairs"]
    plain = ["no encoding", "Poslab", "SDPA with a mask", "x-transformers"]
    assert contestants(figures, "layers", encoding="none") == plain
    assert contestants(figures, "layers", encoding="alibi") == [
        "no encoding",
        "Poslab",
        "x-transformers",
        "BLOOM",
        "MPT",
    ]
    assert contestants(figures, "layers", encoding="forgetting", length=128) == [
        "no encoding",
        "Poslab",
        "x-transformers",
    ]
    assert contestants(figures, "blockwise", encoding="alibi") == []
    assert contestants(figures, "blockwise", encoding="forgetting") == ["dense", "blockwise"]
    again, nothing = measured("run", output, "--encodings", "none", "alibi", "forgetting", "--parts", *parts)
    assert text and not nothing and again.rows == figures.rows


def test_the_memory_of_long_texts_is_measured(tmp_path):
    arguments = ["--encodings", "learned", "forgetting", "--parts", "memory"]
    figures, _ = measured("run", tmp_path / "memory.json", *arguments)
    # What is blockwise has no bound, and is left out; `learned` is made as long as the text.
    assert [row["encoding"] for row in figures.of("evaluation")] == ["learned"]
    assert [row["precision"] for row in figures.of("training")] == ["float32", "bfloat16"]


# For one thread PyTorch 2.13 makes C++ that lacks a header.
def test_the_page_is_made_of_what_is_measured_on_a_gpu(tmp_path):
    arguments = ["--device", "cpu", "--encodings", "none", "t5"]
    figures, _ = measured("gpu", tmp_path / "gpu.json", *arguments, threads=2)
    assert {row["part"] for row in figures.rows} == {"decoders", "compiled", "encodings", "layers"}
    for precision in ("32-true", "bf16-mixed"):
        peers = ["Poslab", "Llama", "Llama, eager attention", "x-transformers", "Poslab, trainer.kernel=torch"]
        assert contestants(figures, "decoders", precision=precision) == peers
        assert contestants(figures, "compiled", precision=precision) == [
            *("Poslab", "Llama", "Llama, layers compiled", "matrix products")
        ]
        peers = ["no encoding", "Poslab", "x-transformers", "T5"]
        assert contestants(figures, "encodings", precision=precision, encoding="t5") == peers
        (step,) = figures.of("compiled", precision=precision, contestant="Poslab")
        assert sum(step["profile"].values()) == pytest.approx(1, abs=1e-3)
        assert all(share > 0 for share in step["profile"].values())  # every kind has names in the profile
    draw(figures, tmp_path)
    text = page([figures])
    for row in figures.of("encodings", length=32, contestant="Poslab", precision="32-true"):
        assert f"| {row['encoding']} | {', '.join(row['route'])} | x {row['time'][1]:.2f} |" in text
    assert (tmp_path / "figures" / "performance" / "gpu" / "time_float32.png").is_file()


def test_figures_of_a_gpu_are_refused_where_there_is_none():
    command = [sys.executable, "benchmarks/gpu.py", "--tiny"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True
    )
    assert done.returncode == 2 and "--device cpu" in done.stderr


def test_a_file_of_another_machine_is_refused(tmp_path):
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"machine": {"processor": "other"}, "rows": []}))
    command = [sys.executable, "benchmarks/run.py", "--tiny", "--output", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and str(path) in done.stderr
