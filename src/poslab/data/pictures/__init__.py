"""Data whose examples are pictures, of which a model reads patches.

All sources are subclasses of `source.PictureSource`. A new source is a file here and one in conf/dataset that names it
as its `_target_`.
"""
