"""Sentence vectors of encoders, and what can be read from frozen vectors."""
