import json

import pytest
from results import Results

ROW = {"part": "layers", "precision": "float32", "encoding": "alibi", "contestant": "Poslab", "length": 512, "batch": 1}


def test_a_measurement_goes_on_where_it_ended(tmp_path):
    Results(tmp_path / "figures.json").add({**ROW, "seconds": 1.0})
    results = Results(tmp_path / "figures.json")
    assert not results.missing(ROW)
    assert results.missing({**ROW, "length": 1024})
    assert Results(tmp_path / "figures.json", again=True).missing(ROW)


def test_a_row_that_is_measured_again_takes_the_place_of_the_old_one(tmp_path):
    results = Results(tmp_path / "figures.json")
    for row in ({**ROW, "seconds": 1.0}, {**ROW, "length": 1024, "seconds": 3.0}, {**ROW, "seconds": 2.0}):
        results.add(row)
    written = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert [(row["length"], row["seconds"]) for row in written] == [(512, 2.0), (1024, 3.0)]


def test_figures_of_two_machines_are_not_mixed(tmp_path):
    path = tmp_path / "figures.json"
    Results(path).add(ROW)
    content = json.loads(path.read_text())
    content["machine"]["threads"] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="another machine"):
        Results(path)
