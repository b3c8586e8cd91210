"""A model learns the same on every route of attention."""

import pytest

from tests.training.runs import recorded, run_of, small

STEPS = ("trainer.max_steps=20", "trainer.validations=2", "trainer.log_every=1", "trainer.precision=32-true")


def losses(tmp_path, *overrides: str) -> dict[tuple[int, str], float]:
    run = run_of(small(tmp_path, *STEPS, *overrides), tmp_path / "_".join(overrides))
    return {(step, tag): value for step, tag, value in recorded(run) if tag.endswith("/loss")}


@pytest.mark.slow
@pytest.mark.parametrize(("encoding", "routes"), [("rotary", ["dense", "distance"]), ("t5", ["dense", "blockwise"])])
def test_every_route_gives_the_same_loss_curve(tmp_path, encoding, routes):
    curve = losses(tmp_path, f"encoding={encoding}")
    assert len(curve) > 20
    for route in routes:
        forced = losses(tmp_path, f"encoding={encoding}", f"attention={route}")
        assert forced == pytest.approx(curve, rel=1e-4)
