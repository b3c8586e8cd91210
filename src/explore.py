"""Open the page with plots of two encodings that follow their hyperparameters: `python -m src.explore`."""

from poslab.cli.explore import run

if __name__ == "__main__":
    run()
