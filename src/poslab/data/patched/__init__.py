"""Data whose examples are arrays that are cut into patches: images, sounds and videos.

All sources are subclasses of `source.PatchedSource`.
"""
