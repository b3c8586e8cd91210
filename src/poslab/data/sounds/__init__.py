"""Data whose examples are sounds, of which a model reads patches of a log-mel spectrogram.

All sources are subclasses of `source.SoundSource`. A new source is a file here and one in conf/dataset that names it
as its `_target_`.
"""
