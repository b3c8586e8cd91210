import json
import os
import subprocess
import sys

import ours
import pytest
from compiled_steps import KINDS, flops_per_token, linear_shapes
from llama_steps import Llama
from peers import peers_of
from size import Size

from tests.conftest import ROOT


def shown(*arguments, threads=1):
    """The output of the benchmark in its quick form."""
    command = [sys.executable, "benchmarks/train_step.py", "--quick", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout


def test_both_models_have_the_same_number_of_parameters_but_for_the_bias_of_their_gates():
    size = Size()
    models = ours.decoder("rotary", size), peers_of("rotary")[0].decoder(size)
    own, theirs = (sum(p.numel() for p in model.parameters()) for model in models)
    assert theirs - own == size.num_layers * 2 * 704


def test_our_decoder_has_the_parameters_of_llama():
    size = Size()
    own, theirs = (sum(p.numel() for p in model.parameters()) for model in (ours.decoder("rotary", size), Llama(size)))
    assert own == theirs


def test_the_flops_of_a_token_are_six_for_each_weight_of_a_product_and_those_of_causal_attention():
    size = Size(d_model=64, num_layers=2, num_heads=2, sequence_length=32, batch_size=1)
    model = ours.decoder("none", size)
    weights = sum(p.numel() for p in model.parameters() if p.ndim == 2)  # the output layer is the embeddings
    assert sum(inputs * outputs for inputs, outputs in linear_shapes(model)) == weights
    # 16 keys on average, 2 products of 64 channels, a multiplication and an addition, forward and twice backward.
    assert flops_per_token(model, size) == 6 * weights + 2 * 16 * 2 * 64 * 2 * 3


@pytest.mark.slow
def test_the_benchmark_runs_and_shows_each_contestant_in_80_columns():
    text = shown("--precision", "bf16-mixed")
    rows = [line.split()[1] for line in text.splitlines() if line.strip().startswith("bf16-mixed")]
    assert rows == ["Poslab", "Poslab,", "x-transformers"]
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.slow
def test_encodings_are_measured_over_none_and_beside_their_peers(tmp_path):
    arguments = ["--parts", "encodings", "--precision", "32-true", "--encodings", "t5", "relative_projection"]
    text = shown(*arguments, "--output", str(tmp_path / "figures.json"))
    rows = [line.split()[:2] for line in text.splitlines() if line.strip().startswith(("t5", "relative_projection"))]
    both = ["no", "Poslab", "x-transformers"]
    assert rows == [["t5", peer] for peer in [*both, "T5"]] + [["relative_projection", peer] for peer in both]
    assert max(map(len, text.splitlines())) <= 80


# For one thread PyTorch 2.13 makes C++ that lacks a header.
@pytest.mark.slow
def test_a_compiled_step_is_measured_over_matrix_products_and_profiled(tmp_path):
    figures = tmp_path / "figures.json"
    text = shown("--parts", "compiled", "--encodings", "none", "--output", str(figures), threads=2)
    assert [line.split()[1] for line in text.splitlines() if line.strip().startswith("none")] == ["matrix", "Poslab,"]
    (profile,) = (row["profile"] for row in json.loads(figures.read_text())["rows"] if "profile" in row)
    assert sum(profile.values()) == pytest.approx(1, abs=1e-3)
    assert all(0 < profile[kind] < 1 for kind in KINDS)  # every kind is found by its names


@pytest.mark.slow
def test_our_decoder_is_measured_beside_llama_as_it_is_and_compiled():
    text = shown("--parts", "llama", "--precision", "32-true", threads=2)
    rows = [line.split()[1:3] for line in text.splitlines() if line.strip().startswith("32-true")]
    assert [row[0] for row in rows] == ["Poslab", "Llama", "Poslab,", "Llama,"]
    assert max(map(len, text.splitlines())) <= 80
