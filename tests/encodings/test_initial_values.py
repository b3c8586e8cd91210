"""Parameters begin as large as the docstrings of their encodings say."""

from functools import partial

import pytest

from poslab.encodings import (
    Abacus,
    Deberta,
    Forgetting,
    Learned,
    LearnedAxes,
    LearnedGrid,
    MusicTransformer,
    PaTH,
    RelativeProjection,
    RelativeTable,
    Shaw,
    StackShape,
    SwinV2Bias,
    T5Axes,
    T5Bias,
    TransformerXL,
    Tupe,
)

WIDTH, HEAD_DIM = 256, 64
SHAPE = StackShape(WIDTH, num_layers=1, num_heads=16, num_kv_heads=16, head_dim=HEAD_DIM)


@pytest.mark.parametrize(
    ("make", "parameter", "deviation"),
    [
        (Learned, "table.weight", 0.02),
        (partial(Abacus, digits=[0]), "table.weight", 0.02),
        (partial(LearnedGrid, grid=[4, 3]), "table", 0.02),
        (partial(LearnedAxes, grid=[4, 3]), "tables.1", 0.02),
        (partial(RelativeTable, grid=[4, 3]), "table", 0.02),
        (SwinV2Bias, "hidden.weight", 0.02),
        (SwinV2Bias, "output.weight", 0.02),
        (T5Axes, "table", WIDTH**-0.5),
        (Shaw, "key_table", HEAD_DIM**-0.5),
        (Shaw, "value_table", HEAD_DIM**-0.5),
        (MusicTransformer, "table", HEAD_DIM**-0.5),
        (TransformerXL, "content_bias", 0.02),
        (TransformerXL, "position_bias", 0.02),
        (TransformerXL, "position_key", WIDTH**-0.5),
        (Deberta, "table", 1.0),
        (Deberta, "position_key", WIDTH**-0.5),
        (Deberta, "position_query", WIDTH**-0.5),
        (Tupe, "table", 1.0),
        (Tupe, "position_query", WIDTH**-0.5),
        (Tupe, "position_key", WIDTH**-0.5),
        (partial(T5Bias, num_buckets=200), "table", WIDTH**-0.5),
        (RelativeProjection, "projection.weight", WIDTH**-0.5),
        (RelativeProjection, "bank", 0.02),
        (Forgetting, "gate.weight", WIDTH**-0.5),
        (PaTH, "down", WIDTH**-0.5),
        (PaTH, "up", 32**-0.5),
        (PaTH, "beta_weight", WIDTH**-0.5),
    ],
)
def test_a_parameter_is_drawn_with_the_documented_standard_deviation(make, parameter, deviation):
    drawn = SHAPE.fill(make).get_parameter(parameter)
    assert drawn.std().item() == pytest.approx(deviation, rel=min(0.1, 4 / (2 * drawn.numel()) ** 0.5))
    assert abs(drawn.mean().item()) < 5 * deviation / drawn.numel() ** 0.5
