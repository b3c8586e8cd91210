"""Questions, and their answers within a text."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from poslab.arguments import Count
from poslab.data.examples.columns import as_written, is_missing
from poslab.data.examples.tables import ExampleFiles, HubExamples, Rewrite, Table, TableExamples
from poslab.data.hub_columns import renamed
from poslab.data.kinds.spans import SPANS

if TYPE_CHECKING:
    from datasets import Dataset


class AnsweredQuestions(TableExamples):
    """Questions, and texts that contain their answers, in a column each; no answer: the text does not answer.

    An answer is a text, a list of texts if several are right, or one of SQuAD's own forms.

    Args:
        question: the column of the question (default `question`).
        context: the column of the text (default `context`).
        answer: the column of the answer (default `answer`).
        start: the column of the first character of the answer in the context, from 0; None, or an empty cell, means
            the first occurrence.
        others: those of `TableExamples`; `sequence_length` is 512 here.
    """

    sequence_length: Count = 512
    question: str = "question"
    context: str = "context"
    answer: str = "answer"
    start: str | None = None

    kind = SPANS
    column_arguments = ("question", "context", "answer", "start")
    optional = ("answer", "start")

    def converter(self, table: Table) -> tuple[Rewrite, dict[str, Any]]:
        from datasets import List, Value

        def answered(row: dict[str, Any], index: int) -> list[dict[str, Any]]:
            answers = spans(row["context"], row["answer"], row.get("start"), table.place(index))
            return [{"question": row["question"], "context": row["context"], "answers": answers}]

        text, answers = Value("string"), List({"text": Value("string"), "start": Value("int64")})
        return answered, {"question": text, "context": text, "answers": answers}


class AnswersFile(AnsweredQuestions, ExampleFiles):
    """Questions and their answers in files with columns, or in JSON as SQuAD has it.

    In SQuAD's JSON (articles with `paragraphs`) no column needs a name, and the questions on an article belong
    together.

    Args: those of `AnsweredQuestions` and `ExampleFiles`.
    """

    title = "answers_file"

    def named(self, rows: "Dataset") -> "Dataset":
        return rows if "paragraphs" in rows.column_names else renamed(rows, self.all_columns)

    def converter(self, table: Table) -> tuple[Rewrite, dict[str, Any]]:
        from datasets import Value

        convert, types = super().converter(table)
        if "paragraphs" not in table.rows.column_names:
            return convert, types

        def of_article(row: dict[str, Any], index: int) -> list[dict[str, Any]]:
            place = table.place(index)
            try:
                return [
                    {
                        "question": question["question"],
                        "context": paragraph["context"],
                        "answers": spans(
                            paragraph["context"], question.get("answers"), None, f"{place} {question['question']!r}"
                        ),
                        "document": str(row.get("title", place)),
                    }
                    for paragraph in row["paragraphs"]
                    for question in paragraph["qas"]
                ]
            except (KeyError, TypeError) as error:
                raise ValueError(f"{table.argument} must have SQuAD's form, but {place} lacks {error}") from error

        return of_article, types | {"document": Value("string")}


class HubAnswers(AnsweredQuestions, HubExamples):
    """Questions and their answers on the Hub.

    Args: those of `AnsweredQuestions` and `HubExamples`; `answer` is `answers` here.
    """

    answer: str = "answers"

    title = "hub_answers"


def spans(context: str, answers: Any, start: Any, place: str) -> list[dict[str, Any]]:
    """Return the answers to a question, in the form of their kind.

    Args:
        context: the text that holds them.
        answers: a text, a list of texts, SQuAD's list of `{"text", "answer_start"}`, the hub's
            `{"text": list, "answer_start": list}`, or nothing where the context has no answer.
        start: first character of the answer in the context, if `answers` is a text; None searches for the text.
        place: of the question, for messages.

    Raises:
        ValueError: beginning with `answer` or `start`, if an answer does not stand in the context, or not at its start,
            or some answers have no start and others do.
    """
    return [_span(context, text, begin, place) for text, begin in _texts_and_starts(answers, start, place)]


def _texts_and_starts(answers: Any, start: Any, place: str) -> list[tuple[str, Any]]:
    if is_missing(answers):
        return []
    if isinstance(answers, Mapping):
        texts, starts = answers.get("text"), answers.get("answer_start", answers.get("start"))
        if not isinstance(texts, list):
            return _texts_and_starts(texts, starts, place)
        starts = starts or [None] * len(texts)
        if not isinstance(starts, list) or len(starts) != len(texts):
            raise ValueError(f"start must be that of each answer or of none, but {place} has {starts!r} of {texts!r}")
        pairs = zip(texts, starts, strict=True)
        return [pair for text, begin in pairs for pair in _texts_and_starts(text, begin, place)]
    if isinstance(answers, list):
        return [pair for answer in answers for pair in _texts_and_starts(answer, None, place)]
    return [(answers if isinstance(answers, str) else as_written(answers), start)]


def _span(context: str, text: str, start: Any, place: str) -> dict[str, Any]:
    if is_missing(start):
        found = context.find(text)
        if found < 0:
            raise ValueError(f"answer must stand in its context, but {text[:60]!r} of {place} does not")
        return {"text": text, "start": found}
    try:
        begin = int(start)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"start must be a whole number, but {start!r} of {place} is none") from None
    if begin < 0 or not context.startswith(text, begin):
        raise ValueError(
            f"answer must stand in its context where its start says, but {text[:60]!r} of {place} does not"
        )
    return {"text": text, "start": begin}
