"""Evaluate trained runs: `python -m src.evaluate run=outputs/RUN`, or an encoding without a run."""

from poslab.cli.evaluate import run

if __name__ == "__main__":
    run()
