"""docs/tasks.md is what its script makes of the figures, also while some are missing."""

import json

from docs import tasks_page


def test_the_page_is_that_of_the_figures():
    assert tasks_page.PAGE.read_text(encoding="utf-8") == tasks_page.page(*tasks_page.figures_in(tasks_page.FIGURES))


def test_tasks_without_runs_are_left_out(tmp_path):
    tasks, data_time = (
        json.loads((tasks_page.FIGURES / f"{name}.json").read_text()) for name in ("tasks", "data_time")
    )
    films = tasks["film sentiment"]
    tasks = {"film sentiment": {**films, "runs": {"none": films["runs"]["none"]}}, "addition": {"runs": {}}}
    for name, figures in (("tasks", tasks), ("data_time", data_time)):
        (tmp_path / f"{name}.json").write_text(json.dumps(figures))
    page = tasks_page.page(*tasks_page.figures_in(tmp_path))
    assert "## Film sentiment" in page and "## Addition" not in page


def test_a_deviation_is_that_of_a_sample_and_one_seed_has_none():
    assert tasks_page._shown([50.0, 70.0]) == "60.0 ± 14.1"
    assert tasks_page._shown([20.0]) == "20.0"
