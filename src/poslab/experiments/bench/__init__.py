"""Benchmarks of language models under several encodings: the same items for all, with paired statistics."""
