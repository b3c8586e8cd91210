"""A user's own questions, and their answers within a text."""

from typing import Any

from poslab.data.examples.answer_spans import spans
from poslab.data.examples.cells import text_in
from poslab.data.examples.example_files import ExampleFiles
from poslab.data.examples.table_files import Row, Table
from poslab.data.kinds.spans import SPANS


class AnswersFile(ExampleFiles):
    """Questions, and texts in which their answers stand: JSON as SQuAD has it, or files with a column each.

    In SQuAD's JSON (articles with `paragraphs`) no column needs a name, and the questions on an article belong
    together. Elsewhere an answer is a text, a list of texts if several are right, or one of SQuAD's own forms. No
    answer means that the text does not answer the question.

    Args:
        question: the column of the question (default `question`).
        context: the column of the text (default `context`).
        answer: the column of the answer (default `answer`).
        start: the column of the first character of the answer in the context, from 0; None, or an empty cell, means
            the first place where it stands.
        others: those of `ExampleFiles`; `sequence_length` is 512 here.
    """

    sequence_length: int = 512
    question: str = "question"
    context: str = "context"
    answer: str = "answer"
    start: str | None = None

    title = "answers_file"
    kind = SPANS
    column_arguments = ("question", "context", "answer", "start")

    def as_rows(self, table: Table) -> Table:
        if "paragraphs" not in table.columns:
            return table
        rows = [row for article in table.rows for row in self._questions(article)]
        return Table([*self.columns.values()], rows)

    def _questions(self, article: Row) -> list[Row]:
        """Return the questions on an article of SQuAD's JSON, in the columns that the arguments name."""
        try:
            return [
                Row(
                    {
                        self.question: question["question"],
                        self.context: paragraph["context"],
                        self.answer: question.get("answers", []),
                    },
                    f"{article.place} question {question.get('id', question['question'])!r}",
                    document=str(article.values.get("title", article.place)),
                )
                for paragraph in article.values["paragraphs"]
                for question in paragraph["qas"]
            ]
        except (KeyError, TypeError) as error:
            raise ValueError(f"files must have SQuAD's form, but {article.place} lacks {error}") from error

    def from_rows(self, rows: list[Row], argument: str) -> dict[str, list[Any]]:
        questions = [text_in(row.values, "question", self.question, row.place) for row in rows]
        contexts = [text_in(row.values, "context", self.context, row.place) for row in rows]
        starts = [None if self.start is None else row.values.get(self.start) for row in rows]
        answers = [
            spans(context, row.values.get(self.answer), start, row.place)
            for row, context, start in zip(rows, contexts, starts, strict=True)
        ]
        return {"question": questions, "context": contexts, "answers": answers}
