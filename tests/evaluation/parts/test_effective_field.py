"""The effective receptive field of a patch, against a Jacobian and on models whose field is known."""

from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import Tensor

from poslab.encodings import Positions
from poslab.encodings.tokens import PATCH
from poslab.evaluation.parts.receptive_field import cells_away, effective_field, field_plot
from poslab.models import Decoder, Encoder
from tests.encoding_choices import small_model
from tests.report.phone import smallest_label

WIDTH = 6
"""Numbers of a patch."""


class Batch(NamedTuple):
    tokens: Tensor
    patches: Tensor
    positions: Positions


def batch_of(*shape: int, seed: int = 0) -> Batch:
    positions = Positions.grid(*shape)
    patches = torch.randn(1, positions.length, WIDTH, generator=torch.Generator().manual_seed(seed))
    return Batch(torch.full((1, positions.length), PATCH), patches, positions)


TASK = SimpleNamespace(
    hidden_states=lambda model, batch: model.hidden_states(batch.tokens, batch.positions, patches=batch.patches)
)


def model_of(kind, name, **options):
    return small_model(kind, name, patch_width=WIDTH, **options)


@pytest.mark.parametrize("name", ["rotary_axial", "t5_axes"])
def test_shares_are_those_of_the_jacobian_along_the_direction(name):
    model, batches = model_of(Encoder, name, registers=1), [batch_of(3, 5, seed=seed) for seed in range(2)]
    generator, expected = torch.Generator().manual_seed(7), torch.zeros(3, 5)
    for batch in batches:
        jacobian = torch.autograd.functional.jacobian(
            lambda x, batch=batch: TASK.hidden_states(model, batch._replace(patches=x))[0, 1 * 5 + 2], batch.patches
        )
        gradient = torch.einsum("m,mtp->tp", torch.randn(32, generator=generator), jacobian[:, 0])
        norms = [float(of_patch.norm()) for of_patch in gradient]
        expected += torch.tensor([norm / sum(norms) for norm in norms]).view(3, 5) / len(batches)
    field = effective_field(model, TASK, batches, seed=7).set_index(["height", "width"])
    assert (field["examples"] == 2).all() and len(field) == 15
    for y in range(3):
        for x in range(5):
            assert field.loc[(y - 1, x - 2), "gradient"] == pytest.approx(float(expected[y, x]), rel=1e-4)
    assert field["gradient"].sum() == pytest.approx(1)


def test_a_decoder_sees_nothing_behind_the_middle_patch():
    field = effective_field(model_of(Decoder, "none"), TASK, [batch_of(3, 5)]).set_index(["height", "width"])
    for (y, x), gradient in field["gradient"].items():
        assert (gradient == 0) == ((y, x) > (0, 0))


def test_an_offset_that_some_pictures_lack_is_a_mean_over_the_others():
    field = effective_field(model_of(Encoder, "none"), TASK, [batch_of(3, 5), batch_of(5, 3)])
    numbers = field.set_index(["height", "width"])["examples"]
    assert numbers[0, 0] == 2 and numbers[0, 2] == numbers[2, 0] == 1 and (2, 2) not in numbers


def test_an_even_share_is_one_in_a_map_of_pictures_of_several_shapes():
    field = effective_field(model_of(Encoder, "none"), TASK, [batch_of(2, 8), batch_of(8, 2)])
    assert len(field) == 28 and field["examples"].sum() == 2 * 16
    even = field_plot({("a", "x"): field.assign(gradient=1 / 16)}).figure.axes[0].images[0].get_array()
    assert even.compressed().tolist() == pytest.approx([1] * 28)


def test_a_model_without_attention_between_patches_depends_on_its_own_alone():
    model = model_of(Encoder, "none", window=1)
    field = effective_field(model, TASK, [batch_of(4, 4)])
    assert cells_away(field) == 0
    even = [((y - 2) ** 2 + (x - 2) ** 2) ** 0.5 for y in range(4) for x in range(4)]
    assert cells_away(field.assign(gradient=1.0)) == pytest.approx(sum(even) / 16)


def test_a_clip_has_a_map_of_its_middle_frame_and_a_sound_has_distances_in_time():
    model = model_of(Encoder, "rotary_axial", d_model=96)
    clip = {("a", "of 3 frames"): effective_field(model, TASK, [batch_of(3, 2, 4)])}
    assert field_plot(clip).figure.axes[0].images[0].get_array().shape == (2, 4)
    sound = effective_field(model, TASK, [batch_of(9)])
    assert sound["time"].tolist() == list(range(-4, 5))


def test_images_have_a_map_for_each_model_and_size():
    model = model_of(Encoder, "rotary_axial")
    fields = {
        (name, position): effective_field(model, TASK, [batch_of(*shape)])
        for name in ("a", "b")
        for position, shape in (("at a side of 12 pixels", (3, 3)), ("at a side of 24 pixels", (6, 6)))
    }
    maps = field_plot(fields)
    shapes = [axes.images[0].get_array().shape for axes in maps.figure.axes[:4]]
    assert shapes == [(3, 3), (6, 6)] * 2
    assert smallest_label(maps) >= 8


@pytest.mark.parametrize("shape", [(5, 4), (4, 4), (2, 6), (9, 2)])
def test_maps_of_pictures_of_any_shape_leave_room_for_their_titles(shape):
    field = effective_field(model_of(Encoder, "none"), TASK, [batch_of(*shape)])
    figure = field_plot({("a", "at a side of 12 pixels"): field, ("a", "at a side of 24 pixels"): field}).figure
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    titles = [panel.title.get_window_extent(canvas.get_renderer()) for panel in figure.axes[:2]]
    assert all(title.y1 <= figure.bbox.y1 for title in titles)
