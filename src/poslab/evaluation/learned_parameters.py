"""The numbers that an encoding and a temperature have learned, beside where they started."""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.encodings import (
    Alibi,
    CoPE,
    Fire,
    KerpleLog,
    KerplePower,
    MusicTransformer,
    PositionalEncoding,
    Shaw,
    SSMax,
    StackEncodings,
)
from poslab.encodings.bias.kerple import SMALLEST
from poslab.evaluation.attention_pictures import hide_rest
from poslab.evaluation.learned_curves import device_of, served
from poslab.report.exhibits import Picture, Table, new_figure

MOST = 64
"""Numbers of a parameter that is still told number by number."""


def learned_parameters(
    encodings: StackEncodings, start: StackEncodings | None = None, most: int = MOST
) -> pd.DataFrame:
    """The small parameters of a stack's encodings and temperatures, a row for each number.

    What a parameter stands for is told where it is known (slopes of ALiBi, rates of KERPLE, c and the threshold of
    FIRE, scales of SSMax); of all others the parameter itself, if it is small.

    Args:
        encodings: of a model, `model.encodings`.
        start: the same encodings before training, for the column `start`; None leaves it out.
        most: numbers of a parameter that is still told as it is; 0 tells what is known alone.

    Returns:
        Columns `layers`, `parameter`, `place` (its index, which for numbers of one dimension is mostly the head),
        `learned` and perhaps `start`.

    Raises:
        ValueError: for another number of layers at the start.
    """
    columns = ["layers", "parameter", "place", "learned", *([] if start is None else ["start"])]
    pairs: list[tuple[str, nn.Module, nn.Module | None]] = list(served(encodings, start))
    for layer in range(len(encodings.windows)):
        temperature = encodings.temperature(layer)
        if temperature is not None:
            pairs.append((f"layer {layer}", temperature, None if start is None else start.temperature(layer)))
    records = []
    for layers, module, before in pairs:
        if next(module.parameters(), None) is None:
            continue  # such as fixed slopes
        of_start = {} if before is None else quantities(before, most)
        for name, values in quantities(module, most).items():
            for place, value in np.ndenumerate(values.detach().float().cpu().numpy()):
                record = {"layers": layers, "parameter": name, "place": ", ".join(map(str, place)), "learned": value}
                if name in of_start:
                    record["start"] = of_start[name].detach().float().cpu().numpy()[place]
                records.append(record)
    return pd.DataFrame(records, columns=columns)


def parameters_table(parameters: pd.DataFrame) -> Table:
    """What `learned_parameters` gives, as a table."""
    return Table(
        name="learned_parameters",
        title="Learned parameters",
        how_to_read="Each row is one number of the encoding (its place is mostly the head), as it is after training"
        + (" and as it was before." if "start" in parameters else "."),
        source="",
        frame=parameters,
    )


def table_norms(encodings: StackEncodings, start: StackEncodings | None = None) -> pd.DataFrame:
    """How long the learned vectors of each distance (Shaw, Music Transformer) or count (CoPE) are.

    Args:
        encodings, start: as in `learned_parameters`.

    Returns:
        Columns `layers`, `table` (its name, and the head if each has its own), `place` (the distance, key minus query
        for Shaw; the count for CoPE), `norm` and perhaps `start`; no rows where no encoding has such vectors.
    """
    columns = ["layers", "table", "place", "norm", *([] if start is None else ["start"])]
    frames = [pd.DataFrame(columns=columns)]
    for layers, encoding, before in served(encodings, start):
        of_start = {} if before is None else _vectors(before)
        for name, (vectors, first) in _vectors(encoding).items():
            frame = pd.DataFrame({"place": range(first, first + len(vectors)), "norm": _norms(vectors)})
            if name in of_start:
                frame["start"] = _norms(of_start[name][0])
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
        how_to_read="Each row is a table of vectors, darker where a vector is longer: places that stay as pale as the "
        "rest say little, and those that training never met have kept the length that they started with.",
        source="",
        figure=figure,
    )


@singledispatch
def quantities(module: nn.Module, most: int = MOST) -> Mapping[str, Tensor]:
    """What the parameters of an encoding or a temperature stand for, by name.

    A class for which that is known registers a function of its own.

    Args:
        module: an encoding or a temperature.
        most: as of `learned_parameters`.
    """
    own: dict[str, Tensor] = {name: x for name, x in module.named_parameters(recurse=False) if x.numel() <= most}
    for name, part in module.named_children():
        own |= {f"{name}.{inner}": x for inner, x in quantities(part, most).items()}
    return own


@quantities.register
def _(temperature: SSMax, most: int = MOST) -> Mapping[str, Tensor]:
    return {"scales": temperature.scales}


@quantities.register
def _(alibi: Alibi, most: int = MOST) -> Mapping[str, Tensor]:
    return {"slope": alibi.slopes(device_of(alibi))}


@quantities.register
def _(kerple: KerpleLog, most: int = MOST) -> Mapping[str, Tensor]:
    return {"r1": SMALLEST + functional.softplus(kerple.raw_r1), "r2": SMALLEST + functional.softplus(kerple.raw_r2)}


@quantities.register
def _(kerple: KerplePower, most: int = MOST) -> Mapping[str, Tensor]:
    r2 = SMALLEST + (2.0 - SMALLEST) * kerple.raw_r2.sigmoid()
    return {"r1": SMALLEST + functional.softplus(kerple.raw_r1), "r2": r2}


@quantities.register
def _(fire: Fire, most: int = MOST) -> Mapping[str, Tensor]:
    return {"c": fire.c, "threshold": (fire.multiplier * fire.threshold).abs()}


def _vectors(encoding: PositionalEncoding) -> dict[str, tuple[Tensor, int]]:
    """The tables of vectors of an encoding by name, (places, D), and the place of their first row."""
    if isinstance(encoding, Shaw):
        first = -encoding.max_distance
        return {"keys": (encoding.key_table, first), "values": (encoding.value_table, first)}
    if isinstance(encoding, MusicTransformer):
        return {f"distances, head {head}": (table_ND, 0) for head, table_ND in enumerate(encoding.table)}
    return {"counts": (encoding.position_embedding, 0)} if isinstance(encoding, CoPE) else {}


def _norms(vectors_ND: Tensor) -> np.ndarray:
    with torch.no_grad():
        norms: np.ndarray = vectors_ND.float().norm(dim=-1).cpu().numpy()
    return norms
