"""Show what a model does with positions: `python -m src.inspect_positions DIR context=131072`."""

from poslab.cli.inspect import run

if __name__ == "__main__":
    run()
