import os
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_what_only_a_gpu_can_show_runs_on_a_cpu_in_a_reduced_form(tmp_path):
    page = tmp_path / "gpu.md"
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--output", str(page)]
    # For one thread PyTorch 2.13 makes C++ that lacks a header.
    text = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "2"}
    )
    assert max(len(line) for line in text.stdout.splitlines() if not line.startswith("written to")) <= 80
    rows = [line.strip("| ").split(" | ") for line in page.read_text().splitlines() if line.startswith("| ")]
    differences = [float(row[3]) for row in rows if re.fullmatch(r"\d\.\de[+-]\d\d", row[-1])]
    assert len(differences) > 20 and max(differences) < 1e-4
    ways = [row[1] for row in rows if row[0] == "reduced"]
    assert ways == ["as it is", "compiled", "compiled by block", "recomputed activations"]
    losses = {row[0]: row[2] for row in rows if row[0] in ("whole", "sharded")}
    assert losses["whole"] == losses["sharded"]
