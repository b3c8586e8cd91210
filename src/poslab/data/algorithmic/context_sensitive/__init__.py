"""Tasks that need a bounded tape, on which a machine goes back and forth."""
