"""Benchmarks of the field for runs and pretrained models: `python -m src.bench run=outputs/RUN tasks=[ruler]`."""

from poslab.cli.bench import run

if __name__ == "__main__":
    run()
