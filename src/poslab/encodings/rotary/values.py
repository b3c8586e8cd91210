"""Rotary embedding of values. Dimension letters: B batch, H heads, T queries, S keys, D head dim."""

from __future__ import annotations

from torch import Tensor

from poslab.encodings.rotary.rotary import Rotary
from poslab.encodings.rotary.rotation import Rotation


class RotaryValues(Rotary):
    """Rotary that rotates values too, as in DeepSeek V4: what a query gets of a token depends on their distance.

        y_i = R(-i) sum_j a_ij R(j) v_j = sum_j a_ij R(j - i) v_j

    with the weights a_ij, the angles and the arguments of `Rotary`. Values rotate as keys do, and outputs rotate back
    by the position of their query, so that only distances remain.

    Use it when a decoder should say what was how far away, not only find it, or where keys are used as values.

    Causal and bidirectional. No parameters. Costs two rotations more than rotary, on the same routes; a cache
    contains unrotated values. Little is claimed beyond the training length. An attention factor does not reach values.

    Trap: of DeepSeek V4's heads the last channels rotate; `fraction` rotates the first, the same encoding with channels
    in another order.

    Source: DeepSeek-AI, "DeepSeek-V4" (2026, arXiv 2606.19348), by the code of transformers; earlier in a post by Su,
    "VO-RoPE".
    """

    def rotate_value(self, v_BHSD: Tensor, tables: Rotation) -> Tensor:
        return self._rotated(v_BHSD, tables.key_cos, tables.key_sin, tables.blocks)

    def rotate_output(self, y_BHTD: Tensor, tables: Rotation) -> Tensor:
        return self._rotated(y_BHTD, tables.query_cos, -tables.query_sin, tables.blocks)
