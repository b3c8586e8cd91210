import sys
from pathlib import Path

# As for `python benchmarks/attention.py`: a script finds what lies beside it.
sys.path += [str(Path(__file__).parents[2] / folder) for folder in ("benchmarks", "docs")]
