"""The data of a run: its kinds, its sources, its tokens, and its batches.

A corpus (`python_docs.py`, `text_files.py`, `packages.py`, `hub_text.py`) is a source of text and its settings, and
imports neither torch nor Lightning; `run_data.RunData` makes the batches of any source:

    RunData(TextFiles(files="books/*.txt"))

A new source of text is a subclass of `corpus.Corpus` and a file in conf/dataset that names it as its `_target_`.
Examples (`examples/`), algorithmic tasks (`algorithmic/`), and images, sounds and videos (`patched/`) have base classes
of their own. A source opens its own splits, which are in its file.
"""
