"""Tasks that a finite automaton solves: a fixed number of states is enough for inputs of any length."""
