"""Rows of figures: what is measured once, in turns, and left out where it cannot be measured."""

import json

import pytest
import torch
from compiled import flops_per_token, linear_shapes
from layers import reason_against
from memory import resident_bytes
from ours import decoder
from plan import Size
from results import Results
from turns import figures, ratio, take_turns

from poslab.experiments.speed import peak_bytes

MIB = 2**20
CELL = {"part": "layers", "precision": "float32", "encoding": "alibi", "length": 512, "batch": 1}


def test_a_measurement_continues_where_it_was_interrupted(tmp_path):
    Results(tmp_path / "figures.json").add(CELL, [{"contestant": "Poslab", "seconds": 1.0}])
    results = Results(tmp_path / "figures.json")
    assert not results.missing(CELL)
    assert results.missing({**CELL, "length": 1024})
    assert Results(tmp_path / "figures.json", again=True).missing(CELL)


def test_a_cell_that_is_measured_again_replaces_its_rows(tmp_path):
    results = Results(tmp_path / "figures.json")
    results.add(CELL, [{"contestant": "Poslab", "seconds": 1.0}, {"contestant": "T5", "seconds": 2.0}])
    results.add({**CELL, "length": 1024}, [{"contestant": "Poslab", "seconds": 3.0}])
    results.add(CELL, [{"contestant": "Poslab", "seconds": 4.0}])
    written = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert [(row["length"], row["seconds"]) for row in written] == [(1024, 3.0), (512, 4.0)]


def test_figures_of_two_machines_are_not_mixed(tmp_path):
    path = tmp_path / "figures.json"
    Results(path).add(CELL, [{}])
    content = json.loads(path.read_text())
    content["machine"]["threads"] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="another machine"):
        Results(path)


def test_contestants_take_turns_and_every_second_turn_is_in_reverse_order():
    ran = []
    contestants = {name: lambda name=name: ran.append(name) for name in "abc"}
    seconds = take_turns(contestants, 2)
    assert ran == ["a", "b", "c", "c", "b", "a"]
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_a_ratio_is_that_of_turns_side_by_side_with_quartiles():
    # The ratios are 1, 2, 3, 4, 5, whatever else slowed the third turn down.
    assert ratio([1, 2, 30, 4, 5], [1, 1, 10, 1, 1]) == [2, 3, 4]


def test_a_single_turn_has_a_ratio():
    assert ratio([3], [2]) == [1.5, 1.5, 1.5]


def test_a_contestant_that_fails_has_its_reason_and_the_others_their_figures():
    def fail():
        raise RuntimeError("no such kernel\nat line 1")

    calls = {"a": lambda: torch.ones(MIB), "b": fail}
    rows = {row["contestant"]: row for row in figures(calls, {"time": "a", "speed": "b"}, 2, "cpu")}
    assert rows["a"]["time"] == [1, 1, 1] and rows["a"]["peak_bytes"] >= 4 * MIB and "speed" not in rows["a"]
    assert rows["b"] == {"contestant": "b", "left_out": "RuntimeError: no such kernel"}


def test_the_peak_of_a_call_is_what_it_held_at_once_beyond_what_was_there():
    kept = torch.zeros(MIB)

    def call():
        first = torch.zeros(MIB)  # 4 MiB each
        second = first + kept
        del first
        return second.mul_(2) + 1  # beside `second`; two are held at once, never three

    assert peak_bytes(call) == pytest.approx(8 * MIB, abs=64)  # and the numbers 2 and 1


def test_the_peak_of_the_process_is_at_least_what_it_has_now():
    held = torch.ones(4 * MIB)
    assert held.nbytes < resident_bytes("VmRSS") <= resident_bytes("VmHWM")


def test_what_would_not_fit_or_take_too_long_is_left_out_with_its_reason():
    row = {"seconds": 1.0, "peak_bytes": 2**30}
    assert reason_against(row, 2.0, 12.0, 5 * 2**30) is None
    assert reason_against(row, 4.0, 12.0, 5 * 2**30) == "would hold up to 16 GiB, where 5 are free"
    assert reason_against(row, 8.0, 12.0, 2**40) == "would take up to 64 s a call"
    assert reason_against({"left_out": "takes 20 s a call"}, 2.0, 12.0, 2**40) == "takes 20 s a call"


def test_the_flops_of_a_token_are_six_for_each_weight_of_a_product_and_those_of_causal_attention():
    size = Size(d_model=64, num_layers=2, num_heads=2, sequence_length=32, batch_size=1)
    model = decoder("none", size)
    weights = sum(p.numel() for p in model.parameters() if p.ndim == 2)  # the output layer is the embeddings
    assert sum(inputs * outputs for inputs, outputs in linear_shapes(model)) == weights
    # 16 keys on average, 2 products of 64 channels, a multiplication and an addition, forward and twice backward.
    assert flops_per_token(model, size) == 6 * weights + 2 * 16 * 2 * 64 * 2 * 3
