"""Measure on a GPU what docs/performance.md shows of it: `python benchmarks/gpu.py`.

Steps of whole decoders, attention layers, peak memory and compiled steps, at sizes of a GPU; otherwise as
`python benchmarks/run.py`, whose options it has. `--device cpu --tiny` shows that it runs. Where time is limited,
`--minutes 9` begins nothing after nine minutes, and the next call continues.
"""

from __future__ import annotations

import sys

from plan import GPU
from run import main

PARTS = ("decoders", "compiled", "encodings", "layers")

if __name__ == "__main__":
    sys.exit(main(GPU, PARTS, __doc__))
