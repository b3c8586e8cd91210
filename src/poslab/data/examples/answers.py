"""Questions, and their answers within a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from poslab.arguments import Count
from poslab.data.columns import as_written, is_missing, renamed
from poslab.data.examples.tables import ExampleFiles, ExampleTable, HubExamples, Rewrite, TableExamples
from poslab.data.kinds import ExampleKind, ReadingOptions, Rows, are_equal, are_within, sizes, with_ends

if TYPE_CHECKING:
    from datasets import Dataset
    from pyarrow import ChunkedArray

    from poslab.data.tokenizers import Tokenizer


class SpanKind(ExampleKind):
    """Texts in the columns `question` and `context`, and `answers`, a list of `{"text": string, "start": integer}`.

    `context[start:start + len(text)]` is the text; the list is empty where the context has no answer.
    """

    texts = read = ("question", "context")
    kept = ("context", "answers")

    def tokenise(self, rows: Rows, tokenizer: Tokenizer, options: ReadingOptions) -> dict[str, list[Any]]:
        """Return `start question end context end`, and the characters of the context tokens and the first answer.

        The tokens are as for classes. The first one is for "no answer here", as in BERT's form of SQuAD 2.
        """
        columns: dict[str, list[Any]] = {name: [] for name in ("tokens", "length", "first", "places", "span")}
        for question, context, answers in zip(rows["question"], rows["context"], rows["answers"], strict=True):
            query, (within, places) = tokenizer.encode(question), tokenizer.encode_with_places(context)
            begin = len(query) + 2
            columns["tokens"].append(with_ends(tokenizer, query, within))
            columns["length"].append(begin + len(within) + 1)
            columns["first"].append(begin)
            columns["places"].append(places)
            touched: Any = ()  # tokens of the context that the answer touches
            if answers:
                first, last = answers[0]["start"], answers[0]["start"] + len(answers[0]["text"])
                touched = np.flatnonzero((places[:, 1] > first) & (places[:, 0] < last)) + begin
            columns["span"].append([int(touched[0]), int(touched[-1])] if len(touched) else [0, 0])
        return columns

    def fit(self, columns: Mapping[str, ChunkedArray], names: Sequence[str]) -> bool:
        from pyarrow import compute

        ends, first, span = sizes(columns["tokens"]), columns["first"], columns["span"]
        if not (are_within(first, ends) and are_within(span, ends) and are_equal(sizes(span), 2)):
            return False
        of_context = compute.subtract(compute.subtract(ends, first), 1)
        return are_equal(sizes(columns["places"]), of_context)


SPANS = SpanKind("answers")


class AnsweredQuestions(TableExamples):
    """Questions, and texts that contain their answers, in a column each; no answer: the text does not answer.

    An answer is a text, a list of texts if several are right, or one of SQuAD's own forms.

    Args:
        start: the column of the first character of the answer in the context, from 0; None, or an empty cell, means
            the first occurrence.
        others: the columns, and as in `TableExamples`; `sequence_length` is 512 here.
    """

    sequence_length: Count = 512
    question: str = "question"
    context: str = "context"
    answer: str = "answer"
    start: str | None = None

    kind = SPANS
    column_arguments = ("question", "context", "answer", "start")
    optional = ("answer", "start")

    def converter(self, table: ExampleTable) -> tuple[Rewrite, dict[str, Any]]:
        from datasets import List, Value

        def answered(row: dict[str, Any], index: int) -> list[dict[str, Any]]:
            answers = spans(row["context"], row["answer"], row.get("start"), table.row_name(index))
            return [{"question": row["question"], "context": row["context"], "answers": answers}]

        text, answers = Value("string"), List({"text": Value("string"), "start": Value("int64")})
        return answered, {"question": text, "context": text, "answers": answers}


class AnswersFile(AnsweredQuestions, ExampleFiles):
    """Questions and their answers in files with columns, or in JSON as SQuAD has it.

    In SQuAD's JSON (articles with `paragraphs`) no column needs a name, and the questions on an article belong
    together.
    """

    title = "answers_file"

    def named(self, rows: Dataset) -> Dataset:
        return rows if "paragraphs" in rows.column_names else renamed(rows, self.all_columns)

    def converter(self, table: ExampleTable) -> tuple[Rewrite, dict[str, Any]]:
        from datasets import Value

        convert, types = super().converter(table)
        if "paragraphs" not in table.rows.column_names:
            return convert, types

        def of_article(row: dict[str, Any], index: int) -> list[dict[str, Any]]:
            row_name = table.row_name(index)
            try:
                questions = [
                    (paragraph["context"], question["question"], question.get("answers"))
                    for paragraph in row["paragraphs"]
                    for question in paragraph["qas"]
                ]
            except (KeyError, TypeError) as error:
                raise ValueError(f"{table.argument} must have SQuAD's form, but {row_name} lacks {error}") from error
            for context, question, _ in questions:
                if not isinstance(context, str) or not isinstance(question, str):
                    missing = "'context'" if isinstance(question, str) else "'question'"
                    raise ValueError(f"{table.argument} must have SQuAD's form, but {row_name} lacks a text {missing}")
            return [
                {
                    "question": question,
                    "context": context,
                    "answers": spans(context, answers, None, f"{row_name} {question!r}"),
                    "document": str(row.get("title") or row_name),
                }
                for context, question, answers in questions
            ]

        return of_article, types | {"document": Value("string")}


class HubAnswers(AnsweredQuestions, HubExamples):
    """Questions and their answers on the Hub.

    Args: as in `AnsweredQuestions` and `HubExamples`; `answer` is `answers` here.
    """

    answer: str = "answers"

    title = "hub_answers"


def spans(context: str, answers: Any, start: Any, row_name: str) -> list[dict[str, Any]]:
    """Return the answers to a question, in the form of their kind.

    ValueError, starting with `answer` or `start`, if an answer is not in the context, or not at its start, or some
    answers have no start and others do.

    Args:
        answers: a text, a list of texts, SQuAD's list of `{"text", "answer_start"}`, the hub's
            `{"text": list, "answer_start": list}`, or nothing where the context has no answer.
        start: first character of the answer in the context, if `answers` is a text; None searches for the text.
        row_name: of the question, for messages.
    """
    return [_span(context, text, begin, row_name) for text, begin in _texts_and_starts(answers, start, row_name)]


def _texts_and_starts(answers: Any, start: Any, row_name: str) -> list[tuple[str, Any]]:
    if is_missing(answers):
        return []
    if isinstance(answers, Mapping):
        texts, starts = answers.get("text"), answers.get("answer_start", answers.get("start"))
        if not isinstance(texts, list):
            return _texts_and_starts(texts, starts, row_name)
        starts = starts or [None] * len(texts)
        if not isinstance(starts, list) or len(starts) != len(texts):
            raise ValueError(f"start must be given for each answer or none, but {row_name} has {starts!r} of {texts!r}")
        pairs = zip(texts, starts, strict=True)
        return [pair for text, begin in pairs for pair in _texts_and_starts(text, begin, row_name)]
    if isinstance(answers, list):
        return [pair for answer in answers for pair in _texts_and_starts(answer, None, row_name)]
    return [(answers if isinstance(answers, str) else as_written(answers), start)]


def _span(context: str, text: str, start: Any, row_name: str) -> dict[str, Any]:
    if is_missing(start):
        first = context.find(text)
        if first < 0:
            raise ValueError(f"answer must be in its context, but {text[:60]!r} of {row_name} is not")
        return {"text": text, "start": first}
    try:
        begin = int(start)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"start must be a whole number, but {start!r} of {row_name} is none") from None
    if begin < 0 or not context.startswith(text, begin):
        raise ValueError(f"answer must be in its context where its start says, but {text[:60]!r} of {row_name} is not")
    return {"text": text, "start": begin}
