"""What comes from files is bounded and checked; what goes to files and terminals is whole and harmless."""
