import pandas as pd
import pytest
import torch
from torch.nn import functional

from poslab.evaluation.parts import receptive_field as module
from poslab.evaluation.parts.receptive_field import reach, receptive_field, receptive_field_plot
from tests.encoding_choices import VOCAB_SIZE, small_decoder, some_tokens

LENGTH = 24


@pytest.mark.parametrize("name", ["rotary", "alibi", "cope", "learned"])
@pytest.mark.parametrize(("num_layers", "window"), [(1, 1), (1, 5), (2, 5), (3, 4), (2, None)])
def test_the_receptive_field_of_a_model_is_its_window_or_the_whole_text(name, num_layers, window):
    """Each layer carries it one window, less the token itself, further back; beyond, the gradient is exactly 0."""
    model = small_decoder(name, num_layers=num_layers, window=window)
    gradient = receptive_field(model, some_tokens(3, LENGTH + 1))["gradient"].to_numpy()
    within = LENGTH if window is None else num_layers * (window - 1) + 1
    assert (gradient[:within] > 0).all()
    assert (gradient[within:] == 0).all()


def test_gradients_are_those_of_the_embedding_matrix_where_no_token_comes_twice():
    model = small_decoder("rotary", tie_embeddings=False)
    windows = torch.stack(
        [torch.randperm(VOCAB_SIZE, generator=torch.Generator().manual_seed(seed))[: LENGTH + 1] for seed in range(3)]
    )
    shares = []
    for window in windows:
        model.zero_grad()
        functional.cross_entropy(model(window[None, :-1])[0, -1], window[-1]).backward()
        norms = [float(model.embedding.weight.grad[token].norm()) for token in window[:-1].flip(0)]
        shares.append([norm / sum(norms) for norm in norms])
    expected = [sum(share[d] for share in shares) / 3 for d in range(LENGTH)]
    frame = receptive_field(model, windows)
    assert frame["distance"].tolist() == list(range(LENGTH))
    assert frame["gradient"].tolist() == pytest.approx(expected, rel=1e-3)
    assert frame["cumulative"].tolist() == pytest.approx([sum(expected[: d + 1]) for d in range(LENGTH)], rel=1e-3)
    assert frame["cumulative"].iloc[-1] == pytest.approx(1)


def test_batches_change_nothing_and_nothing_is_left_in_the_model(monkeypatch):
    model, windows = small_decoder("alibi"), some_tokens(5, LENGTH + 1)
    together = receptive_field(model, windows)
    monkeypatch.setattr(module, "TOKENS_AT_ONCE", 2 * LENGTH)
    with torch.no_grad():
        in_parts = receptive_field(model, windows)
    pd.testing.assert_frame_equal(together, in_parts, rtol=1e-4)
    assert not model.embedding._forward_hooks
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("gradient", "expected"), [([1.0, 0.0, 0.0], 1), ([0.5, 0.49, 0.01], 2), ([0.5, 0.48, 0.02], 3), ([0.2] * 5, 5)]
)
def test_it_reaches_as_far_as_99_per_cent_of_the_gradient(gradient, expected):
    assert reach(pd.DataFrame({"cumulative": pd.Series(gradient).cumsum()})) == expected


def test_the_picture_marks_the_reach_of_each_model_and_the_training_length():
    windows = some_tokens(2, LENGTH + 1)
    fields = {
        str(window): receptive_field(small_decoder("none", num_layers=1, window=window), windows) for window in (1, 24)
    }
    picture = receptive_field_plot(fields, dict.fromkeys(fields, 16))
    (panel,) = picture.figure.axes
    labels = [text.get_text() for text in picture.figure.legends[0].texts]
    assert labels[0] == f"1: 99% within 1 of {LENGTH} tokens"
    assert labels[1].startswith("24: 99% within 2")
    assert labels[2] == "training length, 16"
    dots = [line for line in panel.lines if line.get_marker() in ("o", "s")]
    assert [line.get_xdata()[0] for line in dots] == [reach(field) for field in fields.values()]


@pytest.mark.parametrize("shape", [(3,), (2, 1), (0, 5)])
def test_windows_of_another_shape_are_told_so(shape):
    with pytest.raises(ValueError, match=r"^windows must .*got the shape"):
        receptive_field(small_decoder("none"), torch.zeros(shape, dtype=torch.long))
