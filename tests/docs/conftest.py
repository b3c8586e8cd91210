import sys
from pathlib import Path

# As for `python docs/make.py`: a script finds what lies beside it.
sys.path.append(str(Path(__file__).parents[2] / "docs"))
