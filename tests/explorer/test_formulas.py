"""What the page computes is what the Python code computes: its commands are composed, and its curves measured."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
import torch
from docs.pages.encoding_figures import logit_change, position_products
from hydra.utils import instantiate
from omegaconf import OmegaConf

from poslab.encodings import PositionalEncoding, StackEncodings, StackShape
from poslab.encodings.bias.t5 import T5Bias
from poslab.evaluation.base_bound import first_violation, smallest_base
from poslab.evaluation.parts.rotary import spectrum_of, wavelengths
from poslab.explorer import DATA, write_explorer
from poslab.testing.subject import Float64
from tests.encoding_choices import choice, composed
from tests.report.chromium import chromium

pytestmark = pytest.mark.needs("chromium")

LEARNED = json.loads(DATA.read_text(encoding="utf-8"))
ROTATIONS = ("rotary", "rope_linear", "rope_ntk", "rope_dynamic_ntk", "yarn", "llama3", "longrope")
ROTATIONS += ("rotary_proportional", "hope", "xpos")
BIASES = ("alibi", "t5", "kerple_log", "kerple_power", "fire", "sandwich", "none")
SHOWN = 600
"""Tokens of a text, no power of two: a curve that needs one would be noticed."""

MODELS = (
    {"trained": 256, "shown": SHOWN, "heads": 6, "headDim": 32},
    {"trained": 1024, "shown": SHOWN, "heads": 12, "headDim": 96},
    {"trained": 64, "shown": SHOWN, "heads": 1, "headDim": 16},
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    page = tmp_path_factory.mktemp("explorer") / "explorer.html"
    write_explorer(page)
    with chromium() as browser:
        browser.open(page, 1280)
        yield browser


def settings(browser, name):
    """Yield the knobs of an encoding and a model: those of the configuration, the ends of sliders, and some between."""
    knobs = browser.run(f"ENCODINGS.{name}.knobs")
    drawn = random.Random(name)
    picks = [lambda knob: knob["start"], lambda knob: knob["values"][0], lambda knob: knob["values"][-1]]
    picks += [lambda knob: drawn.choice(knob["values"])] * 3
    for position, pick in enumerate(picks):
        yield {knob["name"]: pick(knob) for knob in knobs}, MODELS[position % len(MODELS)]


def arguments(knobs, model):
    return f"{json.dumps(knobs)}, {json.dumps(model)}"


def command(browser, name, knobs, model) -> list[str]:
    """Return the choices of the page's command."""
    words = browser.run(f"trainingCommand('{name}', {arguments(knobs, model)})").split()
    assert words[:3] == ["python", "-m", "src.train"]
    return words[3:]


def encoding(browser, name, knobs, model) -> tuple[PositionalEncoding, StackShape]:
    """Return the encoding that the page's own command trains, with the weights of the page."""
    chosen, *words = command(browser, name, knobs, model)
    assert chosen == f"encoding={name}"
    of_encoding = [word for word in words if word.startswith("encoding.")]
    of_encoding.append(f"dataset.sequence_length={model['trained']}")
    config = OmegaConf.merge({"encoding": choice("encoding", name)}, OmegaConf.from_dotlist(of_encoding))
    heads = LEARNED[name]["num_heads"] if name in LEARNED else model["heads"]
    width = model["heads"] * model["headDim"]
    shape = StackShape(width, 2, heads, heads, model["headDim"], causal=True, digits=(0,))
    made = StackEncodings(instantiate(config.encoding, _convert_="all"), shape).layer(0)
    with torch.no_grad():
        set_weights(made, name, knobs)
    return made, shape


def set_weights(made, name, knobs) -> None:
    if name == "t5":
        trained = LEARNED["t5"]
        before = T5Bias(trained["num_heads"], 1, 1, True, trained["num_buckets"], trained["max_distance"])
        before.table.copy_(torch.tensor(trained["table"]).T)
        distance = torch.arange(trained["length"])
        made.fit(distance, before.bias_at(distance).double(), torch.ones(len(distance)).double())
    if name == "fire":
        layer = {key: torch.tensor(value) for key, value in LEARNED["fire"]["layers"][knobs["layer"] - 1].items()}
        made.c.fill_(layer["c"])
        made.multiplier.fill_(layer["threshold"] / made.threshold)
        made.hidden.weight.copy_(layer["weight"][:, None])
        made.hidden.bias.copy_(layer["bias"])
        made.output.weight.copy_(layer["output"])
    if name.startswith("kerple"):
        made.double()
        made.raw_r1.fill_(math.log(math.expm1(knobs["r1"] - 0.01)) if knobs["r1"] > 0.01 else -math.inf)
    if name == "kerple_log":
        made.raw_r2.fill_(math.log(math.expm1(knobs["r2"] - 0.01)) if knobs["r2"] > 0.01 else -math.inf)
    if name == "kerple_power":
        made.raw_r2.copy_(torch.tensor((knobs["r2"] - 0.01) / 1.99).double().logit())


def largest_difference(computed, reference) -> float:
    """Return the largest difference, of numbers above 1 as a share of them."""
    computed, reference = np.asarray(computed), np.asarray(reference)
    assert computed.shape == reference.shape
    return float((np.abs(computed - reference) / np.maximum(1, np.abs(computed))).max())


@pytest.mark.parametrize("name", BIASES)
def test_a_bias_and_its_reach_are_those_of_the_encoding_that_the_command_trains(browser, name):
    for knobs, model in settings(browser, name):
        made, shape = encoding(browser, name, knobs, model)
        with Float64(), torch.no_grad():
            computed = logit_change(made, shape, SHOWN - 1, SHOWN).flip(-1).numpy()
        reference = browser.run(f"ENCODINGS.{name}.bias({arguments(knobs, model)}).map((curve) => [...curve])")
        assert largest_difference(computed[: len(reference)], reference) < 1e-6
        weights = np.exp(computed[0] - computed[0].max())
        reached = np.cumsum(weights) / weights.sum()
        half, most = browser.run(f"reach(ENCODINGS.{name}.bias({arguments(knobs, model)})[0], [0.5, 0.9])")
        assert reached[half - 1] >= 0.5 - 1e-9 and reached[most - 1] >= 0.9 - 1e-9
        assert (half == 1 or reached[half - 2] < 0.5) and (most == 1 or reached[most - 2] < 0.9)


@pytest.mark.parametrize("name", ROTATIONS)
def test_a_rotation_is_that_of_the_encoding_that_the_command_trains(browser, name):
    for knobs, model in settings(browser, name):
        made, shape = encoding(browser, name, knobs, model)
        result = browser.run(
            f"""(() => {{
              const figures = wavesFigures(ENCODINGS.{name}, {arguments(knobs, model)});
              const unfinishedPairs = unfinished(figures.trained.frequencies, {model["trained"]});
              return {{ ...figures, similarity: [...figures.similarity], unfinishedPairs }};
            }})()"""
        )
        with Float64():
            similarity = logit_change(made, shape, SHOWN - 1, SHOWN)[0].flip(-1) + 1
            spectra = {at: spectrum_of(made, model[at]) for at in ("trained", "shown")}
        assert largest_difference(similarity, result["similarity"]) < 1e-6
        for at, spectrum in spectra.items():
            np.testing.assert_allclose(result[at]["frequencies"], spectrum[spectrum > 0], rtol=1e-6)
        turns = wavelengths(spectra["trained"], model["trained"], []).frame
        never = turns["never completes a turn in training"] & (turns["frequency"] > 0)
        assert result["unfinishedPairs"] == never.sum()
        pairs = model["headDim"] // 2
        assert (result["pairs"], result["still"]) == (pairs, pairs - (spectra["shown"] > 0).sum())
        if made.is_pure_rotation:
            whole = np.concatenate([spectra["shown"], np.zeros(pairs - len(spectra["shown"]))])
            violation = first_violation(whole, SHOWN)
            assert result["violation"] == (-1 if violation is None else violation)
        else:
            assert result["violation"] is None


def test_sinusoids_are_those_of_the_encoding_that_the_command_trains(browser):
    for knobs, model in settings(browser, "sinusoidal"):
        made, shape = encoding(browser, "sinusoidal", knobs, model)
        with Float64():
            computed = position_products(made, shape, SHOWN - 1).flip(-1)
        result = browser.run(f"[...wavesFigures(ENCODINGS.sinusoidal, {arguments(knobs, model)}).similarity]")
        assert largest_difference(computed, result) < 1e-6


def test_every_encoding_of_the_page_is_compared(browser):
    assert set(browser.run("Object.keys(ENCODINGS)")) == {*BIASES, *ROTATIONS, "sinusoidal"}


@pytest.mark.parametrize("model", MODELS)
def test_the_command_gives_the_model_and_the_length(browser, model):
    chosen = command(browser, "rotary", {"base": 10_000, "fraction": 1}, model)
    config = composed("dataset.sequence_length=256", *chosen)
    heads = config.model.num_heads
    result = {"trained": config.dataset.sequence_length, "heads": heads, "headDim": config.model.d_model / heads}
    assert result == {name: model[name] for name in result}


@pytest.mark.slow
def test_a_knob_begins_at_the_value_of_the_configuration(browser):
    everything = browser.run("Object.entries(ENCODINGS).map(([name, { knobs }]) => [name, [...knobs, ...MODEL_KNOBS]])")
    for name, knobs in everything:
        config = composed("dataset.sequence_length=256", f"encoding={name}")
        for knob in knobs:
            if knob["key"]:
                node = config
                for part in knob["key"].split("."):
                    node = node[part]
                assert (name, knob["key"], knob["start"]) == (name, knob["key"], node)


def test_far_waves_are_exact_too(browser):
    reference = browser.run("[...sumsOfWaves(inverseFrequencies(64, 10000), 131072).filter((_, d) => d % 1009 === 0)]")
    distances = np.arange(0, 131_072, 1009)
    computed = np.cos(distances[:, None] * 10_000.0 ** -(np.arange(32) / 32)).sum(1)
    assert np.abs(computed - reference).max() < 1e-6


def test_linear_interpolation_by_the_growth_of_the_text_leaves_no_new_angle(browser):
    def unseen(factor, shown):
        scaled = f"before.map((frequency) => frequency / {factor})"
        return browser.run(f"((before) => unseen(before, {scaled}, 256, {shown}))(inverseFrequencies(32, 10000))")

    assert unseen(8, 2048) == 0
    assert unseen(7, 2048) == unseen(1, 2048) == 9
    assert unseen(1, 256) == 0


@pytest.mark.parametrize(("head_dim", "length"), [(16, 256), (64, 512), (128, 1024), (256, 128)])
def test_smallest_bases_are_those_of_the_search(head_dim, length):
    assert LEARNED["smallest_bases"][str(head_dim)][str(length)] == pytest.approx(smallest_base(head_dim, length), 1e-6)
