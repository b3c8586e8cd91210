from __future__ import annotations

import torch
from torch import nn

from poslab.checkpoint import checkpoint_file, load_checkpoint, model_weights


def initialise_from(model: nn.Module, source: str) -> list[str]:
    """Gives a model the weights of another run, as far as they fit.

    Args:
        model: what is to be trained.
        source: a run directory, whose best checkpoint is taken, or a checkpoint.

    Returns:
        What did not fit, a line each.

    Raises:
        ValueError: if there is no such run, or nothing of it fits.
    """
    theirs, ours = model_weights(load_checkpoint(checkpoint_file(source))), model.state_dict()
    fitting = {name: weight for name, weight in theirs.items() if name in ours and ours[name].shape == weight.shape}
    one_matrix = {"embedding.weight", "output.weight"} <= ours.keys() & theirs.keys() and (
        ours["embedding.weight"].data_ptr() == ours["output.weight"].data_ptr()
    )
    lines = []
    if one_matrix and not torch.equal(theirs["embedding.weight"], theirs["output.weight"]):
        fitting.pop("output.weight", None)
        lines.append("output.weight is the embedding here, and another matrix there, which was left out")
    if not fitting:
        raise ValueError(f"init_from={source} holds no weights that fit this model")
    model.load_state_dict(fitting, strict=False)
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours:
            lines.append(f"{name} is not in this model, and was left out")
        elif name not in theirs:
            lines.append(f"{name} is not in that run, and starts afresh")
        elif ours[name].shape != theirs[name].shape:
            shapes = f"{tuple(theirs[name].shape)} there, {tuple(ours[name].shape)} here"
            lines.append(f"{name} has another shape ({shapes}), and starts afresh")
    return lines
