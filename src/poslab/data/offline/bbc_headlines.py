"""Headlines of news articles."""

from poslab.data.examples.columns import Splits, as_examples
from poslab.data.kinds.pairs import PAIRS
from poslab.data.offline.bbc_news import BbcNews


class BbcHeadlines(BbcNews):
    """Articles of `BbcNews`, to be summarised in their headlines of about five words.

    Args: those of `ExampleSource`; `sequence_length` is 1024 here, which leaves one article in twelve out.
    """

    sequence_length: int = 1024

    title = "bbc_headlines"
    kind = PAIRS

    def examples(self) -> Splits:
        articles = self.articles()
        # A word after a space is the same token wherever it stands, so that the first one can be copied too.
        return {
            "train": as_examples(
                source=[f" {article.body}" for article in articles],
                target=[f" {article.headline}" for article in articles],
            )
        }
