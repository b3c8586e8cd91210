"""Advice on a case comes from the tables, the presets and the figures of the benchmarks."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from poslab.cli import advise
from poslab.cli.advise import Case, factor, main, parameters_of, preset_of, presets, short, studies, unknown
from poslab.configuration.command_line import CONF, FIGURES, RESULTS
from poslab.experiments.collect import read_results, write_tables
from poslab.experiments.metrics import in_words
from poslab.experiments.results import Results
from poslab.experiments.tables import read_runs, write_runs
from tests.experiments.report.test_scale import results as over_sizes

ASKED = Case(size=300e6, context=8192, trained=8192, data="code")


def test_sizes_are_read_and_shown_in_the_units_of_the_field():
    assert [parameters_of(text) for text in ("300M", "1.5B", "120k")] == [300e6, 1.5e9, 120e3]
    assert [short(number) for number in (300e6, 1.5e9, 123_264, 999_600_000, 64e9, 1e12)] == [
        *("300M", "1.5B", "123k", "1B", "64B", "1T")
    ]


@pytest.mark.parametrize(
    ("words", "start"),
    [
        (["size=big", "context=64"], "size must be"),
        (["size=300", "context=64"], "size must be"),
        (["size=0M", "context=64"], "size must be"),
        (["size=1M"], "context must be given"),
        (["context=64"], "size must be given"),
        (["size=1M", "context=4k"], "(context|trained) must be"),
        (["size=1M", "context=64", "data=codes"], "data must be one of text, code.*'code'"),
        (["size=1M", "context=64", "depth=3"], "unknown key 'depth'"),
        (["size=0.0001k", "context=64"], "size must be"),
        (["size=1M", "context=64", "head_dim=3"], "head_dim must be"),
        (["size=1M", "context=64", "head_dim=2147483646"], "head_dim must be"),
        (["size=1M", "context=64", "results=nowhere"], "results must be"),
    ],
)
def test_a_mistake_is_one_sentence(words, start):
    with pytest.raises(ValueError, match=rf"^{start}"):
        main(words)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tables of studies of texts and of pictures, and of one that decides nothing."""
    folder = tmp_path_factory.mktemp("copy") / "results"
    folder.mkdir()
    for name in ("same_encoding", "model_patterns", "resolution"):
        (folder / name).symlink_to(RESULTS / name)
    return folder


@pytest.mark.parametrize("parameters", [math.nan, math.inf, 1e308])
def test_runs_without_a_number_of_parameters_are_left_out(parameters, tmp_path):
    study = shutil.copytree(RESULTS / "same_encoding", tmp_path / "study")
    runs = [replace(run, metrics={"parameters": parameters}) for run in read_runs(study)]
    write_runs(study, runs)
    assert studies(tmp_path, Case(size=1e6, context=512, trained=128)) == []


def test_verdicts_are_those_of_the_tables(tables):
    case = Case(size=1e6, context=512, trained=128)
    (text, *others) = studies(tables, case)
    assert (text["study"], text["data"], text["seeds"]) == ("model_patterns", "documentation", 3)
    assert not any(row["verdicts"] for row in others)
    results, case = read_results(RESULTS / "model_patterns"), text["case"]
    for criterion in results.comparison.criteria(case):
        for name, verdict in results.verdicts(case, criterion, "everywhere").items():
            metric = f"{in_words(criterion)} ({results.mean(case, criterion, 'everywhere'):.3g})"
            assert name in text["verdicts"][metric][str(verdict.word)]


def test_verdicts_beyond_training_are_given_only_where_that_is_asked(tables):
    def metrics(trained: int) -> set[str]:
        (row,) = (row for row in studies(tables, Case(size=1e6, context=512, trained=trained)) if row["verdicts"])
        return {*row["verdicts"]}

    assert metrics(trained=512) < metrics(trained=128)


def test_the_data_that_is_asked_comes_first(tables):
    assert next(row["study"] for row in studies(tables, Case(1e6, 128, 128, data="images"))) == "resolution"
    assert next(row["study"] for row in studies(tables, Case(1e6, 128, 128))) == "model_patterns"


def test_a_study_over_sizes_has_its_decision_accuracy(tmp_path, capsys):
    made, folder = over_sizes(tmp_path), tmp_path / "results" / "over_sizes"
    folder.mkdir(parents=True)
    of_a_text = {"task": "LanguageModelling", "metrics": {"steps": 10, "parameters": 1e5}}
    write_tables(Results(made.comparison, [replace(run, **of_a_text) for run in made.rows]), folder)
    (row, *_) = studies(folder.parent, Case(size=1e6, context=128, trained=128))
    assert [row["decisions"][0][size] for size in ("0.1M", "0.3M", "1M")] == ["1 of 3", "1 of 3", "3 of 3"]
    main(["size=1M", "context=128", f"results={folder.parent}"])
    assert "0.1M: 1 of 3" in " ".join(capsys.readouterr().out.split())


def test_what_no_table_covers_is_named(tables):
    words = [sentence.partition(" ")[0] for sentence in unknown(studies(tables, ASKED), ASKED)]
    assert words == ["size:", "data:", "training", "a", "retrieval"]
    known = Case(size=123e3, context=128, trained=128)
    assert [s.partition(" ")[0] for s in unknown(studies(tables, known), known)] == ["retrieval"]


def test_presets_are_the_nearest_by_size():
    sizes = [preset["parameters"] for preset in presets(ASKED)]
    known = [preset_of(path)["parameters"] for path in CONF.glob("experiment/models/*.yaml")]
    assert sizes[0] == min(filter(None, known), key=lambda size: factor(size, 300e6))
    assert preset_of(CONF / "experiment/models/gemma3.yaml")["layers"] == (
        "5 window: rotary, base 10,000; 1 all: rotary, base 1,000,000"
    )


def test_costs_are_medians_at_the_nearest_length(tmp_path):
    row = {"part": "layers", "contestant": "Poslab", "precision": "float32", "encoding": "alibi", "time": [1, 2, 3]}
    others = [{**row, "contestant": "peer"}, {**row, "part": "decoders"}, {**row, "length": 64, "time": [7, 8, 9]}]
    machine = {"gpu": None, "processor": "a processor"}
    rows = [{"length": 512, **node} for node in (row, *others)]
    (tmp_path / "machine.json").write_text(json.dumps({"machine": machine, "rows": rows}))
    (cost,) = advise.costs(tmp_path, 8192)
    assert (cost["length"], cost["machine"], cost["times"]) == (512, "a processor", {"alibi": 2})
    (tmp_path / "machine.json").write_text(json.dumps({"rows": [{**row, "length": None}]}))
    with pytest.raises(ValueError, match=r"machine\.json is damaged"):
        list(advise.costs(tmp_path, 8192))


def test_the_committed_timings_have_the_cost_of_a_step_and_of_a_layer():
    """The rows of other parts have no contestant."""
    step, layer = advise.costs(FIGURES, 8192)
    assert (step["measured"], layer["measured"]) == (*advise.PARTS.values(),)
    assert {"t5", "alibi", "forgetting"} <= step["times"].keys() and {"rotary", "fire"} <= layer["times"].keys()


def test_values_that_are_taken_from_another_case_are_tuned():
    rows = {row["case"]: row for row in studies(RESULTS, ASKED) if row["study"] == "context_use"}
    assert "optimizer.lr" in rows["prose"]["tuned"] and rows["code"]["tuned"] == rows["prose"]["tuned"]


def test_it_prints_at_most_two_screens_of_80_columns(tables, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    main(["size=300M", "context=8192", "data=code", "trained=2048", f"results={tables}"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) <= 70
    assert lines[0].startswith("No study here")
    assert "comparison=text" in "".join(lines) and "dry_run=true" in "".join(lines)


def test_without_tables_it_says_where_they_are(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(advise, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(advise, "FIGURES", tmp_path / "benchmarks" / "figures")
    main(["size=300M", "context=64"])
    printed = capsys.readouterr().out
    assert "results=DIR" in printed and "experiment=models/" in printed
