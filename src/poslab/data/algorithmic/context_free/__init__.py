"""Tasks that a pushdown automaton solves: the first symbols are needed last, as on a stack."""

from poslab.data.algorithmic.context_free.modular_arithmetic_brackets import ModularArithmeticBrackets
from poslab.data.algorithmic.context_free.reverse_string import ReverseString
from poslab.data.algorithmic.context_free.solve_equation import SolveEquation
from poslab.data.algorithmic.context_free.stack_manipulation import StackManipulation

__all__ = ["ModularArithmeticBrackets", "ReverseString", "SolveEquation", "StackManipulation"]
