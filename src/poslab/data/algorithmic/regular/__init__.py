"""Tasks that a finite automaton solves: a fixed number of states is enough for inputs of any length."""

from poslab.data.algorithmic.regular.cycle_navigation import CycleNavigation
from poslab.data.algorithmic.regular.even_pairs import EvenPairs
from poslab.data.algorithmic.regular.modular_arithmetic import ModularArithmetic
from poslab.data.algorithmic.regular.parity_check import ParityCheck

__all__ = ["CycleNavigation", "EvenPairs", "ModularArithmetic", "ParityCheck"]
