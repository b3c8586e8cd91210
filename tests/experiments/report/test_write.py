"""The report of a comparison, from results that a test makes up."""

from __future__ import annotations

import dataclasses
import io
import json
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from poslab.experiments.cells import CellResult
from poslab.experiments.command import check_splits
from poslab.experiments.reading_costs import CaseSpeeds, ReadingCost
from poslab.experiments.report import figures
from poslab.experiments.report.answers import answers
from poslab.experiments.report.checks import checks
from poslab.experiments.report.conclusions import conclusions, reservations
from poslab.experiments.report.methods import methods
from poslab.experiments.report.speeds import _ends
from poslab.experiments.report.tables import case_table, differences, overview, verdict_table
from poslab.experiments.report.write import _by_seed, _counted, _legend, _sections, write
from poslab.experiments.results import Results
from poslab.experiments.statistics.verdict import Word
from poslab.io.terminal import HarmlessConsole
from poslab.report.figures import Plot
from poslab.report.text_tables import latex
from poslab.tasks.answering import WrittenAnswers
from tests.experiments.comparisons import COPYING, TUNING, plan

MEANS = {"none": 60.0, "rotary": 40.0, "slow": 41.0}
GATE = {"metric": "exact_match@trained", "at_least": 99}


def results(means=MEANS, learned=lambda name: True, noise=1.0, diverged=lambda cell: False, **changes):
    """Results of five seeds that share most of their luck, with a value of each encoding."""
    made = plan(**{"seeds": 5, "gate": GATE, **changes})
    finished = {}
    while cells := [c for c in made.wanted(finished)[0] if c.identity not in finished]:
        for cell in cells:
            luck = np.random.default_rng([cell.seed, 1]).normal(0, 5 * noise)
            own = np.random.default_rng([cell.seed, *cell.encoding.encode()]).normal(0, noise)
            exact = {10: 99.5 if learned(cell.encoding) else 50.0, 20: means[cell.encoding] + luck + own}
            metrics = {
                "steps": 100,
                "parameters": 10 + len(cell.encoding),
                "train/tokens_per_second": 50.0 + len(cell.encoding),
                "train/seconds": 3600.0,
            }
            loss = abs(math.log2(cell.point.get("optimizer.lr", 2e-3) / 2e-3))
            finished[cell.identity] = CellResult(
                {**metrics, "validation/loss": loss},
                {}
                if cell.is_trial or diverged(cell)
                else {f"exact_match@{length}": value for length, value in exact.items()},
                "the loss is nan" if not cell.is_trial and diverged(cell) else "",
                "a machine",
                {"batch": str(cell.seed), "weights": str(cell.seed)},
            )
    return Results(made, finished, dict.fromkeys(made.comparison.cases, WrittenAnswers))


def verdicts_of(found):
    """The texts of the verdicts on the first metric, by encoding."""
    return verdict_table(found, "copying", found.comparison.criteria("copying")[0]).set_index("encoding")["verdict"]


def test_the_answer_names_the_best_and_its_difference_to_the_baseline():
    (one,) = answers(results())
    assert (one.best, one.alike) == ("none", [])
    first, second = one.sentences("rotary")
    assert first == (
        "take none. Its exact match beyond the training length (61.15, mean of 5 seeds; higher is better) is better "
        "than that of all others."
    )
    assert second.startswith("none is 2")
    assert "better than rotary, the baseline (95 % interval of this pair alone, 1" in second


def test_an_encoding_beside_which_all_others_diverged_has_the_only_result():
    found = results(gate=None, diverged=lambda cell: cell.encoding != "none")
    (only,) = answers(found)
    first, second = only.sentences("rotary")
    assert first.startswith("none alone has a result: exact match beyond the training length 61.15")
    assert second == "All runs of rotary and slow diverged."


def test_encodings_that_are_not_told_apart_from_the_best_are_named():
    (one,) = answers(results({"none": 41.0, "rotary": 40.5, "slow": 40.8}))
    assert set(one.alike) | {one.best} == set(MEANS)
    first = next(iter(one.sentences("rotary")))
    assert first.startswith(
        "none has the highest exact match beyond the training length (42.15, mean of 5 seeds; higher "
    )
    assert "; rotary and slow are inconclusive next to none (differences above" in first
    assert "choose" not in first


def test_encodings_of_equal_means_are_named_together():
    (one,) = answers(results(dict.fromkeys(MEANS, 40.0), noise=0.0))
    assert next(iter(one.sentences("rotary"))) == (
        "none, rotary and slow have the same exact match beyond the training length (40, mean of 5 seeds; higher is "
        "better); rotary and slow are equivalent to none within the margin of 2: choose among these by cost."
    )
    (one,) = answers(results({**dict.fromkeys(MEANS, 40.0), "slow": 30.0}, noise=0.0, seeds=1))
    assert next(iter(one.sentences("rotary"))) == (
        "none and rotary have the highest exact match beyond the training length (40), which one seed cannot tell from "
        "luck."
    )


@pytest.mark.parametrize("seeds", [1, 5])
def test_scores_of_zero_decide_nothing(seeds):
    (one,) = answers(results(dict.fromkeys(MEANS, 0.0), noise=0.0, seeds=seeds))
    assert list(one.sentences("rotary")) == [
        "the best exact match beyond the training length is 0, which decides nothing: train longer, or test shorter "
        "lengths."
    ]


def test_an_encoding_that_has_not_learned_is_never_the_best():
    (one,) = answers(results(learned=lambda name: name != "none"))
    assert one.best != "none"
    assert list(one.sentences("rotary"))[-1] == "none has not learned the task."


def test_there_is_no_answer_where_nothing_has_learned():
    found = conclusions(results(learned=lambda name: False))
    assert found == {"copying": "there is no answer, since no encoding has learned it."}


def test_one_seed_is_no_evidence():
    (one,) = answers(results(seeds=1))
    assert next(iter(one.sentences("rotary"))).endswith("which one seed cannot tell from luck.")


def test_where_others_have_not_learned_the_best_is_better_than_those_that_can_be_compared():
    (one,) = answers(results(learned=lambda name: name != "slow"))
    assert next(iter(one.sentences("rotary"))).endswith("better than that of all others that can be compared with it.")
    (one,) = answers(results(learned=lambda name: name == "none"))
    assert next(iter(one.sentences("rotary"))).startswith("none alone has learned the task: exact match beyond the ")


def test_where_no_seed_is_finished_under_all_encodings_there_is_no_answer():
    found = results(seeds=2)
    for identity in list(found.finished):
        if (json.loads(identity)["encoding"] == "none") == (json.loads(identity)["seed"] == 1):
            del found.finished[identity]
    why = "no seed of all encodings is finished"
    assert conclusions(found) == {"copying": f"there is no answer, since {why}."}


def test_methods_claim_pairs_only_where_the_checks_show_them():
    assert "runs of one seed are pairs" in methods(results())
    found = results()
    for result in found.finished.values():
        result.start.clear()
    assert "is not shown for all of them" in methods(found)


def test_runs_of_an_earlier_split_are_marked_and_no_others_are_trained_beside_them():
    now = results()
    old = dataclasses.replace(now, splits={"copying": 2})
    for found, holds in ((now, True), (old, False)):
        assert checks(found).frame.set_index("check")["holds"]["data is split as it is now"] == holds
        assert found.of_earlier_splits == ([] if holds else ["copying"])
        assert any("earlier split" in sentence for sentence in reservations(found)) != holds
    with pytest.raises(ValueError, match=r"^cases\.copying has finished runs on an earlier split .*output="):
        check_splits(old)
    for result in old.finished.values():
        result.start["split"] = "2"
    check_splits(dataclasses.replace(old))


def test_runs_that_diverged_are_counted_and_weaken_the_checks():
    found = results(diverged=lambda cell: (cell.encoding, cell.seed) == ("none", 2))
    assert "1 of 5 runs diverged" in verdicts_of(found)["none"]
    assert checks(found).frame.set_index("check")["found"]["no run diverged"] == "1 of 15"


def test_an_encoding_that_ends_before_a_length_has_a_dash_and_no_verdict():
    found = results()
    for identity, result in found.finished.items():
        if json.loads(identity)["encoding"] == "slow":
            del result.scores["exact_match@20"]
    assert verdicts_of(found)["slow"] == "it has no positions at these lengths"
    assert math.isnan(case_table(found, "copying").set_index("encoding")["exact_match@beyond"]["slow"])
    assert overview(found).set_index("encoding")["exact_match@beyond"]["slow"] == "–"


def test_a_score_of_the_whole_test_is_none_at_the_lengths_that_an_encoding_ends_before():
    """Algorithmic tasks have a score of the whole test too; an encoding that ends has that one, and did not diverge."""
    found = results()
    for identity, result in found.finished.items():
        result.scores["exact_match"] = 50.0
        if json.loads(identity)["encoding"] == "slow":
            del result.scores["exact_match@20"]
    assert verdicts_of(found)["slow"] == "it has no positions at these lengths"
    assert conclusions(found)["copying"].endswith("slow has no positions at these lengths.")
    assert "slow" not in set(_by_seed(found, "copying", found.comparison.criteria("copying")[0])["encoding"])


def test_the_overview_has_a_value_and_the_sign_of_its_verdict():
    cells = overview(results()).set_index("encoding")["exact_match@beyond"]
    assert cells["none"].endswith("▲")
    assert cells["rotary"].replace(".", "").isdigit()


def test_the_sign_of_divergence_is_that_of_the_encoding_itself():
    """Beside a baseline that diverged there is no verdict, and the others did not."""
    cells = overview(results(gate=None, diverged=lambda cell: cell.encoding == "rotary")).set_index("encoding")
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
        *("comparison.json", "report.html", "figures"),
    }
    assert len(pd.read_csv(folder / "results.csv")["seed"].unique()) == 5
    assert set(pd.read_csv(folder / "differences.csv")["word"]) <= {
        "better",
        "inconclusive",
        "equivalent within the margin",
    }


def test_the_report_begins_with_the_answer_and_names_its_checks(written):
    page = (written[0] / "report.html").read_text()
    answer = page.index("take none. Its exact match beyond the training length")
    assert (
        answer
        < page.index('id="contents"')
        < page.rindex("Verdicts: exact_match@beyond")
        < page.rindex("How it was made")
    )
    assert "none is None (NoPE); rotary is Rotary (RoPE)" in page
    for words in ("same data order for the same seed", "copying: optimizer.lr", "Holm", "python -m src.compare"):
        assert words in page


def test_what_is_printed_fits_80_columns(written):
    assert max(map(len, written[1].splitlines())) <= 80 + len(str(written[0]))
    assert "copying: take none. Its exact match" in " ".join(written[1].split())


def test_means_stand_at_each_length(written):
    table = pd.read_csv(written[0] / "figures" / "lengths_copying_exact_match.csv")
    assert list(table.columns) == ["encoding", "10", "20"]
    rows = results().by_length("copying", "exact_match")
    means = rows.groupby(["encoding", "length"])["value"].mean()
    for encoding, *values in table.itertuples(index=False):
        assert values == pytest.approx([means[encoding, 10], means[encoding, 20]])


def with_values(found, values):
    """Results with these values at length 20, by encoding and seed."""
    for cell, result in found.cells:
        result.scores["exact_match@20"] = values[cell.encoding][cell.seed - 1]
    return found


def test_an_answer_says_where_seeds_could_have_found_no_difference_at_all():
    values = {"none": [70.0, 40.0], "rotary": [30.0, 45.0], "slow": [40.0, 69.0]}
    first = next(iter(answers(with_values(results(seeds=2, gate=None), values))[0].sentences("rotary")))
    assert "(seeds are too few, and differ too much, to find a difference from some of them)" in first


def test_where_solve_rates_decide_tables_and_figures_show_their_difference():
    values = {"none": [99.0] * 8, "rotary": [99.0] + [1.0] * 7, "slow": [1.0] * 8}
    found = with_values(results(seeds=8), values)
    rows = differences(found, "copying").set_index("encoding")
    assert (rows["of"]["none"], rows["difference"]["none"]) == ("solve rate", pytest.approx(87.5))
    assert rows["high"]["none"] <= 100
    criterion = found.comparison.criteria("copying")[0]
    picture = figures.differences("differences", criterion, rows.reset_index(), "rotary")
    labels = [label.get_text() for label in picture.figure.axes[0].get_yticklabels()]
    assert "None (NoPE):\nbetter\nby solve rate" in labels
    assert "Newcombe's" in picture.caption
    assert "Newcombe's" not in figures.differences("x", criterion, differences(results(), "copying"), "rotary").caption


def test_labels_of_all_figures_can_be_read_on_a_phone():
    """At 358 pixels, which a page of 390 leaves to a figure, the smallest text has 8 pixels."""
    values = {"none": [99.0] * 8, "rotary": [99.0] + [1.0] * 7, "slow": [1.0] * 8}
    made = with_values(results(seeds=8, tuning=TUNING), values)
    pictures = [one for section in _sections(made) for one in section.figures if isinstance(one, Plot)]
    assert {one.name.partition("_")[0] for one in pictures} == {"curves", "differences", "seeds", "cost", "tuning"}
    for picture in pictures:
        shrunk = min(1.0, 358 / (100 * picture.figure.get_size_inches()[0]))
        texts = [text for text in picture.figure.findobj(Text) if text.get_text().strip()]
        assert min(text.get_fontsize() for text in texts) * 100 / 72 * shrunk >= 8


def finished_seeds(found, seeds):
    """Results of which only some seeds of each encoding are finished yet."""
    kept = {cell.identity: one for cell, one in found.cells if cell.seed in seeds[cell.encoding]}
    return dataclasses.replace(found, finished=kept)


def test_an_encoding_with_one_finished_run_leaves_the_verdicts_on_others_as_they_are():
    """Each encoding is compared by the seeds that it shares with the baseline."""
    found = finished_seeds(results(), {"rotary": {1, 2, 3, 4}, "none": {1, 2, 3, 4, 5}, "slow": {1}})
    verdicts = found.verdicts("copying", found.comparison.criteria("copying")[0], "rotary")
    assert verdicts["none"].word is Word.BETTER
    assert "4 pairs of seeds" in verdicts["none"].text
    assert verdicts["slow"].word is Word.ONE_SEED


def test_an_encoding_with_one_finished_run_is_not_the_best_while_others_have_more():
    found = finished_seeds(results({**MEANS, "slow": 90.0}), {"rotary": {1, 2, 3}, "none": {1, 2, 3}, "slow": {1}})
    (one,) = answers(found)
    assert (one.best, one.seeds) == ("none", 3)
    assert next(iter(one.sentences("rotary"))).startswith("take none. ")
    alike = finished_seeds(
        results({"none": 41.0, "rotary": 40.5, "slow": 90.0}), {"rotary": {1, 2, 3}, "none": {1, 2, 3}, "slow": {1}}
    )
    (one,) = answers(alike)
    assert next(iter(one.sentences("rotary"))).startswith(
        "leaving out slow, which one seed cannot tell from luck, none has the highest exact match"
    )


def test_means_over_unequal_numbers_of_seeds_say_so():
    found = finished_seeds(results(), {"rotary": {1, 2, 3, 4}, "none": {1, 2, 3, 4, 5}, "slow": {1}})
    assert "Seeds of copying: none 5, rotary 4, slow 1" in _legend(found, overview(found))
    assert "Seeds of" not in _legend(results(), overview(results()))


def test_the_best_mean_is_not_taken_where_another_is_better_by_its_solve_rate():
    values = {"none": [79.9] * 8, "rotary": [82.0] * 7 + [10.0], "slow": [1.0] * 8}
    (one,) = answers(with_values(results(seeds=8), values))
    assert (one.best, one.ahead) == ("none", ["rotary"])
    first = next(iter(one.sentences("slow")))
    assert first.startswith("none has the highest exact match") and "take none" not in first
    assert "but rotary is better by the test of seeds" in first


def test_a_report_is_written_where_no_encoding_has_positions(tmp_path):
    found = results(output=str(tmp_path))
    for result in found.finished.values():
        del result.scores["exact_match@20"]
    write(found, HarmlessConsole(io.StringIO(), width=80), "python -m src.compare comparison=question")
    assert (tmp_path / "report.html").exists()
    assert conclusions(found)["copying"].startswith(
        "there is no answer, since no encoding has positions at these lengths."
    )


def test_a_run_whose_test_is_not_finite_counts_as_diverged_in_checks_as_in_verdicts():
    found = results()
    for cell, result in found.cells:
        if (cell.encoding, cell.seed) == ("none", 2):
            result.scores["exact_match@20"] = math.inf
    assert "1 of 5 runs diverged" in verdicts_of(found)["none"]
    assert checks(found).frame.set_index("check")["found"]["no run diverged"] == "1 of 15"


def test_methods_of_runs_that_exist_do_not_claim_pairs_of_seeds_that_are_none():
    found = results()
    places = {cell.identity: found.place(cell) for cell, _ in found.cells}
    kept = {cell.identity: one for cell, one in found.cells if (cell.seed > 3) == (cell.encoding == "none")}
    text = methods(dataclasses.replace(found, finished=kept, places=places))
    assert "with 2 to 3 runs of each encoding" in text
    assert "are means over pairs of seeds where two encodings share at least 2, and else of all their seeds" in text
    assert "runs of one seed are pairs" not in text
    assert "of each encoding" not in methods(found)


def test_runs_that_exist_are_counted_without_those_that_a_comparison_would_train():
    found = results()
    places = {cell.identity: found.place(cell) for cell, _ in found.cells}
    assert _counted(found).startswith("15 of 15 runs: 3 encodings")
    assert _counted(dataclasses.replace(found, places=places)).startswith("15 runs: 3 encodings")


def timed(found, relative=lambda name, length: 1.0):
    """Results whose encodings were timed at both lengths, but `slow` has no positions at 20."""
    costs = [
        ReadingCost(name, length, 2 * length, 100.0 * length * relative(name, length), relative(name, length), length)
        for name in ("none", "rotary", "slow")
        for length in (10, 20)
        if (name, length) != ("slow", 20)
    ]
    runs = {name: f"runs/{name}" for name in ("none", "rotary", "slow")}
    speeds = {case: CaseSpeeds("a machine", {}, "rotary", runs, [10, 20], costs) for case in found.comparison.cases}
    return dataclasses.replace(found, speeds=speeds)


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
    assert "| none | 1.50 (1,500) | 1.50 (3,000) | 10 | 20 |" in (tmp_path / "speeds.md").read_text()
    assert "| slow | 1.00 (1,000) | – | 10 | – |" in (tmp_path / "speeds.md").read_text()
    assert "Speed and memory at each length" in (tmp_path / "report.html").read_text()


def test_that_all_encodings_were_timed_on_one_machine_is_checked():
    def check(found):
        rows = checks(found).frame.set_index("check")
        return tuple(rows.loc["same machine, for speeds at each length", ["holds", "found"]])

    found = timed(results())
    assert check(found) == (True, "a machine")
    del found.speeds["copying"].runs["slow"]
    assert check(found) == (False, "slow not timed")
    assert "same machine, for speeds at each length" not in set(checks(results()).frame["check"])


def test_weights_that_an_earlier_run_has_learned_are_not_said_to_be_equal():
    cases = {"copying": COPYING, "again": {**COPYING, "after": "copying"}}
    assert "(on again: those that a run of the same encoding has learned)" in methods(results(cases=cases))
    assert "encodings share are the same, so that" in methods(results())
    checked = checks(results(cases=cases)).frame.set_index("check")["case"]
    assert checked["same first shared weights for the same seed"] == "copying"
    assert checked["same data order for the same seed"] == "all"
