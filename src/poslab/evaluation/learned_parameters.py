"""Learned numbers of an encoding and a temperature, next to their initial values.

Dimension letters: N vectors of a table, D their dim.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from poslab.encodings import StackEncodings
from poslab.encodings.shape import Described
from poslab.evaluation.learned_bias import served
from poslab.report.figures import WIDTH, Plot, Table, new_figure

MAX_ELEMENTS = 64
"""Largest number of elements of a parameter that a report lists."""


def learned_parameters(
    encodings: StackEncodings, start: StackEncodings | None = None, most: int = MAX_ELEMENTS
) -> pd.DataFrame:
    """Return the learned numbers of a stack's encodings, temperatures (their `learned()`) and sinks, one in each row.

    Args:
        encodings: of a model, `model.encodings`.
        start: the same encodings before training, for the column `start`; None leaves it out.
        most: parameters of more elements are left out.

    Returns:
        Columns `layers`, `parameter`, `index` (`head 0` if each head has one number, else its position, which is empty
        for a parameter of one number), `learned` and perhaps `start`.

    Raises:
        ValueError: for another number of layers at the start.
    """
    columns = ["layers", "parameter", "index", "learned", *([] if start is None else ["start"])]
    pairs: list[tuple[str, Described, Described | None]] = list(served(encodings, start))
    for layer in range(len(encodings.windows)):
        if (temperature := encodings.temperature(layer)) is not None:
            pairs.append((f"layer {layer}", temperature, None if start is None else start.temperature(layer)))
    learned = [(layers, part.learned(), {} if before is None else before.learned()) for layers, part, before in pairs]
    for layer in map(int, encodings.sinks):
        at_start = None if start is None else start.sinks_of(layer)
        before = {} if at_start is None else {"sink": at_start}
        learned.append((f"layer {layer}", {"sink": encodings.sinks[str(layer)]}, before))
    records = []
    for layers, named, initial in learned:
        for name, values in named.items():
            if values.numel() > most:
                continue
            # Biases of a network inside of an encoding may have as many numbers as there are heads.
            by_head = values.shape == (encodings.shape.num_heads,) and not name.endswith(".bias")
            for index, value in np.ndenumerate(_numbers(values)):
                position = f"{'head ' * by_head}{', '.join(map(str, index))}" if values.numel() > 1 else ""
                record = {"layers": layers, "parameter": name, "index": position, "learned": value}
                if name in initial:
                    record["start"] = _numbers(initial[name])[index]
                records.append(record)
    return pd.DataFrame(records, columns=columns)


def parameters_table(parameters: pd.DataFrame) -> Table:
    """Return the table of what `learned_parameters` returns."""
    return Table(
        name="learned_parameters",
        title="Learned parameters",
        caption="Each row is one number of the encoding after training, next to its initial value where that is known. "
        "Index is its head, if each head has one number, else its position in a parameter of several numbers.",
        frame=parameters,
    )


def table_norms(encodings: StackEncodings, start: StackEncodings | None = None) -> pd.DataFrame:
    """Return the norm of each learned vector of a distance or a count (the encodings' `vectors()`).

    The arguments are those of `learned_parameters`.

    Returns:
        Columns `layers`, `table` (its name, and the head if each has its own), `index` (the distance or count), `norm`
        and perhaps `start`; no rows if no encoding has such vectors.
    """
    columns = ["layers", "table", "index", "norm", *([] if start is None else ["start"])]
    frames = [pd.DataFrame(columns=columns)]
    for layers, encoding, before in served(encodings, start):
        initial = {} if before is None else before.vectors()
        for name, (rows, first) in encoding.vectors().items():
            frame = pd.DataFrame({"index": range(first, first + len(rows)), "norm": _norms(rows)})
            if name in initial:
                frame["start"] = _norms(initial[name].rows)
            frames.append(frame.assign(layers=layers, table=name)[columns])
    return pd.concat(frames[1:] or frames, ignore_index=True)


def norms_plot(norms: pd.DataFrame) -> Plot:
    """Draw `table_norms`, of at least one row, as a map of layers and heads against indices for each kind of table."""
    maps = {}
    for kind, rows in norms.groupby(norms["table"].str.split(",").str[0], sort=False):
        names = rows["layers"] + rows["table"].str.removeprefix(str(kind))
        table = rows.assign(row=names).pivot(index="row", columns="index", values="norm")
        maps[str(kind)] = table.loc[list(names.unique())]  # in the order of layers, which pivot sorts
    heights = [0.9 + 0.2 * len(table) for table in maps.values()]
    figure = new_figure(WIDTH, sum(heights))
    panels = figure.subplots(len(maps), 1, squeeze=False, height_ratios=heights)
    for panel, (kind, table) in zip(panels.flat, maps.items(), strict=True):
        first, last = int(table.columns[0]), int(table.columns[-1])
        extent = (first - 0.5, last + 0.5, len(table) - 0.5, -0.5)
        image = panel.imshow(table, cmap="Blues", vmin=0, aspect="auto", interpolation="nearest", extent=extent)
        panel.set_yticks(range(len(table)), list(table.index), fontsize="small")
        panel.set_title(kind, fontsize="medium")
        figure.colorbar(image, ax=panel)
    panels.flat[-1].set_xlabel("index in the table")
    return Plot(
        name="table_norms",
        title="Lengths of the learned vectors",
        caption="Each row is a table of vectors, darker where a vector is longer. Indices as pale as the rest matter "
        "little, and those that never occurred in training have kept their initial length.",
        figure=figure,
    )


def _norms(rows_ND: Tensor) -> np.ndarray:
    return _numbers(torch.linalg.vector_norm(rows_ND.detach().float(), dim=-1))


def _numbers(x: Tensor) -> np.ndarray:
    numbers: np.ndarray = x.detach().float().cpu().numpy()
    return numbers
