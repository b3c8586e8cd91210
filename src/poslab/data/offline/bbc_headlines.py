"""The headline of a news article."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from poslab.data.examples.columns import as_examples
from poslab.data.kinds.pairs import PAIRS
from poslab.data.offline.bbc_news import BbcNews

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(kw_only=True)
class BbcHeadlines(BbcNews):
    """BBC News articles without their headlines, to be summarised in a headline of about five words.

    Args: those of `ExampleSource`; `sequence_length` is 1024 here, which leaves one article in twelve out.

    Source: see `BbcNews`.
    """

    sequence_length: int = 1024

    title: ClassVar[str] = "bbc_headlines"
    kind = PAIRS

    def examples(self) -> "dict[str, Dataset]":
        articles = self.articles()
        # A word after a space is the same token wherever it stands: also the first one can be copied.
        return {
            "train": as_examples(
                source=[f" {article.body}" for article in articles],
                target=[f" {article.headline}" for article in articles],
            )
        }
