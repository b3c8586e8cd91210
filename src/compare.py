"""Compare encodings, on cases and seeds, with intervals: `python -m src.compare comparison=encoding_choice`."""

from poslab.cli.compare import run

if __name__ == "__main__":
    run()
