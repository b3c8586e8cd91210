"""Opens the page with plots of two encodings that follow their hyperparameters: `python -m src.explore`."""

from __future__ import annotations

import webbrowser
from pathlib import Path

from poslab.cli.help import usage
from poslab.cli.hydra_command import HELP, without_hydra
from poslab.configuration.command_line import poslab_command


def main(arguments: list[str]) -> None:
    """Write the page, say where it is, and open it if there is a browser."""
    if HELP & set(arguments):
        what = "writes a page with plots of two encodings that follow their hyperparameters, and opens it"
        lines = [*usage("explore", "[to=FILE]", what), "", "Keys (key=value):"]
        print("\n".join([*lines, "  to  HTML file to write (default: outputs/explorer.html)"]))
        return
    to = "outputs/explorer.html"
    for argument in arguments:
        key, _, to = argument.partition("=")
        if key != "to" or not to:
            raise ValueError(f"{argument!r} is not understood: {poslab_command('explore')} takes to=FILE")
    path = Path(to)
    from poslab.explorer import write_explorer

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_explorer(path, poslab_command("train"))
    except OSError as error:
        raise ValueError(f"to={to} cannot be written: {error.strerror}") from error
    print(f"written: {path}")
    webbrowser.open(path.absolute().as_uri())


run = without_hydra(main)
