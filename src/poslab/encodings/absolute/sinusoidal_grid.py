"""Sinusoidal absolute positions on several axes. Dimension letters: B batch, T tokens, A axes, M model dim."""

from __future__ import annotations

from torch import Tensor

from poslab.arguments import Count, Positive
from poslab.encodings.absolute.sinusoidal import Sinusoidal, SinusoidLayout
from poslab.encodings.frequencies import Base, angle_dtype, angles, inverse_frequencies
from poslab.encodings.positions import Positions
from poslab.encodings.tokens import Tokens


class SinusoidalGrid(Sinusoidal):
    """Fixed sines and cosines of the coordinate on each axis, each in M / A separate channels, added to the embeddings.

        PE_a(p, k)             = sin(p * base ** (-2k / (M / A)))       k = 0, ..., M / (2A) - 1
        PE_a(p, M / (2A) + k)  = cos(p * base ** (-2k / (M / A)))
        x_t = scale * embedding_t + [PE_1(t_1), ..., PE_A(t_A)]

    Use it when patches have positions that nothing has to learn, as in MAE and the DETR family.

    Args:
        d_model: width M; divisible by 2A where tokens are on A axes.
        base: the longest wavelength is nearly 2 pi base (MAE: 10,000; above 1).
        scale: factor on the token embeddings before the sum (MAE: 1), which matters where they are small, as
            embeddings of a text are at first: see `Sinusoidal`.
        layout: "concatenated" as MAE, or "interleaved" as DETR, within the channels of each axis.

    No parameters. Causal and bidirectional, for real coordinates too. A token without a position has zeros, as the
    class token of MAE. A text has one axis. Little is claimed for larger images. Costs M numbers per token, once
    before the first layer.

    Traps: the coordinate (0, 0) is not zero but [0, ..., 1, ...]. DETR counts from 1, divides by the size, and
    multiplies by 2 pi: that is a choice of coordinates. The order of the axes is as in `Places`, height first;
    big_vision has width first. On a grid of 14 cells, most channels under a base of 10,000 hardly rotate.

    Raises:
        ValueError: for an argument out of its range, or a d_model that the axes do not divide.

    Source: He et al., "Masked Autoencoders Are Scalable Vision Learners" (CVPR 2022), and its authors' code; Carion et
    al., "End-to-End Object Detection with Transformers" (ECCV 2020).
    """

    reads_axes = True

    def __init__(
        self, d_model: Count, base: Base = 10_000.0, scale: Positive = 1.0, layout: SinusoidLayout = "concatenated"
    ) -> None:
        super().__init__(d_model, base, scale, layout)

    def embed(self, x_BTM: Tensor, positions: Positions, tokens: Tokens | None = None) -> Tensor:
        num_axes = positions.coordinates.shape[-1]
        if self.d_model % (2 * num_axes):
            raise ValueError(
                f"d_model must be divisible by {2 * num_axes} for sinusoids on {num_axes} axes, got {self.d_model}"
            )
        width, dtype = self.d_model // num_axes, angle_dtype(*positions.lengths)
        angle = angles(positions.coordinates, inverse_frequencies(width, self.base, x_BTM.device, dtype))
        table = positions.zero_without_position(self.waves(angle).flatten(-2))
        return x_BTM * self.embedding_scale + table.to(x_BTM.dtype)
