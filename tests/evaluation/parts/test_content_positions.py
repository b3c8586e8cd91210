import math

import pytest
import torch

from poslab.evaluation.attention.maps import attention_rows
from poslab.evaluation.parts.encoding import content_positions, content_positions_plot
from poslab.models import Decoder
from tests.encoding_choices import VOCAB_SIZE, factory, small_decoder, some_tokens
from tests.stacked import stacked

LENGTH = 15


def model_and_products(name: str, window: int | None = None) -> tuple[Decoder, list, list]:
    """A decoder of one layer, and the scaled products and the queries of its heads, [head][query][key or channel]."""
    torch.manual_seed(0)
    model = stacked(
        Decoder, VOCAB_SIZE, factory(name), d_model=32, num_layers=1, num_heads=4, num_kv_heads=2, window=window
    ).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.encodings.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
        block = model.blocks[0]
        x = block.mixer_norm(model.embedding(some_tokens(1, LENGTH)))[0]
        queries = block.mixer.query(x).view(LENGTH, 4, 8).transpose(0, 1)
        keys = block.mixer.key_value(x)[:, :16].view(LENGTH, 2, 8).transpose(0, 1)[[0, 0, 1, 1]]
    return model, (queries @ keys.mT / math.sqrt(8)).tolist(), queries.tolist()


def positions_of(frame, head: int) -> dict[int, float]:
    of_head = frame[(frame["layer"] == 0) & (frame["head"] == head)]
    return dict(zip(of_head["key"], of_head["position"], strict=True))


def softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(logit) for logit in logits]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize("window", [None, 6])
def test_copes_positions_count_open_gates_and_explain_its_attention(window):
    model, products, queries = model_and_products("cope", window)
    (block,) = attention_rows(model, some_tokens(1, LENGTH))
    embedding = model.encodings.layer(0).position_embedding.tolist()
    for query in (9, 14):
        frame = content_positions(model, some_tokens(1, LENGTH)[0, : query + 1])
        for head in range(4):
            result = positions_of(frame, head)
            first = 0 if window is None else query - window + 1
            assert list(result) == list(range(first, query + 1))
            logits = []
            for key in result:
                count = sum(1 / (1 + math.exp(-products[head][query][t])) for t in range(key, query + 1))
                assert result[key] == pytest.approx(count, rel=1e-5)
                low, share = math.floor(count), count - math.floor(count)
                e = [(1 - share) * a + share * b for a, b in zip(embedding[low], embedding[low + 1], strict=True)]
                q_e = sum(a * b for a, b in zip(queries[head][query], e, strict=True))
                logits.append(products[head][query][key] + q_e)
            weights = block.weights[0, head, query, first : query + 1].tolist()
            assert weights == pytest.approx(softmax(logits), abs=1e-5)


def test_what_forget_gates_let_go_explains_their_attention():
    model, products, _ = model_and_products("forgetting")
    (block,) = attention_rows(model, some_tokens(1, LENGTH))
    frame = content_positions(model, some_tokens(1, LENGTH)[0])
    for head in range(4):
        result = positions_of(frame, head)
        values = list(result.values())
        assert values == sorted(values, reverse=True)
        assert values[-1] == 0
        logits = [products[head][LENGTH - 1][key] - position for key, position in result.items()]
        assert block.weights[0, head, LENGTH - 1].tolist() == pytest.approx(softmax(logits), abs=1e-5)


def test_counts_end_where_the_table_of_cope_ends():
    model = small_decoder("cope", num_layers=1)
    with torch.no_grad():
        model.blocks[0].mixer.query.weight.zero_()  # every gate is half open
    frame = content_positions(model, some_tokens(1, 200)[0])
    nearest = positions_of(frame, 0)
    assert nearest[199] == pytest.approx(0.5)
    assert nearest[190] == pytest.approx(5.0)
    assert nearest[0] == model.encodings.layer(0).num_positions - 1


def test_the_picture_has_a_panel_for_each_layer_and_the_text_along_its_axis():
    frame = content_positions(small_decoder("forgetting"), some_tokens(1, 12)[0])
    labels = [f" t{i}" for i in range(12)]
    picture = content_positions_plot(frame, labels)
    panels = picture.figure.axes
    assert [panel.get_title() for panel in panels] == ["layer 0", "layer 1"]
    assert [label.get_text() for label in panels[-1].get_xticklabels()] == [f"␣t{i}" for i in range(12)]
    result = positions_of(frame, 3)
    assert panels[0].lines[3].get_xdata().tolist() == list(result)
    assert panels[0].lines[3].get_ydata().tolist() == pytest.approx(list(result.values()))


def test_an_encoding_that_does_not_read_the_content_has_no_rows():
    frame = content_positions(small_decoder("rotary"), some_tokens(1, 5)[0])
    assert frame.empty and list(frame.columns) == ["layer", "head", "key", "position"]
