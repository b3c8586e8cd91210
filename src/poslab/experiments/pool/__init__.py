"""Worker processes that train many runs, for sweeps and other sets of runs."""
