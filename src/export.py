"""Write a trained run as a directory of Hugging Face's: `python -m src.export run=outputs/RUN to=DIR`."""

from poslab.cli.export import run

if __name__ == "__main__":
    run()
