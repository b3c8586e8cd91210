"""Every run can be evaluated, whatever its task."""

import json
from collections.abc import Callable
from functools import cache

import pytest

from poslab.evaluation.attention.maps import attention_rows
from poslab.evaluation.command import summary
from poslab.evaluation.evaluation import Evaluation
from poslab.evaluation.opening import open_run, short_example
from poslab.evaluation.scores.measure import measure
from poslab.report.figures import Plot
from poslab.runs.directory import RunDirectory
from tests.evaluation.evaluated import evaluated, figures_of
from tests.evaluation.scores import test_measure
from tests.report.phone import smallest_label

files, run_on = test_measure.files, test_measure.run_on
NEXT_TOKENS = ["receptive_field", "retrieval"]


@pytest.fixture(scope="module")
def under_t5(run_on: Callable[..., RunDirectory]) -> Callable[[str, str], tuple[RunDirectory, Evaluation]]:
    """Trains and evaluates a model under t5 on each kind of data once."""

    @cache
    def evaluated_under_t5(kind: str, model: str) -> tuple[RunDirectory, Evaluation]:
        run = run_on(kind, f"model={model}", "encoding=t5")
        return run, evaluated(run)

    return evaluated_under_t5


def pictures(evaluation: Evaluation) -> list[Plot]:
    return [figure for figure in figures_of(evaluation).values() if isinstance(figure, Plot)]


@pytest.mark.parametrize(
    ("kind", "model", "stacks"),
    [
        ("addition", "decoder", [""]),
        pytest.param("classes", "encoder", [""], marks=pytest.mark.slow),
        pytest.param("answers", "encoder", [""], marks=pytest.mark.slow),
        pytest.param("tags", "encoder", [""], marks=pytest.mark.slow),
        pytest.param("reversing", "encoder", [""], marks=pytest.mark.slow),
        pytest.param("text", "encoder", [""], marks=pytest.mark.slow),
        pytest.param("text", "encoder_decoder", ["_decoder", "_cross_attention", "_encoder"], marks=pytest.mark.slow),
        pytest.param("pairs", "decoder", [""], marks=pytest.mark.slow),
        pytest.param("pairs", "encoder_decoder", ["_decoder", "_cross_attention", "_encoder"], marks=pytest.mark.slow),
        pytest.param("pairs", "pointer_generator", ["_decoder", "_encoder"], marks=pytest.mark.slow),
    ],
)
def test_a_run_of_any_task_has_its_conclusion_its_metrics_its_heads_and_its_encoding(
    under_t5: Callable[[str, str], tuple[RunDirectory, Evaluation]], kind: str, model: str, stacks: list[str]
) -> None:
    run, made = under_t5(kind, model)
    measured = measure(run.path)
    for (metric, length), item in measured.scores.items():
        assert made.metrics[metric if length is None else f"{metric}@{length}"] == pytest.approx(item.value)
    assert made.lead is not None and [figure.name for figure in made.lead.figures] == ["overview", "comparison"]
    assert figures_of(made).keys() >= {
        f"{name}{stack}" for name in ("attention_overview", "attention_layer_0") for stack in stacks
    }
    assert figures_of(made).keys() >= {"per_length", f"learned_bias{stacks[0]}", f"learned_bias{stacks[-1]}"}
    assert made.left_out.keys() == {*NEXT_TOKENS, "rotary"}
    assert all(smallest_label(picture) >= 8 for picture in pictures(made))
    assert len(list(summary(made))) >= len(set(figures_of(made)["comparison"].frame["metric"]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["addition", "pairs"])
def test_what_is_written_has_the_metrics_and_begins_with_the_conclusion(under_t5, tmp_path, kind):
    _, made = under_t5(kind, "decoder")
    made.write(tmp_path, "title", {})
    assert json.loads((tmp_path / "metrics.json").read_text()).keys() <= made.metrics.keys()
    page = (tmp_path / "report.html").read_text()
    assert page.index("Conclusion</h2>") < page.index("Contents</h2>")


@pytest.mark.slow
def test_runs_of_one_task_stand_side_by_side_and_the_best_is_named(run_on):
    runs = [run_on("classes", "model=encoder", f"encoding={name}") for name in ("rotary", "t5")]
    made = evaluated(*runs, parts=["extrapolation", "attention"])
    assert {"best", "worse", "inconclusive"} >= set(figures_of(made)["comparison"].frame["verdict"])
    assert {"rotary/accuracy", "t5/accuracy"} <= made.metrics.keys()
    assert {"metrics_by_length", "attention_overview_rotary"} <= figures_of(made).keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "text", "keys"),
    [("classes", "a ship", 6), ("pairs", "sail", 5), ("reversing", "0 1 1", 3)],
)
def test_a_text_of_ones_own_is_shown(run_on, kind, text, keys):
    item = open_run(run_on(kind, "model=encoder_decoder" if kind == "pairs" else "model=encoder").path)
    forward, labels = short_example(item, text)
    for stack_name, (queries, own_keys) in labels.items():
        (block, *_) = attention_rows(item.model, forward, stack=stack_name)
        assert block.weights.shape[-2:] == (len(queries), len(own_keys))
    first = labels["encoder" if kind == "pairs" else "self"][1]
    assert "".join(first).startswith(text.replace(" ", "") if kind == "reversing" else text) and len(first) == keys


@pytest.mark.slow
def test_a_text_of_other_symbols_is_refused(run_on):
    with pytest.raises(ValueError, match=r"^text: 'x' is.*of this task"):
        short_example(open_run(run_on("reversing", "model=encoder").path), "x")


@pytest.mark.slow
def test_a_run_that_is_tested_beyond_its_training_alone_has_its_heads_shown(run_on):
    made = evaluated(run_on("addition", "dataset.test_lengths=[8]"), parts=["extrapolation", "attention"])
    assert set(figures_of(made)["comparison"].frame["metric"]) == {"accuracy at 8"}
    assert {"attention_overview", "attention_by_distance"} <= figures_of(made).keys()


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["rotary", "cope", "shaw"])
def test_labels_of_all_pictures_of_a_text_can_be_read_on_a_phone(run_on, encoding):
    made = evaluated(run_on("text", "model=decoder", f"encoding={encoding}"))
    drawn = {picture.name: smallest_label(picture) for picture in pictures(made)}
    assert {"bits_by_length", "loss_by_context", "receptive_field", "attention_overview"} <= drawn.keys()
    assert min(drawn.values()) >= 8, drawn
