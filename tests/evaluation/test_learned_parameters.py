import math

import numpy as np
import pytest
import torch

from poslab.encodings import LayerPattern, LayerSpec, Rotary, StackEncodings, StackShape
from poslab.evaluation.learned_bias import learned_parameters, norms_plot, parameters_table, table_norms
from tests.encoding_choices import EVERY_ENCODING, small_decoder, stack, temperature
from tests.evaluation.test_learned_bias import changed


def of(frame, parameter: str, layers: str, column: str = "learned") -> list[float]:
    return frame[(frame["parameter"] == parameter) & (frame["layers"] == layers)][column].tolist()


@pytest.mark.parametrize("name", ["kerple_log", "kerple_power"])
def test_kerples_rates_are_those_of_its_formula(name):
    encodings = changed(name)
    frame = learned_parameters(encodings)
    r1, r2 = (of(frame, rate, "all layers") for rate in ("r1", "r2"))
    distance = torch.tensor([0, 1, 7, 300])
    bias = encodings.layer(0).bias_at(distance)
    for head in range(4):
        for d, result in zip(distance.tolist(), bias[head].tolist(), strict=True):
            faded = math.log1p(r2[head] * d) if name == "kerple_log" else d ** r2[head]
            assert result == pytest.approx(-r1[head] * faded, rel=1e-4)


def test_slopes_are_told_and_not_the_exponents_that_are_learned():
    encodings, start = changed("alibi_learned"), stack("alibi_learned")
    frame = learned_parameters(encodings, start)
    exponents = encodings.layer(0).exponents.tolist()
    assert of(frame, "slope", "all layers") == pytest.approx([2**-x for x in exponents], rel=1e-5)
    assert of(frame, "slope", "all layers", "start") == pytest.approx([2**-2, 2**-4, 2**-6, 2**-8], rel=1e-6)
    assert set(frame["parameter"]) == {"slope"}


def test_the_threshold_of_fire_is_told_in_tokens():
    frame = learned_parameters(changed("fire"), stack("fire"))
    assert of(frame, "threshold", "layer 1", "start") == [512]
    assert of(frame, "threshold", "layer 1") != [512]
    assert of(frame, "c", "layer 0", "start") == pytest.approx([0.1])


def test_the_sharpness_of_tisa_is_shown_as_it_acts():
    encodings = stack("tisa")
    with torch.no_grad():
        encodings.layer(0).sharpness[3, 2] = -0.25
    frame = learned_parameters(encodings)
    sharpness = frame[(frame["layers"] == "layer 0") & (frame["parameter"] == "sharpness")].set_index("index")
    assert sharpness["learned"]["3, 2"] == 0.25


def test_what_has_too_many_numbers_is_left_out():
    assert set(learned_parameters(stack("tisa"), most=20)["parameter"]) == {"amplitudes", "sharpness", "offsets"}
    assert learned_parameters(stack("tisa"), most=19).empty


def test_the_logits_of_sinks_are_told_for_each_layer_and_head():
    shape = StackShape(d_model=32, num_layers=2, num_heads=4, num_kv_heads=4, head_dim=8)
    encodings, start = (StackEncodings(LayerPattern([LayerSpec(Rotary, sinks=True)]), shape) for _ in range(2))
    with torch.no_grad():
        encodings.sinks["1"].copy_(torch.tensor([1.0, -2.0, 0.5, 0.0]))
    frame = learned_parameters(encodings, start)
    assert of(frame, "sink", "layer 1") == [1.0, -2.0, 0.5, 0.0]
    assert of(frame, "sink", "layer 0") == of(frame, "sink", "layer 1", "start") == [0.0] * 4
    assert set(frame["index"]) == {f"head {head}" for head in range(4)}


def test_scales_of_a_temperature_are_told_for_each_layer():
    model = small_decoder("rotary", temperature=temperature("ssmax"))
    with torch.no_grad():
        model.encodings.temperature(1).scales[2] = 0.7
    frame = learned_parameters(model.encodings)
    assert of(frame, "scales", "layer 1") == pytest.approx([0.43, 0.43, 0.7, 0.43])


def test_the_parameters_of_what_dape_builds_on_are_told():
    assert {"over.r1", "over.r2"} <= set(learned_parameters(stack("dape"))["parameter"])


@pytest.mark.parametrize("name", EVERY_ENCODING)
def test_every_encoding_has_a_table_of_finite_numbers_even_if_it_is_empty(name):
    frame = learned_parameters(stack(name), stack(name))
    assert list(frame.columns) == ["layers", "parameter", "index", "learned", "start"]
    assert frame["start"].notna().all()
    assert np.isfinite(frame["learned"].to_numpy(float)).all()
    assert parameters_table(frame).frame is frame


def test_norms_are_those_of_shaws_vectors_by_distance():
    encodings = stack("shaw")
    frame = table_norms(encodings, stack("shaw"))
    keys = frame[(frame["layers"] == "layer 1") & (frame["table"] == "keys")]
    assert keys["index"].tolist() == list(range(-16, 17))
    expected = [math.sqrt(sum(x * x for x in row)) for row in encodings.layer(1).key_table.tolist()]
    assert keys["norm"].tolist() == pytest.approx(expected, rel=1e-5)
    assert "start" in frame


def test_norms_of_a_music_transformer_have_a_row_for_each_head():
    encodings = stack("music")
    frame = table_norms(encodings)
    assert set(frame["table"]) == {f"distances, head {head}" for head in range(4)}
    (panel, _) = norms_plot(frame).figure.axes
    drawn = np.asarray(panel.images[0].get_array())
    expected = torch.cat([encodings.layer(layer).table.norm(dim=-1) for layer in (0, 1)])
    np.testing.assert_allclose(drawn, expected.detach().numpy(), rtol=1e-5)


def test_an_encoding_without_vectors_has_no_norms():
    assert table_norms(stack("rotary")).empty


def test_a_place_is_a_head_only_where_each_head_has_one_number():
    kerple = learned_parameters(stack("kerple_log"))
    assert kerple[kerple["parameter"] == "r1"]["index"].tolist() == [f"head {head}" for head in range(4)]
    assert set(learned_parameters(stack("fire")).query("parameter == 'c'")["index"]) == {""}
    assert "3, 2" in learned_parameters(stack("tisa"))["index"].tolist()
