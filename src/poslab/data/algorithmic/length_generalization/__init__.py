"""The ten tasks of Kazemnejad et al., and their variants.

Source: "The Impact of Positional Encoding on Length Generalization in Transformers" (NeurIPS 2023).
"""

from poslab.data.algorithmic.length_generalization.addition import Addition
from poslab.data.algorithmic.length_generalization.copy import (
    Copy,
    CopyOneWord,
    CopyOneWordTwice,
    CopyTwice,
    ReplaceWord,
)
from poslab.data.algorithmic.length_generalization.lego import Lego
from poslab.data.algorithmic.length_generalization.parity import Parity
from poslab.data.algorithmic.length_generalization.pcfg import Pcfg
from poslab.data.algorithmic.length_generalization.polynomial_evaluation import PolynomialEvaluation
from poslab.data.algorithmic.length_generalization.reverse import Reverse, ReverseThenCopy, ReverseTwice
from poslab.data.algorithmic.length_generalization.scan import Scan
from poslab.data.algorithmic.length_generalization.sorting import Sorting, SortingNumbers
from poslab.data.algorithmic.length_generalization.summation import Summation

__all__ = [
    "Addition",
    "Copy",
    "CopyOneWord",
    "CopyOneWordTwice",
    "CopyTwice",
    "Lego",
    "Parity",
    "Pcfg",
    "PolynomialEvaluation",
    "ReplaceWord",
    "Reverse",
    "ReverseThenCopy",
    "ReverseTwice",
    "Scan",
    "Sorting",
    "SortingNumbers",
    "Summation",
]
