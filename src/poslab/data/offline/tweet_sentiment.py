"""The sentiment of tweets."""

from poslab.data.offline.rated_snippets import RatedSnippets


class TweetSentiment(RatedSnippets):
    """Tweets, positive or negative: 4,200, of which the default margin keeps 3,432, two thirds of them positive; median
    13 words. Source: see `RatedSnippets`.
    """

    title = "tweet_sentiment"
    file = "hutto_ICWSM_2014/tweets_GroundTruth.txt"
