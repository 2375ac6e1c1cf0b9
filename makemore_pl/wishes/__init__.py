"""Wishes about names as finite automata, and a network's names that an automaton accepts. NumPy alone."""
