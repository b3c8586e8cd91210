"""Text messages, spam or not."""

import csv
import re

from poslab.data.examples.columns import Splits, as_examples
from poslab.data.kinds.classes import CLASSES
from poslab.data.offline.packaged import NlpiaFile

# Where a message begins with a quotation mark, the file of the package runs on to the next such mark: a few rows hold
# 737 more messages, each on a line of its own behind its class.
SWALLOWED = re.compile(r"\n(ham|spam)\t")


class SmsSpam(NlpiaFile):
    """Text messages, `spam` or `ham`: 5,574, of which 5,160 are different and one in eight of those spam.

    Messages of one template, with other numbers in it, stay in one split.

    Source: Almeida, Gómez Hidalgo, Yamakami, "Contributions to the Study of SMS Spam Filtering" (DocEng 2011).
    """

    split_version = 2
    title = "sms_spam"
    file = "sms-spam.csv"
    kind = CLASSES

    def examples(self) -> Splits:
        texts, labels = [], []
        with self.paths[0].open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                first, *swallowed = SWALLOWED.split(row["text"])
                texts += [text.strip() for text in (first, *swallowed[1::2])]
                labels += ["spam" if int(row["spam"]) else "ham", *swallowed[0::2]]
        return {"train": as_examples(text=texts, label=labels)}
