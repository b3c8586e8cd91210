"""The text of docs/training-methods.md around its comparisons: `python docs/make.py --comparison FOLDER ...`."""

from __future__ import annotations

from pages.comparison import ComparisonPage, Part

INTRODUCTION = """\
# Training methods and encodings, measured

`python docs/make.py --comparison` makes this page from comparisons. Do not edit it by hand.

Does the choice of an encoding change with privacy, another optimizer, a teacher, or another domain?
[Training](guides/training.md) has the commands."""

PARTS = {
    "private": Part(
        "What privacy costs",
        """\
Topics of news under DP-SGD: each article is private, at three epsilons and without privacy. Decoders of two layers of
width 64, 200 steps of 64 articles; each encoding and epsilon has a tuned rate.""",
        "large batches and long training, where privacy costs less, and pretrained models",
        ("accuracy",),
        ("curves_*", "differences_*"),
    ),
    "optimizers": Part(
        "Another optimizer",
        """\
Text in windows of 128 bytes, read at once and four times that length, under AdamW, Muon and Lion, each tuned. Decoders
of two layers of width 64.""",
        "large models and long training",
        ("bits_per_byte@4x", "bits_per_byte@1x"),
        ("curves_*[!g]_bits_per_byte", "differences_*"),
    ),
    "distillation": Part(
        "A rotary teacher",
        """\
A rotary decoder of the default size teaches decoders of two layers of width 64, which have other positions or none: by
its logits, or by relations of its queries, keys and values (MiniLMv2), before or after they are rotated.
`without_teacher` has the same steps.""",
        "large teachers, teachers of another kind, and long training",
        ("bits_per_byte@1x", "bits_per_byte@4x", "sliding_bits_per_byte@4x"),
        ("curves_*[!g]_bits_per_byte", "differences_*"),
    ),
    "transfer": Part(
        "Another domain",
        """\
Sentiment of film reviews, then of tweets, and films again without a further step: what serves, and what is left? Cases
begin with the weights of another one (`tweets_after_films`), with a frozen encoding, or under rotary, and `docs` is
text of the Python documentation.""",
        "large pretrained models ([pretrained models](pretrained-models.md)), and other domains",
        ("accuracy", "bits_per_byte@1x"),
        ("differences_*",),
    ),
}

PAGE = ComparisonPage("training-methods", INTRODUCTION, PARTS)
