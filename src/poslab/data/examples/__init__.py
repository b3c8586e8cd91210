"""Data whose units are examples: a text and its class, a text and what it becomes, a question and its answer.

`source.ExampleSource` is what all have in common. There are sources of a user's own files (`classification_file.py`,
`pairs_file.py`, `answers_file.py`), of the Hugging Face Hub (`hub_*.py`), and of real data that Python and Debian
packages carry. `splitting.split_examples` makes training, validation and test of one:

    split_examples(ClassificationFile(files="reviews.csv", text="review", label="stars"))

A new source is a subclass of `ExampleSource` and a file in conf/dataset that names it as its `_target_`.
"""
