"""Positions of a model of Hugging Face or llama.cpp, read from its configuration without its weights."""

from poslab.pretrained.inspection.report import Inspection, inspect_positions

__all__ = ["Inspection", "inspect_positions"]
