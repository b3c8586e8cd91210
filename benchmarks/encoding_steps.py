"""A training step of the decoder under every encoding, over one without any, and beside the decoders of peers."""

from __future__ import annotations

import statistics
from functools import partial

import ours
from peers import peers_of
from plain_loop import PlainLoop, random_batch
from results import Results, Row
from size import Size
from torch import nn
from turns import Call, ratio, take_turns

from poslab.experiments.speed import peak_bytes

PART = "encodings"
NOTHING, OURS = "no encoding", "Poslab"


def measure(results: Results, precisions: list[str], encodings: list[str], size: Size, steps: int) -> None:
    """Add the missing rows.

    A row has the seconds of a step, its time and peak memory over those without an encoding (`time`, `memory`), and
    that of a peer how many times as fast ours is (`speed`) and what it materialises. The memory is that of a step
    beyond weights and the moments of the optimizer.

    Args:
        results: where they go.
        precisions: of `plain_loop.PRECISIONS`.
        encodings: choices of conf/encoding.
        size: of models and batches.
        steps: how many of each are measured.
    """
    batch = random_batch(size)
    for precision in precisions:
        for encoding in encodings:
            shape: Row = {"part": PART, "precision": precision, "encoding": encoding}
            shape |= {"length": size.sequence_length, "batch": size.batch_size}
            if not results.missing({**shape, "contestant": OURS}):
                continue
            peers = {peer.name: peer for peer in peers_of(encoding)}
            models: dict[str, nn.Module] = {
                NOTHING: ours.decoder(ours.NONE, size),
                OURS: ours.decoder(encoding, size),
                **{name: peer.decoder(size) for name, peer in peers.items()},
            }
            calls: dict[str, Call] = {
                name: partial(PlainLoop(model, precision).step, batch) for name, model in models.items()
            }
            take_turns(calls, 1)  # the optimizers have their moments then
            held = {name: peak_bytes(call) for name, call in calls.items()}
            seconds = take_turns(calls, steps)
            for name, own in seconds.items():
                row = {**shape, "contestant": name, "seconds": round(statistics.median(own), 5), "turns": steps}
                row |= {"time": ratio(own, seconds[NOTHING]), "peak_bytes": held[name]}
                row["memory"] = round(held[name] / held[NOTHING], 4)
                if name in peers:
                    row["speed"] = ratio(own, seconds[OURS])
                    row["materialises"] = peers[name].materialises
                if name == OURS:
                    row["route"] = ours.routes(encoding, size)
                results.add(row)
