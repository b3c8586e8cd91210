import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.train_step import Size

ROOT = Path(__file__).parents[2]


def test_both_models_have_the_same_number_of_parameters_but_for_the_bias_of_their_gates():
    size = Size()
    ours, theirs = (sum(p.numel() for p in model.parameters()) for model in (size.ours(), size.theirs()))
    assert theirs - ours == size.num_layers * 2 * 704


@pytest.mark.slow
def test_the_benchmark_runs_and_shows_each_contestant():
    command = [sys.executable, "benchmarks/train_step.py", "--quick", "--precision", "bf16-mixed"]
    shown = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    rows = [line.split()[1] for line in shown.splitlines() if line.strip().startswith("bf16-mixed")]
    assert rows == ["Poslab", "Poslab,", "x-transformers"]
