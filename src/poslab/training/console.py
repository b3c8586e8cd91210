"""What a person sees of a run: a live bar, a line for each validation, and a table at the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from rich import box
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from poslab.run_directory import RunDirectory
from poslab.training.learner import Learner

LOG_WIDTH = 100
AS_IT_IS: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}


class RunConsole:
    """Prints to the terminal and to the run's log.

    Args:
        log_file: the log, which is appended to; None keeps none.
        silent: prints nothing, in all processes of a run but the first.
    """

    def __init__(self, log_file: Path | None = None, silent: bool = False) -> None:
        self.terminal = Console(quiet=silent, **AS_IT_IS)
        self._log_file = None if silent else log_file

    def print(self, content: RenderableType) -> None:
        """Prints a line or a table."""
        soft_wrap = isinstance(content, str | Text)
        self.terminal.print(content, soft_wrap=soft_wrap)
        if self._log_file is not None:
            with self._log_file.open("a") as file:
                log = Console(file=file, force_terminal=False, width=LOG_WIDTH, **AS_IT_IS)
                log.print(content, soft_wrap=soft_wrap)


class ConsoleProgress(L.Callback):
    """A live bar with loss, bits per byte and tokens per second, and a line for each validation.

    Args:
        console: where they go. What is not a terminal gets the lines alone.
    """

    def __init__(self, console: RunConsole) -> None:
        self.console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console.terminal,
            transient=True,
            disable=not console.terminal.is_terminal,
            expand=True,
        )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        self._header(pl_module.lengths)
        if not trainer.is_global_zero:
            return
        self._bar.start()
        self._task = self._bar.add_task("train", total=trainer.max_steps, completed=trainer.global_step, figures="")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Learner)
        if not trainer.is_global_zero:
            return
        figures = pl_module.figures
        shown = ""
        if "train/loss" in figures:
            shown = (
                f"loss {figures['train/loss']:.3f}  {figures['train/bits_per_byte']:.3f} bits/byte  "
                f"{pl_module.tokens_per_second:,.0f} tokens/s"
            )
        self._bar.update(self._task, completed=trainer.global_step, figures=shown, description="train")

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero and trainer.state.fn == "fit":
            self._bar.update(self._task, description="validate")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        if trainer.is_global_zero and trainer.state.fn == "fit":
            figures = pl_module.figures
            cells = [f"{figures[f'validation/bits_per_byte@{length}']:9.4f}" for length in pl_module.lengths]
            # A run that has just resumed may not have recorded a training step yet.
            train = f"{figures['train/bits_per_byte']:.4f}" if "train/bits_per_byte" in figures else "–"
            self.console.print(f"{trainer.global_step:>8}{train:>10}  " + "".join(cells))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._bar.stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._bar.stop()

    def _header(self, lengths: list[int]) -> None:
        self.console.print("bits per byte, by length of the window in tokens:")
        self.console.print(f"{'step':>8}{'train':>10}  " + "".join(f"{length:>9}" for length in lengths))


def test_table(metrics: Mapping[str, float], lengths: list[int], step: int) -> Table:
    """The test figures of a run, one row a length; a dash where the encoding ends.

    Args:
        metrics: the final figures by tag.
        lengths: all window lengths (tokens) that were asked for, the training length first.
        step: the step of the checkpoint that was tested.
    """
    table = Table(box=box.SIMPLE_HEAD, title=f"test, best checkpoint (step {step:,})", title_justify="left")
    for name in ("length", "", "loss", "perplexity", "bits per byte"):
        table.add_column(name, justify="right")
    for length in lengths:
        figures = [
            f"{metrics[tag]:.4f}" if (tag := f"test/{name}@{length}") in metrics else "–"
            for name in ("loss", "perplexity", "bits_per_byte")
        ]
        table.add_row(f"{length:,}", f"{length // lengths[0]}x", *figures)
    return table


def closing_facts(run: RunDirectory, metrics: Mapping[str, float]) -> Table:
    """What a run has taken and where it is, from its final figures."""
    seconds = round(metrics["train/seconds"])
    return facts_table(
        {
            "parameters": f"{metrics['parameters']:,}",
            "training": f"{metrics['steps']:,} steps in {seconds // 60}:{seconds % 60:02}, "
            f"{metrics['train/tokens_per_second']:,.0f} tokens/s",
            "peak memory": f"{metrics['memory/peak_mb']:,.0f} MB",
            "written to": str(run.path),
        }
    )


def next_commands(run: RunDirectory, config: Mapping[str, Any]) -> list[str]:
    """What one may want to type next, each on a line of its own, so that it can be copied from any terminal."""
    other = "alibi" if "alibi" not in config["encoding"]["_target_"] else "rotary"
    return [
        "next (with the other choices of this run, where it had any):",
        f"  look        tensorboard --logdir {run.path.parent}",
        f"  evaluate    python -m src.evaluate run={run.path}",
        f'  write       python -m src.generate run={run.path} prompt="The "',
        f"  compare     python -m src.train encoding={other}",
        f"  train on    python -m src.train init_from={run.path}",
        "  if stopped  python -m src.train resume=auto",
    ]


def facts_table(rows: Mapping[str, str]) -> Table:
    """Facts under one another, names on the left."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    return table
