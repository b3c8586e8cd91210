"""Steps: how the gradient of an optimizer step is made of a batch. The file of a choice says more."""

from poslab.steps.step import Gradients, RunInfo, Standard, Step

__all__ = ["Gradients", "RunInfo", "Standard", "Step"]
