"""Answers that are read out of a context."""

import numpy as np

from poslab.tasks.question_answering import Context


def test_an_answer_is_without_the_space_that_its_first_token_begins_with():
    context = Context("in Lima now", 3, np.array([[0, 2], [2, 7], [7, 11]]))
    assert context.between(4, 4) == "Lima"
    assert context.between(3, 5) == "in Lima now"
    assert context.between(2, 4) == ""
