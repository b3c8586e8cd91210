"""Text for language modelling: its sources, its tokens, and the batches of a run.

A corpus (`python_docs.py`, `text_files.py`, `hub_text.py`) is a source of text and its settings, and imports neither
torch nor Lightning; `datamodule.TextDataModule` makes its batches:

    TextDataModule(TextFiles(files="books/*.txt"))

A new source is a subclass of `corpus.Corpus` and a file in conf/dataset that names it as its `_target_`.
"""
