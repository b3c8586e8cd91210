"""Encodings that a researcher might derive from those of the library."""

from poslab.encodings import Alibi, Rotary, T5Bias


class OneTablePerLayer(T5Bias):
    """The bias of T5 with a table for each layer, as in UMT5."""

    shared_by_layers = False


class TurningAndDiscounting(Rotary):
    """Rotary with the bias of ALiBi: a subclass that adds a hook to those that it inherits."""

    def __init__(self, head_dim: int, num_heads: int) -> None:
        super().__init__(head_dim)
        self.alibi = Alibi(num_heads)

    def prepare(self, query_positions, key_positions):
        return super().prepare(query_positions, key_positions), self.alibi.prepare(query_positions, key_positions)

    def rotate_query(self, q_BHTD, tables):
        return super().rotate_query(q_BHTD, tables[0])

    def rotate_key(self, k_BHSD, tables):
        return super().rotate_key(k_BHSD, tables[0])

    def bias(self, tables):
        return tables[1]

    def scale(self, tables):
        return super().scale(tables[0])
