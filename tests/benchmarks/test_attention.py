import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT


def run(*arguments):
    command = [sys.executable, *arguments, "--quick"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_the_benchmark_of_attention_measures_each_contestant_of_each_part(tmp_path):
    output = tmp_path / "figures.json"
    text = run("benchmarks/attention.py", "--encodings", "none", "alibi", "forgetting", "--output", str(output))
    rows = json.loads(output.read_text())["rows"]

    def ways(part, **values):
        wanted = {"part": part, "precision": "float32", **values}
        found = [row["contestant"] for row in rows if all(row.get(key) == value for key, value in wanted.items())]
        return list(dict.fromkeys(found))

    assert ways("distance") == ["no encoding", "learned bias", "fixed bias", "as a mask"]
    assert ways("lattice", encoding="swin_v2") == ["no encoding", "lattice", "as a mask", "pairs"]
    assert ways("layers", encoding="none") == ["no encoding", "Poslab", "SDPA with a mask", "x-transformers"]
    assert ways("layers", encoding="alibi") == ["no encoding", "Poslab", "x-transformers", "BLOOM", "MPT"]
    assert ways("layers", encoding="forgetting", length=128) == ["no encoding", "Poslab", "x-transformers"]
    assert ways("blockwise", encoding="alibi") == []
    assert ways("blockwise", encoding="forgetting") == ["dense", "blockwise"]
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.slow
def test_the_benchmark_of_memory_measures_processes_of_their_own():
    text = run("benchmarks/memory.py", "--encodings", "learned", "forgetting")
    rows = [line.split()[:2] for line in text.splitlines() if line.strip().startswith(("evaluation", "training"))]
    # What is blockwise has no bound, and is left out; `learned` is made as long as the text.
    assert rows == [["evaluation", "learned"], ["training", "float32"], ["training", "bfloat16"]]
