"""Compares encodings: `python -m src.compare comparison=encoding_choice`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from poslab.cli import hydra_command
from poslab.cli.argv import with_config_dir
from poslab.cli.help import questions_help, usage
from poslab.cli.hydra_command import clear_distributed_env, named_runs, own_keys_and_overrides, run_question
from poslab.configuration.build import package_names
from poslab.configuration.command_line import COMPARISONS, CONF, RESULTS, key_of, poslab_command
from poslab.experiments.storage_url import without_password
from poslab.io.terminal import HarmlessConsole
from poslab.report.text import amount

OWN_KEYS = {
    "comparison": "one of the comparisons below, or the path of a file like them",
    "runs": "runs that exist, instead of a comparison: runs=[outputs/a,outputs/b] or runs=outputs/2026*",
    "lengths": "with runs: lengths of the test, such as [256,1024] or [0.5x,1x,4x]",
    "metrics": "with runs: what decides, as in {bits_per_byte@4x:{direction:minimize}}",
    "preset": "a variant that the file has, such as small",
    "seeds": "how many, or a list of them; more later train only what is missing",
    "encodings": "a list of names: encodings and variants of the file, or choices of conf/encoding",
    "sizes": "a list of the file's sizes, to which it is restricted; the others later train only what is missing",
    "baseline": "the encoding to which the others are compared",
    "budget": "{steps: 8000} or {tokens: 1000000} of every run",
    "workers": "processes on this machine, each with its share of cores or GPUs (default: 1)",
    "dry_run": "true prints the runs, which of them exist, and the time to go, and trains nothing",
    "pilot": "with dry_run: a folder whose deviation of seeds says how many you need (default: results/NAME if there)",
    "report_only": "true writes the results of the runs that are finished, and trains nothing",
    "recommend": "true prints which encoding to take, under the next three keys",
    "length": "with recommend: the longest text or example that you need",
    "memory": "with recommend: memory limit in MB: of training, or with length of inference at it",
    "speed": "with recommend: least tokens per second: of training, or with length of inference at it",
    "figure.width": "width in inches of plots as PDF, such as 3.25 for a paper's column",
    "storage": "the URL of a database, for machines that share no folder (default: files in output)",
    "output": "directory of the comparison (default: outputs/comparisons/NAME)",
    "name": "of the comparison, in a storage that several share (default: the file's, and the preset)",
    "lost_after": "seconds of silence after which another machine's run is lost (default: 60)",
    "trust": "packages besides Poslab that may be named, and whose code is then run: trust=my_package",
}
"""Keys of the command line that speak of the comparison; all others are choices of every run."""


def main(arguments: list[str]) -> None:
    """Sort the arguments, and run the comparison."""
    if hydra_command.HELP & set(arguments):
        from poslab.experiments.comparison_file import comparison_files

        what = "trains encodings under several seeds, and compares them"
        first = usage("compare", "comparison=NAME [KEY=VALUE ...]", what)
        print(questions_help(first, "run", OWN_KEYS, comparison_files(COMPARISONS)))
        return
    compares_runs = any(word.startswith("runs=") for word in arguments)  # which have their choices already
    words = arguments if compares_runs else with_config_dir(arguments)
    given, overrides = own_keys_and_overrides(words, "comparison", OWN_KEYS)
    clear_distributed_env()
    ways = {name: given.pop(name, False) for name in ("dry_run", "report_only")}
    for name, value in (*ways.items(), ("recommend", recommends := given.pop("recommend", False))):
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false, got {value!r}")
    pilot = given.pop("pilot", None)
    if pilot is not None and not ways["dry_run"]:
        raise ValueError("pilot belongs to dry_run=true, which is not given")
    width = given.pop("figure.width", None)
    hydra_command.check_figure_width(width)
    needs: dict[str, Any] = {name: given.pop(name) for name in ("length", "memory", "speed") if name in given}
    if needs and not recommends:
        raise ValueError(f"{next(iter(needs))} belongs to recommend=true, which is not given")
    published = without_password(poslab_command("compare", *arguments)), needs if recommends else None, width
    folder, console = Path(str(given.get("output", ""))), HarmlessConsole()
    if ways["report_only"] and (folder / "runs.parquet").is_file() and not (folder / "runs").exists():
        of_tables = ("comparison", "preset", "output", "baseline")
        if wrong := [*(key for key in given if key not in of_tables), *overrides]:
            raise ValueError(f"{wrong[0]} does not go with the tables in {folder}, which are reported as they are")
        hydra_command.print_loading_notice()
        with hydra_command.quick_imports():
            from poslab.experiments.command import Publication, report_tables

        report_tables(folder, Publication(*published), given.get("baseline"))
        return
    if "runs" in given:
        allowed = ("runs", "lengths", "metrics", "baseline", "output", "trust")
        if wrong := [*(key for key in given if key not in allowed), *overrides, *filter(ways.get, ways)]:
            raise ValueError(f"{wrong[0]} does not go with runs, which are compared as they are")
        runs = named_runs(given.pop("runs"))
        console.print(f"comparing {amount(len(runs), 'run')}")
        hydra_command.print_loading_notice()
        with hydra_command.quick_imports():
            from poslab.experiments.command import Publication, compare_runs

        given |= {"trust": package_names(given["trust"])} if "trust" in given else {}
        compare_runs(runs, given, CONF, Publication(*published))
        return
    from poslab.experiments.comparison_file import KEYS, comparison_files, read_comparison

    of_files = {*KEYS} - OWN_KEYS.keys()
    if key := next((key for key in map(key_of, overrides) if key.partition(".")[0] in of_files), None):
        raise ValueError(f"{key} can only be set in the file: change it in a copy, and name it, comparison=mine.yaml")
    comparison = read_comparison(COMPARISONS, given, overrides)
    console.print(f"{comparison.name}: {comparison.question}")
    files = comparison_files(COMPARISONS)
    path = files.path(given["comparison"])
    published_tables = RESULTS / path.stem
    is_published = path.is_relative_to(COMPARISONS) and (published_tables / "runs.parquet").is_file()
    if ways["dry_run"] and pilot is None and is_published:
        pilot = str(published_tables)
    of_file = files.read(path, given.get("preset"))["cases"]
    kept = {*comparison.cases, *(node.case for node in comparison.all_cases.values())}
    if left_out := [case for case in of_file if case not in kept]:
        console.print(f"left out, for their model is not model.path: {', '.join(left_out)}")
    hydra_command.print_loading_notice()

    with hydra_command.quick_imports():
        from poslab.experiments.command import Publication, run_comparison

    publication = Publication(*published)
    run_question(comparison, lambda: run_comparison(comparison, CONF, publication, **ways, pilot=pilot), OWN_KEYS)


run = hydra_command.without_hydra(main)
