"""The data of a run: its kinds, its sources, its tokens, and its batches, which `RunData` makes of any source.

A new source of text is a subclass of `corpus.Corpus` and a file in conf/dataset that names it as its `_target_`.
Examples (`examples/`), algorithmic tasks (`algorithmic/`), and images, sounds and videos (`patched/`) have their own
base classes.
"""
