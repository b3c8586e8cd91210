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
        ("Abacus", {"max_k": -1}, "max_k must be an integer of at least 0, got -1"),
        ("Abacus", {"num_embeddings": 100}, r"num_embeddings must be at least max_k \+ 2 = 101, got 100"),
        ("Fourier", {"length": 1}, "length must be an integer of at least 2, got 1"),
        ("Fourier", {"length": nan}, "length must be an integer of at least 2, got nan"),
        ("Fourier", {"components": "tangent"}, "components must be one of sine, cosine, product, got 'tangent'"),
        ("Fourier", {"scale": -1.0}, "scale must be a positive number or null, got -1.0"),
        ("Fourier", {"scale": inf}, "scale must be a positive number or null, got inf"),
        ("Learned", {"max_length": 0}, "max_length must be a positive integer, got 0"),
        ("Sinusoidal", {"base": 0.5}, "base must be a number greater than 1, got 0.5"),
        ("Sinusoidal", {"base": inf}, "base must be a number greater than 1, got inf"),
        ("Sinusoidal", {"scale": 0.0}, "scale must be a positive number or null, got 0.0"),
        ("Sinusoidal", {"scale": inf}, "scale must be a positive number or null, got inf"),
        ("Sinusoidal", {"layout": "half_split"}, "layout must be one of interleaved, concatenated, got 'half_split'"),
        ("Sinusoidal", {"d_model": 7}, "d_model must be even for sinusoidal positions, got 7"),
        *(
            ("Alibi", {"max_exponent": x}, f"max_exponent must be a positive number, got {x}")
            for x in (0.0, -1.0, nan, inf)
        ),
        *(("Alibi", {"asymmetry": x}, rf"asymmetry must be a number in \(-1, 1\), got {x}") for x in (1.0, -1.0, nan)),
        ("LearnedAlibi", {"max_exponent": 0}, "max_exponent must be a positive number, got 0"),
        ("LearnedAlibi", {"asymmetry": 1}, r"asymmetry must be a number in \(-1, 1\), got 1"),
        ("Fire", {"width": 0}, "width must be a positive integer, got 0"),
        ("Fire", {"c": 0.0}, "c must be a positive number, got 0.0"),
        ("Fire", {"threshold": -1.0}, "threshold must be a positive number, got -1.0"),
        ("Sandwich", {"dim": 0}, "dim must be a positive integer, got 0"),
        ("Sandwich", {"dim": 7}, "dim must be a positive even integer, got 7"),
        ("Sandwich", {"base": 1.0}, "base must be a number greater than 1, got 1.0"),
        ("T5Bias", {"num_buckets": 0}, "num_buckets must be a positive integer, got 0"),
        ("T5Bias", {"num_buckets": 5}, "num_buckets must be a positive multiple of 2, got 5"),
        ("T5Bias", {"num_buckets": 6, "causal": False}, "num_buckets must be a positive multiple of 4, got 6"),
        ("T5Bias", {"max_distance": 0}, "max_distance must be a positive integer, got 0"),
        ("T5Bias", {"max_distance": 16}, "max_distance must be greater than 16 .*, got 16"),
        ("T5Bias", {"max_distance": nan}, "max_distance must be a positive integer, got nan"),
        ("T5Bias", {"max_distance": 8, "causal": False}, "max_distance must be greater than 8 .*, got 8"),
        ("T5Axes", {"num_axes": 0}, "num_axes must be a positive integer, got 0"),
        ("T5Axes", {"num_buckets": 6}, "num_buckets must be a positive multiple of 4, got 6"),
        ("T5Axes", {"max_distance": 16}, "max_distance must be greater than 16 .*, got 16"),
        ("KerpleLog", {"metric": "taxi"}, "metric must be one of euclidean, manhattan, chebyshev or null, got 'taxi'"),
        *(
            (name, {"grid": [4, 0]}, r"grid must be a list, each item a positive integer, got \[4, 0\]")
            for name in ("RelativeTable", "BeitBias", "SwinV2Bias", "LearnedGrid", "LearnedAxes")
        ),
        ("BeitBias", {"grid": [4]}, r"grid must have cells on at least two axes, got \[4\]"),
        ("FourierFeatures", {"grid": [4, 1]}, r"grid must be a list, each item an integer of at least 2, got \[4, 1\]"),
        ("FourierFeatures", {"num_bands": 1}, "num_bands must be an integer of at least 2, got 1"),
        ("SwinV2Bias", {"width": 0}, "width must be a positive integer, got 0"),
        ("LearnedGrid", {"interpolation": "area"}, "interpolation must be one of bilinear, bicubic, none, got 'area'"),
        ("SinusoidalGrid", {"scale": 0.0}, "scale must be a positive number, got 0.0"),
        ("Tisa", {"num_kernels": 0}, "num_kernels must be a positive integer, got 0"),
        ("CoPE", {"num_positions": 1}, "num_positions must be an integer of at least 2, got 1"),
        ("Dape", {"width": 0}, "width must be a positive integer, got 0"),
        ("DapeV2", {"width": -1}, "width must be a positive integer, got -1"),
        ("DapeV2", {"kernel_size": 2}, "kernel_size must be a positive odd integer, got 2"),
        ("DapeV2", {"kernel_size": -1}, "kernel_size must be a positive integer, got -1"),
        ("Dape", {"over": Sinusoidal}, "over must only add a bias to the logits, got Sinusoidal, which has embed"),
        ("Dape", {"over": LayerPattern([Alibi])}, "over must be a class or function, got .*"),
        (
            "Dape",
            {"over": KerpleLog(3)},
            r"over must be a class or a partial of one, got the instance KerpleLog\(metric=None\)",
        ),
        ("Forgetting", {"gate_bias": inf}, r"gate_bias must be a number in \[-1e\+09, 1e\+09\], got inf"),
        ("Forgetting", {"gate_bias": nan}, r"gate_bias must be a number in \[-1e\+09, 1e\+09\], got nan"),
        ("PaTH", {"rank": 0}, "rank must be a positive integer, got 0"),
        ("PaTH", {"conv_width": 0}, "conv_width must be a positive integer, got 0"),
        ("RelativeProjection", {"rank": 0}, "rank must be a positive integer, got 0"),
        ("RelativeProjection", {"extent": 0}, "extent must be a positive integer, got 0"),
        ("Deberta", {"num_buckets": 2}, "num_buckets must be even and at least 4, or null, got 2"),
        ("Deberta", {"num_buckets": 9}, "num_buckets must be even and at least 4, or null, got 9"),
        ("Deberta", {"max_distance": 129}, "max_distance must be at least 130, got 129"),
        ("Deberta", {"max_distance": 0, "num_buckets": None}, "max_distance must be a positive integer, got 0"),
        ("Deberta", {"max_distance": nan}, "max_distance must be a positive integer, got nan"),
        ("MusicTransformer", {"num_distances": 0}, "num_distances must be a positive integer, got 0"),
        ("Shaw", {"max_distance": 0}, "max_distance must be a positive integer, got 0"),
        ("TransformerXL", {"base": 1}, "base must be a number greater than 1, got 1"),
        ("TransformerXL", {"max_distance": 0}, "max_distance must be a positive integer or null, got 0"),
        ("TransformerXL", {"max_distance": nan}, "max_distance must be a positive integer or null, got nan"),
        ("TransformerXL", {"d_model": 33}, "d_model must be even for sinusoids of distances, got 33"),
        ("Tupe", {"max_length": 0}, "max_length must be a positive integer, got 0"),
        ("Tupe", {"num_buckets": 5}, "num_buckets must be a positive multiple of 2, got 5"),
        ("Tupe", {"num_buckets": 32, "max_distance": 16}, "max_distance must be greater than 16 .*, got 16"),
        ("PoPE", {"base": 1.0}, "base must be a number greater than 1, got 1.0"),
        ("PoPE", {"delta_init": "normal"}, r"delta_init must be one of zero, uniform, got 'normal'; .*'uniform'\?"),
        ("Rotary", {"base": 1.0}, "base must be a number greater than 1, got 1.0"),
        ("Rotary", {"base": nan}, "base must be a number greater than 1, got nan"),
        ("Rotary", {"fraction": 0.0}, r"fraction must be a number in \(0, 1\], got 0.0"),
        ("Rotary", {"fraction": 1.5}, r"fraction must be a number in \(0, 1\], got 1.5"),
        ("Rotary", {"fraction": 0.2}, "fraction must turn an even, positive number .* 8 channels, got 0.2, .*"),
        ("Rotary", {"layout": "half"}, "layout must be one of half_split, interleaved, blocks, got 'half'.*"),
        ("XPos", {"head_dim": 7}, "head_dim must be even, got 7"),
        ("XPos", {"base": 1.0}, "base must be a number greater than 1, got 1.0"),
        ("XPos", {"scale_base": 0.0}, "scale_base must be a positive number, got 0.0"),
        ("XPos", {"scale_base": inf}, "scale_base must be a positive number, got inf"),
        ("XPos", {"gamma": -0.4}, "gamma must be a positive number, got -0.4"),
        ("XPos", {"gamma": nan}, "gamma must be a positive number, got nan"),
        ("Cape", {"max_global_shift": -1.0}, "max_global_shift must be a number of at least 0, got -1.0"),
        ("Cape", {"max_local_shift": inf}, "max_local_shift must be a number of at least 0, got inf"),
        ("Cape", {"max_scale": 0.9}, "max_scale must be a number of at least 1, got 0.9"),
        ("Randomized", {"max_position": 0}, "max_position must be a positive integer, got 0"),
        ("Randomized", {"max_position": nan}, "max_position must be a positive integer, got nan"),
        ("Randomized", {"seed": -1}, "seed must be an integer of at least 0, got -1"),
        ("Randomized", {"seed": nan}, "seed must be an integer of at least 0, got nan"),
        *(("Shifted", {"max_shift": x}, f"max_shift must be an integer of at least 0, got {x}") for x in (-1, nan)),
        ("LogN", {"training_length": 1}, "training_length must be an integer of at least 2, got 1"),
        ("LogN", {"training_length": nan}, "training_length must be an integer of at least 2, got nan"),
        ("SSMax", {"initial_scale": -0.1}, "initial_scale must be a number of at least 0, got -0.1"),
        ("SSMax", {"initial_scale": inf}, "initial_scale must be a number of at least 0, got inf"),
        ("HeadScale", {"initial_scale": 0.0}, "initial_scale must be a positive number, got 0.0"),
        ("Llama4Temperature", {"training_length": 0}, "training_length must be a positive integer, got 0"),
        ("Llama4Temperature", {"training_length": 8, "rate": 0.0}, "rate must be a positive number, got 0.0"),
    ],
)
def test_a_wrong_hyperparameter_is_named(encoding, hyperparameters, sentence):
    of_the_stack = {name: hyperparameters[name] for name in hyperparameters.keys() & vars(SHAPE).keys()}
    own = {name: value for name, value in hyperparameters.items() if name not in of_the_stack}
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        dataclasses.replace(SHAPE, **of_the_stack).fill(partial(getattr(encodings, encoding), **own))
