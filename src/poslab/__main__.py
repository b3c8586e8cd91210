"""Run the command `poslab` where the shell does not find it: `python -m poslab train encoding=rotary`."""

from poslab.cli.entry_point import main

if __name__ == "__main__":
    main("python -m poslab")
