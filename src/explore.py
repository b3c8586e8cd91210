"""Open the page in which a person turns the knobs of two encodings: `python -m src.explore`."""

from poslab.cli.explore import run

if __name__ == "__main__":
    run()
