"""Make the parts of this folder that are made of code and measurements: `python docs/make.py`, or only those named.

The list and the plots of encodings are made from the code, performance.md is made of the measurements in benchmarks,
and tables in the pages on results of the tables in results/. explorer.html is made of the files of poslab.explorer; its
numbers come from the runs that `--explorer` names. `--text` leaves the plots as they are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pages import classes, encodings, explorer, performance, results

PAGES = {
    "classes": classes.make,
    "encodings": encodings.make,
    "explorer": explorer.make,
    "performance": performance.make,
    "results": results.make,
}


def main() -> None:
    """Make the pages."""
    parser = argparse.ArgumentParser(description="Makes the pages of docs that are not written by hand.")
    parser.add_argument("pages", nargs="*", metavar="page", help=f"of {', '.join(PAGES)}; default: all")
    parser.add_argument("--text", action="store_true", help="only the pages, without drawing")
    parser.add_argument(
        "--explorer", type=Path, nargs=2, metavar=("T5_RUN", "FIRE_RUN"), help="only explorer.html and its numbers"
    )
    arguments = parser.parse_args()
    if arguments.explorer:
        explorer.make_data(*arguments.explorer)
        return
    if unknown := [page for page in arguments.pages if page not in PAGES]:
        parser.error(f"page must be one of {', '.join(PAGES)}, got {unknown[0]}")
    for page in arguments.pages or PAGES:
        PAGES[page](draws=not arguments.text)


if __name__ == "__main__":
    main()
