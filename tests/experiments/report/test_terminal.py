"""Results of a comparison on the terminal."""

import io

import pandas as pd
import pytest

from poslab.experiments.report.terminal import print_results
from poslab.io.terminal import HarmlessConsole
from tests.experiments.report.test_write import results

METRICS = [f"exact_match@{length}" for length in ("1x", "2x", "beyond", "trained", "10", "20")]


@pytest.mark.parametrize(("width", "tables"), [(40, 6), (80, 2), (160, 1)])
def test_metrics_that_do_not_fit_have_a_table_below(width, tables):
    found = results(metrics={metric: {"direction": "maximize", "margin": 1} for metric in METRICS})
    encodings = found.comparison.encodings_of("copying")
    table = pd.DataFrame({"encoding": encodings, **{metric: [f"{metric} ="] * len(encodings) for metric in METRICS}})
    screen = io.StringIO()
    print_results(found, HarmlessConsole(screen, width=width), table, "", [])
    text = screen.getvalue()
    assert max(map(len, text.split("written")[0].splitlines())) <= width
    assert "…" not in text
    assert all(text.count(f"{metric} =") == len(encodings) for metric in METRICS)
    assert text.count(f"  {encodings[0]}") == tables
