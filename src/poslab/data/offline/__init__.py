"""Sources of examples in packages, programs and manual pages: real data without a network."""
