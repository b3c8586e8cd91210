"""Tasks that need a bounded tape, on which a machine goes back and forth."""

from poslab.data.algorithmic.context_sensitive.binary_addition import BinaryAddition
from poslab.data.algorithmic.context_sensitive.binary_multiplication import BinaryMultiplication
from poslab.data.algorithmic.context_sensitive.bucket_sort import BucketSort
from poslab.data.algorithmic.context_sensitive.compute_sqrt import ComputeSqrt
from poslab.data.algorithmic.context_sensitive.duplicate_string import DuplicateString
from poslab.data.algorithmic.context_sensitive.missing_duplicate import MissingDuplicate
from poslab.data.algorithmic.context_sensitive.odds_first import OddsFirst

__all__ = [
    "BinaryAddition",
    "BinaryMultiplication",
    "BucketSort",
    "ComputeSqrt",
    "DuplicateString",
    "MissingDuplicate",
    "OddsFirst",
]
