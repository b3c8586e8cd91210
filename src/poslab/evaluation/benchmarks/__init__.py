"""Benchmarks of lm-evaluation-harness under any encoding, item by item."""
