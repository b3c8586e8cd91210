"""A part of an evaluation is one file, which nothing else names."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from poslab.evaluation import parts
from poslab.evaluation.evaluated_run import ABILITIES
from poslab.evaluation.evaluation import Evaluation, evaluate
from poslab.evaluation.settings import Progress, Settings

FILE = '''
"""Part {name}, in a sentence. Dimension letter: T tokens.

More on it.
"""

from poslab.evaluation.evaluation import Evaluation
from poslab.report.figures import Section

ORDER = {place}
NEEDS = frozenset({needs})


def make(runs, settings):
    return Evaluation([Section("{name}", "", [])], {{"{name}": settings.seed}})
'''
NEEDS = {"for_rotations": {"rotation"}}
PLACES = {"behind_all": 3, "at_the_end": 2, "before_all": 1}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder of other parts in place of the library's."""
    monkeypatch.setattr(parts, "__path__", [str(tmp_path)])
    for name, position in PLACES.items():
        (tmp_path / f"{name}.py").write_text(FILE.format(name=name, place=position, needs=NEEDS.get(name, set())))
    yield
    for name in (*PLACES, *NEEDS):
        sys.modules.pop(f"{parts.__name__}.{name}", None)
        vars(parts).pop(name, None)


def test_every_file_is_a_part_in_the_order_of_their_places():
    begun = []
    made = evaluate([], Settings(seed=7, progress=Progress(begun.append)))
    names = ["before_all", "at_the_end", "behind_all"]
    assert begun == [f"{name} ..." for name in names]
    assert [section.title for section in made.sections] == names
    assert made.metrics == dict.fromkeys(names, 7)


def test_a_part_is_left_out_with_its_reason_where_no_model_has_what_it_needs(tmp_path):
    (tmp_path / "for_rotations.py").write_text(FILE.format(name="for_rotations", place=0, needs=NEEDS["for_rotations"]))
    still, turning = (SimpleNamespace(abilities=abilities) for abilities in ({"attention"}, {"attention", "rotation"}))
    alone = evaluate([still], Settings())
    assert alone.left_out == {"for_rotations": f"needs {ABILITIES['rotation']}"}
    beside = evaluate([still, turning], Settings())
    assert beside.left_out == {}
    assert next(section.title for section in beside.sections) == "for_rotations"


def test_only_the_parts_that_are_asked_for_are_made():
    assert list(evaluate([], Settings(["at_the_end"])).metrics) == ["at_the_end"]


def test_a_part_without_a_file_is_refused():
    with pytest.raises(ValueError, match=r"^parts must .*got retrieval$"):
        evaluate([], Settings(["retrieval"]))


def test_a_part_is_described_by_the_first_sentence_of_its_file_without_an_import():
    assert parts.meanings() == {name: f"Part {name}, in a sentence" for name in sorted(PLACES)}
    assert not any(f"{parts.__name__}.{name}" in sys.modules for name in PLACES)


def test_metrics_of_any_type_of_number_are_written(tmp_path):
    metrics = {"loss": np.float32(0.5), "reach": np.int64(3), "unknown": np.float32("nan")}
    Evaluation(metrics=metrics).write(tmp_path, "title", {})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"loss": 0.5, "reach": 3}
