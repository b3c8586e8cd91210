"""A hyperparameter out of its range is refused in one sentence that begins with its name."""

import dataclasses
from functools import partial
from math import inf, nan

import pytest

from poslab import encodings
from poslab.encodings import Alibi, KerpleLog, LayerPattern, Sinusoidal, StackShape

SHAPE = StackShape(32, 2, 4, 4, 8, digits=(0, 1))


@pytest.mark.parametrize(
    ("encoding", "hyperparameters", "sentence"),
    [
        ("Abacus", {"digits": ()}, r"encoding Abacus needs digits, and no token of this vocabulary is one: [^\n]+"),
        ("Abacus", {"max_k": -1}, "max_k must .*, got -1"),
        ("Abacus", {"num_embeddings": 100}, r"num_embeddings must .*, got 100"),
        ("Fourier", {"length": 1}, "length must .*, got 1"),
        ("Fourier", {"length": nan}, "length must .*, got nan"),
        ("Fourier", {"components": "tangent"}, "components must .*, got 'tangent'"),
        ("Fourier", {"scale": -1.0}, "scale must .*, got -1.0"),
        ("Fourier", {"scale": inf}, "scale must .*, got inf"),
        ("Learned", {"max_length": 0}, "max_length must .*, got 0"),
        ("Sinusoidal", {"base": 0.5}, "base must .*, got 0.5"),
        ("Sinusoidal", {"base": inf}, "base must .*, got inf"),
        ("Sinusoidal", {"scale": 0.0}, "scale must .*, got 0.0"),
        ("Sinusoidal", {"scale": inf}, "scale must .*, got inf"),
        ("Sinusoidal", {"layout": "half_split"}, "layout must .*, got 'half_split'"),
        ("Sinusoidal", {"d_model": 7}, "d_model must .*, got 7"),
        *(("Alibi", {"max_exponent": x}, f"max_exponent must .*, got {x}") for x in (0.0, -1.0, nan, inf)),
        *(("Alibi", {"asymmetry": x}, rf"asymmetry must .*, got {x}") for x in (1.0, -1.0, nan)),
        ("LearnedAlibi", {"max_exponent": 0}, "max_exponent must .*, got 0"),
        ("LearnedAlibi", {"asymmetry": 1}, r"asymmetry must .*, got 1"),
        ("Fire", {"width": 0}, "width must .*, got 0"),
        ("Fire", {"c": 0.0}, "c must be a positive number, got 0.0"),
        ("Fire", {"threshold": -1.0}, "threshold must .*, got -1.0"),
        ("Sandwich", {"dim": 0}, "dim must .*, got 0"),
        ("Sandwich", {"dim": 7}, "dim must .*, got 7"),
        ("Sandwich", {"base": 1.0}, "base must .*, got 1.0"),
        ("T5Bias", {"num_buckets": 0}, "num_buckets must .*, got 0"),
        ("T5Bias", {"num_buckets": 5}, "num_buckets must .*, got 5"),
        ("T5Bias", {"num_buckets": 6, "causal": False}, "num_buckets must .*, got 6"),
        ("T5Bias", {"max_distance": 0}, "max_distance must .*, got 0"),
        ("T5Bias", {"max_distance": 16}, "max_distance must .*, got 16"),
        ("T5Bias", {"max_distance": nan}, "max_distance must .*, got nan"),
        ("T5Bias", {"max_distance": 8, "causal": False}, "max_distance must .*, got 8"),
        ("T5Axes", {"num_axes": 0}, "num_axes must .*, got 0"),
        ("T5Axes", {"num_buckets": 6}, "num_buckets must .*, got 6"),
        ("T5Axes", {"max_distance": 16}, "max_distance must .*, got 16"),
        ("KerpleLog", {"metric": "taxi"}, "metric must .*, got 'taxi'"),
        *(
            (name, {"grid": [4, 0]}, r"grid must .*, got \[4, 0\]")
            for name in ("RelativeTable", "BeitBias", "SwinV2Bias", "LearnedGrid", "LearnedAxes")
        ),
        ("BeitBias", {"grid": [4]}, r"grid must .*, got \[4\]"),
        ("FourierFeatures", {"grid": [4, 1]}, r"grid must .*, got \[4, 1\]"),
        ("FourierFeatures", {"num_bands": 1}, "num_bands must .*, got 1"),
        ("SwinV2Bias", {"width": 0}, "width must .*, got 0"),
        ("LearnedGrid", {"interpolation": "area"}, "interpolation must .*, got 'area'"),
        ("SinusoidalGrid", {"scale": 0.0}, "scale must .*, got 0.0"),
        ("Tisa", {"num_kernels": 0}, "num_kernels must .*, got 0"),
        ("CoPE", {"num_positions": 1}, "num_positions must .*, got 1"),
        ("Dape", {"width": 0}, "width must .*, got 0"),
        ("DapeV2", {"width": -1}, "width must .*, got -1"),
        ("DapeV2", {"kernel_size": 2}, "kernel_size must .*, got 2"),
        ("DapeV2", {"kernel_size": -1}, "kernel_size must .*, got -1"),
        ("Dape", {"over": Sinusoidal}, "over must .*, got Sinusoidal.*"),
        ("Dape", {"over": LayerPattern([Alibi])}, "over must .*, got .*"),
        (
            "Dape",
            {"over": KerpleLog(3)},
            r"over must .*, got the instance KerpleLog\(metric=None\)",
        ),
        ("Forgetting", {"gate_bias": inf}, r"gate_bias must .*, got inf"),
        ("Forgetting", {"gate_bias": nan}, r"gate_bias must .*, got nan"),
        ("PaTH", {"rank": 0}, "rank must .*, got 0"),
        ("PaTH", {"conv_width": 0}, "conv_width must .*, got 0"),
        ("RelativeProjection", {"rank": 0}, "rank must .*, got 0"),
        ("RelativeProjection", {"extent": 0}, "extent must .*, got 0"),
        ("Deberta", {"num_buckets": 2}, "num_buckets must .*, got 2"),
        ("Deberta", {"num_buckets": 9}, "num_buckets must .*, got 9"),
        ("Deberta", {"max_distance": 129}, "max_distance must .*, got 129"),
        ("Deberta", {"max_distance": 0, "num_buckets": None}, "max_distance must .*, got 0"),
        ("Deberta", {"max_distance": nan}, "max_distance must .*, got nan"),
        ("MusicTransformer", {"num_distances": 0}, "num_distances must .*, got 0"),
        ("Shaw", {"max_distance": 0}, "max_distance must .*, got 0"),
        ("TransformerXL", {"base": 1}, "base must .*, got 1"),
        ("TransformerXL", {"max_distance": 0}, "max_distance must .*, got 0"),
        ("TransformerXL", {"max_distance": nan}, "max_distance must .*, got nan"),
        ("TransformerXL", {"d_model": 33}, "d_model must .*, got 33"),
        ("Tupe", {"max_length": 0}, "max_length must .*, got 0"),
        ("Tupe", {"num_buckets": 5}, "num_buckets must .*, got 5"),
        ("Tupe", {"num_buckets": 32, "max_distance": 16}, "max_distance must .*, got 16"),
        ("PoPE", {"base": 1.0}, "base must .*, got 1.0"),
        ("PoPE", {"delta_init": "normal"}, r"delta_init must .*, got 'normal'; .*'uniform'\?"),
        ("Rotary", {"base": 1.0}, "base must .*, got 1.0"),
        ("Rotary", {"base": nan}, "base must .*, got nan"),
        ("Rotary", {"fraction": 0.0}, r"fraction must .*, got 0.0"),
        ("Rotary", {"fraction": 1.5}, r"fraction must .*, got 1.5"),
        ("Rotary", {"fraction": 0.2}, "fraction must .*, got 0.2, .*"),
        ("Rotary", {"layout": "half"}, "layout must .*, got 'half'.*"),
        ("XPos", {"head_dim": 7}, "head_dim must .*, got 7"),
        ("XPos", {"base": 1.0}, "base must .*, got 1.0"),
        ("XPos", {"scale_base": 0.0}, "scale_base must .*, got 0.0"),
        ("XPos", {"scale_base": inf}, "scale_base must .*, got inf"),
        ("XPos", {"gamma": -0.4}, "gamma must .*, got -0.4"),
        ("XPos", {"gamma": nan}, "gamma must .*, got nan"),
        ("Cape", {"max_global_shift": -1.0}, "max_global_shift must .*, got -1.0"),
        ("Cape", {"max_local_shift": inf}, "max_local_shift must .*, got inf"),
        ("Cape", {"max_scale": 0.9}, "max_scale must .*, got 0.9"),
        ("Randomized", {"max_position": 0}, "max_position must .*, got 0"),
        ("Randomized", {"max_position": nan}, "max_position must .*, got nan"),
        ("Randomized", {"seed": -1}, "seed must .*, got -1"),
        ("Randomized", {"seed": nan}, "seed must .*, got nan"),
        *(("Shifted", {"max_shift": x}, f"max_shift must .*, got {x}") for x in (-1, nan)),
        ("LogN", {"training_length": 1}, "training_length must .*, got 1"),
        ("LogN", {"training_length": nan}, "training_length must .*, got nan"),
        ("SSMax", {"initial_scale": -0.1}, "initial_scale must .*, got -0.1"),
        ("SSMax", {"initial_scale": inf}, "initial_scale must .*, got inf"),
        ("HeadScale", {"initial_scale": 0.0}, "initial_scale must .*, got 0.0"),
        ("Llama4Temperature", {"training_length": 0}, "training_length must .*, got 0"),
        ("Llama4Temperature", {"training_length": 8, "rate": 0.0}, "rate must .*, got 0.0"),
    ],
)
def test_a_wrong_hyperparameter_is_named(encoding, hyperparameters, sentence):
    of_the_stack = {name: hyperparameters[name] for name in hyperparameters.keys() & vars(SHAPE).keys()}
    own = {name: value for name, value in hyperparameters.items() if name not in of_the_stack}
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        dataclasses.replace(SHAPE, **of_the_stack).fill(partial(getattr(encodings, encoding), **own))
