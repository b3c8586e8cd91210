"""The report of a comparison, from results that a test makes up."""

from __future__ import annotations

import dataclasses
import io
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from poslab.experiments.command import _print_power, check_splits
from poslab.experiments.report import figures
from poslab.experiments.report.by_length import _ends
from poslab.experiments.report.checks import checks, methods
from poslab.experiments.report.tables import (
    best_table,
    case_table,
    differences,
    legend,
    overview,
    power_table,
    ranking,
    verdict_table,
)
from poslab.experiments.report.write import _by_seed, _counted, _sections, print_table, write
from poslab.experiments.statistics.crossed import detectable_in_advance
from poslab.experiments.statistics.verdict import Word
from poslab.io.terminal import HarmlessConsole
from poslab.report.figures import Plot
from poslab.report.text import latex
from tests.experiments.comparisons import COPYING, MEANS, TUNING, comparison, results


def first_metric(found):
    return found.comparison.criteria("copying")[0]


def verdicts_of(found):
    """The verdicts on the first metric, by encoding."""
    return verdict_table(found, "copying", first_metric(found)).set_index("encoding")["verdict"]


def relative_to_best(found):
    """The ranking of the first metric, as pairs of encoding and verdict."""
    frame = ranking(found, "copying", first_metric(found))
    return list(zip(frame["encoding"], frame["verdict"], strict=True))


def test_encodings_are_ranked_with_their_verdicts_relative_to_the_best():
    frame = ranking(results(), "copying", first_metric(results()))
    assert list(frame["encoding"]) == ["none", "slow", "rotary"]
    assert list(frame["verdict"]) == ["best mean", "worse", "worse"]
    assert frame["mean"].iloc[0] == pytest.approx(61.15, abs=0.01)
    assert (frame["low"].iloc[1:] < frame["difference"].iloc[1:]).all()
    assert (frame["difference"].iloc[1:] < frame["high"].iloc[1:]).all()
    (row,) = best_table(results()).to_dict("records")
    assert (row["best mean"], row["worse"]) == ("none", "slow, rotary")


def test_encodings_whose_other_runs_diverged_follow_the_only_result():
    found = results(gate=None, diverged=lambda run: run.encoding != "none")
    assert relative_to_best(found) == [("none", "best mean"), ("rotary", "diverged"), ("slow", "diverged")]


def test_encodings_that_are_inconclusive_next_to_the_best_have_no_other_verdict():
    found = results({"none": 41.0, "rotary": 40.5, "slow": 40.8})
    assert dict(relative_to_best(found)) == {"none": "best mean", "rotary": "inconclusive", "slow": "inconclusive"}
    frame = ranking(found, "copying", first_metric(found)).set_index("encoding")
    assert frame["smallest_detectable"]["rotary"] > 0


def test_encodings_of_equal_means_are_equivalent():
    found = dict(relative_to_best(results(dict.fromkeys(MEANS, 40.0), noise=0.0)))
    assert sorted(found.values()) == ["best mean", "equivalent", "equivalent"]


@pytest.mark.parametrize("seeds", [1, 5])
def test_scores_of_zero_decide_nothing(seeds):
    found = results(dict.fromkeys(MEANS, 0.0), noise=0.0, seeds=seeds)
    assert {verdict for _, verdict in relative_to_best(found)} == {"all scores are 0"}


def test_an_encoding_that_has_not_learned_is_never_the_best():
    assert relative_to_best(results(learned=lambda name: name != "none"))[-1] == ("none", "did not learn the task")
    nothing = relative_to_best(results(learned=lambda name: False))
    assert {verdict for _, verdict in nothing} == {"did not learn the task"}


def test_one_seed_is_no_evidence():
    assert [verdict for _, verdict in relative_to_best(results(seeds=1))] == ["best mean", "one seed", "one seed"]


def test_where_no_seed_is_finished_under_all_encodings_there_is_no_best():
    found = results(seeds=2)
    rows = [run for run in found.rows if (run.encoding == "none") != (run.seed == 1)]
    assert list(best_table(dataclasses.replace(found, rows=rows)).columns) == ["case", "metric"]


def test_runs_of_an_earlier_split_are_marked_and_no_others_are_trained_with_them():
    now = results()
    old = dataclasses.replace(now, rows=[dataclasses.replace(run, newest_split="2") for run in now.rows])
    for found, holds in ((now, True), (old, False)):
        assert checks(found).frame.set_index("check")["holds"]["split of the data"] == holds
        assert found.of_earlier_splits == ([] if holds else ["copying"])
    with pytest.raises(ValueError, match=r"^cases\.copying .*output="):
        check_splits(old)
    check_splits(now)


def test_runs_that_diverged_are_counted_and_weaken_the_checks():
    found = results(diverged=lambda run: (run.encoding, run.seed) == ("none", 2))
    assert checks(found).frame.set_index("check")["found"]["no run diverged"] == "1 of 15"


def without_score(found, encodings, tag="exact_match@20"):
    """Results in which runs of these encodings have no score of this tag."""
    for run in found.finished:
        if run.encoding in encodings:
            del run.scores[tag]
    return found


def test_an_encoding_that_ends_before_a_length_has_a_dash_and_no_verdict():
    found = without_score(results(), ["slow"])
    assert verdicts_of(found)["slow"] == "no result at these lengths"
    assert math.isnan(case_table(found, "copying").set_index("encoding")["exact_match@beyond"]["slow"])
    assert overview(found).set_index("encoding")["exact_match@beyond"]["slow"] == "–"


def test_a_score_of_the_whole_test_is_none_at_the_lengths_that_an_encoding_ends_before():
    """Algorithmic tasks have a score of the whole test too; an encoding that ends has that one, and did not diverge."""
    found = without_score(results(), ["slow"])
    for run in found.finished:
        run.scores["exact_match"] = 50.0
    assert verdicts_of(found)["slow"] == "no result at these lengths"
    assert relative_to_best(found)[-1] == ("slow", "no result at these lengths")
    assert "slow" not in set(_by_seed(found, "copying", first_metric(found))["encoding"])


def test_the_overview_has_a_value_and_the_sign_of_its_verdict():
    cells = overview(results()).set_index("encoding")["exact_match@beyond"]
    assert cells["none"].endswith("▲")
    assert cells["rotary"].replace(".", "").isdigit()


def test_the_sign_of_divergence_is_that_of_the_encoding_itself():
    """Beside a baseline that diverged there is no verdict, and the others did not."""
    cells = overview(results(gate=None, diverged=lambda run: run.encoding == "rotary")).set_index("encoding")
    assert dict(cells["exact_match@beyond"].str.contains("∞")) == {"none": False, "rotary": True, "slow": False}


def test_a_table_for_latex_escapes_names_and_draws_signs():
    text = latex(overview(results()), "50 % & more_")
    assert r"exact\_match@beyond" in text
    assert r"$\blacktriangle$" in text
    assert r"50 \% \& more\_" in text
    assert r"\toprule" in text


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The directory of a written report of two cases, tuned, and what was printed."""
    folder = tmp_path_factory.mktemp("comparison")
    screen = io.StringIO()
    found = results(
        cases={"copying": COPYING, "again": COPYING}, tuning=TUNING, output=str(folder), costs=["parameters"]
    )
    write(found, HarmlessConsole(screen, width=80), "python -m src.compare comparison=question")
    return folder, screen.getvalue()


def test_all_files_are_written(written):
    folder, _ = written
    assert {path.name for path in folder.iterdir()} == {
        *("results.csv", "differences.csv", "table.csv", "table.md", "table.tex"),
        *("report.html", "figures"),
    }
    assert len(pd.read_csv(folder / "results.csv")["seed"].unique()) == 5
    assert set(pd.read_csv(folder / "differences.csv")["verdict"]) <= set(Word)


def test_the_report_begins_with_the_best_and_names_its_checks(written):
    page = (written[0] / "report.html").read_text()
    best, contents = page.index("Best encodings"), page.index('id="contents"')
    assert best < contents < page.rindex("Verdicts: exact_match@beyond") < page.rindex("How it was made")
    assert "rotary is Rotary (RoPE)" in page
    for words in ("same data order", "optimizer.lr", "Holm", "python -m src.compare"):
        assert words in page


def test_what_is_printed_fits_80_columns(written):
    assert max(map(len, written[1].splitlines())) <= 80 + len(str(written[0]))
    assert "best mean" in written[1] and "none" in written[1]


def test_means_stand_at_each_length(written):
    table = pd.read_csv(written[0] / "figures" / "lengths_copying_exact_match.csv")
    assert list(table.columns) == ["encoding", "10", "20"]
    rows = results().by_length("copying", "exact_match")
    means = rows.groupby(["encoding", "length"])["value"].mean()
    for encoding, *values in table.itertuples(index=False):
        assert values == pytest.approx([means[encoding, 10], means[encoding, 20]])


def with_values(found, values):
    """Results with these values at length 20, by encoding and seed."""
    for run in found.finished:
        run.scores["exact_match@20"] = values[run.encoding][run.seed - 1]
    return found


def test_tables_and_figures_show_the_difference_of_means_where_some_seeds_solve_a_task():
    values = {"none": [99.0] * 8, "rotary": [99.0] + [1.0] * 7, "slow": [1.0] * 8}
    found = with_values(results(seeds=8), values)
    rows = differences(found, "copying").set_index("encoding")
    assert rows["difference"]["none"] == pytest.approx(99 - 106 / 8)
    assert rows["high"]["none"] <= 100
    plot = figures.differences("differences", first_metric(found), rows.reset_index(), "rotary")
    labels = [label.get_text() for label in plot.figure.axes[0].get_yticklabels()]
    assert "None (NoPE):\nbetter" in labels


def test_labels_of_all_figures_can_be_read_on_a_phone():
    """At 358 pixels, which a page of 390 leaves to a figure, the smallest text has 8 pixels."""
    values = {"none": [99.0] * 8, "rotary": [99.0] + [1.0] * 7, "slow": [1.0] * 8}
    made = with_values(results(seeds=8, tuning=TUNING), values)
    plots = [one for section in _sections(made) for one in section.figures if isinstance(one, Plot)]
    assert {one.name.partition("_")[0] for one in plots} == {"curves", "differences", "seeds"}
    for plot in plots:
        shrunk = min(1.0, 358 / (100 * plot.figure.get_size_inches()[0]))
        texts = [text for text in plot.figure.findobj(Text) if text.get_text().strip()]
        assert min(text.get_fontsize() for text in texts) * 100 / 72 * shrunk >= 8


def finished_seeds(found, seeds):
    """Results of which only some seeds of each encoding are finished yet."""
    return dataclasses.replace(found, rows=[run for run in found.finished if run.seed in seeds[run.encoding]])


def test_an_encoding_with_one_finished_run_leaves_the_verdicts_on_others_as_they_are():
    """Each encoding is compared by the seeds that it shares with the baseline."""
    found = finished_seeds(results(), {"rotary": {1, 2, 3, 4}, "none": {1, 2, 3, 4, 5}, "slow": {1}})
    verdicts = found.verdicts("copying", first_metric(found), "rotary")
    assert verdicts["none"].word is Word.BETTER
    assert verdicts["none"].difference.pairs == 4
    assert verdicts["slow"].word is Word.ONE_SEED


def test_an_encoding_with_one_finished_run_is_not_the_best_while_others_have_more():
    found = finished_seeds(results({**MEANS, "slow": 90.0}), {"rotary": {1, 2, 3}, "none": {1, 2, 3}, "slow": {1}})
    assert relative_to_best(found)[0][0] == "none" and relative_to_best(found)[-1] == ("slow", "one seed")


def test_means_over_unequal_numbers_of_seeds_say_so():
    found = finished_seeds(results(), {"rotary": {1, 2, 3, 4}, "none": {1, 2, 3, 4, 5}, "slow": {1}})
    assert "none 5, rotary 4, slow 1" in legend(found, overview(found))
    assert "Seeds of" not in legend(results(), overview(results()))


def test_a_report_is_written_where_no_encoding_has_positions(tmp_path):
    found = without_score(results(output=str(tmp_path)), list(MEANS))
    write(found, HarmlessConsole(io.StringIO(), width=80), "python -m src.compare comparison=question")
    assert (tmp_path / "report.html").exists()
    assert {verdict for _, verdict in relative_to_best(found)} == {"no result at these lengths"}


def test_a_run_whose_test_is_not_finite_counts_as_diverged_in_checks_as_in_verdicts():
    found = results()
    for run in found.finished:
        if (run.encoding, run.seed) == ("none", 2):
            run.scores["exact_match@20"] = math.inf
    assert found.scores("copying", first_metric(found))["none"].diverged == 1
    assert checks(found).frame.set_index("check")["found"]["no run diverged"] == "1 of 15"


def test_runs_that_exist_are_counted_without_those_that_a_comparison_would_train():
    found = results()
    assert _counted(found).startswith("15 of 15 runs: 3 encodings")
    assert _counted(dataclasses.replace(found, exist_already=True)).startswith("15 runs: 3 encodings")


def test_methods_name_metrics_margins_gates_and_tuning_once_for_equal_cases():
    frame = methods(results(cases={"a": COPYING, "b": COPYING}, tuning=TUNING)).frame
    parts = frame.set_index("part")["value"]
    assert set(frame["case"]) == {"all"}
    assert "margin 2" in parts["metric"] and "99" in parts["learned"]
    assert "3 trials" in parts["tuning"] and "optimizer.lr" in parts["tuning"]
    assert "none" in methods(results()).frame.set_index("part")["value"]["tuning"]


@pytest.mark.parametrize(("width", "tables"), [(40, 6), (80, 2), (160, 1)])
def test_columns_that_do_not_fit_a_terminal_have_a_table_below(width, tables):
    metrics = [f"exact_match@{length}" for length in ("1x", "2x", "beyond", "trained", "10", "20")]
    table = pd.DataFrame({"encoding": ["none", "rotary"], **{metric: [f"{metric} ="] * 2 for metric in metrics}})
    screen = io.StringIO()
    print_table(HarmlessConsole(screen, width=width), "copying", table)
    text = screen.getvalue()
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    assert all(text.count(f"{metric} =") == 2 for metric in metrics)
    assert text.count("  none") == tables


def test_each_part_of_a_table_shows_which_row_is_which():
    table = pd.DataFrame([(name, metric, "x" * 40, "y" * 40) for name in ("none", "rotary") for metric in "ab"])
    screen = io.StringIO()
    print_table(HarmlessConsole(screen, width=80), "copying", table)
    rows = [line.split() for line in screen.getvalue().splitlines() if line.endswith(("x  ", "y  "))]
    assert [row[:2] for row in rows] == [["none", "a"], ["none", "b"], ["rotary", "a"], ["rotary", "b"]] * 2


def timed(found, relative=lambda name, length: 1.0):
    """Results whose encodings were timed at both lengths, but `slow` has no positions at 20."""

    def reading(name):
        lengths = [length for length in (10, 20) if (name, length) != ("slow", 20)]
        speeds = {f"tokens_per_second@{length}": 100.0 * length * relative(name, length) for length in lengths}
        return {**speeds, **{f"memory_mb@{length}": float(length) for length in lengths}}

    rows = [
        dataclasses.replace(run, reading=reading(run.encoding), reading_machine="a machine")
        if run.seed == 1 and not run.is_trial
        else run
        for run in found.rows
    ]
    return dataclasses.replace(found, rows=rows)


def test_of_many_lengths_a_table_has_the_ends_and_the_longest_of_training():
    assert _ends([3, 6, 7, 8, 9, 10, 12], trained=6) == [3, 6, 12]
    assert _ends([256, 512, 1024], trained=128) == [256, 1024]


@pytest.mark.slow
def test_speed_and_memory_stand_at_each_length(tmp_path):
    found = timed(results(output=str(tmp_path)), lambda name, length: 1.5 if name == "none" else 1.0)
    write(found, HarmlessConsole(io.StringIO(), width=80), "python -m src.compare comparison=question")
    table = pd.read_csv(tmp_path / "figures" / "speeds_copying.csv").set_index("encoding")
    assert list(table.columns) == ["speed at 10", "speed at 20", "MB at 10", "MB at 20"]
    assert table["speed at 20"]["none"] == "1.50 (3,000)"
    assert math.isnan(table["MB at 20"]["slow"]) and table["MB at 10"]["slow"] == 10
    rows = pd.read_csv(tmp_path / "speeds.csv")
    assert list(rows[rows["encoding"] == "none"]["tokens_per_second"]) == [1500.0, 3000.0]
    assert "speeds_copying" in (tmp_path / "report.html").read_text()


def test_that_all_encodings_were_timed_on_one_machine_is_checked():
    def check(found):
        rows = checks(found).frame.set_index("check")
        return tuple(rows.loc["same timing machine", ["holds", "found"]])

    found = timed(results())
    assert check(found) == (True, "a machine")
    for run in found.rows:
        if run.encoding == "slow":
            run.reading.clear()
    assert check(dataclasses.replace(found)) == (False, "not timed: slow")
    assert "same timing machine" not in set(checks(results()).frame["check"])


def test_weights_that_an_earlier_run_has_learned_are_not_checked_for_equality():
    cases = {"copying": COPYING, "again": {**COPYING, "after": "copying"}}
    checked = checks(results(cases=cases)).frame.set_index("check")["case"]
    assert checked["same first weights"] == "copying"
    assert checked["same data order"] == "each"


def test_a_plan_says_what_the_seeds_find_and_how_many_the_margin_needs():
    pilot = results()
    verdicts = pilot.verdicts("copying", first_metric(pilot), "rotary").values()
    variances = [float(verdict.difference.estimate.seed_variance) * 5 / 2 for verdict in verdicts]
    row = power_table(comparison(seeds=4), [pilot]).iloc[0]
    assert row["deviation"] == pytest.approx(np.median(variances) ** 0.5)
    expected = detectable_in_advance(row["deviation"] ** 2, 0.0, 4, 3, paired=True)
    assert (row["seeds"], row["smallest_detectable"]) == (4, pytest.approx(expected))
    needed = int(row["seeds_for_margin"])
    assert detectable_in_advance(row["deviation"] ** 2, 0.0, needed, 3, paired=True) <= row["margin"] == 2
    assert detectable_in_advance(row["deviation"] ** 2, 0.0, needed - 1, 3, paired=True) > 2


def test_without_a_pilot_the_deviation_is_that_of_the_metric_or_is_asked_for():
    declared = {"exact_match@beyond": {"direction": "maximize", "margin": 2, "deviation": 1.5}}
    assert power_table(comparison(metrics=declared), [])["deviation"].tolist() == [1.5]
    screen = io.StringIO()
    _print_power(HarmlessConsole(screen, width=80), comparison(), [])
    assert "pilot=DIR" in screen.getvalue()


def test_a_plan_names_the_folder_of_its_pilot():
    screen, pilot = io.StringIO(), results(output="results/published")
    _print_power(HarmlessConsole(screen, width=80), comparison(), [dataclasses.replace(pilot, rows=[]), pilot])
    assert "results/published" in screen.getvalue() and "pilot=DIR" not in screen.getvalue()
