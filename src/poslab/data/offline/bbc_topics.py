"""Topics of news articles."""

from poslab.data.examples.columns import Splits, as_examples
from poslab.data.kinds.classes import CLASSES
from poslab.data.offline.bbc_news import BbcNews


class BbcTopics(BbcNews):
    """Articles of `BbcNews` by topic: business, entertainment, politics, sports, tech.

    The text is the whole article with its headline, as is usual. 2,225 articles, 2,127 of them different.

    Args: those of `ExampleSource`; `sequence_length` is 512 here, which cuts every second article.
    """

    sequence_length: int = 512

    title = "bbc_topics"
    kind = CLASSES

    def examples(self) -> Splits:
        articles = self.articles()
        texts = [f"{article.headline}\n\n{article.body}" for article in articles]
        return {"train": as_examples(text=texts, label=[article.topic for article in articles])}
