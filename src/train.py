"""Train a model under a positional encoding: `python -m src.train encoding=rotary`."""

from poslab.cli.train import run

if __name__ == "__main__":
    run()
