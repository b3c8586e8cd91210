"""Optimizers: how weights are updated, and the learning rate over a run."""

from poslab.runs.optimizers.adamw import AdamW
from poslab.runs.optimizers.lion import Lion
from poslab.runs.optimizers.muon import Muon
from poslab.runs.optimizers.optimizer import OptimizerSettings, parameter_groups
from poslab.runs.optimizers.schedule import Schedule

__all__ = ["AdamW", "Lion", "Muon", "OptimizerSettings", "Schedule", "parameter_groups"]
