"""Look up what is known of a case: `python -m src.advise size=300M context=8192 data=code`."""

from poslab.cli.advise import run

if __name__ == "__main__":
    run()
