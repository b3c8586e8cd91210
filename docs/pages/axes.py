"""The text of docs/axes.md around its comparisons: `python docs/make.py --comparison FOLDER ...`."""

from __future__ import annotations

from pages.comparison import ComparisonPage, Part

INTRODUCTION = """\
# Encodings over axes, measured

<!-- `python docs/make.py --comparison` makes this page from comparisons. Do not edit it by hand. -->

[Pictures](guides/pictures.md) and [sound and video](guides/sound-and-video.md) have the commands and what each encoding
reads."""

PARTS = {
    "resolution": Part(
        "Larger and smaller pictures",
        """\
Encoders of six layers of width 192 learn ten classes of clothes (Fashion-MNIST, one rate, 1,500 steps) at a side of 28
pixels, 7 x 7 patches, and are tested from 16 to 128 pixels, 4.57 times the side. `rotary_axial` has a base of 100,
`_10` and `_10000` the base in their name. All sides are resized from 28 pixels: who scales a picture back to that side
has about the accuracy of `1x`, above that of any encoding at a larger side. `learned_raster` reads the order in storage
alone. `rotary_centred` has places that are shares of the picture, and `_augmented` varies them in training as DINOv3
does.""",
        "large models, photographs, fine-tuning at the new side, and pictures that are not square",
        ("accuracy@2x", "accuracy@128", "accuracy@1x", "accuracy@16"),
        ("curves_*", "differences_*"),
    ),
    "captions": Part(
        "Captions of pictures",
        """\
Decoders of six layers of width 192 read the patches of a stamp and write its caption, at sides of 32, 64 and 128
pixels. The test has few captions, so take the loss before the accuracy.""",
        "pretrained vision towers, several pictures in a text, and more steps than 300",
        ("loss@1x", "loss@2x", "accuracy@1x", "chrf@1x"),
        ("curves_*_loss", "differences_*_loss*"),
    ),
    "spoken_language": Part(
        "Longer sounds",
        """\
Encoders of width 64 hear 0.4 seconds of speech and name its language, and are tested at up to four times that.
Recordings of one language come from few speakers, so that speaker and microphone count too.""",
        "recognition of words, longer training, and many speakers",
        ("accuracy@1x", "accuracy@2x", "accuracy@4x"),
        ("curves_*_accuracy", "differences_*"),
    ),
}

PAGE = ComparisonPage("axes", INTRODUCTION, PARTS)
