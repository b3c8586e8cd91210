"""The section on the time spent on data is what its script makes of the figures."""

import json

from docs import data_time_page


def test_the_section_is_that_of_the_figures_and_the_rest_of_the_page_stays():
    page = data_time_page.PAGE.read_text(encoding="utf-8")
    new = data_time_page.section(json.loads(data_time_page.FIGURES.read_text(encoding="utf-8")))
    assert data_time_page.with_section(page, new) == page
    assert page.count(data_time_page.HEADING) == 1
    other = data_time_page.with_section(page, f"{data_time_page.HEADING}\n\nNothing.\n\n")
    assert len(other) < len(page)
    assert data_time_page.with_section(other, new) == page
