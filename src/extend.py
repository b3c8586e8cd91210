"""A longer context for a model with RoPE: `python -m src.extend model.path=DIR to=32768 text='[notes/*.txt]'`."""

from poslab.cli.extend import run

if __name__ == "__main__":
    run()
