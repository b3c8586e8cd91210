"""What a model of Hugging Face or llama.cpp does with positions, read from its configuration without its weights."""

from poslab.pretrained.inspection.report import Inspection, inspect_positions

__all__ = ["Inspection", "inspect_positions"]
