"""Questions and their answers within a text, from the Hugging Face Hub."""

from typing import TYPE_CHECKING, Any

from poslab.data.examples.answer_spans import spans
from poslab.data.examples.cells import is_missing
from poslab.data.examples.hub_examples import HubExamples, rewritten
from poslab.data.kinds.spans import SPANS

if TYPE_CHECKING:
    from datasets import Dataset


class HubAnswers(HubExamples):
    """Questions, and texts in which their answers stand, as in SQuAD; none means that the text does not answer.

    Args:
        question: the column of the question (default `question`).
        context: the column of the text (default `context`).
        answer: the column of the answers (default `answers`): `{"text": list, "answer_start": list}`, or another form
            of `AnswersFile`.
        others: those of `HubExamples`; `sequence_length` is 512 here.
    """

    sequence_length: int = 512
    question: str = "question"
    context: str = "context"
    answer: str = "answers"

    title = "hub_answers"
    kind = SPANS
    column_arguments = ("question", "context", "answer")

    def from_rows(self, rows: "Dataset", split_argument: str) -> "Dataset":
        from datasets import List, Value

        types: dict[str, Any] = {name: Value("string") for name in rows.column_names if name != "answer"}
        types["answers"] = List({"text": Value("string"), "start": Value("int64")})
        where = f"split {getattr(self, split_argument)!r}"

        def with_spans(row: dict[str, Any], index: int) -> list[dict[str, Any]]:
            if is_missing(row["question"]) or is_missing(row["context"]):
                return []
            return [row | {"answers": spans(row["context"], row["answer"], None, f"{where} row {index + 1}")}]

        return rewritten(rows, with_spans, types)
