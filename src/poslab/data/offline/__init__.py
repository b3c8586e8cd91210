"""Sources of examples that packages, programs and manual pages carry: real data without a network."""
