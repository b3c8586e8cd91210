"""Data whose units are examples: a text and its class, a text and its translation, a question and its answer.

All sources are subclasses of `source.ExampleSource`: a user's own files (`classification_file.py`, `pairs_file.py`,
`answers_file.py`), the Hugging Face Hub (`hub_*.py`), and real data in Python and Debian packages (`offline/`).
`splitting.split_examples` makes training, validation and test of one:

    split_examples(ClassificationFile(files="reviews.csv", text="review", label="stars"))

A new source is a subclass of `ExampleSource` and a file in conf/dataset that names it as its `_target_`.
"""
