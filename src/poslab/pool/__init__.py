"""Worker processes that train many runs: what sweeps, and whatever else has many runs, share."""
