"""Tasks: what a model learns to do, and how well it does it."""

from poslab.tasks.answering import Answering
from poslab.tasks.classification import Classification, MultiLabelClassification
from poslab.tasks.language_modelling import LanguageModelling
from poslab.tasks.sequence_to_sequence import SequenceToSequence
from poslab.tasks.task import Measurement, Observation, Sums, Task

__all__ = [
    "Answering",
    "Classification",
    "LanguageModelling",
    "Measurement",
    "MultiLabelClassification",
    "Observation",
    "SequenceToSequence",
    "Sums",
    "Task",
]
