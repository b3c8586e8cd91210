"""Data whose units are examples: a text and its class, a text and its translation, a question and its answer.

A user's own files and data sets of the Hugging Face Hub are read in one way (`tables.py`), and a kind has a file with
both. A new kind of table is a subclass of `tables.TableExamples` and a file in conf/dataset that names it as its
`_target_`.
"""
