"""The numbers that an encoding and a temperature have learned, beside where they started."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from poslab.encodings import StackEncodings
from poslab.encodings.described import Described
from poslab.evaluation.attention_pictures import hide_rest
from poslab.evaluation.learned_curves import served
from poslab.report.figures import Picture, Table, new_figure

MOST = 64
"""Numbers of a parameter that a report still shows one by one."""


def learned_parameters(
    encodings: StackEncodings, start: StackEncodings | None = None, most: int = MOST
) -> pd.DataFrame:
    """Return what a stack's encodings and temperatures have learned (their `learned()`), a row for each number.

    Args:
        encodings: of a model, `model.encodings`.
        start: the same encodings before training, for the column `start`; None leaves it out.
        most: what has more numbers than these is left out.

    Returns:
        Columns `layers`, `parameter`, `place` (its index, which for numbers of one dimension is mostly the head),
        `learned` and perhaps `start`.

    Raises:
        ValueError: for another number of layers at the start.
    """
    columns = ["layers", "parameter", "place", "learned", *([] if start is None else ["start"])]
    pairs: list[tuple[str, Described, Described | None]] = list(served(encodings, start))
    for layer in range(len(encodings.windows)):
        temperature = encodings.temperature(layer)
        if temperature is not None:
            pairs.append((f"layer {layer}", temperature, None if start is None else start.temperature(layer)))
    records = []
    for layers, module, before in pairs:
        of_start = {} if before is None else before.learned()
        for name, values in module.learned().items():
            if values.numel() > most:
                continue
            for place, value in np.ndenumerate(_numbers(values)):
                record = {"layers": layers, "parameter": name, "place": ", ".join(map(str, place)), "learned": value}
                if name in of_start:
                    record["start"] = _numbers(of_start[name])[place]
                records.append(record)
    return pd.DataFrame(records, columns=columns)


def parameters_table(parameters: pd.DataFrame) -> Table:
    """What `learned_parameters` gives, as a table."""
    return Table(
        name="learned_parameters",
        title="Learned parameters",
        caption="Each row is one number of the encoding (its place is mostly the head), as it is after training"
        + (" and as it was before." if "start" in parameters else "."),
        source="",
        frame=parameters,
    )


def table_norms(encodings: StackEncodings, start: StackEncodings | None = None) -> pd.DataFrame:
    """Return how long each learned vector of a distance or a count is (the encodings' `vectors()`).

    Args:
        encodings, start: as in `learned_parameters`.

    Returns:
        Columns `layers`, `table` (its name, and the head if each has its own), `place` (the distance or count), `norm`
        and perhaps `start`; no rows where no encoding has such vectors.
    """
    columns = ["layers", "table", "place", "norm", *([] if start is None else ["start"])]
    frames = [pd.DataFrame(columns=columns)]
    for layers, encoding, before in served(encodings, start):
        of_start = {} if before is None else before.vectors()
        for name, (rows, first) in encoding.vectors().items():
            frame = pd.DataFrame({"place": range(first, first + len(rows)), "norm": _norms(rows)})
            if name in of_start:
                frame["start"] = _norms(of_start[name].rows)
            frames.append(frame.assign(layers=layers, table=name)[columns])
    return pd.concat(frames[1:] or frames, ignore_index=True)


def norms_picture(norms: pd.DataFrame) -> Picture:
    """A map for each kind of table: layers and heads against the place, darker where the vector is longer.

    Args:
        norms: what `table_norms` gives, with at least one row.
    """
    kinds = list(norms["table"].str.split(",").str[0].unique())
    rows_of = {kind: norms[norms["table"].str.split(",").str[0] == kind] for kind in kinds}
    maps = {
        kind: rows.assign(row=rows["layers"] + rows["table"].str.removeprefix(kind)).pivot(
            index="row", columns="place", values="norm"
        )
        for kind, rows in rows_of.items()
    }
    heights = [0.9 + 0.2 * len(table) for table in maps.values()]
    figure = new_figure(7.5, sum(heights))
    panels = figure.subplots(len(maps), 1, squeeze=False, height_ratios=heights)
    for panel, (kind, table) in zip(panels.flat, maps.items(), strict=True):
        order = list(dict.fromkeys(rows_of[kind]["layers"] + rows_of[kind]["table"].str.removeprefix(kind)))
        table = table.loc[order]
        image = panel.imshow(
            table.to_numpy(),
            cmap="Blues",
            vmin=0,
            aspect="auto",
            interpolation="nearest",
            extent=(table.columns[0] - 0.5, table.columns[-1] + 0.5, len(table) - 0.5, -0.5),
        )
        panel.set_yticks(range(len(table)), order, fontsize="small")
        panel.set_title(kind, fontsize="medium")
        figure.colorbar(image, ax=panel)
    panels.flat[-1].set_xlabel("place in the table")
    hide_rest(panels, len(maps))
    return Picture(
        name="table_norms",
        title="Lengths of the learned vectors",
        caption="Each row is a table of vectors, darker where a vector is longer: places that stay as pale as the "
        "rest say little, and those that training never met have kept the length that they started with.",
        source="",
        figure=figure,
    )


def _norms(rows_ND: Tensor) -> np.ndarray:
    return _numbers(torch.linalg.vector_norm(rows_ND.detach().float(), dim=-1))


def _numbers(x: Tensor) -> np.ndarray:
    numbers: np.ndarray = x.detach().float().cpu().numpy()
    return numbers
