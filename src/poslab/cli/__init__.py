"""The commands, which `poslab NAME` runs, and in a checkout `python -m src.NAME`."""

import os

# Read by OpenMP when torch loads it. Its threads spin while they wait for one another, so that next to other programs
# a small step takes ten times as long. Workers inherit the variable; the library does not set it for its importers.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "1000"
