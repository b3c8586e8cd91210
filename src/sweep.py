"""Tune an encoding, and whatever else a run has: `python -m src.sweep sweep=rotary_base`."""

from poslab.cli.sweep import run

if __name__ == "__main__":
    run()
