"""Questions and their answers within a text, of the Hugging Face Hub."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from poslab.data.examples.answer_spans import spans
from poslab.data.examples.cells import is_missing
from poslab.data.examples.hub_examples import HubExamples
from poslab.data.kinds.spans import SPANS

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(kw_only=True)
class HubAnswers(HubExamples):
    """Questions, and texts in which their answers stand, as SQuAD has them; none means that the text does not answer.

    Args:
        question: the column that holds the question (default `question`).
        context: the column that holds the text (default `context`).
        answer: the column that holds the answers (default `answers`): `{"text": list, "answer_start": list}`, or
            another form that `AnswersFile` takes.
        others: those of `HubExamples`; `sequence_length` is 512 here.
    """

    sequence_length: int = 512
    question: str = "question"
    context: str = "context"
    answer: str = "answers"

    title: ClassVar[str] = "hub_answers"
    kind = SPANS
    texts: ClassVar[tuple[str, ...]] = ("question", "context")

    @property
    def columns(self) -> dict[str, str]:
        return {"question": self.question, "context": self.context, "answer": self.answer}

    def from_rows(self, rows: "Dataset", split_argument: str) -> "Dataset":
        from datasets import Features, List, Value

        types: dict[str, Any] = {name: Value("string") for name in rows.column_names if name != "answer"}
        types["answers"] = List({"text": Value("string"), "start": Value("int64")})
        where = f"split {getattr(self, split_argument)!r}"
        return rows.map(
            _with_spans,
            fn_kwargs={"where": where},
            batched=True,
            with_indices=True,
            remove_columns=rows.column_names,
            features=Features(types),
            load_from_cache_file=False,
        )


def _with_spans(batch: dict[str, list[Any]], indices: list[int], where: str) -> dict[str, list[Any]]:
    """The rows of a batch that have a question and a context, with their answers in the form of its kind."""
    columns = list(batch)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*batch.values(), strict=True)]
    kept = [
        {name: value for name, value in row.items() if name != "answer"}
        | {"answers": spans(row["context"], row["answer"], None, f"{where} row {index + 1}")}
        for row, index in zip(rows, indices, strict=True)
        if not (is_missing(row["question"]) or is_missing(row["context"]))
    ]
    names = [name for name in columns if name != "answer"] + ["answers"]
    return {name: [row[name] for row in kept] for name in names}
