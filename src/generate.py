"""Continue a text, or answer it: `python -m src.generate run=outputs/RUN prompt="A list is"`."""

from poslab.cli.generate import run

if __name__ == "__main__":
    run()
