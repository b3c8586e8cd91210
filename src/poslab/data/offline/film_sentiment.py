"""The sentiment of sentences about films."""

from poslab.data.offline.rated_snippets import RatedSnippets


class FilmSentiment(RatedSnippets):
    """Sentences of film reviews (of the collection of Pang and Lee), positive or negative: 10,605, of which the default
    margin keeps 10,072, half of them positive; median 18 words. Source: see `RatedSnippets`.
    """

    title = "film_sentiment"
    file = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
