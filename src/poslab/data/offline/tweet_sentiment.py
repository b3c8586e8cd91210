"""The sentiment of tweets."""

from dataclasses import dataclass
from typing import ClassVar

from poslab.data.offline.rated_snippets import RatedSnippets


@dataclass(kw_only=True)
class TweetSentiment(RatedSnippets):
    """Tweets, positive or negative: 4,200, of which the default margin keeps 3,432, two thirds of them positive; median
    13 words. Source: see `RatedSnippets`.
    """

    title: ClassVar[str] = "tweet_sentiment"
    file: ClassVar[str] = "hutto_ICWSM_2014/tweets_GroundTruth.txt"
