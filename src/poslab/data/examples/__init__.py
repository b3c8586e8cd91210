"""Data whose units are examples: a text and its class, a text and its translation, a question and its answer.

All sources are subclasses of `source.ExampleSource`. A user's own files and data sets of the Hugging Face Hub are read
in one way (`tables.py`), and a kind has a file with both (`classification.py`, `pairs.py`, `answers.py`); `packages.py`
reads installed packages. `RowSource.split_examples` makes training, validation and test of any of them:

    split_examples(ClassificationFile(files="reviews.csv", text="review", label="stars"))

A new kind of table is a subclass of `tables.TableExamples` and a file in conf/dataset that names it as its `_target_`.
"""
