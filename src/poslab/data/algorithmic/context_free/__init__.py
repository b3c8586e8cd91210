"""Tasks that a pushdown automaton solves: the first symbols are needed last, as on a stack."""
