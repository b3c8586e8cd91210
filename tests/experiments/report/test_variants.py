"""A report in which more differs than the encoding: what differs comes first, and checks know what is declared."""

from __future__ import annotations

import io
from dataclasses import replace

import pandas as pd
import pytest

from poslab.experiments.report.checks import checks
from poslab.experiments.report.tables import differing_table
from poslab.experiments.report.write import write
from poslab.experiments.results import Results
from poslab.io.terminal import HarmlessConsole
from tests.experiments.comparisons import MEANS, TUNING, results

VARIANTS = {
    "longer": {"encoding": "rotary", "dataset.sequence_length": 512, "dataset.batch_size": 2},
    "wide": {"encoding": "rotary", "model.d_model": "${divided:${dataset.sequence_length},2}"},
}


def found(variants=VARIANTS, **changes) -> Results:
    return results({**MEANS, **dict.fromkeys(variants, 50.0)}, variants=variants, **changes)


def changed(made: Results, **fields) -> Results:
    """Results in which runs of some contestants have other hashes or steps."""
    rows = [replace(run, **of(run)) if (of := fields.get(run.encoding)) else run for run in made.rows]
    return replace(made, rows=rows)


def test_what_differs_has_a_row_for_each_contestant_and_a_column_for_each_key():
    frame = differing_table(found().comparison).frame.set_index("name")
    assert list(frame) == [
        "encoding",
        "encoding.base",
        "dataset.sequence_length",
        "dataset.batch_size",
        "model.d_model",
    ]
    assert frame["dataset.sequence_length"].dropna().to_dict() == {"longer": "512"}
    assert frame.loc["wide", ["encoding", "model.d_model"]].to_list() == ["rotary", "sequence_length/2"]
    of_case = found(train={"dataset.batch_size": 8}).comparison
    assert differing_table(of_case).frame["dataset.batch_size"].tolist() == ["8", "8", "8", "2", "8"]
    assert differing_table(results(encodings=["none", "rotary"]).comparison) is None


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder, screen = tmp_path_factory.mktemp("variants"), io.StringIO()
    write(found(output=str(folder), tuning=TUNING), HarmlessConsole(screen, width=80), "compare")
    return folder, screen.getvalue()


def test_a_report_begins_with_what_differs_and_calls_contestants_variants(written):
    folder, printed = written
    page = (folder / "report.html").read_text()
    assert page.index("What differs") < page.index("Best variants")
    assert pd.read_csv(folder / "table.csv").columns[0] == "variant"
    assert pd.read_csv(folder / "figures" / "overview.csv").columns[0] == "variant"
    assert list(pd.read_csv(folder / "figures" / "tuned.csv"))[:2] == ["case", "variant"]
    assert list(pd.read_csv(folder / "differences.csv"))[:3] == ["case", "metric", "encoding"]
    assert printed.index("what differs") < printed.index("best variants")
    assert max(map(len, printed.splitlines())) <= 80


@pytest.mark.parametrize(("field", "check"), [("batch", "same data order"), ("weights", "same first weights")])
def test_declared_differences_are_no_mistakes_and_others_are(field, check):
    declared = "longer" if field == "batch" else "wide"
    for name, holds in ((declared, True), ("slow", False)):
        made = changed(found(), **{name: lambda run: {field: f"other {run.seed}"}})
        row = checks(made).frame.set_index("check").loc[check]
        assert row["holds"] == holds
        assert ("declared" in row["found"]) == holds and ("longer" in row["found"] or "wide" in row["found"]) == holds


def test_another_number_of_steps_is_declared_by_a_size_of_the_data():
    for name, holds in (("longer", True), ("wide", False)):
        made = changed(found(), **{name: lambda run: {"metrics": {**run.metrics, "steps": 50}}})
        row = checks(made).frame.set_index("check").loc["same number of steps"]
        assert (row["holds"], "declared" in row["found"]) == (holds, holds)
